"""Operations on constants have their values while parsing; those without one are refused when checking."""

from __future__ import annotations

import pytest

from vivace.errors import TraceQLError
from vivace.traceql import canonical, check, parse
from vivace.traceql.ast import Binary, SpansetFilter

FOLDED = {
    "1 + 2": "3",
    "1 + 2.0": "3.0",
    "7 / 2": "3",
    "-7 / 2": "-3",
    "7 % -4": "3",
    "-7 % 4": "-3",
    "-7.5 % 2": "-1.5",
    "7 / 2.0": "3.5",
    "2 ^ 3": "8",
    "2.0 ^ 3": "8.0",
    "2 ^ 3 ^ 2": "512",
    "-2 ^ 2": "-4",
    "(-2) ^ 63": "minInt",
    "2 ^ -1": "0",
    "(-1) ^ -3": "-1",
    "(-1) ^ 9223372036854775807": "-1",
    "(-1) ^ 1000": "1",
    "0 ^ 0": "1",
    "0 ^ 100": "0",
    "1s + 500ms": "1.5s",
    "1s * 1.5": "1.5s",
    "1s / 3": "333.333333ms",
    "1s + 1": "1.000000001s",
    "- 1.5": "-1.5",
    "-(-5)": "5",
    "!true": "false",
    "1 = 1.0": "true",
    "1s = 1000000000": "true",
    "`a` < `b`": "true",
    "`b` != `b`": "false",
    "error = error": "true",
    "server != client": "true",
    "true = false": "false",
    "true || false && false": "false",
    "nil = nil": "false",
    "nil != nil": "false",
    "1 = nil": "false",
    "nil != 1": "true",
    "!(1 > 2) && `a` = `a`": "true",
    "-maxInt - 1 = minInt": "true",
}

NOT_FOLDED = [
    "`a` =~ `a`",
    ".a + (1 / 0)",
    "1 / 0",
    "1 % 0",
    "1 + `a`",
    "true > false",
    "error < ok",
    "!1",
    "-`a`",
    "true + 1",
]

WITHOUT_VALUE = {
    "1 / 0": "parse error : runtime error: integer divide by zero",
    "1s % 0": "parse error : runtime error: integer divide by zero",
    "maxInt + 1": "arithmetic on constants gives no number of 64 bits: 9223372036854775807 + 1",
    "9 ^ 9 ^ 9": "arithmetic on constants gives no number of 64 bits: 9 ^ 387420489",
    "0 ^ -1": "arithmetic on constants gives no number of 64 bits: 0 ^ -1",
    "1.0 / 0": "arithmetic on constants gives no number of 64 bits: 1.0 / 0",
    "(-8.0) ^ .5": "arithmetic on constants gives no number of 64 bits: (-8.0) ^ 0.5",
    "1e308 * 10": "arithmetic on constants gives no number of 64 bits: 1e+308 * 10",
    "-minInt": "arithmetic on constants gives no number of 64 bits: -minInt",
    "200y * 2": "arithmetic on constants gives no number of 64 bits: 1752000h0m0s * 2",
}


@pytest.mark.parametrize("text", FOLDED)
def test_folded(text: str) -> None:
    assert canonical(parse(f"{{ {text} }}")) == f"{{ {FOLDED[text]} }}"


@pytest.mark.parametrize("text", NOT_FOLDED)
def test_not_folded(text: str) -> None:
    assert canonical(parse(f"{{ {text} }}")) == f"{{ {text} }}"


@pytest.mark.parametrize("text", WITHOUT_VALUE)
def test_without_value(text: str) -> None:
    for query in (f"{{ {text} = .a }}", f"{{ }} | count() > {text}"):
        with pytest.raises(TraceQLError) as caught:
            check(parse(query))
        assert caught.value.reason == WITHOUT_VALUE[text]


def test_only_constants_are_folded() -> None:
    (stage,) = parse("{ .a + 1 + 2 = 3 }").pipeline
    assert isinstance(stage, SpansetFilter)
    assert isinstance(stage.expression, Binary)
    assert canonical(stage.expression.lhs) == "(.a + 1) + 2"
