"""A batch back as OTLP: wire bytes of a TracesData (the same as an ExportTraceServiceRequest).

Rule 1  spans that share resource and scope share one ResourceSpans / ScopeSpans, in order of first appearance.
Rule 2  resource, scope, status and value messages are written even when empty, as OTLP receivers read and re-write them.
Source: opentelemetry-proto, trace/v1/trace.proto.
"""

from __future__ import annotations

import numpy as np

from vivace.model.batch import SpanBatch
from vivace.model.rows import take

try:
    from vivace.model._encode import Encoder as NativeEncoder
except ImportError:
    NativeEncoder = None


def encode(batch: SpanBatch) -> bytes:
    """Wire bytes of all spans of the batch."""
    grouped = group_rows(batch)
    if NativeEncoder is not None:
        data: bytes = NativeEncoder(grouped).encode()
        return data
    from vivace.model.plain_encode import encode_plain

    return encode_plain(grouped)


def group_rows(batch: SpanBatch) -> SpanBatch:
    """The same spans with those of one (resource, scope) together."""
    group = batch.resource.astype(np.uint64) << np.uint64(32) | batch.scope
    if len(group) == 0 or (group == group[0]).all():
        return batch
    resource_seen = _first_seen(batch.resource.astype(np.uint64))
    return take(batch, np.lexsort((_first_seen(group), resource_seen)))


def _first_seen(values: np.ndarray[tuple[int], np.dtype[np.uint64]]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """For each entry, where its value stands first."""
    _, first, place = np.unique(values, return_index=True, return_inverse=True)
    return first[place]
