"""What holds a running query in check: its client may go, its time may end, memory is shared.

A query asks between sources; what it does with one source is not interrupted (some milliseconds).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class QueryStoppedError(Exception):
    """Nobody waits for the answer any more. Never reaches a client."""


class QueryMemory:
    """Memory of all running queries together, as they estimate it. Thread-safe.

    bytes_max       for all;  bytes_per_query_max: for one source of one query
    """

    def __init__(self, bytes_max: int, bytes_per_query_max: int) -> None:
        self.bytes_max = bytes_max
        self.bytes_per_query_max = min(bytes_per_query_max, bytes_max)
        self.waits = 0
        self.refusals = 0
        self._used = 0
        self._freed = threading.Condition()

    @property
    def used(self) -> int:
        return self._used

    @contextmanager
    def reserved(self, byte_count: int, control: QueryControl) -> Iterator[bool]:
        """Hold memory while the context is open; False, holding nothing, when one query may not have so much.

        Waits for other queries as long as the query may run. Raises QueryStoppedError when it is stopped meanwhile.
        """
        if byte_count > self.bytes_per_query_max:
            self.refusals += 1
            yield False
            return
        with self._freed:
            self.waits += self._used + byte_count > self.bytes_max
            while self._used + byte_count > self.bytes_max:
                self._freed.wait(0.05)
                if control.is_over():
                    break  # late, and over the budget by one source: better than no answer
            self._used += byte_count
        try:
            yield True
        finally:
            with self._freed:
                self._used -= byte_count
                self._freed.notify_all()


class QueryControl:
    """One running query. `clock` gives seconds; 0 seconds_max is no limit."""

    def __init__(self, memory: QueryMemory, clock: Callable[[], float], seconds_max: float) -> None:
        self.memory = memory
        self.clock = clock
        self._deadline = clock() + seconds_max if seconds_max else None
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Nobody waits any more; from any thread."""
        self._stopped.set()

    def is_over(self) -> bool:
        """Whether the time is up. Raises QueryStoppedError when it was stopped."""
        if self._stopped.is_set():
            raise QueryStoppedError
        return self._deadline is not None and self.clock() >= self._deadline
