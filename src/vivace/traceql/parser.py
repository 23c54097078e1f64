"""Text → AST, by recursive descent: pipeline_grammar.py, field_grammar.py and metrics_grammar.py, over cursor.py and lexer.py.

Rule 1  Linear in the text, and bounded in depth: no query can exhaust the stack. How long a query may be is the API's to say.
Rule 2  What parses is well formed, not yet meaningful: types, regular expressions and limits are check.py's.
Rule 3  The first error in the text is raised, with Tempo's words for it.
"""

from __future__ import annotations

from vivace.errors import TraceQLError
from vivace.traceql import fold
from vivace.traceql.ast import DEPTH_MAX, Field, Hint, Query, Static, depth
from vivace.traceql.cursor import Cursor, too_deep
from vivace.traceql.field_grammar import field
from vivace.traceql.lexer import TokenKind
from vivace.traceql.metrics_grammar import at_metrics, metrics, second_stages
from vivace.traceql.pipeline_grammar import pipeline


def parse(text: str) -> Query:
    """The query that `text` says. Raises TraceQLError; an empty text is an error too (search takes it for "no filter" by itself)."""
    if not text:
        message = "parse error : syntax error: unexpected $end"
        raise TraceQLError(message, text=text, line=1, column=1, found="$end", hint="{ } is every span")
    cursor = Cursor(text)
    stages = pipeline(cursor, lambda: at_metrics(cursor))
    function = metrics(cursor) if cursor.previous == "|" else None
    more = second_stages(cursor) if function is not None else ()
    hints = _hints(cursor) if cursor.at("with") else ()
    if cursor.token.kind is not TokenKind.END:
        raise cursor.unexpected(*([] if hints else ["with"]))
    query = Query(stages, function, more, hints, text=text)
    if depth(query) > DEPTH_MAX:  # a chain nests to the left without recursion, so the cursor did not count it
        raise too_deep(text, 0)
    return query


def parse_field(text: str) -> Field:
    """One attribute or intrinsic, as the path of tag values names it: `span.http.method`, `name`. Raises TraceQLError."""
    cursor = Cursor(text)
    if cursor.token.kind is TokenKind.IDENTIFIER:
        raise cursor.unknown_identifier()
    found = field(cursor)
    if cursor.token.kind is not TokenKind.END:
        raise cursor.unexpected()
    return found


def _hints(cursor: Cursor) -> tuple[Hint, ...]:
    """`with ( name = value { , name = value } )`"""
    cursor.expect("with")
    cursor.expect("(")
    found = [_hint(cursor)]
    while cursor.accept(","):
        found.append(_hint(cursor))
    cursor.expect(")", said=False)
    return tuple(found)


def _hint(cursor: Cursor) -> Hint:
    name = cursor.token
    if name.kind not in (TokenKind.IDENTIFIER, TokenKind.WORD):
        raise cursor.unexpected(TokenKind.IDENTIFIER.value)
    cursor.advance()
    cursor.expect("=")
    is_negative = cursor.accept("-")
    value = cursor.token.leaf
    if not isinstance(value, Static):
        raise cursor.unexpected()
    if is_negative:
        value = fold.negate(value, offset=value.offset)
        if value is None:
            raise cursor.unexpected(hint="a minus sign goes with numbers only")
    cursor.advance()
    return Hint(name.text, value, offset=name.start)
