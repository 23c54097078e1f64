"""What a frame holds as plain lists, so that two of them can be compared however they code it; and spans of all sorts.

Strings as str, ids of links as bytes, doubles as hex (so that nan equals nan); None where a row has no value.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import builders as b

from vivace.model.batch import SpanBatch
from vivace.model.dictionary import Dictionary
from vivace.model.frame import LEVEL_OF_SCOPE, Attribute, Fixed, Frame, Level, Numbers, Strings
from vivace.model.schema import AttributeScope

SHARED = (Level.RESOURCE, Level.SCOPE)
"""Levels whose rows are numbered differently here and there: compared as the spans see them."""

KEYS = ("k", "k:int", "", "nul\0nul", "a.b", "a", "ключ", "service.name", "rare")
VALUES: tuple[b.Value, ...] = (
    "v", "w", "", "grüße", 0, 7, -(2**63), 1.5, -0.0, math.nan, True, False, b"", b"\0\xff", [], [1, "x"], {}, {"m": 1}, None,
)  # fmt: skip


def of_column(column: Strings | Numbers) -> list[Any]:
    if isinstance(column, Strings):
        words = [*column.table.to_pylist(), None]
        assert len(set(words)) == len(words)
        return [words[code] for code in column.codes.tolist()]
    values: list[Any] = column.values.tolist()
    if column.values.dtype.kind == "f":
        values = [v.hex() for v in values]
    if column.valid is None:
        return values
    assert not column.valid.all()
    return [v if ok else None for v, ok in zip(values, column.valid.tolist(), strict=True)]


def of_attribute(attribute: Attribute | None, row_count: int) -> dict[str, list[Any]]:
    """By type, one entry a row; a type that no row has is left out."""
    if attribute is None:
        return {}
    assert attribute.nbytes > 0
    columns = {n: getattr(attribute, n) for n in ("strings", "ints", "doubles", "bools")}
    found = {name: of_column(column) for name, column in columns.items() if column is not None}
    kinds = {"ints": "i8", "doubles": "f8", "bools": "?"}
    assert all(columns[n].values.dtype == kinds[n] for n in found if n != "strings")
    assert all(len(c) == row_count and any(v is not None for v in c) for c in found.values())
    if attribute.compounds is not None:
        by_row: list[Any] = [None] * row_count
        c = attribute.compounds
        for row, kind, value in zip(c.rows.tolist(), c.types, c.values, strict=True):
            by_row[row] = [*(by_row[row] or []), (kind, value)]
        found["compounds"] = by_row
    if attribute.unset is not None:
        found["unset"] = [row in attribute.unset.tolist() or None for row in range(row_count)]
    assert found
    return found


def contents(frames: Sequence[Frame], keys: Sequence[str] = KEYS) -> dict[Any, Any]:
    """All that frames hold, one after the other, by column."""
    found: dict[Any, Any] = {Level.TRACE: [], Level.EVENT: [], Level.LINK: [], "first rows": []}
    spans = traces = 0
    for frame in frames:
        for level in (Level.EVENT, Level.LINK):
            owners = frame.owners(level).tolist()
            assert owners == sorted(owners)
            assert set(owners) <= set(range(frame.count(Level.SPAN)))
            found[level] += [spans + row for row in owners]
        found[Level.TRACE] += [traces + row for row in frame.owners(Level.TRACE).tolist()]
        found["first rows"] += [spans + row for row in frame.first_rows().tolist()]
        for column in Fixed:
            values = of_column(frame.fixed(column))
            assert len(values) == frame.count(column.level)
            found.setdefault(column, []).extend(_seen_by_spans(frame, column.level, values))
        for scope in AttributeScope:
            level = LEVEL_OF_SCOPE[scope]
            for key in keys:
                columns = of_attribute(frame.attribute(scope, key), frame.count(level))
                for kind in ("strings", "ints", "doubles", "bools", "compounds", "unset"):
                    values = columns.get(kind, [None] * frame.count(level))
                    found.setdefault((scope, key, kind), []).extend(_seen_by_spans(frame, level, values))
        spans += frame.count(Level.SPAN)
        traces += frame.count(Level.TRACE)
    return found


def _seen_by_spans(frame: Frame, level: Level, values: list[Any]) -> list[Any]:
    return [values[row] for row in frame.owners(level).tolist()] if level in SHARED else values


def some_pairs(rng: random.Random) -> list[tuple[str, b.Value]]:
    """Attributes: keys twice, of one type and of several."""
    keys = KEYS if rng.random() < 0.1 else KEYS[:-1]
    return [(rng.choice(keys), rng.choice(VALUES)) for _ in range(rng.randrange(6))]


def some_spans(seed: int, *, traces: int = 30) -> SpanBatch:
    """Traces of all sorts: with and without roots, events, links; some end before they start."""
    rng = random.Random(seed)
    requests = []
    for trace in range(1, traces + 1):
        spans = [
            b.span(
                trace << 64 | trace if trace % 2 else trace,
                i + 1,
                parent=rng.choice([0, rng.randrange(1, i + 2), 99]),
                start=b.NOON + rng.randrange(50),
                duration=rng.randrange(-20, 50),
                name=rng.choice(["", "GET /", "SELECT"]),
                kind=rng.randrange(6),
                status=(rng.randrange(3), rng.choice(["", "broken"])),
                attributes=some_pairs(rng),
                events=[
                    b.event(rng.choice("ab"), b.NOON + i, some_pairs(rng)) for _ in range(rng.choice([0, 0, 0, 2]))
                ],
                links=[
                    b.link(
                        rng.randbytes(rng.choice([0, 16, 3])), rng.randbytes(rng.choice([0, 8, 33])), some_pairs(rng)
                    )
                    for _ in range(rng.choice([0, 0, 0, 1]))
                ],
            )
            for i in range(rng.choice([1, 1, 2, 5, 12]))
        ]
        requests.append(
            b.request(
                *spans,
                resource=some_pairs(rng) if rng.random() < 0.8 else (),
                scope=rng.choice(["", "lib"]),
                version=rng.choice(["", "1"]),
                scope_attributes=some_pairs(rng),
            )
        )
    dictionary = Dictionary()
    b.batch(b.request(b.span(name="not in the batch"), resource={"k": "x"}), dictionary=dictionary)
    return b.batch(*requests, dictionary=dictionary)
