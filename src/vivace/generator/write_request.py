"""Prometheus remote write 1.0: series as the bytes of `prometheus.WriteRequest` messages, not yet compressed.

Rule 1  one TimeSeries carries one sample, one exemplar or one native histogram, and a request holds one of the three kinds.
Rule 2  what does not change between two passes is encoded once: a series keeps its `series_head`, a pass adds the samples.
Rule 3  a sample always takes SAMPLE_BYTES: its value stands there even when it is 0, its timestamp is padded to six bytes.
        So the length in the head holds for every sample. Every protobuf decoder reads such padded numbers.
Rule 4  a request stays within the given bytes and samples; only a series that is larger by itself makes a larger one.

Message numbers are those of https://prometheus.io/docs/specs/prw/remote_write_spec/. Compression and sending: remote_write.py.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import InvariantError

Kind = Literal["samples", "exemplars", "histograms"]
"""What a request holds; see rule 1."""

BYTES_MAX: Final = 1 << 20
"""Bytes of a request before compression: a thousandth of what receivers take by default, and little to send again."""

SAMPLES_MAX: Final = 2_000
"""Samples of a request: what Prometheus itself sends at most by default (`max_samples_per_send`)."""

_TIMESTAMP_BYTES: Final = 6
_TIMESTAMP_END_MS: Final = 1 << (7 * _TIMESTAMP_BYTES)  # the year 2109
SAMPLE_BYTES: Final = 1 + 8 + 1 + _TIMESTAMP_BYTES

# Tags: field number << 3 | wire type (0 varint, 1 eight bytes, 2 length and bytes).
_TIME_SERIES: Final = b"\x0a"  # WriteRequest.timeseries = 1
_LABEL: Final = b"\x0a"  # TimeSeries.labels = 1, Exemplar.labels = 1
_LABEL_NAME: Final = b"\x0a"
_LABEL_VALUE: Final = b"\x12"
_SAMPLE: Final = b"\x12"  # TimeSeries.samples = 2
_EXEMPLAR: Final = b"\x1a"  # TimeSeries.exemplars = 3
_HISTOGRAM: Final = b"\x22"  # TimeSeries.histograms = 4
_KIND_OF_TAG: Final[Mapping[bytes, Kind]] = {_SAMPLE: "samples", _EXEMPLAR: "exemplars", _HISTOGRAM: "histograms"}
_ONE_BYTE: Final = tuple(bytes((value,)) for value in range(0x80))  # most lengths; made once, labels take half the time
_SAMPLE_VALUE: Final = 0x09
_SAMPLE_TIMESTAMP: Final = 0x10


@dataclass(frozen=True, slots=True)
class Exemplar:
    """One observation of a bucket. `labels` come from `encode_labels` and hold the trace id; `value` has the unit of the series."""

    labels: bytes
    value: float
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class NativeHistogram:
    """The state of one exponential histogram at one time; observations are never negative.

    `buckets` are (index, count) with rising indexes, counts above 0; bucket i holds values in (base^(i-1), base^i]
    with base = 2^(2^-schema). `zero_count` counts values up to `zero_threshold`; `count` is that and all buckets together.
    """

    schema: int
    zero_threshold: float
    zero_count: int
    buckets: Sequence[tuple[int, int]]
    count: int
    sum: float
    timestamp_ms: int


def encode_labels(pairs: Iterable[tuple[str, str]]) -> bytes:
    """The labels fields of one TimeSeries, sorted by name. Of equal names the last one holds; empty values drop the label."""
    fields = []
    for name, value in sorted(dict(pairs).items()):
        if value:
            fields.append(
                _message(_LABEL, _message(_LABEL_NAME, name.encode()) + _message(_LABEL_VALUE, value.encode()))
            )
    return b"".join(fields)


def series_head(labels: bytes) -> bytes:
    """Everything of a TimeSeries up to its one sample; keep it as long as the series lives."""
    length = len(labels) + len(_SAMPLE) + 1 + SAMPLE_BYTES
    return _TIME_SERIES + _varint(length) + labels + _SAMPLE + bytes((SAMPLE_BYTES,))


def write_requests(
    heads: Sequence[bytes],
    values: NDArray[np.float64],
    timestamps_ms: NDArray[np.int64] | int,
    *,
    bytes_max: int = BYTES_MAX,
    samples_max: int = SAMPLES_MAX,
) -> Iterator[bytes]:
    """Requests with one sample for each series, in the order given.

    Shape   heads from `series_head`, values and timestamps alike long; one timestamp for all may be a plain number.
            Timestamps are milliseconds since 1970.
    Cost    0.3 µs a sample (bench/remote_write.py).
    Raises  InvariantError when the lengths differ or a timestamp lies outside 1970 to 2109.
    """
    if len(heads) != len(values):
        raise InvariantError(f"found {len(heads)} heads and {len(values)} values, expected one value for each head")
    samples = _samples(values, timestamps_ms)
    for start, end in _cuts(heads, SAMPLE_BYTES, bytes_max, samples_max):
        parts: list[bytes] = [b""] * (2 * (end - start))
        parts[0::2] = heads[start:end]
        parts[1::2] = samples[start:end].tolist()
        yield b"".join(parts)


def exemplar_requests(
    labels: Sequence[bytes],
    exemplars: Sequence[Exemplar],
    *,
    bytes_max: int = BYTES_MAX,
    samples_max: int = SAMPLES_MAX,
) -> Iterator[bytes]:
    """Requests with one exemplar for each series; `labels` are those of the bucket series, from `encode_labels`."""
    series = [
        _message(_TIME_SERIES, own + _message(_EXEMPLAR, _exemplar(exemplar)))
        for own, exemplar in zip(labels, exemplars, strict=True)
    ]
    for start, end in _cuts(series, 0, bytes_max, samples_max):
        yield b"".join(series[start:end])


def histogram_requests(
    labels: Sequence[bytes],
    histograms: Sequence[NativeHistogram],
    *,
    bytes_max: int = BYTES_MAX,
    samples_max: int = SAMPLES_MAX,
) -> Iterator[bytes]:
    """Requests with one native histogram for each series; `labels` come from `encode_labels`."""
    series = [
        _message(_TIME_SERIES, own + _message(_HISTOGRAM, _histogram(histogram)))
        for own, histogram in zip(labels, histograms, strict=True)
    ]
    for start, end in _cuts(series, 0, bytes_max, samples_max):
        yield b"".join(series[start:end])


def contents(request: bytes) -> tuple[Kind, int]:
    """What a request made here holds, and how many of it.

    Cost    0.3 µs a series, as much as making it: so lengths below 16 KiB, all there usually are, are read in the loop.
    Raises  InvariantError for bytes that are no such request.
    """
    count, at, last, end = 0, 0, 0, len(request)
    while at + 2 < end:
        last = at
        low, high = request[at + 1], request[at + 2]
        if low < 0x80:
            at += 2 + low
        elif high < 0x80:
            at += 3 + (low & 0x7F | high << 7)
        else:
            _, at = _bounds(request, at)
        count += 1
    if at != end or not count:
        raise InvariantError(f"found a request of {end} bytes with {count} series, expected whole series")
    _, after = _split(request[slice(*_bounds(request, last))])
    return _KIND_OF_TAG[after[:1]], count


def series_of(request: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Labels, as `encode_labels` made them, and the rest of each TimeSeries of a request made here."""
    at = 0
    while at < len(request):
        start, at = _bounds(request, at)
        yield _split(request[start:at])


