r"""Regular expressions: RE2 (Arrow's), for that is what users of Tempo write. Linear time in the text, memory bounded.

A pattern matches the whole value, and a dot matches newlines. Go reads the same language, but for `\C` (one byte), which
it refuses, and so do we.
"""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.compute as pc

_NOTHING = pa.array([""])
_QUOTED_OR_ESCAPE = re.compile(r"\\Q.*?(?:\\E|\Z)|\\.", re.DOTALL)


def anchored(pattern: str) -> str:
    """What RE2 takes for "the whole value matches `pattern`". Raises ValueError with the cause."""
    escapes = [escape[0] for escape in _QUOTED_OR_ESCAPE.finditer(pattern)]
    if r"\C" in escapes:
        raise ValueError(r"invalid escape sequence: \C")
    is_open = bool(escapes) and escapes[-1].startswith(r"\Q") and not escapes[-1].endswith(r"\E")
    whole = rf"\A(?s:{pattern}\E)\z" if is_open else rf"\A(?s:{pattern})\z"
    try:
        pc.match_substring_regex(_NOTHING, pattern)  # alone first: `a)(b` would be well formed between our parentheses
        pc.match_substring_regex(_NOTHING, whole)
    except pa.ArrowInvalid as error:
        raise ValueError(str(error).removeprefix("Invalid regular expression: ")) from error
    return whole
