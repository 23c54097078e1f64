"""Durations, byte sizes and shares of a file system, as text and as types.

Durations follow Go (`1h30m`, `1.5s`, `100ms`, no days); the few keys that Tempo reads as Prometheus durations take `1d`
and `2w` instead. Byte sizes are plain integers, as in Tempo, or `128MiB` and `10GB`. Every parser raises ValueError whose
text says what was found and what would fit; whoever knows the key and the line adds them (load.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, SecretStr

_GO_UNITS_MICROSECONDS = {
    "ns": Decimal("0.001"),
    "us": Decimal(1),
    "µs": Decimal(1),  # U+00B5, micro sign
    "μs": Decimal(1),  # U+03BC, Greek mu: Go takes both
    "ms": Decimal(1_000),
    "s": Decimal(1_000_000),
    "m": Decimal(60_000_000),
    "h": Decimal(3_600_000_000),
}
_GO_PART = re.compile(r"(\d+\.?\d*|\.\d+)([a-zµμ]+)")
# Go counts int64 nanoseconds: about 292 years. timedelta could hold more; a longer value is a typing error either way.
_MICROSECONDS_MAX = Decimal(2**63 - 1) / 1000

_PROMETHEUS_SECONDS = {"y": 31_536_000, "w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_PROMETHEUS = re.compile(r"(?:(\d+)y)?(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?")

_SIZE_UNITS = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "pb": 10**15,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
    "pib": 2**50,
}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")
_SIZE_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Kind:
    """The name of a unit, printed as the type of a key in docs/configuration.md."""

    name: str


@dataclass(frozen=True, slots=True)
class BytesOrPercent:
    """An amount of disk: exactly one of `size_bytes` and `percent` (of the whole file system) is set."""

    size_bytes: int | None = None
    percent: float | None = None

    def resolve(self, total_bytes: int) -> int:
        """The amount in bytes on a file system of `total_bytes`, rounded down."""
        if self.size_bytes is not None:
            return self.size_bytes
        return int(total_bytes * (self.percent or 0.0) / 100)

    def __str__(self) -> str:
        return str(self.size_bytes) if self.size_bytes is not None else f"{self.percent:g}%"


def parse_duration(text: str) -> timedelta:
    """Read a Go duration: sign, then numbers with units ns, us, ms, s, m, h; `0` needs no unit.

    Precision  microseconds, rounded; what is shorter but not zero becomes one, because zero often means "off".
    """
    expected = "expected a duration such as 1h30m, 1.5s or 100ms (units ns, us, ms, s, m, h)"
    unsigned = text[1:] if text[:1] in ("-", "+") else text
    if unsigned == "0":
        return timedelta(0)
    total = Decimal(0)
    end = 0
    for part in _GO_PART.finditer(unsigned):
        if part.start() != end or part[2] not in _GO_UNITS_MICROSECONDS:
            break
        total += Decimal(part[1]) * _GO_UNITS_MICROSECONDS[part[2]]
        end = part.end()
    if end == 0 or end != len(unsigned):
        raise ValueError(f"found {text!r}, {expected}{_duration_hint(text)}")
    if total > _MICROSECONDS_MAX:
        raise ValueError(f"found {text!r}, expected at most 292 years")
    microseconds = int(total.quantize(Decimal(1), ROUND_HALF_UP))
    if microseconds == 0 and total > 0:
        microseconds = 1
    return timedelta(microseconds=-microseconds if text.startswith("-") else microseconds)


def _duration_hint(text: str) -> str:
    """Name the likely cure for a duration that Go does not read; empty when none is at hand."""
    if text.isdigit():
        return f"; a bare number has no unit, write {text}s for seconds"
    try:
        days = parse_prometheus_duration(text)
    except ValueError:
        return ""
    return f"; write {format_duration(days)}"


def format_duration(value: timedelta) -> str:
    """Print as Go does (`168h0m0s`, `1.5s`, `100ms`, `0s`); parse_duration reads it back to the same value."""
    microseconds = value // timedelta(microseconds=1)
    sign = "-" if microseconds < 0 else ""
    microseconds = abs(microseconds)
    if microseconds == 0:
        return "0s"
    if microseconds < 1_000:
        return f"{sign}{microseconds}µs"
    if microseconds < 1_000_000:
        return f"{sign}{_decimal(microseconds, 1_000)}ms"
    minutes, below_minute = divmod(microseconds, 60_000_000)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{_decimal(below_minute, 1_000_000)}s"
    if hours:
        return f"{sign}{hours}h{minutes}m{seconds}"
    return f"{sign}{minutes}m{seconds}" if minutes else f"{sign}{seconds}"


def _decimal(value: int, unit: int) -> str:
    """`value` / `unit` without trailing zeros; exact, where float division would print rounding dust."""
    whole, rest = divmod(value, unit)
    fraction = str(rest).zfill(len(str(unit)) - 1).rstrip("0")
    return f"{whole}.{fraction}" if fraction else str(whole)


def parse_prometheus_duration(text: str) -> timedelta:
    """Read a Prometheus duration: whole numbers with units y, w, d, h, m, s, ms, in this order, or `0`."""
    if text == "0":
        return timedelta(0)
    match = _PROMETHEUS.fullmatch(text)
    if match is None or not text:
        raise ValueError(
            f"found {text!r}, expected a duration such as 1d, 2w or 1h30m (whole numbers; units y, w, d, h, m, s, ms)"
        )
    *whole, milliseconds = (int(number or 0) for number in match.groups())
    seconds = sum(number * unit for number, unit in zip(whole, _PROMETHEUS_SECONDS.values(), strict=True))
    if Decimal(seconds) * 1_000_000 > _MICROSECONDS_MAX:
        raise ValueError(f"found {text!r}, expected at most 292 years")
    return timedelta(seconds=seconds, milliseconds=milliseconds)


def format_prometheus_duration(value: timedelta) -> str:
    """Print as Prometheus does (`1w`, `36h`, `1m30s`, `0s`); milliseconds are the finest unit."""
    milliseconds = value // timedelta(milliseconds=1)
    if milliseconds == 0:
        return "0s"
    text = ""
    for unit, seconds in _PROMETHEUS_SECONDS.items():
        size = seconds * 1_000
        # Years, weeks and days appear only where they divide evenly, so that 36h does not become 1d12h.
        if unit in ("y", "w", "d") and milliseconds % size:
            continue
        count, milliseconds = divmod(milliseconds, size)
        text += f"{count}{unit}" if count else ""
    return text + (f"{milliseconds}ms" if milliseconds else "")


def parse_size(text: str) -> int:
    """Read a byte size: a whole number, or a number with B, kB, MB, GB, TB, PB (powers of 1000) or KiB ... PiB (of 1024)."""
    match = _SIZE.fullmatch(text.strip())
    factor = _SIZE_UNITS.get(match[2].lower()) if match else None
    if match is None or factor is None or (factor == 1 and "." in match[1]):
        raise ValueError(
            f"found {text!r}, expected a size in bytes, such as 134217728, 128MiB (powers of 1024) or 10GB (powers of 1000)"
        )
    size = int(Decimal(match[1]) * factor)
    if size > _SIZE_MAX:
        raise ValueError(f"found {text!r}, expected at most {_SIZE_MAX} bytes")
    return size


def parse_bytes_or_percent(text: str) -> BytesOrPercent:
    """Read a byte size, or a percentage of the file system such as `85%`."""
    if not text.strip().endswith("%"):
        try:
            return BytesOrPercent(size_bytes=parse_size(text))
        except ValueError as error:
            raise ValueError(f"{error}, or a share of the file system such as 85%") from None
    number = text.strip()[:-1].strip()
    if not re.fullmatch(r"\d+(\.\d+)?", number) or float(number) > 100:
        raise ValueError(f"found {text!r}, expected a percentage from 0% to 100%")
    return BytesOrPercent(percent=float(number))


def _read_duration(value: object) -> timedelta:
    if isinstance(value, timedelta):
        return value
    duration = parse_duration(_text(value))
    if duration < timedelta(0):
        raise ValueError(f"found {value!r}, expected 0s or more")
    return duration


def _read_prometheus_duration(value: object) -> timedelta:
    if isinstance(value, timedelta):
        return value
    return parse_prometheus_duration(_text(value))


def _read_size(value: object) -> int:
    return parse_size(_text(value))


def _read_bytes_or_percent(value: object) -> BytesOrPercent:
    if isinstance(value, BytesOrPercent):
        return value
    return parse_bytes_or_percent(_text(value))


def _text(value: object) -> str:
    """A YAML scalar as its text; booleans, lists and maps are never a quantity."""
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value)
    raise ValueError(f"found {value!r}, expected a number with a unit")


def split_endpoint(text: str) -> tuple[str, int]:
    """Split `host:port`, `[::1]:port` or `:port` into host ("" for all interfaces) and port."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not port.isdecimal() or int(port) > 65535 or (":" in host and not bracketed):
        raise ValueError(f"found {text!r}, expected host:port, such as 0.0.0.0:4317 or [::]:4317")
    return (host[1:-1] if bracketed else host), int(port)


