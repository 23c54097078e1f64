"""The filter of tag requests (`q` of /api/v2/search/tags and …/values): read by pattern, for an editor sends it half written.

`{ resource.service.name = "web" && span.http. }` means its finished conditions: `resource.service.name = "web"`. Only one `{ … }` whose
conditions are joined by `&&` filters; with `||`, parentheses, several spansets or a pipeline nothing is filtered.

What the engine adds: a condition `tag = value` on the requested tag itself. And a filter that check() refuses answers nothing.
"""

from __future__ import annotations

import re

from vivace.errors import TraceQLError
from vivace.traceql.ast import Binary, Query, SpansetFilter
from vivace.traceql.literals import ATTRIBUTE_NAME
from vivace.traceql.parser import parse

CONDITIONS_MAX = 100
"""Conditions that are read of a filter; further ones are left out, which answers more, never less, than was asked for."""

_STRING = r'"(?:[^"\\\n]|\\[^\n])*+"'
_CONDITION = re.compile(
    rf"""(?<![^\s{{&])  # where a word begins: looking from each letter would take quadratic time
        (?P<field>(?:span|resource|event|link|instrumentation)?\.(?:{ATTRIBUTE_NAME.pattern})|[a-zA-Z]++(?::[a-zA-Z]++)?)
        [ \t\r\n]*+(?P<op>=~|!~|!=|>=|<=|=|>|<)
        [ \t\r\n]*+(?P<value>{_STRING}|-?\.?[0-9][0-9.a-zµμ]*+|[a-z]++(?![\w.:]))""",
    re.VERBOSE,
)
# An open string takes the rest of its line: looking again from each quote in it would take quadratic time.
_OUTSIDE_STRINGS = re.compile(rf"{_STRING}?|(?P<mark>\|\||[|{{}}()])")


def extract_tag_filter(q: str) -> Query | None:
    """`{ a && b }` of the finished conditions of `q`; None where nothing is to be filtered. Not checked, never raises."""
    marks = [found["mark"] for found in _OUTSIDE_STRINGS.finditer(q) if found["mark"]]
    if marks not in (["{"], ["{", "}"]):
        return None
    conditions: list[str] = []
    for found in _CONDITION.finditer(q):
        if len(conditions) < CONDITIONS_MAX and (condition := _condition(found[0])) is not None:
            conditions.append(condition)
    return parse(f"{{ {' && '.join(conditions)} }}") if conditions else None


def _condition(text: str) -> str | None:
    """`text` if it parses as a comparison, so that joining several gives a query."""
    try:
        query = parse(f"{{ {text} }}")
    except TraceQLError:
        return None
    match query.pipeline:
        case (SpansetFilter(expression=Binary()),):
            return text
        case _:
            return None
