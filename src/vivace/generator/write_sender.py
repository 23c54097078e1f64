"""Sends what waits to one endpoint, in order, until it is taken or refused for good.

Rule 1  requests go one at a time and in the order of the queue: a counter's samples never overtake each other,
        and those of an earlier process, whose counters began again, come first.
Rule 2  no answer and 5xx are repeated for ever, 429 when `retry_on_http_429` is set; waits grow from min_backoff to max_backoff,
        or are what Retry-After asks for. All else is refused, counted and told once.
Rule 3  a stop sends on while the endpoint takes what is sent, and ends at the first failure or when its time is over:
        the rest is on disk.

Backoff, clock and waiting come from outside.  One attempt: write_endpoint.py.  What waits: write_queue.py.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from typing import Final, Protocol

import cramjam

from ..config.remote_write import Queue
from ..errors import StorageError
from .relabel import Relabeller
from .write_endpoint import Answer
from .write_queue import Waiting, WriteQueue
from .write_report import WriteReport
from .write_segment import WriteRecord

_BACKOFF_SECONDS_FLOOR: Final = 0.001
"""Doubling 0 would never make it more."""


class Attempts(Protocol):
    """What a sender needs of an Endpoint. send() does not raise; `attempt` counts from 0."""

    def send(self, body: bytes, tenant: str, attempt: int) -> Answer: ...


class Sender:
    """The thread of one endpoint."""

    def __init__(
        self,
        name: str,
        queue: WriteQueue,
        endpoint: Attempts,
        report: WriteReport,
        settings: Queue,
        relabeller: Relabeller | None,
        *,
        clock: Callable[[], float],
        now: Callable[[], float],
        source: random.Random,
        log: logging.Logger,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        """`clock` is monotonic, `now` is Unix time, both in seconds; `wait` returns after so many seconds, or True on a stop."""
        self.name = name
        self._queue = queue
        self._endpoint = endpoint
        self._report = report
        self._settings = settings
        self._relabeller = relabeller
        self._clock = clock
        self._now = now
        self._random = source
        self._log = log
        self._stopping = threading.Event()  # send what waits, then end
        self._ended = threading.Event()  # end after the attempt under way
        self._wait = self._stopping.wait if wait is None else wait
        self._thread = threading.Thread(target=self.run, name=f"remote-write-{name}", daemon=True)
        self.sent_ms: int | None = None
        """When the newest request that was taken had been queued; milliseconds since 1970."""

    def start(self) -> None:
        self._thread.start()

    def ask_to_stop(self) -> None:
        """Send what waits and end; wake the queue afterwards."""
        self._stopping.set()

    def join(self, seconds: float) -> bool:
        """Wait for the end after ask_to_stop(); False when an attempt outlasts the time. Its request is sent again at the next start."""
        if self._thread.ident is not None:  # it was started
            self._thread.join(seconds)
        self._ended.set()
        return not self._thread.is_alive()

    def run(self) -> None:
        """Send until stopped."""
        while not self._ended.is_set():
            try:
                waiting = self._queue.read(self.name)
                if waiting is None:
                    if self._stopping.is_set():
                        return
                    self._queue.wait(self.name, self._stopping.is_set)
                elif not self._send(waiting):
                    return
            except StorageError as error:
                self._report.tell("queue", "%s", error)
                if self._wait(self._settings.max_backoff.total_seconds()):
                    return
            except Exception:  # our bug: without this thread nothing would be sent until the next start
                self._log.exception("remote write to %s failed, going on", self.name)
                if self._wait(self._settings.max_backoff.total_seconds()):
                    return

    def _send(self, waiting: Waiting) -> bool:
        """False when a stop came before the request was done with."""
        try:
            if not self.deliver(waiting.record):
                return False
        except Exception:  # our bug: it costs this request, and must not end the sending of all others
            self._log.exception("remote write to %s failed on a request, dropping it", self.name)
            self._report.dropped(waiting.record.tenant, waiting.record.count, "disk_error")
        self._queue.done(self.name, waiting)
        return True

    def deliver(self, record: WriteRecord) -> bool:
        """Send one request until it is done with; False when a stop came first."""
        body, count = self._prepared(record)
        attempt, backoff = 0, self._backoff_min()
        failing_since, told = self._clock(), False
        while count:
            if self._is_too_old(record):
                self._report.dropped(record.tenant, count, "too_old")
                return True
            started = self._clock()
            answer = self._endpoint.send(body, record.tenant, attempt)
            self._report.attempt(record, count, len(body), self._clock() - started)
            if answer.verdict == "taken":
                self.sent_ms = record.queued_ms
                if told:
                    self._report.recovered(attempt + 1, self._clock() - failing_since)
                return True
            if answer.verdict == "refused" or (answer.status == 429 and not self._settings.retry_on_http_429):
                self._report.refused(record, count, answer.kind, answer.reason)
                return True
            self._report.retried(record, count)
            trouble = "%s; trying again until it works, requests wait on disk"
            told = self._report.tell(answer.kind, trouble, answer.reason) or told
            if self._wait(self._pause(answer, backoff)):
                return False
            attempt += 1
            backoff = min(2 * backoff, self._settings.max_backoff.total_seconds())
        return True

    def _prepared(self, record: WriteRecord) -> tuple[bytes, int]:
        """The request as this endpoint wants it, and its series; none is left when the rules drop them all."""
        if self._relabeller is None:
            return record.body, record.count
        request, dropped = self._relabeller.request(bytes(cramjam.snappy.decompress_raw(record.body)))
        if dropped:
            self._report.dropped(record.tenant, dropped, "dropped_series")
        return bytes(cramjam.snappy.compress_raw(request)), record.count - dropped

    def _is_too_old(self, record: WriteRecord) -> bool:
        limit = self._settings.sample_age_limit.total_seconds()
        return limit > 0 and self._now() - record.queued_ms / 1000 > limit

    def _backoff_min(self) -> float:
        return max(self._settings.min_backoff.total_seconds(), _BACKOFF_SECONDS_FLOOR)

    def _pause(self, answer: Answer, backoff: float) -> float:
        """Seconds before the next attempt, spread so that many senders do not come back at once."""
        if answer.retry_after_seconds is not None:
            return answer.retry_after_seconds
        return self._random.uniform(self._backoff_min(), backoff)
