"""The rows of traces.parquet: what a search result says of a trace, computed once when the block is written."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from vivace.model.attributes import I64, U32
from vivace.model.batch import SpanBatch
from vivace.model.columns import service_codes
from vivace.storage.lanes import STRING_TYPE, ids_array, strings_array

ERROR = 2


def trace_columns(batch: SpanBatch, starts: I64, roots: I64, first_rows: I64) -> dict[str, pa.Array]:
    """Columns of traces.parquet for the traces of `batch`.

    starts      first row of each trace in the batch;  roots: row of its root span, negative where there is none
    first_rows  first row of each trace in the block
    """
    strings = batch.dictionary.strings
    service = service_codes(batch.dictionary.resources, strings)[batch.resource]
    counts = np.diff(starts, append=len(batch))
    start = np.minimum.reduceat(batch.start_time_unix_nano, starts)
    end = np.maximum.reduceat(batch.end_time_unix_nano, starts)
    rooted = roots >= 0
    root = np.where(rooted, roots, 0)
    return {
        "trace_id": ids_array(batch.trace_id_high[starts], batch.trace_id_low[starts]),
        "first_row": pa.array(first_rows),
        "span_count": pa.array(counts.astype(np.uint32)),
        "start_time_unix_nano": pa.array(start.view(np.int64)),
        "duration_nano": pa.array((end - start).view(np.int64)),
        "root_service_name": strings_array(strings, service[root], rooted),
        "root_name": strings_array(strings, batch.name[root], rooted),
        "services": _services(batch, service, counts),
    }


def _services(batch: SpanBatch, service: U32, counts: I64) -> pa.Array:
    """Spans and errors by service of each trace, as a list column."""
    trace = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    group, place, spans = np.unique((trace << 32) | service, return_inverse=True, return_counts=True)
    errors = np.bincount(place, weights=batch.status_code == ERROR, minlength=len(group))
    offsets = np.zeros(len(counts) + 1, np.int32)
    np.cumsum(np.bincount(group >> 32, minlength=len(counts)), out=offsets[1:])
    entries = pa.StructArray.from_arrays(
        [
            strings_array(batch.dictionary.strings, (group & 0xFFFFFFFF).astype(np.uint32)),
            pa.array(spans.astype(np.uint32)),
            pa.array(errors.astype(np.uint32)),
        ],
        fields=[
            pa.field("service_name", STRING_TYPE, nullable=False),
            pa.field("span_count", pa.uint32(), nullable=False),
            pa.field("error_count", pa.uint32(), nullable=False),
        ],
    )
    return pa.ListArray.from_arrays(pa.array(offsets), entries)
