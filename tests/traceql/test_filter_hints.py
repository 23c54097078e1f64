"""The filter of tag requests, read of half-written queries."""

from __future__ import annotations

import pytest

from vivace.errors import TraceQLError
from vivace.traceql import canonical, check, extract_tag_filter
from vivace.traceql.filter_hints import CONDITIONS_MAX

FILTERS = {
    "": None,
    "{": None,
    "{}": None,
    "{ }": None,
    "nonsense": None,
    '{ resource.service.name = "edge" }': "{ resource.service.name = `edge` }",
    '{resource.service.name="edge"&&status=error}': "{ (resource.service.name = `edge`) && (status = error) }",
    '{ resource.region = "eu-1" && span.items > 9 ': "{ (resource.region = `eu-1`) && (span.items > 9) }",
    '{ name = "a" && span.http. }': "{ name = `a` }",
    '{ name = "a" && span.http.method =  }': "{ name = `a` }",
    '{ name = "a" && span.x = "op': "{ name = `a` }",
    '{ name = "a" && foo = 1 && .b =~ "x.*" }': "{ (name = `a`) && (.b =~ `x.*`) }",
    "{ duration > 100ms && .a = 1.5 && .b = -3 }": "{ ((duration > 100ms) && (.a = 1.5)) && (.b = -3) }",
    "{ .flag = true && kind != server }": "{ (.flag = true) && (kind != server) }",
    '{ span:name = "a" && trace:rootName !~ "b" }': "{ (name = `a`) && (rootName !~ `b`) }",
    '{ span."foo bar" = 1 && ."x y" = "é" }': '{ (span."foo bar" = 1) && (."x y" = `é`) }',
    '{ name = "a || b | { ( \\" }" && .c = 1 }': '{ (name = `a || b | { ( " }`) && (.c = 1) }',
    '{ name = "a" || name = "b" }': None,
    '{ name = "a" } && { name = "b" }': None,
    '{ name = "a" } | count() > 1': None,
    '{ (name = "a") && .b = 1 }': None,
    '{ name = "a" && .b = .c }': "{ name = `a` }",
    "{ name = nil && .b = 1 }": "{ (name = nil) && (.b = 1) }",
}


@pytest.mark.parametrize("q", FILTERS)
def test_filters(q: str) -> None:
    found = extract_tag_filter(q)
    assert (found and canonical(found)) == FILTERS[q]


def test_types_are_not_looked_at() -> None:
    found = extract_tag_filter("{ name = 1 && .a = 2 }")
    assert found is not None
    with pytest.raises(TraceQLError):
        check(found)


def test_conditions_are_bounded() -> None:
    found = extract_tag_filter("{ " + " && ".join(f".a = {i}" for i in range(1000)) + " }")
    assert canonical(found).count(" = ") == CONDITIONS_MAX  # type: ignore[arg-type]
