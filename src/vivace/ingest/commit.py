"""Group commit: everything that waits is decoded at once, made durable with one fsync, published, acknowledged.

Rule 1  self-clocking: while one group is on its way to disk the next one gathers; a busy server gets large groups.
Rule 2  a request that cannot be decoded fails alone; a span with a bad id is rejected alone.
Rule 3  nothing is acknowledged that is not durable and visible to the next query; when the WAL refuses, all of the group
        is refused and none of it is visible.
Rule 4  what waits is bounded by bytes and by count; beyond that a request is refused at once, as retryable.

Who speaks to senders: otlp_grpc.py, otlp_http.py.  What durable means: storage/wal.py, behind SpanStore.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Protocol

from vivace.errors import DiskFullError, StorageError, UnavailableError, VivaceError
from vivace.ingest.accept import Accepted
from vivace.ingest.admission import Admission
from vivace.ingest.decode import Decoder, decoder
from vivace.ingest.outcome import Outcome
from vivace.model.batch import SpanBatch
from vivace.model.dictionary import Dictionary

GROUP_BYTES_MAX = 4 << 20
"""Bytes decoded at once: 16,000 spans, some 30 ms. More would save no fsync time worth having, and would hold memory."""

QUEUE_BYTES_MAX = 32 << 20
"""Bytes that may wait: a quarter of a second of work at full speed."""

QUEUE_REQUESTS_MAX = 10_000
"""Requests that may wait: their futures and buffers, some 10 MB."""

GATHER_SECONDS = 0.002
GATHER_BYTES = 64 << 10
"""Where several senders send small requests at once, a group waits this long for as many as came together lately, no
longer than until they are there. A lone sender never waits, nor do large requests."""

FULL_HEAD_POLL_SECONDS = 0.01


class SpanStore(Protocol):
    """What group commit needs of storage. All but is_full() are called on the writer thread."""

    def dictionary(self, tenant: str) -> Dictionary:
        """What the next batch of the tenant is decoded into."""
        ...

    def check_room(self, byte_count: int) -> None:
        """Raises DiskFullError when so many bytes would not be kept safely."""
        ...

    def append(self, records: Sequence[tuple[str, bytes]]) -> range:
        """Make requests durable; returns their sequences. Raises DiskFullError or StorageError, keeping none."""
        ...

    def publish(self, tenant: str, batch: SpanBatch, first_sequence: int) -> None:
        """Let queries see durable spans."""
        ...

    def is_full(self) -> bool:
        """Whether recent spans take all the memory they may; commits wait meanwhile."""
        ...


class Observer(Protocol):
    """What group commit reports."""

    def group(self, requests: int) -> None: ...

    def committed(self, tenant: str, byte_count: int, outcomes: Sequence[Outcome]) -> None:
        """Requests of one tenant that were kept, in one call a group: counters cost more than they seem."""
        ...

    def refused(self, tenant: str, byte_count: int, error: Exception) -> None: ...

    def queue_full(self) -> None: ...

    def seconds(self, duration: float) -> None: ...


Sink = Callable[[str, SpanBatch], None]
"""Gets each durable batch of a tenant, on the writer thread; it must not raise, wait or keep the thread busy."""


@dataclass(slots=True)
class _Waiting:
    tenant: str
    body: bytes
    future: asyncio.Future[Accepted]
    since: float


class GroupCommit:
    """Implements accept.Committer. `start()` once on the event loop, `stop()` commits what waits and then refuses."""

    def __init__(
        self,
        store: SpanStore,
        writer: Executor,
        admission: Admission,
        *,
        attribute_bytes_max: Callable[[str], int],
        observer: Observer,
        sinks: Sequence[Sink] = (),
        log: logging.Logger | None = None,
    ) -> None:
        self._store = store
        self._writer = writer
        self._admission = admission
        self._attribute_bytes_max = attribute_bytes_max
        self._observer = observer
        self._sinks = tuple(sinks)
        self._log = log or logging.getLogger(__name__)
        self._queue: deque[_Waiting] = deque()
        self._queued_bytes = 0
        self._usual_group = 1
        self._wanted = 1  # requests that wake the loop
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = "starting: the write-ahead log is being replayed"
        self._decoders: dict[str, tuple[Dictionary, int, Decoder]] = {}

    @property
    def queued(self) -> tuple[int, int]:
        """(requests, bytes) that wait."""
        return len(self._queue), self._queued_bytes

    def start(self) -> None:
        self._closed = ""
        self._task = asyncio.create_task(self._run(), name="group commit")

    async def stop(self) -> None:
        """Refuse what comes from now on, finish what waits."""
        self._closed = "stopping"
        self._wake.set()
        if self._task is not None:
            await self._task

    async def submit(self, tenant: str, body: bytes) -> Accepted:
        """See accept.Committer."""
        return await self.enqueue(tenant, body)

    def enqueue(self, tenant: str, body: bytes) -> asyncio.Future[Accepted]:
        """See accept.Committer."""
        if self._closed:
            raise UnavailableError(f"not taking spans: {self._closed}; try again")
        loop = asyncio.get_running_loop()
        try:
            self._admission.check(tenant, len(body))
            self._check_queue(len(body))
        except VivaceError as e:
            self._observer.refused(tenant, len(body), e)
            raise
        future: asyncio.Future[Accepted] = loop.create_future()
        self._queue.append(_Waiting(tenant, body, future, loop.time()))
        self._queued_bytes += len(body)
        if len(self._queue) >= self._wanted or self._queued_bytes >= GATHER_BYTES:
            self._wake.set()
        return future

    def _check_queue(self, byte_count: int) -> None:
        fits = self._queued_bytes + byte_count <= QUEUE_BYTES_MAX or not self._queue
        if not fits or len(self._queue) >= QUEUE_REQUESTS_MAX:
            self._observer.queue_full()
            raise UnavailableError(
                f"{len(self._queue)} requests of {self._queued_bytes} bytes wait to be stored already; try again"
            )

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while not (self._closed and not self._queue):
            if not self._queue:
                self._wake.clear()
                await self._wake.wait()
                continue
            while self._store.is_full() and not self._closed:
                # a cut frees memory; a cut that fails makes check_room() refuse, so this ends either way
                await asyncio.sleep(FULL_HEAD_POLL_SECONDS)
                if await loop.run_in_executor(self._writer, self._refused_for_room):
                    break
            await self._gather(loop)
            group = self._take_group()
            self._usual_group = max(len(group), self._usual_group * 3 // 4)
            results = await loop.run_in_executor(self._writer, self.commit, [(w.tenant, w.body) for w in group])
            now = loop.time()
            for waiting, result in zip(group, results, strict=True):
                self._observer.seconds(now - waiting.since)
                if waiting.future.done():
                    continue  # the sender went away; what was promised to nobody is kept all the same
                if isinstance(result, Accepted):
                    waiting.future.set_result(result)
                else:
                    waiting.future.set_exception(result)

    async def _gather(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let the next group become as large as the last ones were."""
        if len(self._queue) >= self._usual_group or self._queued_bytes >= GATHER_BYTES or self._closed:
            return
        self._wanted = self._usual_group
        self._wake.clear()
        alarm = loop.call_later(GATHER_SECONDS, self._wake.set)
        await self._wake.wait()
        alarm.cancel()
        self._wanted = 1

    def _refused_for_room(self) -> bool:
        try:
            self._store.check_room(0)
        except VivaceError:
            return True
        return False

    def _take_group(self) -> list[_Waiting]:
        group: list[_Waiting] = []
        size = 0
        while self._queue and (not group or size + len(self._queue[0].body) <= GROUP_BYTES_MAX):
            waiting = self._queue.popleft()
            size += len(waiting.body)
            group.append(waiting)
        self._queued_bytes -= size
        return group

    # -- on the writer thread ---------------------------------------------------------------------------------------

    def commit(self, requests: Sequence[tuple[str, bytes]]) -> list[Accepted | Exception]:
        """Decode, log, publish one group; one result a request, in order."""
        self._observer.group(len(requests))
        size = sum(len(body) for _, body in requests)
        try:
            self._store.check_room(size)
            decoded = {tenant: self._decode(tenant, requests) for tenant in dict.fromkeys(t for t, _ in requests)}
            outcomes = {t: iter(o) for t, (_, o) in decoded.items()}
            fates = [next(outcomes[t]) for t, _ in requests]
            kept = [r for r, fate in zip(requests, fates, strict=True) if fate.rows]
            sequences = self._store.append(kept) if kept else range(0)
            for tenant, (batch, _) in decoded.items():
                if len(batch):
                    self._store.publish(tenant, batch, sequences.start)
                    for sink in self._sinks:
                        sink(tenant, batch)
        except Exception as e:
            error = _for_senders(e)
            if not isinstance(e, DiskFullError):  # which says all there is to say, and often
                self._log.exception("a group of %d requests could not be committed", len(requests))
            for tenant, body in requests:
                self._observer.refused(tenant, len(body), error)
            return [error] * len(requests)
        return self._report(requests, fates)

    def _report(self, requests: Sequence[tuple[str, bytes]], fates: Sequence[Outcome]) -> list[Accepted | Exception]:
        """Count a group that was committed; one result a request."""
        results: list[Accepted | Exception] = []
        kept: dict[str, list[Outcome]] = {}
        sizes: dict[str, int] = {}
        for (tenant, body), fate in zip(requests, fates, strict=True):
            if fate.error is not None:
                self._observer.refused(tenant, len(body), fate.error)
                results.append(fate.error)
            else:
                kept.setdefault(tenant, []).append(fate)
                sizes[tenant] = sizes.get(tenant, 0) + len(body)
                results.append(Accepted(fate.rows, fate.rejected, fate.message()))
        for tenant, outcomes in kept.items():
            self._observer.committed(tenant, sizes[tenant], outcomes)
        return results

    def _decode(self, tenant: str, requests: Sequence[tuple[str, bytes]]) -> tuple[SpanBatch, list[Outcome]]:
        return self._decoder(tenant).decode([body for t, body in requests if t == tenant])

    def _decoder(self, tenant: str) -> Decoder:
        """The tenant's decoder; a new one when the head or the limit has changed."""
        dictionary, limit = self._store.dictionary(tenant), self._attribute_bytes_max(tenant)
        held = self._decoders.get(tenant)
        if held is None or held[0] is not dictionary or held[1] != limit:
            held = self._decoders[tenant] = (dictionary, limit, decoder(dictionary, limit))
        return held[2]


def _for_senders(error: Exception) -> Exception:
    """What a sender is told: a device or memory that fails now may work again soon. Our bugs stay what they are."""
    if isinstance(error, (StorageError, OSError, MemoryError)) and not isinstance(error, DiskFullError):
        return UnavailableError(f"cannot store spans now: {error}; try again")
    return error
