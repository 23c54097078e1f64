# cython: boundscheck=True, wraparound=False, initializedcheck=False
"""Nested-set numbers of many traces in one pass. The plain twin and the rules are in trees.py."""

import numpy as np

from libc.stdint cimport int32_t, int64_t, uint64_t


def number(
    const int64_t[::1] first_rows, const uint64_t[::1] span_id, const uint64_t[::1] parent_id, const int32_t[::1] kind
):
    """(order, left, right, parent), each int32 of one entry a row: see trees.number."""
    cdef Py_ssize_t n = span_id.shape[0], traces = first_rows.shape[0], t, first, last, size, capacity = 16, i
    order_array = np.empty(n, np.int32)
    left_array = np.empty(n, np.int32)
    right_array = np.empty(n, np.int32)
    parent_array = np.empty(n, np.int32)
    cdef int32_t[::1] order = order_array, left = left_array, right = right_array, parent = parent_array
    if parent_id.shape[0] != n or kind.shape[0] != n:
        raise ValueError("columns of different lengths")
    for t in range(traces):
        first = first_rows[t]
        last = first_rows[t + 1] if t + 1 < traces else n
        if not 0 <= first <= last <= n:
            raise ValueError("first rows are not ascending row numbers")
        while capacity < 2 * (last - first):
            capacity *= 2
    # scratch for the largest trace, local row numbers throughout; -1 = none
    cdef int32_t[::1] slots = np.full(capacity, -1, np.int32)
    size = capacity // 2 + 1
    cdef int32_t[::1] up = np.empty(size, np.int32), child = np.empty(size, np.int32)
    cdef int32_t[::1] sibling = np.empty(size, np.int32), stack = np.empty(size, np.int32)
    with nogil:
        for t in range(traces):
            first = first_rows[t]
            last = first_rows[t + 1] if t + 1 < traces else n
            number_one(first, last, span_id, parent_id, kind, slots, up, child, sibling, stack, order, left, right, parent)
    return order_array, left_array, right_array, parent_array


cdef inline Py_ssize_t slot_of(uint64_t id, Py_ssize_t mask) noexcept nogil:
    return <Py_ssize_t>((id * <uint64_t>0x9E3779B97F4A7C15) >> 20) & mask


cdef int number_one(
    Py_ssize_t first, Py_ssize_t last, const uint64_t[::1] span_id, const uint64_t[::1] parent_id,
    const int32_t[::1] kind, int32_t[::1] slots, int32_t[::1] up, int32_t[::1] child, int32_t[::1] sibling,
    int32_t[::1] stack, int32_t[::1] order, int32_t[::1] left, int32_t[::1] right, int32_t[::1] parent,
) except -1 nogil:
    cdef Py_ssize_t n = last - first, mask = 15, at, i, placed = 0, depth
    cdef int32_t row, other, counter = 1
    cdef int wave
    while mask + 1 < 2 * n:
        mask = mask * 2 + 1
    for i in range(mask + 1):
        slots[i] = -1
    # who answers to an id: the server span where a client and a server share it, else the first
    for i in range(n):
        at = slot_of(span_id[first + i], mask)
        while slots[at] >= 0 and span_id[first + slots[at]] != span_id[first + i]:
            at = (at + 1) & mask
        if slots[at] < 0 or (kind[first + i] == 2 and kind[first + slots[at]] == 3):
            slots[at] = <int32_t>i
    for i in range(n):
        child[i] = sibling[i] = up[i] = -1
        if parent_id[first + i] != 0:
            at = slot_of(parent_id[first + i], mask)
            while slots[at] >= 0 and span_id[first + slots[at]] != parent_id[first + i]:
                at = (at + 1) & mask
            if slots[at] >= 0 and slots[at] != i:
                up[i] = slots[at]
    for i in range(n):  # a server span hangs under the client that shares its id and its parent id
        if kind[first + i] != 3:
            continue
        at = slot_of(span_id[first + i], mask)
        while slots[at] >= 0 and span_id[first + slots[at]] != span_id[first + i]:
            at = (at + 1) & mask
        other = slots[at]
        if kind[first + other] == 2 and parent_id[first + other] == parent_id[first + i]:
            up[other] = <int32_t>i
    for i in range(n - 1, -1, -1):  # backwards, so that children stand in row order
        if up[i] >= 0:
            sibling[i] = child[up[i]]
            child[up[i]] = <int32_t>i
    # `left` doubles as "visited"
    for i in range(n):
        left[first + i] = 0
    for wave in range(3):  # roots; then tops whose parent is missing; then whatever hangs in a ring
        for i in range(n):
            if left[first + i] != 0 or (wave == 0 and parent_id[first + i] != 0) or (wave < 2 and up[i] >= 0):
                continue
            depth = 0
            stack[0] = <int32_t>i
            left[first + i] = counter
            parent[first + i] = -1 if parent_id[first + i] == 0 else 0
            order[first + placed] = <int32_t>(first + i)
            counter += 1
            placed += 1
            while depth >= 0:
                row = stack[depth]
                other = child[row]
                while other >= 0 and left[first + other] != 0:
                    other = sibling[other]
                if other >= 0:
                    child[row] = sibling[other]
                    depth += 1
                    stack[depth] = other
                    left[first + other] = counter
                    parent[first + other] = left[first + row]
                    order[first + placed] = <int32_t>(first + other)
                    counter += 1
                    placed += 1
                else:
                    right[first + row] = counter
                    counter += 1
                    depth -= 1
    return 0
