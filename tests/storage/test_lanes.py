"""Lanes: every pair of every row is in exactly one place, and comes back in order."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vivace.model.attributes import Attributes
from vivace.model.dictionary import Dictionary
from vivace.model.schema import ValueType
from vivace.storage.lanes import Lanes, lane_array, loose_pairs, split

Pair = tuple[int, int, int, int]

PAIRS = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 3), st.sampled_from([0, 1, 3, 7]), st.integers(0, 2**64 - 1)),
    max_size=30,
)


def counts(lanes: Lanes) -> list[tuple[int, ValueType, int]]:
    """(key code, type, rows) of each lane."""
    return [(key, kind, len(lane.row)) for (key, kind), lane in lanes.lanes.items()]


def attributes(pairs: list[Pair]) -> Attributes:
    columns = list(zip(*sorted(pairs, key=lambda p: p[0]), strict=True)) or [(), (), (), ()]
    dtypes = (np.uint32, np.uint32, np.uint8, np.uint64)
    return Attributes(*(np.array(c, d) for c, d in zip(columns, dtypes, strict=True)))


def by_key(pairs: Attributes) -> dict[tuple[int, int, int], list[int]]:
    """Values in order, by row, key and type."""
    found: dict[tuple[int, int, int], list[int]] = defaultdict(list)
    columns = (pairs.row, pairs.key, pairs.type, pairs.value)
    for row, key, kind, value in zip(*(c.tolist() for c in columns), strict=True):
        found[row, key, kind].append(value)
    return dict(found)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(PAIRS)
def test_pairs_are_kept_in_order(pairs: list[Pair]) -> None:
    table = attributes(pairs)
    lanes = split(table, 6)
    for (key, kind), lane in lanes.lanes.items():
        rows = lane.row.tolist()
        assert rows == sorted(set(rows)), "each row once"
        first = [by_key(table)[row, key, kind][0] for row in rows]
        assert lane.value.tolist() == first
    joined = loose_pairs([(key, kind, lane) for (key, kind), lane in lanes.lanes.items()], lanes.extra)
    assert joined.row.tolist() == table.row.tolist()
    assert by_key(joined) == by_key(table)
    assert {(k, t): n for k, t, n in counts(lanes)} == {
        (k, t): len({r for r, k2, t2 in by_key(table) if (k2, t2) == (k, t)}) for _, k, t in by_key(table)
    }


def test_a_lane_as_a_column() -> None:
    dictionary = Dictionary()
    codes = {word: dictionary.strings.add(word.encode()) for word in ("a", "b")}
    bits = np.array([1.5, -0.0]).view(np.uint64).tolist()
    cases = {
        ValueType.STRING: ([codes["a"], codes["b"]], ["a", "b"]),
        ValueType.INT: ([2**64 - 1, 7], [-1, 7]),
        ValueType.DOUBLE: (bits, [1.5, -0.0]),
        ValueType.BOOL: ([0, 1], [False, True]),
    }
    for kind, (values, expected) in cases.items():
        lanes = split(attributes([(1, 5, kind, values[0]), (3, 5, kind, values[1])]), 4)
        column = lane_array(lanes.lanes[5, kind], kind, 4, dictionary).to_pylist()
        assert repr(column) == repr([None, expected[0], None, expected[1]])
        assert lane_array(None, kind, 2, dictionary).to_pylist() == [None, None]
