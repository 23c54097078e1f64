"""Text to tokens: what is one token, and where."""

from __future__ import annotations

import pytest

from vivace.errors import TraceQLError
from vivace.traceql.ast import Attribute, Intrinsic, IntrinsicId, Scope, Static, StaticKind
from vivace.traceql.lexer import TokenKind, tokens

MARKS = [
    "{",
    "}",
    "(",
    ")",
    ",",
    ":",
    "|",
    "&&",
    "||",
    "=",
    "!=",
    "=~",
    "!~",
    ">",
    ">=",
    "<",
    "<=",
    "+",
    "-",
    "*",
    "/",
    "%",
    "^",
    "!",
    "~",
    ">>",
    "<<",
    "!>",
    "!>>",
    "!<",
    "!<<",
    "&>",
    "&>>",
    "&<",
    "&<<",
    "&~",
]

WORDS = {
    # text: (kind, text) of each token but the last
    "": [],
    " \t\r\n": [],
    "a b_1 é": [("IDENTIFIER", "a"), ("IDENTIFIER", "b_1"), ("IDENTIFIER", "é")],
    "by name": [("word", "by"), ("word", "name")],
    "// a\nby": [("word", "by")],
    "/* a \n */by// end": [("word", "by")],
    "1s/2": [("DURATION", "1s"), ("punctuation", "/"), ("INTEGER", "2")],
    "1.5 .5 2. 1e3 1.e-3": [(k, t) for k, t in zip(["FLOAT"] * 5, ["1.5", ".5", "2.", "1e3", "1.e-3"], strict=True)],
    "1h30m 2d 1.5h 5µs": [(k, t) for k, t in zip(["DURATION"] * 4, ["1h30m", "2d", "1.5h", "5µs"], strict=True)],
    "10x": [("INTEGER", "10"), ("IDENTIFIER", "x")],
    "'x y'": [("IDENTIFIER", "'x y'")],
    "!!a": [("punctuation", "!"), ("punctuation", "!"), ("IDENTIFIER", "a")],
    "a>-1": [("IDENTIFIER", "a"), ("punctuation", ">"), ("punctuation", "-"), ("INTEGER", "1")],
    "@#": [("punctuation", "@"), ("punctuation", "#")],
}

LEAVES = {
    "span.http.status_code": Attribute(Scope.SPAN, "http.status_code"),
    "resource.a-b/c*2+1%:;": Attribute(Scope.RESOURCE, "a-b/c*2+1%:;"),
    "event.x": Attribute(Scope.EVENT, "x"),
    "link.x": Attribute(Scope.LINK, "x"),
    "instrumentation.x": Attribute(Scope.INSTRUMENTATION, "x"),
    "parent.span.x": Attribute(Scope.PARENT, "span.x"),
    ".ключ": Attribute(Scope.UNSCOPED, "ключ"),
    ".name": Attribute(Scope.UNSCOPED, "name"),
    "span.name": Attribute(Scope.SPAN, "name"),
    'span."foo bar"': Attribute(Scope.SPAN, "foo bar"),
    'span.foo."a=b".baz': Attribute(Scope.SPAN, "foo.a=b.baz"),
    r'."q\"d\\s"': Attribute(Scope.UNSCOPED, 'q"d\\s'),
    'span."new\nline"': Attribute(Scope.SPAN, "new\nline"),
    "name": Intrinsic(IntrinsicId.NAME),
    "span:name": Intrinsic(IntrinsicId.NAME),
    "span:statusMessage": Intrinsic(IntrinsicId.STATUS_MESSAGE),
    "span:childCount": Intrinsic(IntrinsicId.SPAN_CHILD_COUNT),
    "trace:rootService": Intrinsic(IntrinsicId.ROOT_SERVICE_NAME),
    "event:timeSinceStart": Intrinsic(IntrinsicId.EVENT_TIME_SINCE_START),
    "nestedSetParent": Intrinsic(IntrinsicId.NESTED_SET_PARENT),
    "parent": Intrinsic(IntrinsicId.PARENT),
    "007": Static(StaticKind.INT, 7),
    "maxInt": Static(StaticKind.INT, 2**63 - 1),
    "minInt": Static(StaticKind.INT, -(2**63)),
    "1e3": Static(StaticKind.FLOAT, 1000.0),
    "1h30m": Static(StaticKind.DURATION, 5400 * 10**9),
    "nil": Static(StaticKind.NIL, None),
    "false": Static(StaticKind.BOOL, False),
    "unset": Static(StaticKind.STATUS, "unset"),
    "unspecified": Static(StaticKind.KIND, "unspecified"),
    '"a\\"b"': Static(StaticKind.STRING, 'a"b'),
    "`C:\\x`": Static(StaticKind.STRING, "C:\\x"),
}

REFUSED = {
    # text: (column, the rest of the reason)
    '= "a': (3, "literal not terminated"),
    '= "a\n"': (3, "literal not terminated"),
    "= `a": (3, "literal not terminated"),
    "= /* a": (3, "comment not terminated"),
    r'"\q"': (1, "invalid char escape"),
    r'"\xff"': (1, "string is not valid UTF-8"),
    r'"\ud800"': (1, "invalid char escape"),
    "= span. ": (3, "syntax error: unexpected END_ATTRIBUTE, expecting IDENTIFIER"),
    '= span.""': (3, "syntax error: unexpected END_ATTRIBUTE, expecting IDENTIFIER"),
    'span."a = 1': (1, 'unexpected EOF, expecting "'),
    r'span."a\n"': (1, "invalid escape sequence in a quoted name"),
    "event:foo": (7, "syntax error: unexpected IDENTIFIER, expecting name or timeSinceStart"),
    "link: }": (7, "syntax error: unexpected }, expecting traceID or spanID"),
    "span:kin": (6, "syntax error: unexpected IDENTIFIER"),
    "0x10": (1, 'strconv.Atoi: parsing "0x10": invalid syntax'),
    "1_000": (1, 'strconv.Atoi: parsing "1_000": invalid syntax'),
    "9223372036854775808": (1, 'strconv.Atoi: parsing "9223372036854775808": value out of range'),
    "1e999": (1, 'strconv.ParseFloat: parsing "1e999": value out of range'),
    "1d12.5h": (1, 'time: invalid duration "1d12.5h"'),
    "300y": (1, 'time: invalid duration "300y"'),
}


def test_marks() -> None:
    assert [t.text for t in tokens(" ".join(MARKS))] == [*MARKS, ""]


@pytest.mark.parametrize("text", WORDS)
def test_tokens(text: str) -> None:
    found = list(tokens(text))
    assert [(t.kind.value, t.text) for t in found[:-1]] == WORDS[text]
    assert found[-1].kind is TokenKind.END
    assert all(text.startswith(t.text, t.start) for t in found)


@pytest.mark.parametrize("text", LEAVES)
def test_values(text: str) -> None:
    token, end = tokens(f" {text} ")
    assert token.leaf == LEAVES[text]
    assert token.leaf is not None
    assert (token.leaf.offset, end.kind) == (1, TokenKind.END)


@pytest.mark.parametrize("text", REFUSED)
def test_refused(text: str) -> None:
    column, message = REFUSED[text]
    with pytest.raises(TraceQLError) as caught:
        list(tokens(text))
    assert caught.value.reason == f"parse error at line 1, col {column}: {message}"
    assert caught.value.column == column
