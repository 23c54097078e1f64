"""Tables of durations, sizes and shares, good and bad, and that what is printed is read back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vivace.config.units import (
    BytesOrPercent,
    format_duration,
    format_prometheus_duration,
    parse_bytes_or_percent,
    parse_duration,
    parse_prometheus_duration,
    parse_size,
    split_endpoint,
)

DURATIONS = [
    ("0", timedelta(0), "0s"),
    ("+0", timedelta(0), "0s"),
    ("0s", timedelta(0), "0s"),
    ("1h30m", timedelta(minutes=90), "1h30m0s"),
    ("168h", timedelta(days=7), "168h0m0s"),
    ("1.5s", timedelta(milliseconds=1500), "1.5s"),
    (".5s", timedelta(milliseconds=500), "500ms"),
    ("5.s", timedelta(seconds=5), "5s"),
    ("100ms", timedelta(milliseconds=100), "100ms"),
    ("1.25ms", timedelta(microseconds=1250), "1.25ms"),
    ("-1m", timedelta(minutes=-1), "-1m0s"),
    ("30m1h", timedelta(minutes=90), "1h30m0s"),
    ("7µs", timedelta(microseconds=7), "7µs"),
    ("7μs", timedelta(microseconds=7), "7µs"),
    ("1ns", timedelta(microseconds=1), "1µs"),  # never rounded to 0: that would mean "off"
    ("1m0.000001s", timedelta(seconds=60, microseconds=1), "1m0.000001s"),
]
BAD_DURATIONS = [
    ("", "expected a duration such as 1h30m"),
    ("30", "write 30s for seconds"),
    ("1d", "write 24h0m0s"),
    ("2w", "write 336h0m0s"),
    ("h", "expected a duration"),
    ("1h 30m", "expected a duration"),
    ("1h30", "expected a duration"),
    (".s", "expected a duration"),
    ("--1s", "expected a duration"),
    ("1H", "expected a duration"),
    ("3000000h", "at most 292 years"),
]
PROMETHEUS_DURATIONS = [
    ("0", timedelta(0), "0s"),
    ("1d", timedelta(days=1), "1d"),
    ("2w", timedelta(days=14), "2w"),
    ("1y", timedelta(days=365), "1y"),
    ("36h", timedelta(hours=36), "36h"),
    ("1d12h", timedelta(hours=36), "36h"),
    ("1h30m", timedelta(minutes=90), "1h30m"),
    ("1s500ms", timedelta(milliseconds=1500), "1s500ms"),
]
BAD_PROMETHEUS_DURATIONS = ["", "1.5s", "30m1h", "-1d", "5", "1us", "1d ", "400y"]
SIZES = [
    ("0", 0),
    ("134217728", 2**27),
    ("128MiB", 2**27),
    ("128 MiB", 2**27),
    ("10GB", 10**10),
    ("1.5GiB", 3 * 2**29),
    ("1kB", 1000),
    ("1KiB", 1024),
    ("5B", 5),
]
BAD_SIZES = ["", "-1", "1.5", "1.5B", "10Gb/s", "GB", "10 XB", "10MiBs", "9" * 20]
SHARES = [
    ("85%", BytesOrPercent(percent=85.0), "85%"),
    ("2.5 %", BytesOrPercent(percent=2.5), "2.5%"),
    ("0%", BytesOrPercent(percent=0.0), "0%"),
    ("100%", BytesOrPercent(percent=100.0), "100%"),
    ("10GB", BytesOrPercent(size_bytes=10**10), "10000000000"),
]
BAD_SHARES = ["101%", "-1%", "%", "x%", "1e1%", "lots"]
ENDPOINTS = [
    ("0.0.0.0:4317", ("0.0.0.0", 4317)),
    ("localhost:0", ("localhost", 0)),
    (":4317", ("", 4317)),
    ("[::1]:4317", ("::1", 4317)),
]
BAD_ENDPOINTS = ["4317", "localhost", "localhost:", "::1:4317", "host:99999", "host:http"]


@pytest.mark.parametrize(("text", "value", "printed"), DURATIONS)
def test_durations(text: str, value: timedelta, printed: str) -> None:
    assert parse_duration(text) == value
    assert format_duration(value) == printed


@pytest.mark.parametrize(("text", "value", "printed"), PROMETHEUS_DURATIONS)
def test_prometheus_durations(text: str, value: timedelta, printed: str) -> None:
    assert parse_prometheus_duration(text) == value
    assert format_prometheus_duration(value) == printed


@pytest.mark.parametrize(("text", "value"), SIZES)
def test_sizes(text: str, value: int) -> None:
    assert parse_size(text) == value


@pytest.mark.parametrize(("text", "value", "printed"), SHARES)
def test_shares(text: str, value: BytesOrPercent, printed: str) -> None:
    assert parse_bytes_or_percent(text) == value
    assert str(value) == printed


@pytest.mark.parametrize(("text", "value"), ENDPOINTS)
def test_endpoints(text: str, value: tuple[str, int]) -> None:
    assert split_endpoint(text) == value


@pytest.mark.parametrize(("text", "hint"), BAD_DURATIONS)
def test_bad_durations_say_what_would_fit(text: str, hint: str) -> None:
    with pytest.raises(ValueError, match="found") as error:
        parse_duration(text)
    assert hint in str(error.value)
    assert repr(text) in str(error.value)


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        *((parse_prometheus_duration, text) for text in BAD_PROMETHEUS_DURATIONS),
        *((parse_size, text) for text in BAD_SIZES),
        *((parse_bytes_or_percent, text) for text in BAD_SHARES),
        *((split_endpoint, text) for text in BAD_ENDPOINTS),
    ],
)
def test_bad_texts_say_what_would_fit(parse: Callable[[str], object], text: str) -> None:
    with pytest.raises(ValueError, match=r"found .*expected"):
        parse(text)


def test_a_share_resolves_to_bytes() -> None:
    assert BytesOrPercent(percent=85.0).resolve(1000) == 850
    assert BytesOrPercent(size_bytes=7).resolve(1000) == 7


@settings(max_examples=200, deadline=None)
@given(st.timedeltas(min_value=timedelta(days=-100_000), max_value=timedelta(days=100_000)))
def test_printed_durations_are_read_back(value: timedelta) -> None:
    assert parse_duration(format_duration(value)) == value
    whole = abs(value) // timedelta(milliseconds=1) * timedelta(milliseconds=1)
    assert parse_prometheus_duration(format_prometheus_duration(whole)) == whole
