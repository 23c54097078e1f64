"""The text of a query as tokens, one at a time, so that the first error in the text is the one that is reported.

Rule 1  Each character is looked at a bounded number of times: the whole is linear in the text.
Rule 2  Behind a scope and its dot everything up to a blank or one of {}()=~!<>&|^, is the name: `span.a-b` is one attribute,
        `span.a - b` is not.
Rule 3  A token that stands for a value carries it as an AST leaf; words become leaves here too (`error`, `name`, `true`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeAlias, TypeVar

from vivace.errors import TraceQLError
from vivace.traceql import literals
from vivace.traceql.ast import (
    INT_MAX,
    INT_MIN,
    AggregateKind,
    Attribute,
    Intrinsic,
    IntrinsicId,
    MetricsKind,
    Scope,
    Static,
    StaticKind,
)

Leaf: TypeAlias = Attribute | Intrinsic | Static
T = TypeVar("T")


class TokenKind(Enum):
    """The value is the name in error texts, for kinds whose text can be anything."""

    END = "$end"
    INTEGER = "INTEGER"
    FLOAT = "FLOAT"
    DURATION = "DURATION"
    STRING = "STRING"
    IDENTIFIER = "IDENTIFIER"
    ATTRIBUTE = "attribute"
    SCOPED_INTRINSIC = "intrinsic"
    WORD = "word"
    PUNCTUATION = "punctuation"


@dataclass(frozen=True, slots=True)
class Token:
    kind: TokenKind
    text: str
    start: int
    leaf: Leaf | None = None

    @property
    def shown(self) -> str:
        """As error texts name it: a literal by its kind, an attribute or scoped intrinsic by its prefix, others by their text."""
        match self.kind:
            case TokenKind.WORD | TokenKind.PUNCTUATION | TokenKind.ATTRIBUTE | TokenKind.SCOPED_INTRINSIC:
                return self.text
            case _:
                return str(self.kind.value)


_INTRINSICS = {
    i.value: i
    for i in IntrinsicId
    if ":" not in i.value  # the others need their scope
}

_SCOPED_INTRINSICS = {
    "span": {
        "name": IntrinsicId.NAME,
        "duration": IntrinsicId.DURATION,
        "status": IntrinsicId.STATUS,
        "statusMessage": IntrinsicId.STATUS_MESSAGE,
        "kind": IntrinsicId.KIND,
        "id": IntrinsicId.SPAN_ID,
        "parentID": IntrinsicId.SPAN_PARENT_ID,
        "childCount": IntrinsicId.SPAN_CHILD_COUNT,
    },
    "trace": {
        "duration": IntrinsicId.TRACE_DURATION,
        "id": IntrinsicId.TRACE_ID,
        "rootName": IntrinsicId.ROOT_NAME,
        "rootService": IntrinsicId.ROOT_SERVICE_NAME,
    },
    "event": {"name": IntrinsicId.EVENT_NAME, "timeSinceStart": IntrinsicId.EVENT_TIME_SINCE_START},
    "link": {"traceID": IntrinsicId.LINK_TRACE_ID, "spanID": IntrinsicId.LINK_SPAN_ID},
    "instrumentation": {
        "name": IntrinsicId.INSTRUMENTATION_NAME,
        "version": IntrinsicId.INSTRUMENTATION_VERSION,
    },
}

_LEAVES: dict[str, Leaf] = {
    **{word: Intrinsic(i) for word, i in _INTRINSICS.items()},
    "true": Static(StaticKind.BOOL, True),
    "false": Static(StaticKind.BOOL, False),
    "nil": Static(StaticKind.NIL, None),
    "minInt": Static(StaticKind.INT, INT_MIN),
    "maxInt": Static(StaticKind.INT, INT_MAX),
    **{word: Static(StaticKind.STATUS, word) for word in ("ok", "error", "unset")},
    **{
        word: Static(StaticKind.KIND, word)
        for word in ("unspecified", "internal", "server", "client", "producer", "consumer")
    },
}

_WORDS = {
    *_LEAVES,
    *(kind.value for kind in AggregateKind),
    *(kind.value for kind in MetricsKind),
    *("by", "coalesce", "select", "compare", "topk", "bottomk", "with"),
}

_BLANKS = re.compile(r"(?:[ \t\r\n]+|//[^\n]*+|/\*.*?\*/)*+", re.S)
_ATTRIBUTE = re.compile(r"(?:(?:span|resource|event|link|instrumentation|parent)\.)|\.(?![0-9])")
_OPEN_QUOTE = re.compile(r'"(?:[^"\\]|\\["\\])*+')
_SCOPE = re.compile(r"(span|trace|event|link|instrumentation):")
_WORD = re.compile(r"[^\W\d]\w*+")
_DURATION = re.compile(r"(?:(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:ns|us|µs|μs|ms|s|m|h|d|w|y))++(?!\w)")
_NUMBER = re.compile(r"0[xXbBoO]\w*+|(?:[0-9][0-9_]*+(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?")
_STRING = re.compile(r'"(?:[^"\\\n]|\\[^\n])*+"|`[^`]*+`')
_SINGLE_QUOTED = re.compile(r"'[^'\n]*+'?")
_PUNCTUATION = re.compile(
    r"&>>|&<<|!>>|!<<|&&|\|\||!=|=~|!~|>=|<=|>>|<<|!>|!<|&>|&<|&~|[{}(),:|=><+\-*/%^!~]|.", re.S
)  # the last alternative: a character that TraceQL has no use for; every parser refuses it by its name


def tokens(text: str) -> Iterator[Token]:
    """All tokens of `text`, closed by one END. Raises TraceQLError where no token can begin or end."""
    position = 0
    while True:
        token, position = _scan(text, _skip_blanks(text, position))
        yield token
        if token.kind is TokenKind.END:
            return


def error_at(
    text: str, offset: int, message: str, *, found: str = "", expected: str = "", hint: str = ""
) -> TraceQLError:
    """A parse error at `offset` of `text`, with Tempo's opening words."""
    line, column = line_and_column(text, offset)
    reason = f"parse error at line {line}, col {column}: {message}"
    return TraceQLError(reason, text=text, line=line, column=column, found=found, expected=expected, hint=hint)


