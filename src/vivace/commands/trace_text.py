"""A trace as text: a tree of its spans with their offsets and durations.

In: the JSON of /api/v2/traces. Spans whose parent is not in the answer stand at the left, so do those that are each other's
parents; nothing is left out.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vivace.commands.text import counted, duration_text, table, time_text

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SpanLine:
    """What is printed of a span; times in nanoseconds, ids as the answer has them."""

    id: str
    parent: str
    trace: str
    service: str
    name: str
    kind: str
    status: str
    start: int
    end: int
    attributes: tuple[str, ...]


def trace_text(answer: Json, *, with_attributes: bool) -> str:
    """The trace of an answer that has one: a line about it, then a line for each span."""
    spans = sorted(_spans(answer["trace"]), key=lambda span: (span.start, span.id))
    start, end = min(s.start for s in spans), max(s.end for s in spans)
    services = len({s.service for s in spans})
    title = (
        f"trace {base64.b64decode(spans[0].trace).hex()}: {time_text(start)}, {duration_text(end - start)}, "
        f"{counted(len(spans), 'span')}, {counted(services, 'service')}"
    )
    rows = []
    for span, depth in in_tree_order(spans):
        indent = "  " * depth
        rows.append((_offset(span.start - start), duration_text(span.end - span.start),
                     f"{indent}{span.service}: {span.name}", span.kind, span.status))  # fmt: skip
        if with_attributes:
            rows += [("", "", f"{indent}    {text}", "", "") for text in span.attributes]
    note = f"\n{answer['status'].lower()}: {answer.get('message', '')}" if answer.get("status") else ""
    return f"{title}\n{table(('offset', 'duration', 'span', 'kind', 'status'), rows, right=(0, 1))}{note}"


def in_tree_order(spans: Sequence[SpanLine]) -> Iterator[tuple[SpanLine, int]]:
    """Every span once, children behind their parent, with its depth; siblings in the order given."""
    ids = {span.id for span in spans}
    children: dict[str, list[SpanLine]] = {}
    for span in spans:
        children.setdefault(span.parent if span.parent in ids else "", []).append(span)
    seen: set[int] = set()
    for first in (*children.get("", ()), *spans):  # the second half: what hangs on nothing but itself
        pending = [(first, 0)]
        while pending:
            span, depth = pending.pop()
            if id(span) in seen:
                continue
            seen.add(id(span))
            yield span, depth
            pending += [(child, depth + 1) for child in reversed(children.get(span.id, ()))]


def _offset(nanoseconds: int) -> str:
    return f"+{duration_text(nanoseconds)}"


def _spans(trace: Json) -> Iterator[SpanLine]:
    for resource_spans in trace["resourceSpans"]:
        attributes = resource_spans.get("resource", {}).get("attributes", ())
        service = next((value_text(a["value"]) for a in attributes if a["key"] == "service.name"), "")
        for scope_spans in resource_spans.get("scopeSpans", ()):
            for span in scope_spans.get("spans", ()):
                yield _span(span, service)


def _span(span: Json, service: str) -> SpanLine:
    status = span.get("status", {})
    words = (status.get("code", "").removeprefix("STATUS_CODE_").lower(), status.get("message", ""))
    return SpanLine(
        id=span["spanId"],
        parent=span.get("parentSpanId", ""),
        trace=span["traceId"],
        service=service,
        name=span.get("name", ""),
        kind=span.get("kind", "").removeprefix("SPAN_KIND_").lower(),
        status=": ".join(word for word in words if word),
        start=int(span.get("startTimeUnixNano", 0)),
        end=int(span.get("endTimeUnixNano", 0)),
        attributes=tuple(_pairs(span.get("attributes", ()))),
    )


def _pairs(attributes: Iterable[Json]) -> Iterator[str]:
    for attribute in attributes:
        yield f"{attribute['key']} = {value_text(attribute.get('value', {}))}"


def value_text(value: Json) -> str:
    """An attribute's value: strings, numbers and truths as they are, lists in brackets, maps in braces, bytes in base64."""
    if "arrayValue" in value:
        return "[" + ", ".join(value_text(item) for item in value["arrayValue"].get("values", ())) + "]"
    if "kvlistValue" in value:
        return "{" + ", ".join(_pairs(value["kvlistValue"].get("values", ()))) + "}"
    found = next(iter(value.values()), "")
    return str(found).lower() if isinstance(found, bool) else str(found)
