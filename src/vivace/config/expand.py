"""Environment variables in the configuration text, for -config.expand-env=true.

What Tempo does there: `${NAME}` is the variable or nothing, `${NAME:-default}` (also `:=` and `=`) falls back when it is unset or
empty, and defaults may hold variables. `$NAME` without braces stays as it is, so passwords with a dollar survive.
`$$` gives `$`; a backslash before `/` or another backslash disappears. Bash's other forms (`${NAME^^}`) are refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from vivace.errors import ConfigError

_SPECIAL = re.compile(r"\$\{|\$\$|\\[\\/]")
_NAME = re.compile(r"[\w-]+")
_FALLBACK = re.compile(r":-|:=|=")
# Defaults inside defaults; nobody writes five.
_NESTING_MAX = 16


def expand(text: str, env: Mapping[str, str], name: str) -> str:
    """Replace variables in `text`. `name` is the file for messages. Raises ConfigError with the line of a bad form."""
    result = []
    position = 0
    while special := _SPECIAL.search(text, position):
        result.append(text[position : special.start()])
        if special[0] == "${":
            value, position = _variable(text, special.end(), env, name, 1)
            result.append(value)
        else:
            result.append(special[0][1])
            position = special.end()
    result.append(text[position:])
    return "".join(result)


def _variable(text: str, start: int, env: Mapping[str, str], name: str, nesting: int) -> tuple[str, int]:
    """Read `NAME}` or `NAME:-default}` at `start`; returns the value and the position behind the brace."""
    variable = _NAME.match(text, start)
    if variable is None or nesting > _NESTING_MAX:
        raise _bad_form(text, start, name)
    value = env.get(variable[0], "")
    position = variable.end()
    if text[position : position + 1] == "}":
        return value, position + 1
    fallback = _FALLBACK.match(text, position)
    if fallback is None:
        raise _bad_form(text, start, name)
    default, position = _default(text, fallback.end(), env, name, nesting)
    return value or default, position


def _default(text: str, start: int, env: Mapping[str, str], name: str, nesting: int) -> tuple[str, int]:
    """Read up to the closing brace, variables inside replaced."""
    parts: list[str] = []
    position = start
    while position < len(text):
        if text[position] == "}":
            return "".join(parts), position + 1
        if text.startswith("${", position):
            value, position = _variable(text, position + 2, env, name, nesting + 1)
            parts.append(value)
        else:
            parts.append(text[position])
            position += 1
    raise _bad_form(text, start, name)


def _bad_form(text: str, position: int, name: str) -> ConfigError:
    place = f"{name}:{text.count(chr(10), 0, position) + 1}"
    found = text[max(0, text.rfind("${", 0, position)) :].partition("\n")[0][:40]
    return ConfigError(
        f"cannot expand {found!r} at {place}: expected ${{NAME}} or ${{NAME:-default}}; write $$ for a plain dollar",
        place=place,
    )
