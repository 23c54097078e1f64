"""Structural operators: which spans of one set stand in a relation to some span of another.

Everything is a pass over all rows, for rows stand in the order of nested sets (spans.py). A relation is named after the right
side, whose spans are the result: `A >> B` gives the DESCENDANTs in B of spans in A.
"""

from __future__ import annotations

import numpy as np

from vivace.model.frame import Mask
from vivace.query.spans import Spans
from vivace.traceql.ast import SpansetOperator

_PLAIN = {
    SpansetOperator.NOT_CHILD: SpansetOperator.CHILD,
    SpansetOperator.NOT_DESCENDANT: SpansetOperator.DESCENDANT,
    SpansetOperator.NOT_PARENT: SpansetOperator.PARENT,
    SpansetOperator.NOT_ANCESTOR: SpansetOperator.ANCESTOR,
    SpansetOperator.NOT_SIBLING: SpansetOperator.SIBLING,
}

_UNION = {
    SpansetOperator.UNION_CHILD: (SpansetOperator.CHILD, SpansetOperator.PARENT),
    SpansetOperator.UNION_DESCENDANT: (SpansetOperator.DESCENDANT, SpansetOperator.ANCESTOR),
    SpansetOperator.UNION_PARENT: (SpansetOperator.PARENT, SpansetOperator.CHILD),
    SpansetOperator.UNION_ANCESTOR: (SpansetOperator.ANCESTOR, SpansetOperator.DESCENDANT),
    SpansetOperator.UNION_SIBLING: (SpansetOperator.SIBLING, SpansetOperator.SIBLING),
}


def combine(spans: Spans, op: SpansetOperator, a: Mask, b: Mask) -> Mask:
    """The spans of `a op b`, trace by trace."""
    match op:
        case SpansetOperator.OR:
            return a | b
        case SpansetOperator.AND:
            both = _traces_with(spans, a) & _traces_with(spans, b)
            result: Mask = (a | b) & both[spans.trace]
            return result
        case _ if op in _PLAIN:
            return b & ~_related(spans, _PLAIN[op], a)
        case _ if op in _UNION:
            there, back = _UNION[op]
            return (b & _related(spans, there, a)) | (a & _related(spans, back, b))
        case _:
            return b & _related(spans, op, a)


def _traces_with(spans: Spans, mask: Mask) -> Mask:
    found = np.zeros(len(spans.first_rows) - 1, bool)
    found[spans.trace[mask]] = True
    return found


def _related(spans: Spans, op: SpansetOperator, to: Mask) -> Mask:
    """All spans that stand in the relation to some span of `to`."""
    related = np.zeros(spans.count, bool)
    if not to.any():
        return related
    parents = spans.parent_rows
    match op:
        case SpansetOperator.CHILD:
            has = parents >= 0
            related[has] = to[parents[has]]
        case SpansetOperator.PARENT:
            above = parents[to]
            related[above[above >= 0]] = True
        case SpansetOperator.DESCENDANT:
            rows = np.flatnonzero(to)  # each opens an interval behind itself, up to the end of its subtree
            depth = np.bincount(rows + 1, minlength=spans.count + 1)
            depth = depth - np.bincount(spans.subtree_ends[rows], minlength=spans.count + 1)
            related = np.cumsum(depth)[: spans.count] > 0
        case SpansetOperator.ANCESTOR:
            before = np.concatenate(([0], np.cumsum(to)))  # of `to`, in front of each row
            related = before[spans.subtree_ends] > before[1:]
        case SpansetOperator.SIBLING:
            has = parents >= 0
            siblings = np.bincount(parents[has & to], minlength=spans.count)
            related[has] = siblings[parents[has]] > to[has]  # more than itself
        case _:
            raise AssertionError(f"{op} is no relation")
    return related