def join_series(series: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The inverse of `series_of`."""
    return b"".join(_message(_TIME_SERIES, labels + rest) for labels, rest in series)


def decode_labels(labels: bytes) -> list[tuple[str, str]]:
    """The inverse of `encode_labels`."""
    pairs, at = [], 0
    while at < len(labels):
        start, at = _bounds(labels, at)
        name_start, name_end = _bounds(labels, start)
        value_start, value_end = _bounds(labels, name_end)
        pairs.append((labels[name_start:name_end].decode(), labels[value_start:value_end].decode()))
    return pairs


def _bounds(data: bytes, at: int) -> tuple[int, int]:
    """Start and end of the body of the length-delimited field that begins at `at`; its tag takes one byte."""
    length, shift = 0, 0
    while True:
        at += 1
        octet = data[at]
        length |= (octet & 0x7F) << shift
        if octet < 0x80:
            return at + 1, at + 1 + length
        shift += 7


def _split(series: bytes) -> tuple[bytes, bytes]:
    """A TimeSeries as its labels and what follows them."""
    at = 0
    while series[at : at + 1] == _LABEL:
        _, at = _bounds(series, at)
    return series[:at], series[at:]


def _cuts(parts: Sequence[bytes], extra: int, bytes_max: int, samples_max: int) -> Iterator[tuple[int, int]]:
    """Slices of `parts` whose lengths, each with `extra` bytes more, stay within the limits; none is empty."""
    ends = np.cumsum(np.fromiter(map(len, parts), np.int64, len(parts)) + extra)
    start, done = 0, 0
    while start < len(parts):
        end = int(np.searchsorted(ends, done + bytes_max, side="right"))
        end = min(max(end, start + 1), start + samples_max)
        yield start, end
        start, done = end, int(ends[end - 1])


def _samples(values: NDArray[np.float64], timestamps_ms: NDArray[np.int64] | int) -> NDArray[np.void]:
    """One Sample message for each value, each SAMPLE_BYTES long."""
    times = np.broadcast_to(np.asarray(timestamps_ms, np.int64), len(values))
    if len(times) and not (times.min() >= 0 and times.max() < _TIMESTAMP_END_MS):
        raise InvariantError(
            f"found timestamps from {times.min()} to {times.max()}, expected milliseconds from 0 to {_TIMESTAMP_END_MS}"
        )
    rows = np.empty((len(values), SAMPLE_BYTES), np.uint8)
    rows[:, 0] = _SAMPLE_VALUE
    rows[:, 1:9] = np.ascontiguousarray(values, "<f8").view(np.uint8).reshape(-1, 8)
    rows[:, 9] = _SAMPLE_TIMESTAMP
    for place in range(_TIMESTAMP_BYTES):
        more = 0x80 if place < _TIMESTAMP_BYTES - 1 else 0
        rows[:, 10 + place] = (times >> (7 * place)) & 0x7F | more
    return rows.view(f"V{SAMPLE_BYTES}")[:, 0]


def _exemplar(exemplar: Exemplar) -> bytes:
    return exemplar.labels + _double(2, exemplar.value) + _number(3, exemplar.timestamp_ms)


def _histogram(histogram: NativeHistogram) -> bytes:
    spans, deltas = _spans_and_deltas(histogram.buckets)
    return b"".join(
        (
            _number(1, histogram.count),
            _double(3, histogram.sum),
            _number(4, _zigzag(histogram.schema)),
            _double(5, histogram.zero_threshold),
            _number(6, histogram.zero_count),
            *(_message(_tag(11, 2), _number(1, _zigzag(offset)) + _number(2, length)) for offset, length in spans),
            _message(_tag(12, 2), b"".join(_varint(_zigzag(delta)) for delta in deltas)),
            _number(15, histogram.timestamp_ms),
        )
    )


def _spans_and_deltas(buckets: Sequence[tuple[int, int]]) -> tuple[list[tuple[int, int]], list[int]]:
    """Runs of neighbouring buckets as (buckets left out before, length), and each count less the one before it."""
    spans: list[tuple[int, int]] = []
    deltas: list[int] = []
    expected, before = 0, 0
    for index, count in buckets:
        if spans and index < expected:
            raise InvariantError(f"found bucket {index} after bucket {expected - 1}, expected rising indexes")
        if spans and index == expected:
            offset, length = spans[-1]
            spans[-1] = (offset, length + 1)
        else:
            spans.append((index - expected, 1))
        deltas.append(count - before)
        expected, before = index + 1, count
    return spans, deltas


def _message(tag: bytes, body: bytes) -> bytes:
    return tag + _varint(len(body)) + body


def _tag(field: int, wire_type: int) -> bytes:
    return _varint(field << 3 | wire_type)


def _number(field: int, value: int) -> bytes:
    return _tag(field, 0) + _varint(value)


def _double(field: int, value: float) -> bytes:
    return _tag(field, 1) + struct.pack("<d", value)


def _zigzag(value: int) -> int:
    return value << 1 if value >= 0 else (-value << 1) - 1


def _varint(value: int) -> bytes:
    """A number of 0 or more, seven bits a byte, lowest first."""
    if value < 0x80:
        return _ONE_BYTE[value]
    octets = bytearray()
    while value > 0x7F:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    octets.append(value)
    return bytes(octets)
