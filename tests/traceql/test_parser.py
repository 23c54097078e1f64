"""Text to tree: precedence and grouping, Tempo's words for errors, bounds."""

from __future__ import annotations

import pytest

from vivace.errors import TraceQLError
from vivace.traceql import canonical, extract_tag_filter, parse, parse_field
from vivace.traceql.ast import (
    DEPTH_MAX,
    Attribute,
    Hint,
    Intrinsic,
    IntrinsicId,
    Query,
    ScalarFilter,
    Scope,
    SpansetFilter,
    SpansetPipeline,
    Static,
    StaticKind,
    depth,
    walk,
)

GROUPED = {
    # an expression: the same with every operation in parentheses
    ".a || .b && .c": "(.a || .b) && .c",
    ".a && .b || .c": "(.a && .b) || .c",
    ".a && .b && .c": "(.a && .b) && .c",
    ".a && .b && .c && .d": "(.a && .b) && (.c && .d)",
    ".a = 1 && .b = 2": "(.a = 1) && (.b = 2)",
    ".a = .b = .c": "(.a = .b) = .c",
    ".a + .b * .c ^ .d": ".a + (.b * (.c ^ .d))",
    ".a - .b - .c": "(.a - .b) - .c",
    ".a ^ .b ^ .c": ".a ^ (.b ^ .c)",
    "-.a ^ .b": "-(.a ^ .b)",
    "-.a * .b": "-(.a * .b)",
    "-.a + .b": "(-.a) + .b",
    "!.a * .b": "!(.a * .b)",
    "!.a + .b": "(!.a) + .b",
    "!.a = .b": "(!.a) = .b",
    "!-.a * .b": "!(-(.a * .b))",
    ".a * -.b + .c": "(.a * (-.b)) + .c",
    ".a = nil && .b != nil": "(.a = nil) && (.b != nil)",
    "((.a))": ".a",
}

SPANSETS = {
    "{.a} > {.b} >> {.c}": "({ .a } > { .b }) >> { .c }",
    "{.a} && {.b} > {.c} || {.d}": "({ .a } && ({ .b } > { .c })) || { .d }",
    "{.a} !~ {.b} &<< {.c}": "({ .a } !~ { .b }) &<< { .c }",
    "(({.a}) > ({.b}))": "{ .a } > { .b }",
    "{.a} | {.b} > {.c} | count() > 1": "{ .a } | { .b } > { .c } | count() > 1",
    "{} | 1 < count()": "{ } | 1 < count()",
    "{} | count() + 1 * 2 > avg(.x) - 3": "{ } | count() + 2 > avg(.x) - 3",
    "{} | (count() + 1) * 2 > 3": "{ } | (count() + 1) * 2 > 3",
    "-(count()) < 0": "-count() < 0",
    "(count() > 1) && ({.a})": "(count() > 1) && ({ .a })",
    "({} | by(name) | count() > 1) || ({.a} > {.b})": "({ } | by(name) | count() > 1) || ({ .a } > { .b })",
    "({} | count() > 1)": "({ } | count() > 1)",
    "(({} | count() > 1)) | count() > 2": "({ } | count() > 1) | count() > 2",
    "by(name, .a + 1) | coalesce() | select(name, .b)": "by(name, .a + 1) | coalesce() | select(name, .b)",
    "{} | count_over_time() by (.a) < 2ms != -1 | bottomk(3)": "{ } | count_over_time() by(.a) < 2ms != -1 | bottomk(3)",
    "{} | compare({.a}, 5, 1, 2)": "{ } | compare({ .a }, 5, 1, 2)",
}

