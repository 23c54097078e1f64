"""Stage goldens: golden/NAME.traceql is a query, golden/NAME.ast its tree, or why it is refused, and its canonical text.

python tests/traceql/test_golden.py      writes every .ast anew; look at the diff
"""

from __future__ import annotations

from pathlib import Path

import pytest

from vivace.errors import TraceQLError
from vivace.traceql import canonical, check, outline, parse

GOLDEN = Path(__file__).parent / "golden"
QUERIES = sorted(GOLDEN.glob("*.traceql"))


def stage(text: str) -> str:
    try:
        query = check(parse(text))
    except TraceQLError as error:
        return "\n".join([str(error), *error.__notes__]) + "\n"
    return f"{outline(query)}\n\n{canonical(query)}\n"


@pytest.mark.parametrize("path", QUERIES, ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    assert stage(path.read_text()) == path.with_suffix(".ast").read_text()


def test_no_golden_without_a_query() -> None:
    assert {p.stem for p in GOLDEN.glob("*.ast")} == {p.stem for p in QUERIES}


if __name__ == "__main__":
    for query in QUERIES:
        query.with_suffix(".ast").write_text(stage(query.read_text()))
