r"""Regular expressions: RE2 syntax in, the syntax of Rust's `regex` (that of Polars) out. Both take linear time in the text.

Users write RE2 as Go has it, for that is what Tempo reads. The two dialects mostly agree; where they do not, we translate:

| RE2 | Rust | here |
| --- | --- | --- |
| `\d \w \s \b` | all of Unicode | written out as ASCII |
| `\Q…\E`, octal `\101`, `\p{^Greek}` | unknown | as single escapes, `\P{Greek}` |
| `[` and `&&`, `--`, `~~` in a class: literal | nested classes, set operations | escaped |
| `{` that opens no repetition, `\<`: literal | an error, start of a word | escaped |
| `a**`, `a{1001}`, flags `x`, `u`, `R`: errors | allowed | refused |

A pattern matches the whole value, and a dot matches newlines. What a pattern may cost in memory is bounded by Rust (10 MiB compiled).
"""

from __future__ import annotations

import re

import polars as pl
from polars.exceptions import ComputeError

_REPEAT_MAX = 1000
"""RE2's own limit."""

_GROUP = re.compile(r"\((?:\?(?:P?<\w+>|[imsU]*(?:-[imsU]+)?[:)]))?", re.ASCII)
_REPEAT = re.compile(r"(?:[*+?]|\{([0-9]+)(?:,([0-9]*))?\})\??")
_NAMED_CLASS = re.compile(r"\[:\^?[a-z]+:\]")
_UNICODE_CLASS = re.compile(r"\\([pP])(?:\{(\^?)([A-Za-z_]+)\}|([A-Za-z]))")
_CODE = re.compile(r"\\(?:x\{([0-9a-fA-F]+)\}|x([0-9a-fA-F]{2})|([1-7][0-7]{1,2}|0[0-7]{0,2}))")
_MARKS = frozenset(r"\.+*?()|[]{}^$#&-~")
_ASCII_CLASSES = {"d": "0-9", "w": "0-9A-Za-z_", "s": r"\t\n\x0C\r\x20"}


def anchored(pattern: str) -> str:
    """What Polars' `str.contains` takes for "the whole value matches `pattern`". Raises ValueError with the cause."""
    translated = translate(pattern)
    try:
        pl.Series([""]).str.contains(translated)  # alone first: `a)(b` would be well formed between our parentheses
    except ComputeError as error:
        raise ValueError(_cause(str(error))) from error
    return rf"\A(?s:{translated})\z"


def _cause(message: str) -> str:
    """The sentence that says what is wrong, of Polars' many lines."""
    lines = [line.strip() for line in message.splitlines()]
    return next((line.removeprefix("error: ") for line in lines if line.startswith("error: ")), lines[0])


def translate(pattern: str) -> str:
    """`pattern` as Rust reads it. Raises ValueError for most of what is not RE2; the rest is left for Rust to refuse."""
    out: list[str] = []
    position, repeated = 0, False
    while position < len(pattern):
        char = pattern[position]
        if repeat := _REPEAT.match(pattern, position):
            if repeated:
                raise ValueError(f"invalid nested repetition operator: {repeat[0]}")
            if any(int(bound[:5]) > _REPEAT_MAX for bound in repeat.groups() if bound):
                raise ValueError(f"invalid repeat count: {repeat[0][:20]}, at most {_REPEAT_MAX}")
            piece, end = repeat[0], repeat.end()
        elif char == "\\":
            piece, end = _escape(pattern, position)
        elif char == "[":
            piece, end = _bracket(pattern, position)
        elif char == "(":
            group = _GROUP.match(pattern, position)
            if group is None or pattern.startswith("?", group.end()):
                raise ValueError(f"invalid or unsupported group: {pattern[position : position + 4]}")
            piece, end = group[0], group.end()
        else:
            piece, end = _literal(char) if char in "{}]" else char, position + 1
        repeated = repeat is not None
        out.append(piece)
        position = end
    return "".join(out)


def _literal(char: str) -> str:
    return f"\\{char}" if char in _MARKS else char


def _escape(pattern: str, start: int) -> tuple[str, int]:
    """The escape at `start`, outside of brackets, and where it ends."""
    kind = pattern[start + 1 : start + 2]
    end = start + 2
    if kind == "Q":
        close = pattern.find(r"\E", end)
        text = pattern[end:] if close < 0 else pattern[end:close]
        return "".join(map(_literal, text)), len(pattern) if close < 0 else close + 2
    if kind in ("A", "z"):
        return f"\\{kind}", end
    if kind in ("b", "B"):
        return rf"(?-u:\{kind})", end
    return _class_escape(pattern, start) or _char_escape(pattern, start)


def _class_escape(pattern: str, start: int) -> tuple[str, int] | None:
    """An escape that stands for several characters, inside and outside of brackets."""
    kind = pattern[start + 1 : start + 2]
    if kind.lower() in _ASCII_CLASSES:
        negated = "^" if kind.isupper() else ""
        return f"[{negated}{_ASCII_CLASSES[kind.lower()]}]", start + 2
    if unicode := _UNICODE_CLASS.match(pattern, start):
        letter, negated, name, short = unicode.groups()
        if negated:
            letter = "P" if letter == "p" else "p"
        return rf"\{letter}{{{name or short}}}", unicode.end()
    return None


def _char_escape(pattern: str, start: int) -> tuple[str, int]:
    """An escape that stands for one character."""
    kind = pattern[start + 1 : start + 2]
    if code := _CODE.match(pattern, start):
        long, short, octal = code.groups()
        value = int(octal, 8) if octal else int((long or short)[-8:], 16)
        return rf"\x{{{value:X}}}", code.end()
    if kind and kind in "afnrtv":
        return f"\\{kind}", start + 2
    if kind and kind.isascii() and not kind.isalnum():
        return _literal(kind), start + 2
    raise ValueError(f"invalid escape sequence: \\{kind}" if kind else "trailing backslash at end of expression")


def _bracket(pattern: str, start: int) -> tuple[str, int]:
    """The class in brackets at `start`, and where it ends."""
    position = start + 1
    out = ["["]
    if pattern.startswith("^", position):
        out.append("^")
        position += 1
    first = position
    while not pattern.startswith("]", position) or position == first:
        if position >= len(pattern):
            raise ValueError(f"missing closing ]: {pattern[start : start + 20]}")
        if named := _NAMED_CLASS.match(pattern, position):
            out.append(named[0])
            position = named.end()
            continue
        if pattern[position] == "\\" and (several := _class_escape(pattern, position)):
            piece, position = several
            out.append(piece)
            continue
        low, position = _bracket_char(pattern, position)
        out.append(low)
        if pattern.startswith("-", position) and position + 1 < len(pattern) and pattern[position + 1] != "]":
            high, position = _bracket_char(pattern, position + 1)
            out.append(f"-{high}")
    return "".join([*out, "]"]), position + 1


def _bracket_char(pattern: str, start: int) -> tuple[str, int]:
    """One character of a class: a plain one, or an escape that stands for one."""
    if pattern[start] == "\\":
        return _char_escape(pattern, start)
    return _literal(pattern[start]), start + 1
