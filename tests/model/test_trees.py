"""Nested-set numbers: tables by hand, then the native function against the plain one and against the rules."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vivace.model.attributes import I32, I64, U64
from vivace.model.schema import ROOT, UNKNOWN_PARENT
from vivace.model.trees import CLIENT, SERVER, _native_number, number_plain

Number = Callable[[I64, U64, U64, I32], tuple[I32, I32, I32, I32]]
Span = tuple[int, int, int]
"""Span id, parent id, kind."""

NUMBERS = pytest.mark.parametrize("number", [_native_number, number_plain], ids=["native", "plain"])

# spans of one trace -> (left, right, parent) of each
TABLE: list[tuple[str, list[Span], list[tuple[int, int, int]]]] = [
    ("one root", [(1, 0, 0)], [(1, 2, ROOT)]),
    ("two children", [(1, 0, 0), (2, 1, 0), (3, 1, 0)], [(1, 6, ROOT), (2, 3, 1), (4, 5, 1)]),
    ("a chain", [(1, 0, 0), (2, 1, 0), (3, 2, 0)], [(1, 6, ROOT), (2, 5, 1), (3, 4, 2)]),
    ("child before parent", [(2, 1, 0), (1, 0, 0)], [(2, 3, 1), (1, 4, ROOT)]),
    ("two roots", [(1, 0, 0), (2, 0, 0), (3, 1, 0)], [(1, 4, ROOT), (5, 6, ROOT), (2, 3, 1)]),
    ("no root", [(2, 9, 0), (3, 2, 0)], [(1, 4, UNKNOWN_PARENT), (2, 3, 1)]),
    ("roots first", [(2, 9, 0), (1, 0, 0)], [(3, 4, UNKNOWN_PARENT), (1, 2, ROOT)]),
    ("its own parent", [(1, 1, 0)], [(1, 2, UNKNOWN_PARENT)]),
    ("a ring of two", [(1, 2, 0), (2, 1, 0)], [(1, 4, UNKNOWN_PARENT), (2, 3, 1)]),
    ("a ring with a tail", [(3, 1, 0), (1, 2, 0), (2, 1, 0)], [(1, 2, 0), (3, 6, 0), (4, 5, 3)]),
    ("one id twice", [(1, 0, 0), (1, 0, 0), (2, 1, 0)], [(1, 4, ROOT), (5, 6, ROOT), (2, 3, 1)]),
    (
        "Zipkin: the server under its client, children under the server",
        [(1, 0, CLIENT), (1, 0, SERVER), (2, 1, 0)],
        [(1, 6, ROOT), (2, 5, 1), (3, 4, 2)],
    ),
    (
        "Zipkin, the server received first",
        [(1, 0, SERVER), (1, 0, CLIENT), (2, 1, 0)],
        [(2, 5, 1), (1, 6, ROOT), (3, 4, 2)],
    ),
]


def columns(spans: list[Span]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    ids, parents, kinds = zip(*spans, strict=True) if spans else ((), (), ())
    return np.array(ids, np.uint64), np.array(parents, np.uint64), np.array(kinds, np.int32)


@NUMBERS
@pytest.mark.parametrize(("name", "spans", "expected"), TABLE, ids=[t[0] for t in TABLE])
def test_table(number: Number, name: str, spans: list[Span], expected: list[tuple[int, int, int]]) -> None:
    order, left, right, parent = number(np.array([0], np.int64), *columns(spans))
    assert list(zip(left.tolist(), right.tolist(), parent.tolist(), strict=True)) == expected
    assert left[order].tolist() == sorted(left.tolist())


@NUMBERS
def test_no_spans(number: Number) -> None:
    out = number(np.empty(0, np.int64), *columns([]))
    assert [len(a) for a in out] == [0, 0, 0, 0]


@NUMBERS
def test_a_chain_deeper_than_any_call_stack(number: Number) -> None:
    n = 20_000
    _, left, right, _ = number(np.array([0], np.int64), *columns([(i + 1, i, 0) for i in range(n)]))
    assert left.tolist() == list(range(1, n + 1))
    assert right.tolist() == list(range(2 * n, n, -1))


def test_first_rows_outside_the_columns() -> None:
    for first in ([1, 0], [-1], [3]):
        with pytest.raises(ValueError, match="first rows"):
            _native_number(np.array(first, np.int64), *columns([(1, 0, 0), (2, 1, 0)]))


ids = st.one_of(st.integers(1, 12), st.sampled_from([2**64 - 1, 2**63]))
parents = st.one_of(st.integers(0, 12), st.sampled_from([2**64 - 1]))
spans = st.tuples(ids, parents, st.integers(0, 4))
traces = st.lists(st.lists(spans, min_size=1, max_size=14), max_size=5)


@settings(deadline=None, derandomize=True, database=None, max_examples=400)
@given(traces)
def test_native_is_plain_and_both_keep_the_rules(groups: list[list[Span]]) -> None:
    first = np.cumsum([0, *map(len, groups)]).astype(np.int64)[:-1]
    rows = [s for g in groups for s in g]
    native, plain = _native_number(first, *columns(rows)), number_plain(first, *columns(rows))
    for a, b in zip(native, plain, strict=True):
        assert a.dtype == b.dtype == np.int32
        assert a.tolist() == b.tolist()
    order, left, right, parent = (a.tolist() for a in plain)
    assert sorted(order) == list(range(len(rows)))
    for start, group in zip(first.tolist(), groups, strict=True):
        trace = range(start, start + len(group))
        assert sorted(order[start : start + len(group)]) == list(trace)
        assert sorted([left[i] for i in trace] + [right[i] for i in trace]) == list(range(1, 2 * len(group) + 1))
        by_left = {left[i]: i for i in trace}
        for i in trace:
            if parent[i] > 0:
                above = by_left[parent[i]]
                assert left[above] < left[i] < right[i] < right[above]
                shared = rows[i][0] == rows[above][0] and (rows[i][2], rows[above][2]) == (SERVER, CLIENT)
                assert shared or rows[i][1] == rows[above][0]
            elif parent[i] == ROOT:
                assert rows[i][1] == 0
            else:
                assert rows[i][1] != 0
