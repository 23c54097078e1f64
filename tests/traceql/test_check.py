"""Which queries mean something, and the types of their expressions."""

from __future__ import annotations

import pytest

from vivace.errors import TraceQLError
from vivace.traceql import check, parse, type_of
from vivace.traceql.ast import IntrinsicId, SpansetFilter, StaticKind
from vivace.traceql.types import Type, intrinsic_type, static_type

ACCEPTED = [
    "{ span.flag }",
    "{ !span.flag }",
    "{ span.a = resource.b && .c > .d }",
    "{ span.a = error || span.a = 1s || span.a = 1 || span.a = `x` }",
    "{ duration > 300000000 && duration > 1.5 && nestedSetParent < 1s }",
    "{ duration / 2 > 1s }",
    "{ name > `a` && name =~ `(?i)x.*` && `x` =~ `x` }",
    "{ trace:id =~ `abc.*` && span:id > `1` }",
    "{ span.x = nil && nil != .y && name != nil && resource.service.name != nil && .service.name = nil }",
    "{ status != ok && kind = server }",
    "{ -span.a * 2 > 3 }",
    "{ } | count() > avg(span.items)",
    "{ } | 1 < count() | count() + 1 > 3 | max(duration) - min(duration) > 2s | 5 > 3",
    "{ } | by(span.a = 1) | by(name, -duration)",
    "{ } | avg(duration / 2) > 1s",
    "{ } | rate() by (name, kind, status, .a, .b)",
    "{ } | quantile_over_time(duration, 0, 1, .5) by (name, kind, status, .a)",
    "{ } | compare({ status = error }, 5, 1, 2)",
    "{ } | rate() > 1 | topk(5) > 1s | bottomk(1) < -2.5",
    "{ } | by(name) | { } > { }",  # refused while running, where a trace has more than one spanset
    "{ } | min_over_time(.a) with(unknown=1)",
]

REFUSED = {
    # text: reason, in Tempo's words where it has them
    "{ 1 }": "span filter field expressions must resolve to a boolean: { 1 }",
    "{ name }": "span filter field expressions must resolve to a boolean: { name }",
    "{ span.a + span.b }": "span filter field expressions must resolve to a boolean: { span.a + span.b }",
    "{ -span.a }": "span filter field expressions must resolve to a boolean: { -span.a }",
    "{ parent.foo = 1 }": "parent not yet supported",
    "{ } | select(parent.foo)": "parent not yet supported",
    "{ } | rate() by (parent.foo)": "parent not yet supported",
    "{ parent = nil }": "intrinsic (parent) not yet supported",
    "{ name = 1 }": "binary operations must operate on the same type: name = 1",
    '{ duration = "1s" }': "binary operations must operate on the same type: duration = `1s`",
    '{ status = "error" }': "binary operations must operate on the same type: status = `error`",
    '{ kind = "server" }': "binary operations must operate on the same type: kind = `server`",
    "{ true = 1 }": "binary operations must operate on the same type: true = 1",
    "{ status = server }": "binary operations must operate on the same type: status = server",
    "{ (span.a = 1) = 1 }": "binary operations must operate on the same type: (span.a = 1) = 1",
    "{ (span.a + 1) = `x` }": "binary operations must operate on the same type: (span.a + 1) = `x`",
    "{ status > error }": "illegal operation for the given types: status > error",
    "{ true > false }": "illegal operation for the given types: true > false",
    "{ kind > server }": "illegal operation for the given types: kind > server",
    "{ 1 =~ 2 }": "illegal operation for the given types: 1 =~ 2",
    "{ span.a && 1 }": "illegal operation for the given types: span.a && 1",
    "{ span.a > true }": "illegal operation for the given types: span.a > true",
    "{ span.a + `x` = 1 }": "illegal operation for the given types: span.a + `x`",
    "{ span.a =~ 1 }": "illegal operation for the given types: span.a =~ 1",
    "{ span.a =~ span.b }": "illegal operation for the given types: span.a =~ span.b",
    "{ span.a = nil + 1 }": "illegal operation for the given types: nil + 1",
    '{ -"a" = 1 }': "illegal operation for the given type: -`a`",
    "{ !1 }": "illegal operation for the given type: !1",
    "{ !name }": "illegal operation for the given type: !name",
    '{ span.s =~ "(" }': "invalid regex: `(`",
    '{ span.s !~ "a**" }': "invalid regex: `a**`",
    "{ name = nil }": "name=nil is not valid because intrinsics cannot be nil",
    "{ nil = event:name }": "nil=event:name is not valid because intrinsics cannot be nil",
    "{ resource.service.name = nil }": (
        "resource.service.name=nil is not valid because resource.service.name cannot be nil"
    ),
    "{} | by(1)": "grouping field expressions must reference the span: by(1)",
    "{} | by(name, 1)": "grouping field expressions must reference the span: by(1)",
    "{} | avg(name) > 1": "aggregate field expressions must resolve to a number type: avg(name)",
    "{} | max(.a = 1) > 1": "aggregate field expressions must resolve to a number type: max(.a = 1)",
    "{} | avg(1) > 1": "aggregate field expressions must reference the span: avg(1)",
    "{} | rate() by (.a,.b,.c,.d,.e,.f)": "metrics group by 6 values not yet supported",
    "{} | histogram_over_time(duration) by (.a,.b,.c,.d,.e)": "metrics group by 5 values not yet supported",
    "{} | quantile_over_time(duration, 2)": "quantile must be between 0 and 1: 2",
    "{} | min_over_time(name)": "aggregate field expressions must resolve to a number type: min_over_time(name)",
    "{} | rate() | topk(0)": "limit must be greater than 0",
    "{} | rate() | bottomk(0)": "limit must be greater than 0",
    "{} | compare({}) | topk(3)": "`compare()` cannot be used with second stage functions",
    "{} | compare({ 1 })": "span filter field expressions must resolve to a boolean: { 1 }",
    "{} | compare({}, 0)": "compare() top number of values must be greater than 0",
    "{} | compare({}, 1, 2, 2)": "compare() start must be before end, both in unix nanoseconds",
    "({ name = 1 } | count() > 1) && ({})": "binary operations must operate on the same type: name = 1",
}

