"""TraceQL: text → tokens → AST → checked AST → canonical text. Pure and synchronous; reads no span.

    query = check(parse(text))      # TraceQLError names the place and what was expected
    canonical(query)                # the text in labels and answers

Lives elsewhere: what a query answers (query/), how much text is accepted (api/).
"""

from vivace.traceql.check import CheckedQuery, check, check_field
from vivace.traceql.filter_hints import extract_tag_filter
from vivace.traceql.outline import outline
from vivace.traceql.parser import parse, parse_field
from vivace.traceql.printer import canonical
from vivace.traceql.regex import anchored
from vivace.traceql.types import Type, type_of

__all__ = [
    "CheckedQuery",
    "Type",
    "anchored",
    "canonical",
    "check",
    "check_field",
    "extract_tag_filter",
    "outline",
    "parse",
    "parse_field",
    "type_of",
]