REFUSED = {
    # text: reason, as Tempo 2.10 gives it
    "": "parse error : syntax error: unexpected $end",
    "{": "parse error at line 1, col 2: syntax error: unexpected $end",
    "{ .a = }": "parse error at line 1, col 8: syntax error: unexpected }",
    "{ . = 1 }": "parse error at line 1, col 3: syntax error: unexpected END_ATTRIBUTE, expecting IDENTIFIER",
    "{}{}": "parse error at line 1, col 3: syntax error: unexpected {, expecting with",
    "{ nil }": "parse error at line 1, col 7: syntax error: unexpected }, expecting = or !=",
    "{ .a > nil }": "parse error at line 1, col 12: syntax error: unexpected }, expecting = or !=",
    "{ foo = 1 }": "parse error at line 1, col 3: unknown identifier: foo",
    "{ name = 'x' }": "parse error at line 1, col 10: unknown identifier: 'x'",
    "{ .a in (1,2) }": "parse error at line 1, col 6: syntax error: unexpected IDENTIFIER",
    "{ 0x10 = 1 }": 'parse error at line 1, col 3: strconv.Atoi: parsing "0x10": invalid syntax',
    "coalesce()": "parse error at line 1, col 1: syntax error: unexpected coalesce",
    "select(name)": "parse error at line 1, col 1: syntax error: unexpected select",
    "{} | count()": "parse error at line 1, col 13: syntax error: unexpected $end",
    "{} | topk(5)": "parse error at line 1, col 6: syntax error: unexpected topk",
    "{} | rate() | rate()": "parse error at line 1, col 15: syntax error: unexpected rate, expecting topk or bottomk",
    "{} rate()": "parse error at line 1, col 4: syntax error: unexpected rate, expecting with",
    "({} | rate()) / ({} | rate())": "parse error at line 1, col 7: syntax error: unexpected rate",
    "({} | count()) > 2": "scalar filter lhs of type (%v) not yet supported",
    "{} | count() > ({} | count())": "scalar filter rhs of type (%v) not yet supported",
    "({} | count() > 1) && {}": "parse error at line 1, col 23: syntax error: unexpected {, expecting (",
    "{} && ({} | count() > 1)": "parse error at line 1, col 11: syntax error: unexpected |",
    "{} > (count())": "parse error at line 1, col 6: syntax error: a number cannot be an operand of a spanset operator",
    "count() > ({})": "parse error at line 1, col 11: syntax error: a spanset cannot be compared with a number",
    "{ } |\n\n { ? }": "parse error at line 3, col 4: syntax error: unexpected ?",
    "{ 10x = 1 }": "parse error at line 1, col 5: syntax error: unexpected IDENTIFIER",
    "{} with(a=name)": "parse error at line 1, col 11: syntax error: unexpected name",
    "{} with(a=1) x": "parse error at line 1, col 14: syntax error: unexpected IDENTIFIER",
    "{} | compare({}, 1, 2)": "parse error at line 1, col 22: syntax error: unexpected ), expecting ,",
}


@pytest.mark.parametrize("text", GROUPED)
def test_precedence(text: str) -> None:
    assert canonical(parse(f"{{ {text} }}")) == f"{{ {GROUPED[text]} }}"


@pytest.mark.parametrize("text", SPANSETS)
def test_pipelines(text: str) -> None:
    assert canonical(parse(text)) == SPANSETS[text]


@pytest.mark.parametrize("text", REFUSED)
def test_refused(text: str) -> None:
    with pytest.raises(TraceQLError) as caught:
        parse(text)
    assert caught.value.reason == REFUSED[text]
    assert str(caught.value) == f"invalid TraceQL query: {REFUSED[text]}"


def test_errors_show_the_place() -> None:
    with pytest.raises(TraceQLError) as caught:
        parse("{ name = `a` &&\n\tfoo = 1 }")
    error = caught.value
    assert (error.line, error.column, error.found) == (2, 2, "foo")
    assert error.__notes__ == [
        "   foo = 1 }\n"
        "   ^ parse error at line 2, col 2: unknown identifier: foo\n"
        "hint: attributes are written with a scope: span.foo, resource.foo or .foo"
    ]


