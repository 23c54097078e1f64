"""Every query that Grafana Tempo 2.10 was asked, where its recorded answers lie beside this repository: allowed here as there.

They are not part of the repository; without them the test is skipped.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from vivace.errors import TraceQLError
from vivace.traceql import canonical, check, extract_tag_filter, parse

CONFORMANCE = Path(__file__).parents[3] / "shared" / "conformance"
ANSWERS = CONFORMANCE / "answers.jsonl.gz"

OTHER_REASONS = (
    "invalid start",
    "invalid limit",
    "invalid request",
    "http parameter",
    "end must",
    "step of",
    "rpc error",
    "not a metrics",
)
"""How refusals begin that do not come of the query itself."""

LINE_ZERO = {"refused-038", "refused-041"}
"""Tempo counts these lines from 0."""


@pytest.mark.skipif(not ANSWERS.exists(), reason=f"no recorded answers in {CONFORMANCE}")
def test_recorded_queries() -> None:
    divergences = json.loads((CONFORMANCE / "divergences.json").read_text())
    with gzip.open(ANSWERS) as lines:
        answers = [json.loads(line) for line in lines]
    asked = [a for a in answers if a["params"].get("q")]
    assert len(asked) > 300
    wrong = []
    for answer in asked:
        q, want = answer["params"]["q"], answer["body"]
        reason = _reason(q)
        if answer["id"] in divergences or answer["id"] in LINE_ZERO or str(want).startswith(OTHER_REASONS):
            continue
        expected = "" if answer["status"] == 200 else want.split(": ", 1)[1]
        if reason != expected:
            wrong.append((answer["id"], q, expected, reason))
    assert wrong == []


def _reason(q: str) -> str:
    """Why `q` is refused, empty if it is not; what is allowed is printed and read back as well."""
    extract_tag_filter(q)
    try:
        query = check(parse(q))
    except TraceQLError as error:
        return error.reason
    assert parse(canonical(query)) == query
    assert canonical(parse(canonical(query))) == canonical(query)
    return ""