def _check_endpoint(text: str) -> str:
    split_endpoint(text)
    return text


def _mask(value: SecretStr) -> str:
    return "<secret>" if value.get_secret_value() else ""


Duration = Annotated[
    timedelta, Kind("duration"), BeforeValidator(_read_duration), PlainSerializer(format_duration, return_type=str)
]
PrometheusDuration = Annotated[
    timedelta,
    Kind("Prometheus duration"),
    BeforeValidator(_read_prometheus_duration),
    PlainSerializer(format_prometheus_duration, return_type=str),
]
ByteSize = Annotated[int, Kind("bytes"), BeforeValidator(_read_size)]
DiskShare = Annotated[
    BytesOrPercent,
    Kind("bytes or percent"),
    BeforeValidator(_read_bytes_or_percent),
    PlainSerializer(str, return_type=str),
]
Count = Annotated[int, Kind("number"), Field(strict=True, ge=0)]
Number = Annotated[float, Kind("number"), Field(strict=True)]
Switch = Annotated[bool, Kind("true or false"), Field(strict=True)]
Port = Annotated[int, Kind("port"), Field(strict=True, ge=0, le=65535)]
Secret = Annotated[SecretStr, Kind("secret text"), PlainSerializer(_mask, return_type=str)]
Endpoint = Annotated[str, Kind("host:port"), AfterValidator(_check_endpoint)]
