"""Encoding: what the protobuf library reads back, the limits of a request, and how it is taken apart again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from remote_write_messages import WriteRequest

from vivace.errors import InvariantError
from vivace.generator.write_request import (
    Exemplar,
    NativeHistogram,
    contents,
    decode_labels,
    encode_labels,
    exemplar_requests,
    histogram_requests,
    join_series,
    series_head,
    series_of,
    write_requests,
)

NOW = 1_800_000_000_000
PAIRS = [("service", "shop"), ("__name__", "calls_total"), ("le", "0.5")]
LABELS = encode_labels(PAIRS)


def series(requests: Sequence[bytes]) -> list[Any]:
    return [one for request in requests for one in WriteRequest.FromString(request).timeseries]


def pairs(one: Any) -> list[tuple[str, str]]:
    return [(label.name, label.value) for label in one.labels]


LABEL_SETS = {
    "sorted by name": (PAIRS, [("__name__", "calls_total"), ("le", "0.5"), ("service", "shop")]),
    "empty values are dropped": ([("b", ""), ("a", "1")], [("a", "1")]),
    "the last of equal names holds": ([("a", "own"), ("a", "external")], [("a", "external")]),
    "an empty last one drops the label": ([("a", "1"), ("b", "2"), ("a", "")], [("b", "2")]),
    "by bytes, as Prometheus sorts": (
        [("a", "1"), ("B", "1"), ("_", "1"), ("é", "1")],
        [("B", "1"), ("_", "1"), ("a", "1"), ("é", "1")],
    ),
    "lengths of one, two and three bytes": (
        [("a" * 127, "v" * 128), ("b", "v" * 20_000)],
        [("a" * 127, "v" * 128), ("b", "v" * 20_000)],
    ),
    "text beyond ASCII": ([("span_name", "GET /ü→☃𝄞")], [("span_name", "GET /ü→☃𝄞")]),
    "nothing": ([], []),
}


@pytest.mark.parametrize("case", LABEL_SETS)
def test_labels(case: str) -> None:
    given, expected = LABEL_SETS[case]
    labels = encode_labels(given)
    (request,) = write_requests([series_head(labels)], np.array([1.0]), NOW)
    (one,) = series([request])
    assert pairs(one) == expected
    assert decode_labels(labels) == expected


VALUES = [0.0, -0.0, 1.0, -2.5, 1e300, 5e-324, math.inf, -math.inf]
TIMES = [0, 1, 127, 128, 16_384, NOW, NOW + 1, (1 << 42) - 1]


def test_values_and_timestamps() -> None:
    found = series(list(write_requests([series_head(LABELS)] * 8, np.array(VALUES), np.array(TIMES))))
    samples = [sample for one in found for sample in one.samples]
    assert [sample.value for sample in samples] == VALUES
    assert [math.copysign(1, sample.value) for sample in samples] == [math.copysign(1, value) for value in VALUES]
    assert [sample.timestamp for sample in samples] == TIMES


def test_not_a_number_keeps_its_bits() -> None:
    stale = np.array([0x7FF0000000000002], np.uint64).view(np.float64)  # Prometheus' stale marker
    (request,) = write_requests([series_head(LABELS)], stale, NOW)
    assert stale.tobytes() in request


def test_a_strided_column_of_values_is_fine() -> None:
    table = np.arange(12.0).reshape(6, 2)
    found = series(list(write_requests([series_head(LABELS)] * 6, table[:, 1], NOW)))
    assert [one.samples[0].value for one in found] == [1, 3, 5, 7, 9, 11]


def test_no_series_no_request() -> None:
    assert list(write_requests([], np.array([]), NOW)) == []
    assert list(exemplar_requests([], [])) == []
    assert list(histogram_requests([], [])) == []


HEAD = series_head(LABELS)
ONE = len(HEAD) + 16
CHUNKS = [  # series, bytes_max, samples_max -> series in each request
    (5, 2 * ONE, 100, [2, 2, 1]),
    (5, 3 * ONE - 1, 100, [2, 2, 1]),
    (4, 2 * ONE, 100, [2, 2]),
    (5, 1 << 20, 2, [2, 2, 1]),
    (3, 1, 100, [1, 1, 1]),
    (1, 1 << 20, 1, [1]),
]


@pytest.mark.parametrize(("count", "bytes_max", "samples_max", "expected"), CHUNKS)
def test_requests_stay_within_their_limits(count: int, bytes_max: int, samples_max: int, expected: list[int]) -> None:
    values = np.arange(float(count))
    requests = list(write_requests([HEAD] * count, values, NOW, bytes_max=bytes_max, samples_max=samples_max))
    assert [contents(request) for request in requests] == [("samples", number) for number in expected]
    assert [one.samples[0].value for one in series(requests)] == values.tolist()


WRONG = {
    "fewer values than heads": ([HEAD, HEAD], [1.0], NOW),
    "before 1970": ([HEAD], [1.0], -1),
    "after 2109": ([HEAD], [1.0], 1 << 42),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_encoded_is_our_bug(case: str) -> None:
    heads, values, time = WRONG[case]
    with pytest.raises(InvariantError, match="expected"):
        list(write_requests(heads, np.array(values), time))


def test_exemplars() -> None:
    exemplar = Exemplar(encode_labels([("traceID", "abc1")]), 0.25, NOW)
    requests = list(exemplar_requests([LABELS] * 3, [exemplar] * 3, samples_max=2))
    assert [contents(request) for request in requests] == [("exemplars", 2), ("exemplars", 1)]
    for one in series(requests):
        assert pairs(one) == decode_labels(LABELS)
        (found,) = one.exemplars
        assert (pairs(found), found.value, found.timestamp) == ([("traceID", "abc1")], 0.25, NOW)
        assert not one.samples


HISTOGRAMS = {  # buckets -> spans as (offset, length), deltas
    "one run": ([(3, 5), (4, 2), (5, 2)], [(3, 3)], [5, -3, 0]),
    "a gap": ([(-7, 1), (2, 4)], [(-7, 1), (8, 1)], [1, 3]),
    "from 0": ([(0, 1)], [(0, 1)], [1]),
    "none": ([], [], []),
}


@pytest.mark.parametrize("case", HISTOGRAMS)
def test_native_histograms(case: str) -> None:
    buckets, spans, deltas = HISTOGRAMS[case]
    histogram = NativeHistogram(3, 2.0**-128, 2, buckets, 2 + sum(count for _, count in buckets), 1.5, NOW)
    (request,) = histogram_requests([LABELS], [histogram])
    (one,) = series([request])
    (found,) = one.histograms
    assert [(span.offset, span.length) for span in found.positive_spans] == spans
    assert list(found.positive_deltas) == deltas
    assert (found.schema, found.zero_threshold, found.zero_count_int) == (3, 2.0**-128, 2)
    assert (found.count_int, found.sum, found.timestamp) == (histogram.count, 1.5, NOW)
    assert contents(request) == ("histograms", 1)


def test_buckets_out_of_order_are_our_bug() -> None:
    with pytest.raises(InvariantError, match="rising"):
        list(histogram_requests([LABELS], [NativeHistogram(3, 0, 0, [(4, 1), (4, 1)], 2, 1, NOW)]))


def test_a_request_is_taken_apart_and_put_together() -> None:
    (request,) = write_requests([HEAD, series_head(encode_labels([("a", "x" * 300)]))], np.array([1.0, 2.0]), NOW)
    parts = list(series_of(request))
    assert [decode_labels(labels) for labels, _ in parts] == [sorted(PAIRS), [("a", "x" * 300)]]
    assert join_series(parts) == request


@pytest.mark.parametrize("request_bytes", [b"", b"\x0a\x05abc"])
def test_contents_refuses_what_was_not_made_here(request_bytes: bytes) -> None:
    with pytest.raises(InvariantError, match="whole series"):
        contents(request_bytes)
