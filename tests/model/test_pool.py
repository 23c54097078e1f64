"""Pools: the native one and its plain twin side by side."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vivace.model._pool import Pool as NativePool

from vivace.model.pool import PlainPool

POOLS = pytest.mark.parametrize("make", [NativePool, PlainPool])


def arrow(values: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.cumsum([0, *map(len, values)]).astype(np.int64)
    return offsets, np.frombuffer(b"".join(values), np.uint8)


def values_of(arrays: tuple[np.ndarray, np.ndarray]) -> list[bytes]:
    offsets, data = arrays
    return [data[a:b].tobytes() for a, b in pairwise(offsets.tolist())]


@settings(deadline=None, derandomize=True, database=None, max_examples=150)
@given(st.lists(st.lists(st.binary(max_size=20), max_size=12), max_size=8), st.randoms(use_true_random=False))
def test_both_pools_give_the_same_codes(groups: list[list[bytes]], rng: random.Random) -> None:
    native, plain = NativePool(), PlainPool()
    for i, values in enumerate(groups):
        if i % 2:
            assert [native.add(v) for v in values] == [plain.add(v) for v in values]
        else:
            codes = native.add_many(*arrow(values))
            assert codes.dtype == np.uint32
            assert codes.tolist() == plain.add_many(*arrow(values)).tolist()
    count = len(native)
    assert count == len(plain)
    assert [native.get(c) for c in range(count)] == [plain.get(c) for c in range(count)]
    a, b = sorted((rng.randrange(count + 1), rng.randrange(count + 1)))
    chosen = np.array([rng.randrange(count) for _ in range(rng.randrange(9))], np.uint32)
    for left, right in ((native.export(a, b), plain.export(a, b)), (native.select(chosen), plain.select(chosen))):
        assert [x.dtype for x in left] == [x.dtype for x in right] == [np.int64, np.uint8]
        assert [x.tolist() for x in left] == [x.tolist() for x in right]


@POOLS
def test_codes_are_dense_and_never_change(make: type[PlainPool]) -> None:
    pool = make()
    values = [b"", *(b"%d" % i * (i % 7 + 1) for i in range(5000))]  # past several growths of every table
    assert [pool.add(v) for v in values] == list(range(5001))
    assert pool.add_many(*arrow(values)).tolist() == list(range(5001))
    assert values_of(pool.export(0, 5001)) == values
    assert pool.nbytes > sum(map(len, values))


@POOLS
def test_code_zero_is_the_empty_string(make: type[PlainPool]) -> None:
    pool = make()
    assert (len(pool), pool.get(0), pool.add(b"")) == (1, b"", 0)
    assert values_of(pool.export(0, 0)) == []
    assert values_of(pool.select(np.empty(0, np.uint32))) == []


@POOLS
def test_looking_for_a_code_adds_nothing(make: type[PlainPool]) -> None:
    pool = make()
    values = [b"%d" % i for i in range(1, 1000)]
    codes = [pool.add(v) for v in values]
    assert [pool.code_of(v) for v in values] == codes
    assert [pool.code_of(v) for v in (b"", b"0", b"1000", b"1\0", b"x" * 100_000)] == [0, None, None, None, None]
    assert len(pool) == 1000


@POOLS
def test_large_and_similar_values(make: type[PlainPool]) -> None:
    pool = make()
    values = [bytes(n) for n in (1, 7, 8, 9, 15, 16, 100_000)] + [b"x" * 100_000, b"x" * 99_999 + b"y"]
    codes = [pool.add(v) for v in values]
    assert codes == list(range(1, 10))
    assert [pool.get(c) for c in codes] == values


@POOLS
def test_codes_that_are_not_there(make: type[PlainPool]) -> None:
    pool = make()
    pool.add(b"a")
    for ask in (lambda: pool.get(2), lambda: pool.export(0, 3), lambda: pool.export(2, 1)):
        with pytest.raises(IndexError):
            ask()
    with pytest.raises(IndexError):
        pool.select(np.array([0, 2], np.uint32))
    with pytest.raises((IndexError, OverflowError)):
        pool.get(-1)


BAD_OFFSETS = [[0, 4], [-1, 2], [0, 2, 1, 3], []]


@POOLS
@pytest.mark.parametrize("offsets", BAD_OFFSETS)
def test_offsets_that_leave_the_data(make: type[PlainPool], offsets: list[int]) -> None:
    with pytest.raises(ValueError, match="offsets"):
        make().add_many(np.array(offsets, np.int64), np.frombuffer(b"abc", np.uint8))
