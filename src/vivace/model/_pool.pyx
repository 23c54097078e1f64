# cython: boundscheck=False, wraparound=False, initializedcheck=False
"""Interned byte strings: each distinct value once, named by a code (its order of arrival).

Rule 1  codes are dense and never change; a pool only grows. Code 0 is always the empty string.
Rule 2  one writer (the decoder, under `lock`); readers copy under the same lock, so no reader sees memory move.
Rule 3  the table is seeded at random: a sender cannot choose strings that all collide.

The plain-Python twin is pool.py.  Raw pointers are used, each behind an explicit length, so Cython's own bounds
checks would check nothing here.
"""

import os
import threading

import numpy as np

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy


cdef inline uint64_t mix(uint64_t a, uint64_t b) noexcept nogil:
    # 64x64 -> 64 folded multiply; good avalanche for interning, not a cryptographic hash
    a ^= b
    a *= <uint64_t>0x9E3779B97F4A7C15
    a ^= a >> 32
    a *= <uint64_t>0xD6E8FEB86659FD93
    return a ^ (a >> 29)


cdef inline uint64_t hash_bytes(const uint8_t* p, size_t n, uint64_t seed) noexcept nogil:
    cdef uint64_t h = seed ^ (n * <uint64_t>0xA0761D6478BD642F)
    cdef uint64_t word
    while n >= 8:
        memcpy(&word, p, 8)
        h = mix(h, word)
        p += 8
        n -= 8
    if n:
        word = 0
        memcpy(&word, p, n)
        h = mix(h, word)
    return h


