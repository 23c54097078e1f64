"""Trace structure as nested-set numbers: an ancestor's interval (left, right) encloses its descendants'.

Rule 1  numbers count from 1 within a trace and run through all its trees; children stand in the order of their rows.
Rule 2  `parent` is the parent's left number, ROOT (-1) for a span without a parent id, UNKNOWN_PARENT (0) for one whose
        parent was never received or that hangs in a ring: a trace without its root keeps its structure.
Rule 3  where a client and a server span share one id (Zipkin), the children hang under the server, and the server under the
        client if they share their parent id too. Of other spans with one id, the first answers to it.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from vivace.model.attributes import I32, I64, U64
from vivace.model.schema import ROOT, UNKNOWN_PARENT

try:
    from vivace.model._trees import number as _native_number
except ImportError:
    _native_number = None

SERVER, CLIENT = 2, 3


def number(first_rows: I64, span_id: U64, parent_id: U64, kind: I32) -> tuple[I32, I32, I32, I32]:
    """Number the spans of many traces: (order, left, right, parent), int32, one entry a row.

    Shape   in: rows grouped by trace, sorted by start within it; first_rows: where each trace begins, ascending.
            out: left, right, parent belong to the input rows; order lists input rows by (trace, left).
    Cost    O(rows).
    """
    if _native_number is not None:
        numbers: tuple[I32, I32, I32, I32] = _native_number(first_rows, span_id, parent_id, kind)
        return numbers
    return number_plain(first_rows, span_id, parent_id, kind)


def number_plain(first_rows: I64, span_id: U64, parent_id: U64, kind: I32) -> tuple[I32, I32, I32, I32]:
    """The same in plain Python."""
    n = len(span_id)
    order: list[int] = []
    left, right, parent = ([0] * n for _ in range(3))
    bounds = [*first_rows.tolist(), n]
    ids, parents, kinds = span_id.tolist(), parent_id.tolist(), kind.tolist()
    for first, last in pairwise(bounds):
        rows = range(first, last)
        up = _parents(rows, ids, parents, kinds)
        children: dict[int, list[int]] = {}
        for row in rows:
            if row in up:
                children.setdefault(up[row], []).append(row)
        tops = [
            *(r for r in rows if r not in up and parents[r] == 0),
            *(r for r in rows if r not in up and parents[r] != 0),
            *(r for r in rows if r in up),
        ]
        counter = 1
        for top in tops:
            if left[top]:
                continue
            stack = [(top, ROOT if parents[top] == 0 else UNKNOWN_PARENT)]
            while stack:
                row, above = stack.pop()
                if row < 0:
                    right[~row] = counter
                    counter += 1
                elif not left[row]:
                    left[row], parent[row] = counter, above
                    counter += 1
                    order.append(row)
                    stack.append((~row, 0))
                    stack += [(c, left[row]) for c in reversed(children.get(row, [])) if not left[c]]
    as_int32 = [np.array(a, np.int32) for a in (order, left, right, parent)]
    return as_int32[0], as_int32[1], as_int32[2], as_int32[3]


def _parents(rows: range, ids: list[int], parents: list[int], kinds: list[int]) -> dict[int, int]:
    """Row -> row of its parent, for rows whose parent is here."""
    owner: dict[int, int] = {}
    for row in rows:
        held = owner.setdefault(ids[row], row)
        if kinds[row] == SERVER and kinds[held] == CLIENT:
            owner[ids[row]] = row
    up = {r: owner[parents[r]] for r in rows if parents[r] and owner.get(parents[r], r) != r}
    for row in rows:
        server = owner[ids[row]]
        if kinds[row] == CLIENT and kinds[server] == SERVER and parents[row] == parents[server]:
            up[server] = row
    return up
