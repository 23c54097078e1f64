"""Random spans, split at random into requests, cuts and blocks, merged or not: what comes out is what went in."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import builders as b
from builders import house
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vivace.query.lookup import TraceLookup
from vivace.query.pool import QueryPool
from vivace.storage.block_reader import Block
from vivace.storage.compaction import compact

TRACES = 4

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)
PAIRS = st.lists(st.tuples(st.sampled_from(["", "a", "b", "a:int", "c.d", "ü"]), VALUES), max_size=4)
SPANS = st.builds(
    b.span,
    st.integers(1, TRACES),
    st.integers(1, 12),
    st.integers(0, 12),
    start=st.integers(b.NOON, b.NOON + 5) | st.integers(0, 2**63),
    duration=st.integers(0, 2**62),
    attributes=PAIRS,
    events=st.lists(st.builds(b.event, st.text(max_size=3), st.integers(0, 2**64 - 1), PAIRS), max_size=2),
    links=st.lists(st.builds(b.link, st.binary(max_size=20), st.binary(max_size=9), PAIRS), max_size=2),
    status=st.tuples(st.integers(0, 3), st.text(max_size=3)),
    name=st.sampled_from(["", "x", "y"]),
    kind=st.sampled_from([0, 1, 4, 5]),  # no client and server: answers tell those apart that share an id
    flags=st.integers(0, 2**32 - 1),
    trace_state=st.text(max_size=3),
)
REQUESTS = st.builds(
    lambda spans, resource, scope, url: b.request(*spans, resource=resource, scope=scope, scope_url=url),
    st.lists(SPANS, min_size=1, max_size=4),
    PAIRS,
    st.sampled_from(["", "lib"]),
    st.sampled_from(["", "https://s"]),
)
STEPS = st.lists(st.tuples(REQUESTS, st.sampled_from(["", "cut", "merge", "restart"])), min_size=1, max_size=6)


@settings(derandomize=True, deadline=None, max_examples=12, suppress_health_check=list(HealthCheck))
@given(STEPS)
def test_out_is_what_went_in(steps: list[tuple[Any, str]]) -> None:
    with tempfile.TemporaryDirectory() as directory, house(Path(directory)) as made:
        for request, then in steps:
            made.send(request)
            if then == "restart":
                made.restart()
            elif then:
                made.store.cut(b.TENANT, everything=True)
            if then == "merge":
                merge_all(made)
        check(made, [r for r, _ in steps])
        everything = sorted(set(b.contents(*(r for r, _ in steps))))
        made.store.cut(b.TENANT, everything=True)
        merge_all(made)
        assert made.contents() == everything, "merged into one, each span is there once"


def merge_all(made: Any) -> None:
    with made.catalog.pinned(b.TENANT) as blocks:
        done = compact(
            blocks, directory=blocks[0].directory.parent, block_id=made.new_id(), memory_bytes=1 << 20, now_unix_nano=0
        )
        made.catalog.add(done.directory, done.meta, replaces=blocks)
        assert Block(done.directory, done.meta).meta.level == max(x.meta.level for x in blocks) + 1


def check(made: Any, requests: list[Any]) -> None:
    """Every trace by id, against what was sent; copies are sent and answered once."""
    expected = set(b.contents(*requests))
    assert set(made.contents()) == expected
    lookup = TraceLookup(made.store, QueryPool(1), lambda tenant: 0)
    answers = [lookup.find(b.TENANT, b.trace_id(t), None, None, "all") for t in range(1, TRACES + 1)]
    assert b.contents(*(a.otlp for a in answers if a)) == sorted(expected)