cdef class Pool:
    """Append-only set of byte strings with dense codes. See the module's rules."""

    def __cinit__(self):
        self.entry_cap = 256
        self.data_cap = 4096
        self.mask = 1023
        self.data = <uint8_t*>malloc(self.data_cap)
        self.offsets = <int64_t*>malloc((self.entry_cap + 1) * sizeof(int64_t))
        self.hashes = <uint64_t*>malloc(self.entry_cap * sizeof(uint64_t))
        self.slots = <uint32_t*>calloc(self.mask + 1, sizeof(uint32_t))
        if not (self.data and self.offsets and self.hashes and self.slots):
            raise MemoryError("string pool")
        self.offsets[0] = 0
        self.seed = int.from_bytes(os.urandom(8), "little")
        self.lock = threading.Lock()
        self.intern(self.data, 0)

    def __dealloc__(self):
        free(self.data)
        free(self.offsets)
        free(self.hashes)
        free(self.slots)

    cdef int grow_table(self) noexcept nogil:
        cdef uint64_t mask = self.mask * 2 + 1
        cdef uint32_t* slots = <uint32_t*>calloc(mask + 1, sizeof(uint32_t))
        cdef uint64_t at
        cdef uint32_t code
        if not slots:
            return -1
        for code in range(self.count):
            at = self.hashes[code] & mask
            while slots[at]:
                at = (at + 1) & mask
            slots[at] = code + 1
        free(self.slots)
        self.slots = slots
        self.mask = mask
        return 0

    cdef int64_t find(self, const uint8_t* p, size_t n) noexcept nogil:
        """The code of these bytes, or -1 when they are not here."""
        cdef uint64_t h = hash_bytes(p, n, self.seed)
        cdef uint64_t at = h & self.mask
        cdef uint32_t code
        while self.slots[at]:
            code = self.slots[at] - 1
            if self.hashes[code] == h and <size_t>(self.offsets[code + 1] - self.offsets[code]) == n \
                    and memcmp(self.data + self.offsets[code], p, n) == 0:
                return code
            at = (at + 1) & self.mask
        return -1

    cdef int64_t intern(self, const uint8_t* p, size_t n) noexcept nogil:
        """The code of these bytes, added if new; -1 when memory or the 2^32 - 2 codes have run out."""
        cdef uint64_t h = hash_bytes(p, n, self.seed)
        cdef uint64_t at = h & self.mask
        cdef uint32_t slot, code, cap
        cdef size_t need
        cdef void* moved
        while True:
            slot = self.slots[at]
            if not slot:
                break
            code = slot - 1
            if self.hashes[code] == h and <size_t>(self.offsets[code + 1] - self.offsets[code]) == n \
                    and memcmp(self.data + self.offsets[code], p, n) == 0:
                return code
            at = (at + 1) & self.mask
        if (<uint64_t>self.count + 1) * 2 > self.mask:  # before anything is added: when memory runs out, nothing is
            if self.grow_table() != 0:
                return -1
            at = h & self.mask
            while self.slots[at]:
                at = (at + 1) & self.mask
        if self.count == self.entry_cap:
            if self.entry_cap >= <uint32_t>0x7FFFFFFF:
                return -1
            cap = self.entry_cap * 2
            moved = realloc(self.offsets, (<size_t>cap + 1) * sizeof(int64_t))
            if not moved:
                return -1
            self.offsets = <int64_t*>moved
            moved = realloc(self.hashes, <size_t>cap * sizeof(uint64_t))
            if not moved:
                return -1
            self.hashes = <uint64_t*>moved
            self.entry_cap = cap
        need = self.data_len + n
        if need > self.data_cap:
            need = need + need // 2
            moved = realloc(self.data, need)
            if not moved:
                return -1
            self.data = <uint8_t*>moved
            self.data_cap = need
        memcpy(self.data + self.data_len, p, n)
        self.data_len += n
        code = self.count
        self.hashes[code] = h
        self.offsets[code + 1] = <int64_t>self.data_len
        self.slots[at] = code + 1
        self.count += 1
        return code

    def __len__(self):
        return self.count

    @property
    def nbytes(self):
        """Bytes of memory held, tables included."""
        return self.data_cap + self.entry_cap * 16 + (self.mask + 1) * 4

    def add(self, bytes value not None):
        """The code of `value`, added if it is new."""
        cdef int64_t code = -1
        with self.lock:
            code = self.intern(<const uint8_t*><const char*>value, len(value))
        if code < 0:
            raise MemoryError("string pool")
        return code

    def code_of(self, bytes value not None):
        """The code of `value`, or None when it is not here; nothing is added."""
        cdef int64_t code = -1
        with self.lock:
            code = self.find(<const uint8_t*><const char*>value, len(value))
        return None if code < 0 else code

    def get(self, uint32_t code):
        """The bytes of one code; IndexError when there is none."""
        with self.lock:
            if code >= self.count:
                raise IndexError(f"code {code} of {self.count}")
            return (<const char*>self.data)[self.offsets[code]:self.offsets[code + 1]]

    def export(self, uint32_t start, uint32_t stop):
        """Copies of codes [start, stop): (offsets int64 of stop - start + 1 from 0, data uint8)."""
        cdef int64_t base, size
        cdef int64_t* ends
        cdef uint32_t i, n
        with self.lock:
            if start > stop or stop > self.count:
                raise IndexError(f"codes {start}..{stop} of {self.count}")
            n = stop - start
            base = self.offsets[start]
            size = self.offsets[stop] - base
            offsets = np.empty(n + 1, np.int64)
            data = np.empty(size, np.uint8)
            ends = self._int64(offsets)
            for i in range(n + 1):
                ends[i] = self.offsets[start + i] - base
            if size:
                memcpy(self._bytes(data), self.data + base, size)
        return offsets, data

    def select(self, const uint32_t[::1] codes):
        """Copies of the given codes, in their order: (offsets int64, data uint8)."""
        cdef Py_ssize_t i, n = codes.shape[0]
        cdef int64_t total = 0, size
        cdef uint32_t code
        cdef uint8_t* out
        cdef int64_t* ends
        with self.lock:
            for i in range(n):
                if codes[i] >= self.count:
                    raise IndexError(f"code {codes[i]} of {self.count}")
                total += self.offsets[codes[i] + 1] - self.offsets[codes[i]]
            offsets = np.empty(n + 1, np.int64)
            data = np.empty(total, np.uint8)
            ends = self._int64(offsets)
            out = self._bytes(data)
            ends[0] = 0
            for i in range(n):
                code = codes[i]
                size = self.offsets[code + 1] - self.offsets[code]
                memcpy(out + ends[i], self.data + self.offsets[code], size)
                ends[i + 1] = ends[i] + size
        return offsets, data

    def add_many(self, const int64_t[::1] offsets, const uint8_t[::1] data):
        """Codes (uint32) of many strings given Arrow-style; added where new."""
        cdef Py_ssize_t i, n = offsets.shape[0] - 1
        cdef int64_t code
        cdef const uint8_t* base = NULL
        if n < 0 or offsets[0] < 0 or offsets[n] > data.shape[0]:
            raise ValueError("offsets lie outside data")
        if data.shape[0]:
            base = &data[0]
        codes = np.empty(n, np.uint32)
        cdef uint32_t[::1] out = codes
        with self.lock:
            for i in range(n):
                if offsets[i + 1] < offsets[i]:
                    raise ValueError("offsets fall")
                code = self.intern(base + offsets[i], offsets[i + 1] - offsets[i])
                if code < 0:
                    raise MemoryError("string pool")
                out[i] = <uint32_t>code
        return codes

    cdef int64_t* _int64(self, array):
        cdef int64_t[::1] view = array
        return &view[0]

    cdef uint8_t* _bytes(self, array):
        cdef uint8_t[::1] view = array
        return &view[0] if view.shape[0] else NULL