TYPES = {
    ".a": Type.ANY,
    "name": Type.STRING,
    ".a = 1": Type.BOOL,
    "!.a": Type.BOOL,
    "-.a": Type.NUMBER,
    "-duration": Type.DURATION,
    ".a + 1": Type.NUMBER,
    "duration * .a": Type.DURATION,
    "duration / 1.5": Type.DURATION,
    "nestedSetLeft + 1": Type.INT,
    "nestedSetLeft * 1.0": Type.FLOAT,
    "nil": Type.NIL,
}


@pytest.mark.parametrize("text", ACCEPTED)
def test_accepted(text: str) -> None:
    query = parse(text)
    assert check(query) is query


@pytest.mark.parametrize("text", REFUSED)
def test_refused(text: str) -> None:
    with pytest.raises(TraceQLError) as caught:
        check(parse(text))
    assert caught.value.reason == REFUSED[text]


def test_problems_are_collected() -> None:
    with pytest.raises(TraceQLError) as caught:
        check(parse('{ status = "error" &&\n kind = "server" }'))
    first, second = caught.value.__notes__
    assert "hint: a status is written without quotes" in first
    assert second.startswith('   kind = "server" }\n        ^ binary operations must operate on the same type')


def test_collected_problems_are_bounded() -> None:
    with pytest.raises(TraceQLError) as caught:
        check(parse("{ " + " && ".join(["name = 1"] * 50) + " }"))
    assert len(caught.value.__notes__) == 10


@pytest.mark.parametrize("text", TYPES)
def test_types(text: str) -> None:
    (stage,) = parse(f"{{ {text} = nil }}").pipeline
    assert isinstance(stage, SpansetFilter)
    assert stage.expression is not None
    compared = getattr(stage.expression, "lhs", stage.expression)
    assert type_of(compared) is TYPES[text] or text == "nil"


def test_every_intrinsic_and_literal_has_a_type() -> None:
    assert {i for i in IntrinsicId if intrinsic_type(i) is Type.ANY} == {IntrinsicId.PARENT}
    assert len({static_type(kind) for kind in StaticKind}) == len(StaticKind)
