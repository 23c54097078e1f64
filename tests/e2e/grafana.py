"""Grafana 12 where it meets Vivace: the headers that it sends, and what it makes of answers and of its data sources.

Requests come from two places: from its backend, over Go's HTTP and gRPC clients, and from the browser through its data
source proxy, which passes the browser's headers on under its own name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vivace.model.proto import otlp_pb2 as otlp
from vivace.model.proto import tempopb_pb2 as pb

USER_AGENT = "Grafana/12.3.1"

_CONTEXT = {
    "X-Grafana-Org-Id": "1",
    "X-Datasource-Uid": "tempo",
    "X-Dashboard-Uid": "tempo-homelab",
    "X-Panel-Id": "2",
    "X-Panel-Plugin-Id": "traces",
    "X-Query-Group-Id": "6f0f1d9c-2a2e-4f7b-9d57-0c1a6a6f7f11",
    "X-Grafana-Device-Id": "0f7c6c3c5d0b4f0e9a3d2b1c",
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "tracestate": "",
}
BACKEND = {"User-Agent": USER_AGENT, "Accept-Encoding": "gzip", **_CONTEXT}
TRACE = {**BACKEND, "Accept": "application/protobuf"}
PROXY = {
    "User-Agent": USER_AGENT,
    "Accept": "application/json, text/plain, */*",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Accept-Language": "en-GB,en;q=0.9",
    "Referer": "https://grafana.example.org/explore?orgId=1",
    "X-Forwarded-For": "192.168.1.20, 10.42.0.7",
    **_CONTEXT,
}
METADATA = tuple((name.lower(), value) for name, value in _CONTEXT.items())
TENANT = {"X-Scope-OrgID": "homelab"}
"""Custom HTTP header of a data source, often left over from a multi-tenant Tempo; over gRPC it is metadata."""

# -- the trace view and the node graph --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """A span as a row of the trace view. Ids are hexadecimal, times milliseconds, the parent of a root is empty."""

    trace_id: str
    span_id: str
    parent_span_id: str
    operation: str
    service: str
    kind: str
    status: str
    status_message: str
    trace_state: str
    scope: tuple[str, str]
    start: float
    duration: float
    resource: dict[str, Any]
    tags: dict[str, Any]
    logs: tuple[tuple[float, str, tuple[tuple[str, Any], ...]], ...]
    references: tuple[tuple[str, str], ...]


def value(of: otlp.AnyValue) -> Any:
    kind = of.WhichOneof("value")
    return getattr(of, kind) if kind else None


def values(attributes: Iterable[otlp.KeyValue]) -> dict[str, Any]:
    return {each.key: value(each.value) for each in attributes}


def rows(trace: pb.Trace) -> dict[str, Row]:
    """By span id. Fails where Grafana would show nonsense: ids of another length, a span twice."""
    found: dict[str, Row] = {}
    for group in trace.resourceSpans:
        resource = values(group.resource.attributes)
        for scope, span in ((scoped.scope, span) for scoped in group.scope_spans for span in scoped.spans):
            assert (len(span.trace_id), len(span.span_id)) == (16, 8)
            assert len(span.parent_span_id) in (0, 8)
            assert span.span_id.hex() not in found
            found[span.span_id.hex()] = Row(
                trace_id=span.trace_id.hex(),
                span_id=span.span_id.hex(),
                parent_span_id=span.parent_span_id.hex(),
                operation=span.name,
                service=resource["service.name"],
                kind=otlp.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
                status=otlp.Status.StatusCode.Name(span.status.code).removeprefix("STATUS_CODE_").lower(),
                status_message=span.status.message,
                trace_state=span.trace_state,
                scope=(scope.name, scope.version),
                start=span.start_time_unix_nano / 1e6,
                duration=(span.end_time_unix_nano - span.start_time_unix_nano) / 1e6,
                resource=resource,
                tags=values(span.attributes),
                logs=tuple(
                    (event.time_unix_nano / 1e6, event.name, tuple(sorted(values(event.attributes).items())))
                    for event in span.events
                ),
                references=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
            )
    return found


@dataclass(frozen=True, slots=True)
class NodeGraph:
    """nodes  title (service), subtitle (operation), milliseconds, milliseconds outside of its children, by span id
    edges  parent's and child's span id"""

    nodes: dict[str, tuple[str, str, float, float]]
    edges: set[tuple[str, str]]


def node_graph(of: Mapping[str, Row]) -> NodeGraph:
    nodes: dict[str, tuple[str, str, float, float]] = {}
    for row in of.values():
        covered, until = 0.0, row.start
        for child in sorted((c for c in of.values() if c.parent_span_id == row.span_id), key=lambda c: c.start):
            end = child.start + child.duration
            covered += max(0.0, end - max(child.start, until))
            until = max(until, end)
        nodes[row.span_id] = (row.service, row.operation, row.duration, row.duration - covered)
    edges = {(row.parent_span_id, row.span_id) for row in of.values() if row.parent_span_id in of}
    return NodeGraph(nodes, edges)


# -- data sources and their links -------------------------------------------------------------------------------------

DEFAULT_TAGS = tuple(
    {"key": key} for key in ("cluster", "hostname", "namespace", "pod", "service.name", "service.namespace")
)
"""What a link to logs selects by where its data source names no tags."""
SHIFT = re.compile(r"(-?\d+)([smh])")


def provisioned(path: Path) -> dict[str, Any]:
    """jsonData by type of data source; `$$` is how a provisioning file writes a dollar sign."""

    def plain(of: Any) -> Any:
        if isinstance(of, str):
            return of.replace("$$", "$")
        if isinstance(of, dict):
            return {name: plain(each) for name, each in of.items()}
        return [plain(each) for each in of] if isinstance(of, list) else of

    sources = yaml.safe_load(path.read_text())["datasources"]
    return {source["type"]: plain(source.get("jsonData", {})) for source in sources}


@dataclass(frozen=True, slots=True)
class Link:
    """Where a span's link leads: labels to select by, ids that lines must contain, milliseconds from and to."""

    labels: dict[str, str]
    contains: tuple[str, ...]
    start: float
    end: float


def label(tag: str) -> str:
    return tag.replace(".", "_")


def link(settings: Mapping[str, Any], row: Row, tags: Iterable[Mapping[str, str]]) -> Link:
    """By tracesToLogsV2, or by tracesToMetrics, which has the same keys for times. tags: `key`, and `value` for another label."""
    attributes = {**row.resource, **row.tags}
    ids = {"filterByTraceID": row.trace_id, "filterBySpanID": row.span_id}
    return Link(
        labels={t.get("value") or label(t["key"]): attributes[t["key"]] for t in tags if t["key"] in attributes},
        contains=tuple(each for key, each in ids.items() if settings.get(key)),
        start=row.start + milliseconds(settings.get("spanStartTimeShift", "0s")),
        end=row.start + row.duration + milliseconds(settings.get("spanEndTimeShift", "0s")),
    )


def milliseconds(shift: str) -> float:
    found = SHIFT.fullmatch(shift)
    assert found is not None, shift
    return int(found[1]) * {"s": 1e3, "m": 60e3, "h": 3600e3}[found[2]]


def selector(labels: Mapping[str, str]) -> str:
    return ", ".join(f'{name}="{text}"' for name, text in labels.items())
