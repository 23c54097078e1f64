"""What of an answer is sent, when earlier answers of the same query were sent in part: what is new or has changed.

The client puts the parts together: traces by their id, series by their labels, samples by their time. It has no way to take
anything back, so what a later answer may lack waits for the last one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Protocol, TypeVar

import numpy as np
from google.protobuf.message import Message

from vivace.query.answers import MetricsAnswer, SearchAnswer, Series, TraceSummary
from vivace.traceql import CheckedQuery
from vivace.traceql.ast import Compare

Answer = TypeVar("Answer")

PACKET_BYTES_MAX = 2 << 20
"""Larger messages are cut in two and sent one after the other: gRPC clients refuse 4 MiB unless they are told otherwise."""


class Parts(Protocol[Answer]):
    """The parts of one query's answers."""

    def next(self, answer: Answer, *, is_last: bool) -> Answer:
        """What is to be sent of `answer`, perhaps nothing but its cost."""
        ...


class SearchParts:
    """Traces that are new or have changed. With `most_recent` a client adds them up in the order in which they come, so
    they are sent when all are known."""

    def __init__(self, query: CheckedQuery | None) -> None:
        self._waits = query is not None and any(h.name == "most_recent" and h.value.value is True for h in query.hints)
        self._sent: dict[int, TraceSummary] = {}

    def next(self, answer: SearchAnswer, *, is_last: bool) -> SearchAnswer:
        if self._waits and not is_last:
            return replace(answer, traces=())
        fresh = tuple(trace for trace in answer.traces if self._sent.get(trace.trace_id) != trace)
        self._sent.update((trace.trace_id, trace) for trace in fresh)
        return replace(answer, traces=fresh)


class SeriesParts:
    """Samples that are new or have changed, of range and instant queries. Exemplars, which are chosen anew for each answer,
    come with the last. So does everything where series may vanish again: topk() and the like, and compare()."""

    def __init__(self, query: CheckedQuery) -> None:
        self._waits = bool(query.second_stages) or isinstance(query.metrics, Compare)
        self._sent: dict[str, Series] = {}

    def next(self, answer: MetricsAnswer, *, is_last: bool) -> MetricsAnswer:
        if self._waits and not is_last:
            return replace(answer, series=())
        shown = [series if is_last else replace(series, exemplars=()) for series in answer.series]
        return replace(answer, series=tuple(part for series in shown for part in self._unsent(series)))

    def _unsent(self, series: Series) -> Iterator[Series]:
        """The series with those of its samples that are fresh; nothing when it has neither such nor exemplars."""
        key = repr(series.labels)  # 1, 1.0 and True are equal in Python, and three labels
        before = self._sent.get(key)
        self._sent[key] = series
        if before is None or not len(before.values):
            yield series
            return
        place = np.searchsorted(before.timestamps_ms, series.timestamps_ms).clip(max=len(before.values) - 1)
        same = before.timestamps_ms[place] == series.timestamps_ms
        same &= np.equal(before.values[place], series.values) | (
            np.isnan(before.values[place]) & np.isnan(series.values)
        )
        if series.exemplars or not same.all():
            yield replace(series, timestamps_ms=series.timestamps_ms[~same], values=series.values[~same])


async def answers(
    run: Callable[[Callable[[Answer], None]], Awaitable[Answer]], interval_seconds: float
) -> AsyncGenerator[tuple[Answer, bool], None]:
    """What `run` has found so far, at most once an interval, then what it returns; the flag says which is the last.

    `run` gets a function to call with answers on the way, from any thread. Closing the generator cancels it.
    """
    loop = asyncio.get_running_loop()
    waiting: list[Answer] = []

    def keep(answer: Answer) -> None:
        waiting[:] = [answer]  # each takes the place of the one before, so a slow client makes no queue

    work = asyncio.ensure_future(run(lambda answer: _call_on(loop, keep, answer)))
    try:
        while not work.done():
            await asyncio.wait((work,), timeout=interval_seconds)
            if waiting and not work.done():
                yield waiting.pop(), False
        yield work.result(), True
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


def packets(message: Message) -> Iterator[bytes]:
    """A reply, serialised; in several pieces with a share of the items each, and all else the same, when it is large.

    Field 1 of each reply of the service holds its items. One item is never cut.
    """
    whole = message.SerializeToString()
    name = message.DESCRIPTOR.fields_by_number[1].name
    count = len(getattr(message, name))
    if len(whole) <= PACKET_BYTES_MAX or count < 2:
        yield whole
        return
    for share in (slice(count // 2, None), slice(None, count // 2)):
        half = type(message)()
        half.CopyFrom(message)
        del getattr(half, name)[share]
        yield from packets(half)


def _call_on(loop: asyncio.AbstractEventLoop, function: Callable[[Answer], None], answer: Answer) -> None:
    loop.call_soon_threadsafe(function, answer)
