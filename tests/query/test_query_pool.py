"""The threads of queries: who waits, who is refused, and that tenants take turns."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest

from vivace.errors import LimitError
from vivace.query.pool import QueryPool

DEADLINE_SECONDS = 10


class Gate:
    """Functions that wait until they are let through, and tell in which order they ran."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self.opened = threading.Event()

    def work(self, name: str) -> str:
        self.began.append(name)
        assert self.opened.wait(DEADLINE_SECONDS)
        return name


def run(steps: Callable[[QueryPool, Gate], Awaitable[None]], *, waiting_max: int = 10, workers: int = 1) -> Gate:
    gate = Gate()

    async def main() -> None:
        pool = QueryPool(waiting_max, workers)
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                await steps(pool, gate)
        finally:
            gate.opened.set()
            await asyncio.to_thread(pool.close)

    asyncio.run(main())
    return gate


async def asked(pool: QueryPool, gate: Gate, *names: str) -> list[asyncio.Task[str]]:
    """Queries in this order; the tenant is the first letter."""
    tasks = [asyncio.create_task(pool.run(name[0], gate.work, name)) for name in names]
    await asyncio.sleep(0)
    return tasks


def test_tenants_take_turns() -> None:
    async def steps(pool: QueryPool, gate: Gate) -> None:
        tasks = await asked(pool, gate, "a1", "a2", "a3", "a4", "b1", "c1", "b2")
        gate.opened.set()
        assert await asyncio.gather(*tasks) == ["a1", "a2", "a3", "a4", "b1", "c1", "b2"]

    assert run(steps).began == ["a1", "a2", "b1", "c1", "a3", "b2", "a4"]


def test_too_many_of_one_tenant_are_refused() -> None:
    async def steps(pool: QueryPool, gate: Gate) -> None:
        tasks = await asked(pool, gate, "a1", "a2", "a3", "a4", "b1")
        with pytest.raises(LimitError, match="2 queries wait, 2 are allowed; try again") as refused:
            await tasks[3]
        assert refused.value.retry_after_seconds == 1
        tasks[1].cancel()
        await asyncio.sleep(0)
        tasks += await asked(pool, gate, "a5")
        gate.opened.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [result for result in results if isinstance(result, str)] == ["a1", "a3", "b1", "a5"]

    assert run(steps, waiting_max=2).began == ["a1", "a3", "b1", "a5"]


def test_none_may_wait() -> None:
    async def steps(pool: QueryPool, gate: Gate) -> None:
        tasks = await asked(pool, gate, "a1", "a2", "b1")
        gate.opened.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(result, str) for result in results] == [True, True, False]

    run(steps, waiting_max=0, workers=2)


def test_what_fails_frees_its_thread() -> None:
    async def steps(pool: QueryPool, gate: Gate) -> None:
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await pool.run("a", divmod, 1, 0)
        assert await pool.run("a", divmod, 7, 2) == (3, 1)

    run(steps)


def test_a_query_that_nobody_waits_for_runs_on_and_frees_its_thread() -> None:
    async def steps(pool: QueryPool, gate: Gate) -> None:
        (task,) = await asked(pool, gate, "a1")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        gate.opened.set()
        assert await pool.run("a", gate.work, "a2") == "a2"

    assert run(steps).began == ["a1", "a2"]


def test_closing_drops_what_waits() -> None:
    async def steps(pool: QueryPool, gate: Gate) -> None:
        tasks = await asked(pool, gate, "a1", "a2", "b1")
        closing = asyncio.create_task(asyncio.to_thread(pool.close))
        while not pool._closed:  # noqa: ASYNC110
            await asyncio.sleep(0)
        gate.opened.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        await closing
        assert results[0] == "a1"
        assert [type(result) for result in results[1:]] == [asyncio.CancelledError] * 2

    assert run(steps).began == ["a1"]
