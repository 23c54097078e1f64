"""Plans as people read them: golden/plans.txt has the lines of each; and which blocks a search skips, and why.

python tests/query/test_plans.py      writes golden/plans.txt anew; look at the diff
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import builders as b
import pytest
from builders import NOON, SECOND
from engine import Engine, cut, engine

from vivace.query.plan import plan
from vivace.traceql import check, parse

GOLDEN = Path(__file__).parent / "golden" / "plans.txt"

QUERIES = (
    "{ }",
    "{ name = `GET /` }",
    "{ span.http.status_code >= 500 && resource.service.name = `web` && status = error }",
    "{ event:name = `exception` && span.db.system = `pg` && duration > 1s && kind = server }",
    "{ span.a = 1 || span.b = 2 }",
    "{ (span.a = 1 && .b) || (span.a = 2 && event.c != nil) }",
    "{ !(span.a = 1) && span.b = nil && span.c != nil }",
    "{ span.a + link.b > resource.c * 2 }",
    "{ (span.a = 1) != true }",
    "{ .a = 1 } >> { .b = 2 }",
    "{ .a = 1 } !>> { .b = 2 }",
    "{ } | by(span.team) | avg(duration) > 1s | select(resource.k8s.pod.name, name)",
    "count() > 2",
    "{ nestedSetParent < 0 && trace:id = `abc` } | rate() by (rootName, instrumentation:name) | topk(3)",
)


def lines() -> str:
    return "\n\n".join("\n".join(plan(check(parse(query))).lines()) for query in QUERIES) + "\n"


def test_golden() -> None:
    assert lines() == GOLDEN.read_text()


# query, the blocks (of four: a, b, both and none of the attributes) that may hold an answer
SKIPPED = [
    ("{ }", "a b ab -"),
    ("{ span.a = 1 }", "a ab"),
    ("{ span.a != 1 }", "a ab"),
    ("{ .a }", "a ab"),
    ("{ resource.a = 1 }", ""),
    ("{ resource.service.name != `a` }", "a b ab -"),
    ("{ span.a = 1 && .service.name = `` }", "a ab"),
    ("{ span.service.name = `` }", ""),
    ("{ span.a = 1 && span.b = 1 }", "ab"),
    ("{ span.a = 1 || span.b = 1 }", "a b ab"),
    ("{ span.a = nil }", "a b ab -"),
    ("{ span.a != nil }", "a ab"),
    ("{ !(span.a = 1) }", "a b ab -"),
    ("{ !span.a && span.b = 1 }", "b ab"),
    ("{ (span.a = 1) != (span.b = 1) }", "a b ab -"),
    ("{ (span.a = 1) = (span.b + 1 = 1) }", "a b ab -"),
    ("{ span.a + span.b > 0 }", "ab"),
    ("{ -span.a < 0 }", "a ab"),
    ("{ false }", ""),
    ("{ duration > 0 }", "a b ab -"),
    ("{ span.a = 1 } && { span.b = 1 }", "ab"),
    ("{ span.a = 1 } || { span.b = 1 }", "a b ab"),
    ("{ span.a = 1 } >> { span.b = 1 }", "ab"),
    ("{ span.a = 1 } !>> { span.b = 1 }", "b ab"),
    ("{ span.a = 1 } &>> { span.b = 1 }", "ab"),
    ("({ span.a = 1 } | count() > 1) && ({ span.b = 1 })", "ab"),
    ("{ } | { span.a = 1 }", "a b ab -"),
    ("by(span.a)", "a b ab -"),
]


@pytest.mark.parametrize(("query", "blocks"), SKIPPED, ids=[query for query, _ in SKIPPED])
def test_blocks_that_lack_a_key_are_skipped(tmp_path: Path, query: str, blocks: str) -> None:
    made = {
        name: b.write_block(tmp_path, b.batch(b.request(b.span(attributes=dict.fromkeys(name.strip("-"), 1)))), name)
        for name in ("a", "b", "ab", "-")
    }
    planned = plan(check(parse(query)))
    assert " ".join(name for name, block in made.items() if planned.may_match(block)) == blocks


@pytest.fixture(scope="module")
def three_blocks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """One block a minute; the second alone has the attribute `rare`."""
    with engine(tmp_path_factory.mktemp("blocks")) as made:
        for number in range(3):
            attributes = {"rare": 1} if number == 1 else {}
            spans = (
                b.span(number + 1, i + 1, start=NOON + 60 * number * SECOND, attributes=attributes) for i in range(3)
            )
            made.house.send(b.request(*spans))
            cut(made.house)
        yield made


def explained(answer_lines: str) -> list[str]:
    """What is said of the sources; bytes and times replaced."""
    told = answer_lines.splitlines()
    first = next(i for i, line in enumerate(told) if line.startswith("visited"))
    return [re.sub(r"\d+ bytes, [\d.]+ ms", "… bytes, … ms", line) for line in told[first:]]


def test_explained_skip_by_key(three_blocks: Engine) -> None:
    answer = three_blocks.search("{ span.rare = 1 }", explain=True)
    assert answer.explain.startswith("query   { span.rare = 1 }\n")
    assert explained(answer.explain) == [
        "visited 3 of 3 sources, 3 spans",
        "block 0003 row group 0: skipped, no row has the attributes",
        "block 0002 row group 0: 3 spans, 1 traces, … bytes, … ms",
        "block 0001 row group 0: skipped, no row has the attributes",
    ]
    assert (answer.cost.inspected_traces, answer.cost.inspected_spans) == (1, 3)


def test_explained_skip_by_time(three_blocks: Engine) -> None:
    noon = NOON // SECOND
    answer = three_blocks.search("{ }", start_seconds=noon + 30, end_seconds=noon + 90, explain=True)
    assert explained(answer.explain) == [
        "visited 3 of 3 sources, 3 spans",
        "block 0003 row group 0: skipped, it begins later",
        "block 0002 row group 0: 3 spans, 1 traces, … bytes, … ms",
        "block 0001 row group 0: skipped, it ends earlier",
    ]


def test_explained_end_by_limit(three_blocks: Engine) -> None:
    """The newest block has enough: the others are not visited."""
    answer = three_blocks.search("{ }", limit=1, explain=True)
    assert explained(answer.explain) == [
        "visited 1 of 3 sources, 3 spans",
        "block 0003 row group 0: 3 spans, 1 traces, … bytes, … ms",
    ]
    assert (answer.cost.completed_jobs, answer.cost.total_jobs, answer.cost.total_blocks) == (1, 3, 3)


def test_explained_without_a_query(three_blocks: Engine) -> None:
    assert three_blocks.search(None, limit=1, explain=True).explain.startswith("query   all traces\nvisited 1 of 3")


def test_nothing_is_explained_unasked(three_blocks: Engine) -> None:
    assert three_blocks.search("{ }").explain == ""


if __name__ == "__main__":
    GOLDEN.write_text(lines())
