"""Times and durations in URLs, as Tempo's query API takes them. Everything is nanoseconds; parsers raise ValueError.

Durations are Go's (`1h30m`, `1.5s`) or Prometheus' (`1d`, `2w`); the grammar is that of TraceQL.
"""

from __future__ import annotations

import re
from datetime import datetime

from vivace.traceql.literals import parse_duration as parse_unit_duration

SECOND = 1_000_000_000
MILLISECOND = 1_000_000

AUTO_STEPS = 240
"""Steps that a range is cut into when a query does not say; Tempo's number, dashboards count on it."""

_DECIMAL = re.compile(r"([0-9]+)(?:\.([0-9]*))?|\.([0-9]+)")
_SECONDS_DIGITS_MAX = 10
"""A whole number of more digits is nanoseconds; ten digits of seconds reach the year 2286."""
_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_INT64_END = 2**63


def parse_duration(text: str) -> int:
    """A duration of 0 or more, with a unit."""
    if text == "0":
        return 0
    if _DECIMAL.fullmatch(text):
        raise ValueError(f'time: missing unit in duration "{text}"')
    return parse_unit_duration(text)


def parse_step(text: str) -> int:
    """A duration, or a number of seconds."""
    try:
        return _seconds(text) if _DECIMAL.fullmatch(text) else parse_unit_duration(text)
    except ValueError:
        raise ValueError(f'cannot parse "{text[:64]}" to a valid duration') from None


def parse_instant(text: str) -> int:
    """A Unix time: seconds (`1700000000`, `1700000000.5`), nanoseconds (more than ten digits), or RFC 3339."""
    if _DECIMAL.fullmatch(text):
        is_nano = "." not in text and len(text) > _SECONDS_DIGITS_MAX
        if is_nano and len(text) > 19:
            raise ValueError(f"{text[:64]} is beyond the year 2262")
        return _within_int64(int(text), text) if is_nano else _seconds(text)
    if found := _RFC3339.fullmatch(text):
        day, clock, fraction, zone = found.groups()
        zone = "+00:00" if zone in "Zz" else zone
        try:
            whole = datetime.fromisoformat(f"{day}T{clock}{zone}").timestamp()
        except (ValueError, OverflowError) as error:
            raise ValueError(f"{text!r} is no time: {error}") from error
        return _within_int64(int(whole) * SECOND + int((fraction or "0").ljust(9, "0")), text)
    raise ValueError(f"{text[:64]!r} is neither Unix seconds or nanoseconds nor RFC 3339 (2006-01-02T15:04:05Z)")


def auto_step(range_nano: int) -> int:
    """The step of a range: a 240th, cut to a multiple of five seconds, below that to whole seconds, at least one."""
    seconds = range_nano // AUTO_STEPS // SECOND
    if seconds >= 5:
        seconds -= seconds % 5
    return max(seconds, 1) * SECOND


def _seconds(text: str) -> int:
    """Nanoseconds of a decimal number of seconds, exactly; digits below the nanosecond are cut off."""
    whole, _, fraction = text.partition(".")
    if len(whole) > _SECONDS_DIGITS_MAX:
        raise ValueError(f"{text[:64]} seconds are too many")
    return _within_int64(int((whole or "0") + fraction[:9].ljust(9, "0")), text)


def _within_int64(nano: int, text: str) -> int:
    if not 0 <= nano < _INT64_END:
        raise ValueError(f"{text[:64]} is not between the years 1970 and 2262")
    return nano
