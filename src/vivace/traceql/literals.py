"""Literals of TraceQL as text: numbers, durations, strings. Parsers raise ValueError with Tempo's words.

Durations are nanoseconds in 64 bits. First Prometheus' form is tried (whole numbers, y w d h m s ms from large to small), then
Go's (fractions, any order, no unit above the hour).
"""

from __future__ import annotations

import re

from vivace.traceql.ast import INT_MAX

NANOSECONDS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,  # micro sign
    "μs": 1_000,  # Greek mu
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
    "w": 7 * 86_400_000_000_000,
    "y": 365 * 86_400_000_000_000,
}

_PART = re.compile(r"([0-9]*)(?:\.([0-9]*))?(ns|us|µs|μs|ms|s|m|h|d|w|y)")
_PROMETHEUS = re.compile(r"(?:[0-9]+y)?(?:[0-9]+w)?(?:[0-9]+d)?(?:[0-9]+h)?(?:[0-9]+m)?(?:[0-9]+s)?(?:[0-9]+ms)?")
_ABOVE_GO = frozenset("dwy")

_INT_DIGITS_MAX = 19
"""Digits of 2**63 - 1. Asked before int(), which takes quadratic time and refuses thousands of digits."""


def parse_integer(text: str) -> int:
    """The 64-bit value of decimal digits."""
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f'strconv.Atoi: parsing "{text}": invalid syntax')
    digits = text.lstrip("0") or "0"
    if len(digits) > _INT_DIGITS_MAX or int(digits) > INT_MAX:
        raise ValueError(f'strconv.Atoi: parsing "{text}": value out of range')
    return int(digits)


def parse_float(text: str) -> float:
    """The finite value of a decimal fraction."""
    if "_" in text:
        raise ValueError(f'strconv.ParseFloat: parsing "{text}": invalid syntax')
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f'strconv.ParseFloat: parsing "{text}": value out of range')
    return value


def parse_duration(text: str) -> int:
    """Nanoseconds of `1h30m`, `2d`, `1.5s`; what is below a nanosecond is cut off."""
    prometheus = _PROMETHEUS.fullmatch(text) is not None
    total, end = 0, 0
    for part in _PART.finditer(text):
        whole, fraction, unit = part[1], part[2] or "", part[3]
        if part.start() != end or not (whole or fraction) or (unit in _ABOVE_GO and not prometheus):
            raise ValueError(f'time: invalid duration "{text}"')
        end = part.end()
        # A nanosecond is 1/3.6e12 of an hour: digits after the 13th cannot change the result.
        whole, fraction = whole.lstrip("0") or "0", fraction[:13]
        if len(whole) > _INT_DIGITS_MAX:
            raise ValueError(f'time: invalid duration "{text}"')
        total += int(whole + fraction) * NANOSECONDS[unit] // 10 ** len(fraction)
        if total > INT_MAX:
            raise ValueError(f'time: invalid duration "{text}"')
    if end != len(text) or not text:
        raise ValueError(f'time: invalid duration "{text}"')
    return total


def format_duration(nanoseconds: int) -> str:
    """As Go prints it: `252ms`, `1.5s`, `1h0m0s`, `0s`."""
    sign, rest = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    if rest == 0:
        return "0s"
    if rest < NANOSECONDS["s"]:
        unit = next(u for u in ("ms", "µs", "ns") if rest >= NANOSECONDS[u])
        return f"{sign}{_fraction(rest, NANOSECONDS[unit])}{unit}"
    minutes, rest = divmod(rest, NANOSECONDS["m"])
    hours, minutes = divmod(minutes, 60)
    text = f"{_fraction(rest, NANOSECONDS['s'])}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    if hours:
        text = f"{hours}h{text}"
    return sign + text


def _fraction(value: int, unit: int) -> str:
    """`value / unit` as an exact decimal; `unit` is a power of ten."""
    whole, rest = divmod(value, unit)
    return f"{whole}.{rest:0{len(str(unit)) - 1}d}".rstrip("0") if rest else str(whole)


_ESCAPE = re.compile(
    r"""\\(?:([abfnrtv\\"])|([0-7]{3})|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(?P<wrong>.?))""", re.S
)
_SIMPLE = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92, '"': 34}


def unquote(literal: str) -> str:
    """The value of `"…"` with Go's escapes, or of a raw string in backquotes, where only carriage returns are dropped."""
    inner = literal[1:-1]
    if literal[0] == "`":
        return inner.replace("\r", "")
    if "\\" not in inner:
        return inner
    value, end = bytearray(), 0  # bytes, since \xNN and \NNN are bytes of UTF-8
    for escape in _ESCAPE.finditer(inner):
        value += inner[end : escape.start()].encode()
        end = escape.end()
        value += _escaped(escape)
    value += inner[end:].encode()
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise ValueError("string is not valid UTF-8") from error


def _escaped(escape: re.Match[str]) -> bytes:
    simple, octal, byte, short, long, _ = escape.groups()
    if simple:
        return bytes([_SIMPLE[simple]])
    if octal or byte:
        value = int(octal, 8) if octal else int(byte, 16)
        if value <= 255:
            return bytes([value])
    elif short or long:
        value = int(short or long, 16)
        if value <= 0x10FFFF and not 0xD800 <= value <= 0xDFFF:
            return chr(value).encode()
    raise ValueError("invalid char escape")


def quote(value: str) -> str:
    """A string as it is printed: in backquotes, or in double quotes where backquotes cannot hold it."""
    if "`" not in value and "\r" not in value:
        return f"`{value}`"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'


_BARE_NAME = re.compile(r"""[^\s{}()=~!<>&|^,"]+""")
_QUOTED_PART = re.compile(r'"((?:[^"\\]|\\["\\])*+)"')

ATTRIBUTE_NAME = re.compile(rf"(?:{_BARE_NAME.pattern}|{_QUOTED_PART.pattern})*+")
"""A name behind its scope and dot: what it takes up in the text; unquote_name gives the name."""


def unquote_name(written: str) -> str:
    """The attribute name of what ATTRIBUTE_NAME matched: quotes off, `\\"` and `\\\\` resolved, parts joined."""
    return _QUOTED_PART.sub(lambda part: re.sub(r"\\(.)", r"\1", part[1], flags=re.S), written)


def quote_name(name: str, *, unscoped: bool) -> str:
    """An attribute name as it is printed behind its dot: in quotes only where it must be."""
    bare = _BARE_NAME.fullmatch(name) is not None and not (unscoped and name[0] in "0123456789")
    if bare:
        return name
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
