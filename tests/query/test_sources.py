"""What a query reads, source by source."""

from __future__ import annotations

from pathlib import Path

import builders as b
import pytest
from builders import TENANT

from vivace.query.sources import SourceRoom
from vivace.storage import layout
from vivace.storage.column_cache import ColumnCache

TRACES = range(1, 7)


def test_a_split_trace_is_left_out_where_it_is_and_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was found in a row group is remembered only while no trace of it is split."""
    monkeypatch.setattr(layout, "ROW_GROUP_SPANS", 4)
    with b.house(tmp_path / "house") as made:
        made.send(*(b.request(*(b.span(trace, i, start=b.NOON + trace) for i in (1, 2))) for trace in TRACES))
        made.store.cut(TENANT, everything=True)
        made.send(b.request(b.span(3, 9, start=b.NOON + 3)))
        room = SourceRoom(made.store, ColumnCache(1 << 20))
        with made.store.snapshot(TENANT) as snapshot:
            sources = room.sources(snapshot)
            left_out = {s.name.split()[-1]: s.leave.low.tolist() for s in sources}
            traces = {s.name.split()[-1]: s.trace_count for s in sources}
    split = b.batch(b.request(b.span(3, 9))).trace_id_low.tolist()
    assert left_out == {"0": [], "1": split, "2": [], "head": split, "gathered": []}
    assert traces == {"0": 2, "1": 2, "2": 2, "head": 0, "gathered": 1}
