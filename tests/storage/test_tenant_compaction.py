"""Compaction by tenant: another window, or none at all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import builders as b
import pytest
from builders import House, house

from vivace.storage.compaction import CompactionSettings
from vivace.storage.maintenance import Upkeep, UpkeepObservers, UpkeepSettings
from vivace.storage.retention import Retention

USUAL = CompactionSettings(timedelta(hours=1), 1 << 26, 1 << 30, 10**9)
OWN = {"narrow": replace(USUAL, window=timedelta(seconds=1)), "left alone": None}


@pytest.fixture
def made(tmp_path: Path) -> Iterator[House]:
    with house(tmp_path) as opened:
        yield opened


def test_each_tenant_has_its_own(made: House) -> None:
    upkeep = Upkeep(
        made.store,
        UpkeepSettings(
            cut_check=timedelta(seconds=1),
            cycle=timedelta(seconds=1),
            compacts=True,
            compaction=USUAL,
            retention=lambda: Retention(timedelta(0)),
            compaction_of=lambda tenant: OWN.get(tenant, USUAL),
        ),
        UpkeepObservers(lambda *_: None, lambda: None, lambda _: None, made._count_duplicates),
        clock=made.clock,
        now_unix_nano=made.clock.now_unix_nano,
        new_id=made.new_id,
    )
    for tenant in ("usual", *OWN):
        for trace in range(2):
            start = b.NOON + trace * 10_000_000_000
            made.send(b.request(b.span(trace + 1, 1, start=start)), tenant=tenant)
            assert made.store.cut(tenant, everything=True) is not None
    upkeep.compact_all()
    assert {t: len(made.catalog.blocks(t)) for t in ("usual", *OWN)} == {"usual": 1, "narrow": 2, "left alone": 2}
