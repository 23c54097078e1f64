"""Rows of a batch by number: take them in any order, tell copies apart. Vectorised; no loop over spans."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from vivace.model.attributes import I64, U32, U64, Attributes
from vivace.model.batch import CHILD_COLUMNS, COLUMNS, Events, Links, SpanBatch

Rows = NDArray[np.integer]
T = TypeVar("T", Events, Links)

IDENTITY_COLUMNS = tuple(name for name in COLUMNS if name not in ("size", "resource", "scope"))
"""What makes two spans the same, beside what their resource and scope hold; `size` is only how they were encoded."""


def take(batch: SpanBatch, rows: Rows) -> SpanBatch:
    """The given rows, in the given order; rows may repeat."""
    columns: dict[str, Any] = {name: _pick(getattr(batch, name), rows) for name in COLUMNS}
    return replace(
        batch,
        **columns,
        attributes=take_attributes(batch.attributes, len(batch), rows),
        events=_take_children(batch.events, len(batch), rows),
        links=_take_children(batch.links, len(batch), rows),
    )


def take_attributes(attributes: Attributes, row_count: int, rows: Rows) -> Attributes:
    """Pairs of the given rows out of `row_count`, renumbered in their new order."""
    if not len(attributes):
        return attributes
    new_row, pairs = _expand(attributes.row, row_count, rows)
    return Attributes(new_row, attributes.key[pairs], attributes.type[pairs], attributes.value[pairs])


def _take_children(children: T, span_count: int, spans: Rows) -> T:
    if not len(children):
        return children
    new_span, picked = _expand(children.span, span_count, spans)
    columns: dict[str, Any] = {name: _pick(getattr(children, name), picked) for name in CHILD_COLUMNS[type(children)]}
    attributes = take_attributes(children.attributes, len(children), picked)
    return type(children)(span=new_span, attributes=attributes, **columns)


def _expand(owner: U32, owner_count: int, owners: Rows) -> tuple[U32, I64]:
    """For children sorted by `owner`: (new owner number, old child number) of each child of `owners`, in that order."""
    counts = np.bincount(owner, minlength=owner_count)
    starts = np.cumsum(counts) - counts
    picked = counts[owners]
    ends = np.cumsum(picked)
    total = int(ends[-1]) if len(ends) else 0
    children = np.repeat(starts[owners] - (ends - picked), picked) + np.arange(total)
    return np.repeat(np.arange(len(owners), dtype=np.uint32), picked), children


def _pick(column: NDArray[np.generic], rows: Rows) -> NDArray[np.generic]:
    return np.broadcast_to(column[:1], len(rows)) if column.strides == (0,) and len(column) else column[rows]


def signatures(batch: SpanBatch) -> U64:
    """One 64-bit number a span over all that it holds: equal spans have equal ones, others differ (chance 2^-64).

    Only numbers from one dictionary can be compared.
    """
    resources, scopes = batch.dictionary.resources, batch.dictionary.scopes
    resource = _mix(resources.schema_url.astype(np.uint64) << np.uint64(32) | resources.dropped_attributes_count)
    resource += _attribute_sums(resources.attributes, len(resources))
    scope = _mix(scopes.name.astype(np.uint64) << np.uint64(32) | scopes.version)
    scope = _mix(scope ^ (scopes.schema_url.astype(np.uint64) << np.uint64(32) | scopes.dropped_attributes_count))
    scope += _attribute_sums(scopes.attributes, len(scopes))
    total = _mix(resource[batch.resource] ^ _mix(scope[batch.scope]))
    for name in IDENTITY_COLUMNS:
        total = _mix(total ^ getattr(batch, name).astype(np.uint64))
    total += _attribute_sums(batch.attributes, len(batch))
    for children in (batch.events, batch.links):
        own = np.zeros(len(children), np.uint64)
        for name in CHILD_COLUMNS[type(children)]:
            own = _mix(own ^ getattr(children, name).astype(np.uint64))
        own += _attribute_sums(children.attributes, len(children))
        np.add.at(total, children.span, _mix(own))
    return total


def _attribute_sums(attributes: Attributes, row_count: int) -> U64:
    pairs = _mix(_mix(attributes.key.astype(np.uint64) * np.uint64(8) + attributes.type) ^ attributes.value)
    sums = np.zeros(row_count, np.uint64)
    np.add.at(sums, attributes.row, pairs)
    return sums


def _mix(x: U64) -> U64:
    """Finaliser of splitmix64 (Steele, Lea, Flood 2014): every input bit reaches every output bit."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: U64 = x ^ (x >> np.uint64(31)) ^ np.uint64(0x9E3779B97F4A7C15)
    return mixed
