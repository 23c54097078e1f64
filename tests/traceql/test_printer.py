"""Canonical text: what it looks like, and that it means the same."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from vivace.traceql import canonical, parse

from .asts import query

TEXTS = {
    # text: canonical text
    "{}": "{ }",
    '{span:name="a"}': "{ name = `a` }",
    "{ span:kind = server }": "{ kind = server }",
    "{ span:statusMessage != `x` }": "{ statusMessage != `x` }",
    "{ trace:rootService = `x` && trace:rootName = `y` }": "{ (rootServiceName = `x`) && (rootName = `y`) }",
    "{ trace:duration > 1h }": "{ traceDuration > 1h0m0s }",
    "{ span:parentID = `x` }": "{ span:parentID = `x` }",
    "{ duration >= 252ms }": "{ duration >= 252ms }",
    "{ duration > 1d }": "{ duration > 24h0m0s }",
    "{ name = `a\\b` }": "{ name = `a\\b` }",
    '{ name = "a`b" }': '{ name = "a`b" }',
    '{ span."foo bar" = 1 }': '{ span."foo bar" = 1 }',
    '{ span.foo."a=b".baz = 1 }': '{ span."foo.a=b.baz" = 1 }',
    '{ ."5x" = 1 }': '{ ."5x" = 1 }',
    '{ span."5x" = 1 }': "{ span.5x = 1 }",
    "{ .a = minInt || .b = maxInt }": "{ (.a = minInt) || (.b = 9223372036854775807) }",
    "{ .a = (2 * .b) ^ (-2) }": "{ .a = ((2 * .b) ^ -2) }",
    "{ (-2) ^ .a = 4 }": "{ ((-2) ^ .a) = 4 }",
    "{ !(.a = nil) }": "{ !(.a = nil) }",
    "{} | by(resource.service.name) | count()>2": "{ } | by(resource.service.name) | count() > 2",
    "{}|avg( span:duration )>1s": "{ } | avg(duration) > 1s",
    "({.a}|count()>1)&&({.b})": "({ .a } | count() > 1) && ({ .b })",
    "{.a}>>{.b}&&{.c}": "({ .a } >> { .b }) && { .c }",
    "{}|rate()by(name)>-1|topk(5)with(sample=true)": "{ } | rate() by(name) > -1 | topk(5) with(sample=true)",
    "{}|quantile_over_time(duration,.5,1)": "{ } | quantile_over_time(duration, 0.5, 1.0)",
    "{}|compare({status=error})": "{ } | compare({ status = error }, 10)",
}


@pytest.mark.parametrize("text", TEXTS)
def test_canonical(text: str) -> None:
    assert canonical(parse(text)) == TEXTS[text]
    assert parse(TEXTS[text]) == parse(text)


@settings(max_examples=100, deadline=None)
@given(query)
def test_what_is_printed_is_read_back(node) -> None:  # type: ignore[no-untyped-def]
    assert parse(canonical(node)) == node
