"""Answers of searches, tags and metrics as JSON bodies. Pure functions, one for each kind of reply.

The rules of the JSON are those of typed_json.py; keys stand in the order of the messages' fields (model/proto/tempopb.proto),
and an empty list is `[]`. The same answers in protobuf: messages.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from vivace.api.typed_json import (
    attributes_json,
    double_json,
    double_texts,
    finished,
    joined,
    metadata_metrics,
    partial_status,
    search_metrics,
    value_json,
    without_zeros,
)
from vivace.query.answers import (
    Exemplar,
    FoundSpan,
    FoundSpanset,
    MetricsAnswer,
    Pairs,
    SearchAnswer,
    Series,
    SummaryRow,
    TagsAnswer,
    TagValuesAnswer,
    TraceSummary,
    Value,
    by_type,
)

NO_ROOT = "<root span not yet received>"
"""Stands for the root's service where the root span is not stored."""

_NANOSECONDS_IN_MILLISECOND = 1_000_000


def trace_id_text(trace_id: int, *, padded: bool) -> str:
    return f"{trace_id:032x}" if padded else f"{trace_id:x}"


def span_id_text(span_id: int) -> str:
    return f"{span_id:016x}"


def duration_ms(nano: int) -> int:
    return nano // _NANOSECONDS_IN_MILLISECOND


def search_json(answer: SearchAnswer, *, padded_ids: bool = False) -> bytes:
    """`explain`, where there is one, is a list of its lines."""
    fields: dict[str, Any] = {
        "traces": [_trace(trace, padded_ids) for trace in answer.traces],
        "metrics": search_metrics(answer.cost),
        **partial_status(answer.message),
    }
    if answer.explain:
        fields["explain"] = answer.explain.splitlines()
    return finished(orjson.dumps(fields))


def tags_json(answer: TagsAnswer) -> bytes:
    scopes = [{"name": name, "tags": tags} for name, tags in answer.scopes.items()]
    return finished(orjson.dumps({"scopes": scopes, "metrics": metadata_metrics(answer.cost)}))


def tag_names_json(names: Sequence[str], answer: TagsAnswer) -> bytes:
    """The v1 form: names without scopes, as tag_names() merges them."""
    return finished(orjson.dumps({"tagNames": names, "metrics": metadata_metrics(answer.cost)}))


def tag_names(answer: TagsAnswer, *, scope: str, limit: int) -> list[str]:
    """Names of all scopes, sorted, at most `limit` (0: all). Intrinsics are among them only where they were asked for."""
    scopes = answer.scopes.items()
    names = {name for key, tags in scopes if key != "intrinsic" or scope == "intrinsic" for name in tags}
    return sorted(names)[: limit or None]


def tag_values_json(answer: TagValuesAnswer) -> bytes:
    fields = {
        "tagValues": [
            {"type": kind, "value": text} if text else {"type": kind}
            for kind, texts in by_type(answer.values)
            for text in texts
        ],
        "metrics": metadata_metrics(answer.cost),
        **partial_status(answer.message),
    }
    return finished(orjson.dumps(fields))


def tag_values_v1_json(values: Sequence[str]) -> bytes:
    return finished(orjson.dumps({"tagValues": values, "metrics": {}}))


def range_json(answer: MetricsAnswer) -> bytes:
    """About 25 ms for 400 series of 120 samples."""
    bodies = (
        b'{"labels":%b,"samples":%b%b}' % (_labels(series.labels), samples, _exemplars(series.exemplars))
        for series, samples in zip(answer.series, _samples(answer.series), strict=True)
    )
    return _metrics_body(bodies, answer)


def instant_json(answer: MetricsAnswer) -> bytes:
    bodies = (
        b'{"labels":%b%b}' % (_labels(series.labels), b"" if text == b"0" else b',"value":' + text)
        for series in answer.series
        for text in double_texts(series.values[:1])
    )
    return _metrics_body(bodies, answer)


def summary_json(rows: Sequence[SummaryRow]) -> bytes:
    summaries = [
        {
            **without_zeros({"spanCount": str(row.span_count), "errorSpanCount": str(row.error_span_count)}),
            "series": [{"key": key, "value": _static(value)} for key, value in row.group],
            **without_zeros({f"p{q}": str(row.quantiles_nano.get(q, 0)) for q in (99, 95, 90, 50)}),
        }
        for row in rows
    ]
    return finished(orjson.dumps({"summaries": summaries}))