def test_long_lines_are_shown_around_the_place() -> None:
    with pytest.raises(TraceQLError) as caught:
        parse(f"{{ name = `{'a' * 5000}` foo }}")
    shown, caret, *_ = caught.value.rendering().splitlines()
    assert len(shown) < 125
    assert shown[caret.index("^") :].startswith("foo")


def test_hints_and_text() -> None:
    text = "{ } with(most_recent=true, sample=-0.5, by=10)"
    query = parse(text)
    assert query.text == text
    assert query.hints == (
        Hint("most_recent", Static(StaticKind.BOOL, True)),
        Hint("sample", Static(StaticKind.FLOAT, -0.5)),
        Hint("by", Static(StaticKind.INT, 10)),
    )


def test_offsets_take_no_part_in_equality() -> None:
    assert parse("{ } | count() > 2") == parse("{}|count()>2")
    assert [node.offset for node in walk(parse("{.a + 1 = 2}"))] == [0, 0, 8, 4, 1, 6, 10]


def test_a_pipeline_in_parentheses_is_a_stage() -> None:
    match parse("(({ } | count() > 2)) | count() > 1"):
        case Query(pipeline=(SpansetPipeline(stages=(SpansetFilter(), ScalarFilter())), ScalarFilter())):
            pass
        case other:
            pytest.fail(f"{other}")


def test_fields() -> None:
    assert parse_field("span.http.method") == Attribute(Scope.SPAN, "http.method")
    assert parse_field("trace:rootName") == Intrinsic(IntrinsicId.ROOT_NAME)
    for wrong in ("service.name", "", "1", "name name", "span."):
        with pytest.raises(TraceQLError):
            parse_field(wrong)


def test_a_thousand_alternatives_are_no_thousand_levels() -> None:
    for text in (
        "{ " + " || ".join(f"trace:id = `{i}`" for i in range(1000)) + " }",
        " || ".join(["{ .a = 1 }"] * 1000),
        "{ 1" + " + 1" * 1000 + " = 1001 }",
        "{ 1" + " ^ 1" * 1000 + " = 1 }",
    ):
        assert depth(parse(text)) < 20


LARGE = 131072

BOMBS = {
    "parentheses": "(" * LARGE,
    "parentheses in a filter": "{" + "(" * LARGE,
    "closed parentheses": "{" + "(" * 60000 + "true" + ")" * 60000 + "}",
    "nots": "{" + "!" * LARGE,
    "minus signs": "{" + "-" * LARGE,
    "minus signs of scalars": "-" * LARGE,
    "alternating": "{ .a" + " && .a || .a" * 9000 + " }",
    "sums": "{ .a" + " + 1" * 20000 + " = 1 }",
    "powers": "{ .a" + "^ .a" * 20000 + " = 1 }",
    "sums of scalars": "{} | count()" + " + 1" * 20000 + " > 1",
    "structure": "{}" + ">{}" * 40000,
    "digits": "{ 1" + "0" * LARGE + " = 1 }",
    "open name": '{ ."' + '\\"' * (LARGE // 2),
    "open string": '{ name = "' + "a" * LARGE,
}


@pytest.mark.parametrize("name", BOMBS)
def test_no_query_exhausts_the_stack(name: str) -> None:
    with pytest.raises(TraceQLError) as caught:
        parse(BOMBS[name])
    assert len(str(caught.value)) < 3000
    extract_tag_filter(BOMBS[name])


def test_depth_is_bounded_just_there() -> None:
    most = DEPTH_MAX - 3  # the query, its filter, and the attribute
    assert depth(parse("{" + "!" * most + ".a}")) == DEPTH_MAX
    for text in ("{" + "!" * (most + 1) + ".a}", "{" + "(" * DEPTH_MAX + ".a" + ")" * DEPTH_MAX + "}"):
        with pytest.raises(TraceQLError, match="nested more than 100 levels deep"):
            parse(text)
