"""Zipkin's shared spans get ids of their own in answers; everything else is left as it is."""

from __future__ import annotations

from typing import Any

import builders as b
import pytest

from vivace.model.arrange import arrange
from vivace.query.shared_spans import separate

INTERNAL, SERVER, CLIENT = 1, 2, 3
Row = tuple[int, int, int]

# what: spans as (id, parent, kind) in order of time, the same after separation
CASES: dict[str, tuple[list[Row], set[Row]]] = {
    "nothing shared": ([(1, 0, SERVER), (2, 1, CLIENT)], {(1, 0, SERVER), (2, 1, CLIENT)}),
    "a client and a server": (
        [(10, 0, CLIENT), (10, 0, SERVER)],
        {(10, 0, CLIENT), (1, 10, SERVER)},
    ),
    "the parent of both": (
        [(9, 0, SERVER), (10, 9, CLIENT), (10, 9, SERVER)],
        {(9, 0, SERVER), (10, 9, CLIENT), (1, 10, SERVER)},
    ),
    "the server's children follow it": (
        [(10, 0, CLIENT), (10, 0, SERVER), (11, 10, INTERNAL), (12, 11, INTERNAL)],
        {(10, 0, CLIENT), (1, 10, SERVER), (11, 1, INTERNAL), (12, 11, INTERNAL)},
    ),
    "fresh ids are not taken": (
        [(1, 0, SERVER), (10, 1, CLIENT), (10, 1, SERVER), (2, 10, CLIENT), (2, 10, SERVER)],
        {(1, 0, SERVER), (10, 1, CLIENT), (3, 10, SERVER), (2, 3, CLIENT), (4, 2, SERVER)},
    ),
    "two hops": (
        [(10, 0, CLIENT), (10, 0, SERVER), (20, 10, CLIENT), (20, 10, SERVER), (30, 20, INTERNAL)],
        {(10, 0, CLIENT), (1, 10, SERVER), (20, 1, CLIENT), (2, 20, SERVER), (30, 2, INTERNAL)},
    ),
    "two servers of one client": (
        [(10, 0, CLIENT), (10, 0, SERVER), (10, 0, SERVER)],
        {(10, 0, CLIENT), (1, 10, SERVER), (2, 10, SERVER)},
    ),
    "two clients": ([(10, 0, CLIENT), (10, 0, CLIENT)], {(10, 0, CLIENT)}),
    "two servers": ([(10, 0, SERVER), (10, 0, SERVER)], {(10, 0, SERVER)}),
    "an internal one": ([(10, 0, CLIENT), (10, 0, INTERNAL)], {(10, 0, CLIENT), (10, 0, INTERNAL)}),
}


@pytest.mark.parametrize(("rows", "expected"), CASES.values(), ids=CASES.keys())
def test_separation(rows: list[Row], expected: set[Row]) -> None:
    spans: list[Any] = [
        b.span(1, id, parent, kind=kind, start=b.NOON + i, name=str(i)) for i, (id, parent, kind) in enumerate(rows)
    ]
    trace = arrange(b.batch(b.request(*spans)))
    stored = b.contents(trace.batch)
    found = separate(trace)
    columns = (found.span_id, found.parent_span_id, found.kind)
    assert set(zip(*(c.tolist() for c in columns), strict=True)) == expected
    assert len(found) == len(rows)
    assert b.contents(trace.batch) == stored, "what is stored stays"
