"""Durations and strings, to and from text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vivace.traceql.literals import format_duration, parse_duration, quote, unquote

SECOND = 10**9

DURATIONS = {
    "1ns": 1,
    "1us": 1000,
    "1µs": 1000,
    "1μs": 1000,
    "100ms": SECOND // 10,
    "1m30s": 90 * SECOND,
    "30s1m": 90 * SECOND,
    "1h30m": 5400 * SECOND,
    "1.5h": 5400 * SECOND,
    ".5s": SECOND // 2,
    "1.s": SECOND,
    "1d": 86400 * SECOND,
    "1w": 7 * 86400 * SECOND,
    "1y": 365 * 86400 * SECOND,
    "1y2w3d4h5m6s7ms": (((365 + 14 + 3) * 24 + 4) * 60 + 5) * 60 * SECOND + 6 * SECOND + 7 * SECOND // 1000,
    "0.1ns": 0,
    "0.123456789123456789h": 444444440844,
    "2562047h47m16.854775807s": 2**63 - 1,
}

PRINTED = {
    0: "0s",
    1: "1ns",
    1500: "1.5µs",
    252_000_000: "252ms",
    100_500_000: "100.5ms",
    SECOND: "1s",
    90 * SECOND: "1m30s",
    3600 * SECOND: "1h0m0s",
    -SECOND // 2: "-500ms",
    86400 * SECOND + 1: "24h0m0.000000001s",
}


@pytest.mark.parametrize("text", DURATIONS)
def test_durations(text: str) -> None:
    assert parse_duration(text) == DURATIONS[text]


@pytest.mark.parametrize("text", ["", "5", "s", ".s", "1d1.5h", "1h1d", "1x", "9999999999999999999999s", "293y", "1 s"])
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="time: invalid duration"):
        parse_duration(text)


@pytest.mark.parametrize("nanoseconds", PRINTED)
def test_printed_durations(nanoseconds: int) -> None:
    assert format_duration(nanoseconds) == PRINTED[nanoseconds]


@given(st.integers(0, 2**63 - 1))
def test_durations_are_read_back(nanoseconds: int) -> None:
    assert parse_duration(format_duration(nanoseconds)) == nanoseconds


def test_strings() -> None:
    assert unquote(r'"\a\b\f\n\r\t\v\\\"\x41\u00e9\U0001f680\101\xc3\xa9"') == '\a\b\f\n\r\t\v\\"Aé🚀Aé'
    assert unquote("`a\\n\r\nb`") == "a\\n\nb"
    assert quote("a'b") == "`a'b`"
    assert quote("a`b\\") == '"a`b\\\\"'


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_strings_are_read_back(value: str) -> None:
    assert unquote(quote(value)) == value