def _trace(trace: TraceSummary, padded_ids: bool) -> dict[str, Any]:
    fields: dict[str, Any] = without_zeros(
        {
            "traceID": trace_id_text(trace.trace_id, padded=padded_ids),
            "rootServiceName": NO_ROOT if trace.root_service_name is None else trace.root_service_name,
            "rootTraceName": trace.root_name or "",
            "startTimeUnixNano": str(trace.start_unix_nano),
            "durationMs": duration_ms(trace.duration_nano),
        }
    )
    if trace.spansets:
        spansets = [orjson.Fragment(orjson.dumps(_spanset(spanset))) for spanset in trace.spansets]
        fields["spanSet"] = spansets[0]  # for clients from before there were several
        fields["spanSets"] = spansets
    if trace.services:
        fields["serviceStats"] = {
            name: without_zeros({"spanCount": stats.span_count, "errorCount": stats.error_count})
            for name, stats in sorted(trace.services.items())
        }
    return fields


def _spanset(spanset: FoundSpanset) -> dict[str, Any]:
    fields: dict[str, Any] = {"spans": [_span(span) for span in spanset.spans]}
    if spanset.matched:
        fields["matched"] = spanset.matched
    if spanset.attributes:
        fields["attributes"] = attributes_json(spanset.attributes)
    return fields


def _span(span: FoundSpan) -> dict[str, Any]:
    fields: dict[str, Any] = {"spanID": span_id_text(span.span_id)}
    if span.name:
        fields["name"] = span.name
    if span.start_unix_nano:
        fields["startTimeUnixNano"] = str(span.start_unix_nano)
    if span.duration_nano:
        fields["durationNanos"] = str(span.duration_nano)
    if span.attributes:
        fields["attributes"] = attributes_json(span.attributes)
    return fields


def _metrics_body(series: Iterable[bytes], answer: MetricsAnswer) -> bytes:
    rest = {"metrics": search_metrics(answer.cost), **partial_status(answer.message)}
    return finished(b'{"series":%b,%b' % (joined(series), orjson.dumps(rest)[1:]))


def _labels(labels: Pairs) -> bytes:
    return orjson.dumps(attributes_json(labels))


def _samples(several: Sequence[Series]) -> Iterator[bytes]:
    """The samples of each series. Series of one answer mostly share their timestamps, whose text is then made once."""
    timestamps: NDArray[np.int64] = np.empty(0, np.int64)
    template = b"[]"
    for series in several:
        if not np.array_equal(series.timestamps_ms, timestamps):
            timestamps = series.timestamps_ms
            template = joined(b'{"timestampMs":"%d","value":%%b}' % ms for ms in timestamps.tolist())
        samples = template % tuple(double_texts(series.values))
        yield samples.replace(b',"value":0}', b"}")


def _exemplars(exemplars: Sequence[Exemplar]) -> bytes:
    if not exemplars:
        return b""
    return b',"exemplars":' + orjson.dumps([_exemplar(exemplar) for exemplar in exemplars])


def _exemplar(exemplar: Exemplar) -> dict[str, Any]:
    fields: dict[str, Any] = {"labels": attributes_json(exemplar.labels)}
    if exemplar.value:
        fields["value"] = double_json(exemplar.value)
    if exemplar.timestamp_ms:
        fields["timestampMs"] = str(exemplar.timestamp_ms)
    return fields


def _static(value: Value) -> dict[str, Any]:
    """A TraceQLStatic: type 0 nil, 3 int, 4 float, 5 string, 6 bool; what is none of these is a string of its JSON."""
    match value:
        case None:
            return {}
        case bool():
            return {"type": 6, "b": True} if value else {"type": 6}
        case int():
            return {"type": 3, "n": str(value)} if value else {"type": 3}
        case float():
            return {"type": 4, "f": double_json(value)} if value else {"type": 4}
        case str():
            return {"type": 5, "s": value} if value else {"type": 5}
        case _:
            return {"type": 5, "s": orjson.dumps(value_json(value)).decode()}
