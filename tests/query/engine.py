"""The query engine over a store in a directory, asked on this thread; its answers and the oracle's in one form to be compared.

A `Place` is spans laid out in a certain way: PLACES names the ways. What is asked of one is to be asked of all.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import builders as b
import oracle
import oracle_metrics
import pytest
from builders import SECOND, TENANT

from vivace.model.proto import otlp_pb2
from vivace.query.answers import MetricsAnswer, MetricsRequest, SearchAnswer, SearchRequest
from vivace.query.control import QueryControl, QueryMemory
from vivace.query.metrics import Metrics
from vivace.query.search import Search
from vivace.query.sources import SourceRoom
from vivace.storage import layout
from vivace.storage.column_cache import ColumnCache
from vivace.storage.compaction import compact
from vivace.traceql import CheckedQuery, check, parse

Request = otlp_pb2.ExportTraceServiceRequest

ALL = 10_000
"""A limit that no answer here reaches."""

MEBIBYTE = 1 << 20


class Engine:
    """Search and metrics of one store. `seconds_max` of wall time and the memory are those of a real one, unless a test says less."""

    def __init__(self, house: b.House) -> None:
        self.house = house
        self.memory = QueryMemory(64 * MEBIBYTE, 32 * MEBIBYTE)
        self.clock: Callable[[], float] = time.monotonic
        self.seconds_max = 0.0
        room, results = SourceRoom(house.store, ColumnCache(16 * MEBIBYTE)), ColumnCache(8 * MEBIBYTE)
        self._search = Search(house.store, room, results)
        self._metrics = Metrics(house.store, room, results)

    def control(self) -> QueryControl:
        return QueryControl(self.memory, self.clock, self.seconds_max)

    def search(
        self, query: CheckedQuery | str | None, *, control: QueryControl | None = None, **asked: Any
    ) -> SearchAnswer:
        """`asked`: fields of SearchRequest; all traces and all spans unless it says less."""
        request = SearchRequest(checked(query), **{"limit": ALL, "spans_max": 0, **asked})
        return self._search.run(TENANT, request, control or self.control())

    def metrics(self, query: CheckedQuery | str, start: int, end: int, step: int, **asked: Any) -> MetricsAnswer:
        """Times in nanoseconds. `asked`: fields of MetricsRequest."""
        found = checked(query)
        assert found is not None
        return self._metrics.run(TENANT, MetricsRequest(found, start, end, step, **asked), self.control())

    def instant(self, query: CheckedQuery | str, start: int, end: int, **asked: Any) -> MetricsAnswer:
        return self.metrics(query, start, end, end - start, instant=True, **asked)


def checked(query: CheckedQuery | str | None) -> CheckedQuery | None:
    return check(parse(query)) if isinstance(query, str) else query


@contextmanager
def engine(directory: Path) -> Iterator[Engine]:
    """An engine over an empty store."""
    with b.house(directory) as house:
        yield Engine(house)


# -- ways to lay spans out --------------------------------------------------------------------------------------------

Lay = Callable[[b.House, Sequence[Request]], None]


def in_head(house: b.House, requests: Sequence[Request]) -> None:
    """Requests one by one, so that traces lie in several parts of the head."""
    for request in requests:
        house.send(request)


def in_one_block(house: b.House, requests: Sequence[Request]) -> None:
    house.send(*requests)
    cut(house)


def in_blocks_and_head(house: b.House, requests: Sequence[Request]) -> None:
    """A cut after each third of the requests, the last third in the head; copies of the first third come again with it."""
    third = -(-len(requests) // 3)
    house.send(*requests[:third])
    cut(house)
    if requests[third : 2 * third]:
        house.send(*requests[third : 2 * third])
        cut(house)
    house.send(*requests[2 * third :], *requests[: third // 2])


def merged(house: b.House, requests: Sequence[Request]) -> None:
    """The same, cut and compacted into one block."""
    in_blocks_and_head(house, requests)
    cut(house)
    merge(house)


def cut(house: b.House) -> None:
    house.store.cut(TENANT, everything=True)


def merge(house: b.House) -> None:
    with house.catalog.pinned(TENANT) as blocks:
        done = compact(
            blocks,
            directory=blocks[0].directory.parent,
            block_id=house.new_id(),
            memory_bytes=MEBIBYTE,
            now_unix_nano=0,
        )
        house.catalog.add(done.directory, done.meta, replaces=blocks)


@dataclass(frozen=True)
class Place:
    """lay: how spans get there;  settled: whether it forgets in which order the spans of a trace arrived;
    row_group_spans: of its blocks, 0 = as always.
    """

    name: str
    lay: Lay
    settled: bool = False
    row_group_spans: int = 0


PLACES = (
    Place("head", in_head),
    Place("block", in_one_block),
    Place("blocks and head", in_blocks_and_head, settled=True),
    Place("merged", merged, settled=True),
    Place("row groups", in_one_block, row_group_spans=7),
)


@contextmanager
def laid(place: Place, directory: Path, requests: Sequence[Request]) -> Iterator[Engine]:
    """An engine over these spans, laid out so."""
    with pytest.MonkeyPatch.context() as patch, engine(directory) as made:
        if place.row_group_spans:
            patch.setattr(layout, "ROW_GROUP_SPANS", place.row_group_spans)
        place.lay(made.house, requests)
        yield made


# -- answers to compare -----------------------------------------------------------------------------------------------


def found(answer: SearchAnswer) -> list[tuple[Any, ...]]:
    """Each trace of an answer, in its order, with all that is said of it; spansets and spans in no order."""
    assert answer.message == ""
    return [
        (
            t.trace_id,
            t.root_service_name,
            t.root_name,
            t.start_unix_nano,
            t.duration_nano,
            {name: (s.span_count, s.error_count) for name, s in (t.services or {}).items()},
            Counter(
                spanset_text(
                    [(s.span_id, s.name, s.start_unix_nano, s.duration_nano, s.attributes) for s in spanset.spans],
                    spanset.attributes,
                    spanset.matched,
                )
                for spanset in t.spansets
            ),
        )
        for t in answer.traces
    ]


def expected(
    query: CheckedQuery,
    traces: Iterable[oracle.OTrace],
    start_seconds: int | None = None,
    end_seconds: int | None = None,
) -> list[tuple[Any, ...]]:
    """The same by the oracle: newest first, then by id."""
    by_id = {t.spans[0].trace_id: t for t in traces}
    shown = oracle.Shown(query)
    told = [
        (*summary(by_id[id]), Counter(oracle_spanset_text(shown, spanset) for spanset in spansets))
        for id, spansets in oracle.search(query, by_id.values()).items()
        if overlaps(by_id[id], start_seconds, end_seconds)
    ]
    return sorted(told, key=lambda trace: (-trace[3], trace[0]))


def overlaps(trace: oracle.OTrace, start_seconds: int | None, end_seconds: int | None) -> bool:
    begins, ends = trace.spans[0].start, trace.spans[0].start + trace.duration
    if end_seconds is not None and begins > end_seconds * SECOND:
        return False
    return start_seconds is None or ends >= start_seconds * SECOND


def summary(trace: oracle.OTrace) -> tuple[Any, ...]:
    services: dict[str, tuple[int, int]] = {}
    for span in trace.spans:
        name = service(span)
        spans, errors = services.get(name, (0, 0))
        services[name] = (spans + 1, errors + (span.status == "error"))
    root = trace.root
    return (
        trace.spans[0].trace_id,
        (service(root) or None) if root else None,
        root.name if root else None,
        trace.spans[0].start,
        trace.duration,
        services,
    )


def service(span: oracle.OSpan) -> str:
    name = span.resource.get("service.name")
    return name if isinstance(name, str) else ""


def oracle_spanset_text(shown: oracle.Shown, spanset: oracle.OSpanset) -> str:
    spans = [(s.id, shown.name(s), s.start, s.duration, shown.attributes(s)) for s in spanset.spans]
    return spanset_text(spans, spanset.attributes, spanset.matched)


def spanset_text(spans: Iterable[tuple[Any, ...]], attributes: Iterable[tuple[str, Any]], matched: int) -> str:
    """Equal for equal spansets, whatever the order in them; a value's type counts."""
    texts = sorted(repr((*rest, sorted(map(pair_text, pairs)))) for *rest, pairs in spans)
    return f"{matched}: {texts} {sorted(map(pair_text, attributes))}"


def pair_text(pair: tuple[str, Any]) -> str:
    key, value = pair
    return f"{key}={plain(value)!r}"


def plain(value: Any) -> Any:
    """A value without the oracle's own types, which print like those of Python."""
    match value:
        case tuple():
            return tuple(map(plain, value))
        case dict():
            return {key: plain(v) for key, v in value.items()}
        case _:
            return value


def series(answer: MetricsAnswer) -> dict[str, dict[int, Any]]:
    """Samples by labels."""
    assert answer.message == ""
    return {
        labels_text([oracle_metrics.label(name, plain(value)) for name, value in s.labels]): dict(
            zip(s.timestamps_ms.tolist(), s.values.tolist(), strict=True)
        )
        for s in answer.series
    }


def expected_series(answer: oracle_metrics.Answer) -> dict[str, dict[int, Any]]:
    """The same by the oracle, values up to rounding."""
    return {
        labels_text(labels): {t: pytest.approx(x, rel=1e-9) for t, x in samples.items()}
        for labels, samples in answer.items()
    }


def labels_text(labels: Iterable[oracle_metrics.Label]) -> str:
    return str(sorted(map(repr, labels)))
