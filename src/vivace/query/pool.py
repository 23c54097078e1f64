"""Where queries run: a few threads, so that the event loop stays free and memory is that of a few queries."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from vivace.errors import LimitError

P = ParamSpec("P")
R = TypeVar("R")

WORKERS_MAX = 4
"""Queries at once: on two cores more would only share them, and each holds its rows in memory."""


class QueryPool:
    """Runs plain functions for coroutines. `waiting_max`: queries that may wait for a thread, the rest is refused."""

    def __init__(self, waiting_max: int, workers: int = WORKERS_MAX) -> None:
        workers = max(1, min(workers, WORKERS_MAX))
        self._open_max = waiting_max + workers
        self._open = 0
        self._executor = ThreadPoolExecutor(workers, "vivace-query")

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """The function's result. Raises LimitError when too many queries wait, else what it raises."""
        if self._open >= self._open_max:
            raise LimitError(
                f"{self._open} queries run or wait, {self._open_max} are allowed; try again",
                limit="query_frontend.max_outstanding_per_tenant",
                allowed=self._open_max,
                seen=self._open,
                retry_after_seconds=1.0,
            )
        self._open += 1
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._executor, lambda: function(*args, **kwargs))
        future.add_done_callback(self._closed)
        return await future

    def _closed(self, _: object) -> None:
        self._open -= 1

    def close(self) -> None:
        """Let running queries end, drop those that wait."""
        self._executor.shutdown(wait=True, cancel_futures=True)
