"""The `tags` parameter of searches without TraceQL: `service.name=web http.url="a b"`, in logfmt."""

from __future__ import annotations

import re

import orjson

from vivace.errors import RequestError

_SPACE = re.compile(r"[\x00-\x20]*")
_WORD = re.compile(r'[^\x00-\x20="]*')
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*+"', re.DOTALL)


def parse_tags(text: str) -> dict[str, str]:
    """Names and values in their order; a name without `=` has the value "". Raises RequestError; positions count from 1."""
    tags: dict[str, str] = {}
    at = _end(_SPACE, text, 0)
    while at < len(text):
        key = text[at : _end(_WORD, text, at)]
        if not key:
            raise _unexpected(text, at)
        if key in tags:
            raise RequestError(f"invalid tags: tag {key} has been set twice")
        at += len(key)
        tags[key] = ""
        if text.startswith("=", at):
            tags[key], at = _value(text, at + 1)
        if at < len(text) and text[at] > " ":
            raise _unexpected(text, at)
        at = _end(_SPACE, text, at)
    return tags


def _value(text: str, at: int) -> tuple[str, int]:
    """The value that begins at `at`, quoted or not, and the place after it."""
    if not text.startswith('"', at):
        end = _end(_WORD, text, at)
        return text[at:end], end
    quoted = _QUOTED.match(text, at)
    if quoted is None:
        raise RequestError(f"invalid tags: unterminated quoted value at pos {len(text)}")
    try:
        return orjson.loads(quoted[0]), quoted.end()  # escapes are those of JSON
    except orjson.JSONDecodeError:
        raise RequestError(f"invalid tags: invalid quoted value at pos {at + 1}") from None


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found else at


def _unexpected(text: str, at: int) -> RequestError:
    return RequestError(f"invalid tags: unexpected '{text[at]}' at pos {at + 1}")
