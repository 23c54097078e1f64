from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t


cdef class Pool:
    cdef uint8_t* data          # the bytes of every entry, end to end
    cdef size_t data_len
    cdef size_t data_cap
    cdef int64_t* offsets       # count + 1 of them; entry i is data[offsets[i]:offsets[i + 1]]
    cdef uint64_t* hashes       # one an entry: growing the table needs no rehash of bytes
    cdef uint32_t count
    cdef uint32_t entry_cap
    cdef uint32_t* slots        # open addressing, entry number + 1, 0 = free
    cdef uint64_t mask
    cdef uint64_t seed
    cdef object lock
    cdef int64_t find(self, const uint8_t* p, size_t n) noexcept nogil
    cdef int64_t intern(self, const uint8_t* p, size_t n) noexcept nogil
    cdef int grow_table(self) noexcept nogil
    cdef int64_t* _int64(self, array)
    cdef uint8_t* _bytes(self, array)
