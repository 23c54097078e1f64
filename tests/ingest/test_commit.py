"""Group commit on a real store: which requests share a group. What becomes of them: test_admission.py, tests/faults."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from builders import NOON, TENANT, House, house, request, span

from vivace.config.overrides import IngestionLimits
from vivace.ingest import commit
from vivace.ingest.admission import Admission
from vivace.ingest.commit import GroupCommit
from vivace.observers import CommitObserver
from vivace.telemetry import Telemetry

FOREVER = 3600.0


class GroupSizes(CommitObserver):
    def __init__(self) -> None:
        super().__init__(Telemetry(version=""))
        self.seen: list[int] = []

    def group(self, requests: int) -> None:
        self.seen.append(requests)


async def committing(made: House, sizes: GroupSizes) -> GroupCommit:
    made.store.replay_done()
    started = GroupCommit(
        made.store,
        made.store.writer,
        Admission(lambda tenant: IngestionLimits(), made.clock),
        attribute_bytes_max=lambda tenant: 0,
        observer=sizes,
    )
    started.start()
    return started


def sent(group: GroupCommit, traces: range) -> list[asyncio.Task[object]]:
    """One request a trace, all at once."""
    bodies = [request(span(trace, 1, start=NOON)).SerializeToString() for trace in traces]
    return [asyncio.create_task(group.submit(TENANT, body)) for body in bodies]


async def turns() -> None:
    """Long enough for everything that needs no clock."""
    for _ in range(20):
        await asyncio.sleep(0)


async def as_many_as_lately(group: GroupCommit) -> list[int]:
    await asyncio.gather(*sent(group, range(1, 5)))
    early = sent(group, range(5, 8))
    await turns()
    await asyncio.gather(*early, *sent(group, range(8, 9)))
    return [4, 4]


async def a_stop_does_not_wait(group: GroupCommit) -> list[int]:
    await asyncio.gather(*sent(group, range(1, 5)))
    early = sent(group, range(5, 7))
    await turns()
    await group.stop()
    await asyncio.gather(*early)
    return [4, 2]


async def bytes_enough_do_not_wait(group: GroupCommit) -> list[int]:
    await asyncio.gather(*sent(group, range(1, 5)))
    long = request(span(9, 1, start=NOON, attributes={"text": "x" * commit.GATHER_BYTES}))
    await group.submit(TENANT, long.SerializeToString())
    return [4, 1]


async def a_lone_sender_does_not_wait(group: GroupCommit) -> list[int]:
    for trace in range(1, 4):
        await asyncio.gather(*sent(group, range(trace, trace + 1)))
    return [1, 1, 1]


CASES = [as_many_as_lately, a_stop_does_not_wait, bytes_enough_do_not_wait, a_lone_sender_does_not_wait]


@pytest.mark.parametrize("case", CASES)
def test_groups(
    case: Callable[[GroupCommit], Awaitable[list[int]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "GATHER_SECONDS", FOREVER)
    sizes = GroupSizes()

    async def run() -> None:
        with house(tmp_path / "house") as made:
            group = await committing(made, sizes)
            expected = await asyncio.wait_for(case(group), 20)
            await group.stop()
            assert sizes.seen == expected
            assert len(made.contents()) == sum(expected)

    asyncio.run(run())


def test_a_sender_that_is_left_alone_waits_a_moment_and_then_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = GroupSizes()

    async def run() -> None:
        with house(tmp_path / "house") as made:
            group = await committing(made, sizes)
            await asyncio.gather(*sent(group, range(1, 9)))
            for trace in range(9, 15):  # 8, 6, 4, 3, 2, 1 are waited for
                await asyncio.wait_for(asyncio.gather(*sent(group, range(trace, trace + 1))), 20)
            monkeypatch.setattr(commit, "GATHER_SECONDS", FOREVER)
            await asyncio.wait_for(asyncio.gather(*sent(group, range(15, 16))), 20)
            await group.stop()
            assert sizes.seen == [8, *[1] * 7]

    asyncio.run(run())