def line_and_column(text: str, offset: int) -> tuple[int, int]:
    """Both counted from 1, in characters."""
    line_start = text.rfind("\n", 0, offset) + 1
    return text.count("\n", 0, offset) + 1, offset - line_start + 1


def _skip_blanks(text: str, position: int) -> int:
    blanks = _BLANKS.match(text, position)
    end = blanks.end() if blanks else position
    if text.startswith("/*", end):
        raise error_at(text, end, "comment not terminated", hint="close the comment with */")
    return end


def _scan(text: str, start: int) -> tuple[Token, int]:
    """The token that begins at `start`, and where it ends."""
    if start == len(text):
        return Token(TokenKind.END, "", start), start
    if prefix := _ATTRIBUTE.match(text, start):
        return _attribute(text, start, prefix)
    if scope := _SCOPE.match(text, start):
        return _scoped_intrinsic(text, start, scope)
    if word := _WORD.match(text, start):
        kind = TokenKind.WORD if word[0] in _WORDS else TokenKind.IDENTIFIER
        leaf = _LEAVES.get(word[0])
        return Token(kind, word[0], start, leaf and replace(leaf, offset=start)), word.end()
    if duration := _DURATION.match(text, start):
        nanoseconds = _parsed(text, start, literals.parse_duration, duration[0])
        return Token(TokenKind.DURATION, duration[0], start, Static(StaticKind.DURATION, nanoseconds, offset=start)), (
            duration.end()
        )
    if number := _NUMBER.match(text, start):
        return _number(text, start, number[0]), number.end()
    if text[start] in '"`':
        return _string(text, start)
    if single := _SINGLE_QUOTED.match(text, start):
        return Token(TokenKind.IDENTIFIER, single[0], start), single.end()
    mark = _PUNCTUATION.match(text, start)
    assert mark is not None  # its last alternative is any character
    return Token(TokenKind.PUNCTUATION, mark[0], start), mark.end()


def _attribute(text: str, start: int, prefix: re.Match[str]) -> tuple[Token, int]:
    written = literals.ATTRIBUTE_NAME.match(text, prefix.end())
    assert written is not None  # it matches the empty text
    if text.startswith('"', written.end()):
        readable = _OPEN_QUOTE.match(text, written.end())
        if readable and readable.end() == len(text):
            raise error_at(text, start, 'unexpected EOF, expecting "', hint="close the quoted part of the name")
        hint = r"in a quoted name only \" and \\ are escapes"
        raise error_at(text, start, "invalid escape sequence in a quoted name", hint=hint)
    name = literals.unquote_name(written[0])
    if not name:
        raise error_at(
            text,
            start,
            "syntax error: unexpected END_ATTRIBUTE, expecting IDENTIFIER",
            found="END_ATTRIBUTE",
            expected="IDENTIFIER",
            hint=f"write the attribute's name right behind `{prefix[0]}`",
        )
    leaf = Attribute(Scope(prefix[0][:-1]), name, offset=start)
    return Token(TokenKind.ATTRIBUTE, prefix[0], start, leaf), written.end()


def _scoped_intrinsic(text: str, start: int, scope: re.Match[str]) -> tuple[Token, int]:
    known = _SCOPED_INTRINSICS[scope[1]]
    word = _WORD.match(text, scope.end())
    if word is None or word[0] not in known:
        found, _ = _scan(text, _skip_blanks(text, scope.end()))
        # A generated parser lists what it expects only where that is little; so do we.
        expected = " or ".join(known) if len(known) <= 4 else ""
        raise error_at(
            text,
            found.start,
            f"syntax error: unexpected {found.shown}" + (f", expecting {expected}" if expected else ""),
            found=found.shown,
            expected=expected,
            hint=f"{scope[0]} takes one of {', '.join(known)}; an attribute is written {scope[1]}.name",
        )
    return Token(TokenKind.SCOPED_INTRINSIC, scope[0], start, Intrinsic(known[word[0]], offset=start)), word.end()


def _number(text: str, start: int, written: str) -> Token:
    if any(mark in written for mark in ".eE") and written[:2].lower() != "0x":
        value = _parsed(text, start, literals.parse_float, written)
        return Token(TokenKind.FLOAT, written, start, Static(StaticKind.FLOAT, value, offset=start))
    whole = _parsed(text, start, literals.parse_integer, written)
    return Token(TokenKind.INTEGER, written, start, Static(StaticKind.INT, whole, offset=start))


def _string(text: str, start: int) -> tuple[Token, int]:
    written = _STRING.match(text, start)
    if written is None:
        hint = "a string in double quotes ends on its own line; write \\n, or use backquotes"
        raise error_at(text, start, "literal not terminated", hint=hint)
    value = _parsed(text, start, literals.unquote, written[0])
    return Token(TokenKind.STRING, written[0], start, Static(StaticKind.STRING, value, offset=start)), written.end()


def _parsed(text: str, start: int, parse: Callable[[str], T], written: str) -> T:
    try:
        return parse(written)
    except ValueError as error:
        raise error_at(text, start, str(error), found=written) from error
