"""Searches without TraceQL: tags and durations, each tag perhaps on another span of the trace.

Well-known keys are found by a part of their value, other keys by the whole value and strings only: so does Tempo, as measured.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow.compute as pc

from vivace.model.frame import Fixed, Level, Mask, Strings
from vivace.query.answers import LegacyTags
from vivace.query.fields import read
from vivace.query.spans import Spans
from vivace.query.values import Values, compare_static
from vivace.traceql.ast import Attribute, Field, Intrinsic, IntrinsicId, Operator, Scope, Static, StaticKind
from vivace.traceql.types import Type

_CONTAINS: Mapping[str, Field] = {
    **{
        key: Attribute(Scope.RESOURCE, key)
        for key in (
            "service.name", "cluster", "namespace", "pod", "container",
            "k8s.cluster.name", "k8s.namespace.name", "k8s.pod.name", "k8s.container.name",
        )
    },
    "http.method": Attribute(Scope.SPAN, "http.method"),
    "http.url": Attribute(Scope.SPAN, "http.url"),
    "name": Intrinsic(IntrinsicId.NAME),
    "root.name": Intrinsic(IntrinsicId.ROOT_NAME),
    "root.service.name": Intrinsic(IntrinsicId.ROOT_SERVICE_NAME),
}  # fmt: skip
"""Keys whose values need only contain the text."""

_STATUSES = {"error", "ok", "unset"}


def matching(spans: Spans, tags: LegacyTags | None) -> Mask:
    """The traces in which every tag holds somewhere, and whose duration fits; None is all traces."""
    found = np.ones(len(spans.first_rows) - 1, bool)
    if tags is None:
        return found
    duration = spans.numbers(Fixed.TRACE_DURATION)
    if tags.duration_min_nano is not None:
        found &= duration >= tags.duration_min_nano
    if tags.duration_max_nano is not None:
        found &= duration <= tags.duration_max_nano
    for key, value in tags.tags.items():
        found &= _traces(spans, _tag(spans, key, value))
    return found


def _traces(spans: Spans, mask: Mask) -> Mask:
    found = np.zeros(len(spans.first_rows) - 1, bool)
    found[spans.trace[mask]] = True
    return found


def _tag(spans: Spans, key: str, value: str) -> Mask:
    """Spans on which a tag holds."""
    if key in _CONTAINS:
        return _containing(spans, read(spans, _CONTAINS[key]), value)
    if key == "status.code":
        if value not in _STATUSES:
            return np.zeros(spans.count, bool)
        return compare_static(
            read(spans, Intrinsic(IntrinsicId.STATUS)), Operator.EQUAL, Static(StaticKind.STATUS, value)
        )
    if key == "http.status_code":
        number = int(value) if value.isascii() and value.isdigit() else -1
        return _equal(spans, Attribute(Scope.SPAN, key), Static(StaticKind.INT, number))
    text = Static(StaticKind.STRING, value)
    return _equal(spans, Attribute(Scope.SPAN, key), text) | _equal(spans, Attribute(Scope.RESOURCE, key), text)


def _equal(spans: Spans, field: Field, static: Static) -> Mask:
    values = read(spans, field)
    return spans.lift_mask(compare_static(values, Operator.EQUAL, static), values.level)


def _containing(spans: Spans, values: Values, text: str) -> Mask:
    found = np.zeros(values.count, bool)
    for lane in values.lanes:
        if lane.type is Type.STRING and isinstance(lane.column, Strings):
            table = pc.match_substring(lane.column.table, text).to_numpy(zero_copy_only=False)
            found |= np.append(table, False)[lane.column.codes]
    return spans.lift_mask(found, values.level) if values.level is not Level.SPAN else found
