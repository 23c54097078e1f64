"""The cache of columns keeps its bound, the latest, and its counts."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from vivace.storage.column_cache import BLOCK, ENTRY_BYTES, ColumnCache, ColumnKey


def key(what: int, block: str = "b", row_group: int = 0) -> ColumnKey:
    return ColumnKey(block, row_group, what)


def column(size: int) -> Any:
    return np.zeros(size - ENTRY_BYTES, np.uint8)


def never() -> Any:
    raise AssertionError("read again")


def counts(cache: ColumnCache) -> tuple[int, int, int]:
    return cache.hits, cache.misses, cache.evictions


def test_what_was_asked_for_last_stays() -> None:
    cache = ColumnCache(3000)
    for what in (1, 2, 3):
        cache.get(key(what), lambda: column(1000))
    cache.get(key(1), never)
    cache.get(key(4), lambda: column(1000))
    assert counts(cache) == (1, 4, 1)
    for what in (1, 3, 4):
        cache.get(key(what), never)
    with pytest.raises(AssertionError, match="read again"):
        cache.get(key(2), never)
    assert (cache.entry_count, cache.nbytes) == (3, 3000)


def test_nothing_is_worth_keeping_too() -> None:
    cache = ColumnCache(10 * ENTRY_BYTES)
    assert cache.get(key(1), lambda: None) is None
    assert cache.get(key(1), never) is None
    assert cache.nbytes == ENTRY_BYTES
    for what in range(100):
        cache.get(key(what), lambda: None)
    assert (cache.entry_count, cache.nbytes) == (10, cache.bytes_max)


def test_what_is_larger_than_the_cache_is_handed_through() -> None:
    cache = ColumnCache(2000)
    cache.get(key(1), lambda: column(2000))
    assert len(cache.get(key(2), lambda: column(2001))) == 2001 - ENTRY_BYTES
    cache.get(key(1), never)
    assert counts(cache) == (1, 2, 0)


def test_errors_are_not_kept() -> None:
    cache = ColumnCache(2000)
    with pytest.raises(AssertionError):
        cache.get(key(1), never)
    assert cache.get(key(1), lambda: None) is None


def test_two_that_miss_at_once_both_read() -> None:
    cache = ColumnCache(5000)
    inner = column(1000)
    outer = cache.get(key(1), lambda: (cache.get(key(1), lambda: inner), column(900))[1])
    assert cache.get(key(1), never) is outer
    assert (cache.entry_count, cache.nbytes, counts(cache)) == (1, 900, (1, 2, 0))


def test_a_block_is_forgotten() -> None:
    cache = ColumnCache(100_000)
    keys = [key(what, block, group) for block in "ab" for group in (BLOCK, 0, 1) for what in (1, 2)]
    for each in keys:
        cache.get(each, lambda: column(1000))
    for block in ("a", "a", "not here"):
        cache.forget(block)
    assert (cache.entry_count, cache.nbytes, cache.evictions) == (6, 6000, 0)
    for each in keys[6:]:
        cache.get(each, never)
    cache.forget("b")
    assert (cache.entry_count, cache.nbytes) == (0, 0)


def test_the_bound_holds_among_threads() -> None:
    cache = ColumnCache(20_000)

    def ask(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(500):
            size = rng.randrange(ENTRY_BYTES, 6000)
            cache.get(key(rng.randrange(30), rng.choice("abc")), lambda size=size: column(size))
            assert cache.nbytes <= cache.bytes_max
            if rng.random() < 0.01:
                cache.forget(rng.choice("abc"))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(ask, range(4)))
    assert cache.hits + cache.misses == 2000
    for block in "abc":
        cache.forget(block)
    assert (cache.entry_count, cache.nbytes) == (0, 0)
