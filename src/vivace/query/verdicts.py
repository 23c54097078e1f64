"""Comparisons of string columns with a literal: the verdict on each distinct string, spread to the rows by code.

Strings compare by their bytes. Patterns are RE2 (traceql/regex.py), match the whole string and take linear time.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vivace.model.frame import Mask, Strings
from vivace.traceql import anchored
from vivace.traceql.ast import Operator

_ARROW = {
    Operator.EQUAL: "equal",
    Operator.NOT_EQUAL: "not_equal",
    Operator.LESS: "less",
    Operator.LESS_EQUAL: "less_equal",
    Operator.GREATER: "greater",
    Operator.GREATER_EQUAL: "greater_equal",
}


def verdict(strings: Strings, op: Operator, text: str) -> Mask:
    """Rows for which `value op text` holds; a row without a value never does."""
    if pa.types.is_binary(strings.table.type):
        strings = Strings(strings.codes, hex_digits(strings.table))
        text = text.lower().lstrip("0") if op in (Operator.EQUAL, Operator.NOT_EQUAL) else text
    holds = np.zeros(len(strings.table) + 1, bool)
    if len(strings.table):
        holds[:-1] = _judge(strings.table, op, text)
    if not holds.any():
        return np.zeros(len(strings), bool)
    mask: Mask = holds[strings.codes]
    return mask


def _judge(table: pa.Array, op: Operator, text: str) -> Mask:
    if op in (Operator.REGEX, Operator.NOT_REGEX):
        pattern, literal = _pattern(text)
        find = pc.match_substring if literal else pc.match_substring_regex
        found: Mask = find(table, pattern).to_numpy(zero_copy_only=False)
        return found if op is Operator.REGEX else ~found
    judged = pc.call_function(_ARROW[op], [table, pa.scalar(text, table.type)])
    mask: Mask = judged.to_numpy(zero_copy_only=False)
    return mask


def _pattern(text: str) -> tuple[str, bool]:
    """What to search for, and whether it is plain text: `.*boom.*` is to contain `boom`, which is found much faster."""
    inner = text.removeprefix(".*").removesuffix(".*")
    if len(text) - len(inner) == 4 and inner and all(c.isalnum() or c in " /_-:=,;<>@#%&'\"!~" for c in inner):
        return inner, True
    return anchored(text), False


def hex_digits(table: pa.Array) -> pa.Array:
    """Ids of links as they are written: lower hex digits without leading zeros. Equal texts may stand for several entries."""
    return pa.array([value.hex().lstrip("0") for value in table.to_pylist()], pa.large_string())
