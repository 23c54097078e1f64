"""Block order: by the start of the trace, its id, the start of the span, its id, and the order of arrival."""

from __future__ import annotations

import random

import builders as b
import pytest

from vivace.model.arrange import arrange

FAR = 2**63


@pytest.mark.parametrize("starts", [(5,), (5, 6, 7), (5, 6, FAR), (0, FAR, 2**64 - 10**9)], ids=str)
@pytest.mark.parametrize("seed", range(5))
def test_order(starts: tuple[int, ...], seed: int) -> None:
    """Roots only, so that nested sets say nothing of the order; few distinct times and ids, so that many are equal."""
    chance = random.Random(seed)
    spans = [
        b.span(
            chance.choice([1, 2, 3 << 64 | 1]), chance.randint(1, 4), start=chance.choice(starts), name=str(number)
        )
        for number in range(60)
    ]  # fmt: skip
    batch = b.batch(b.request(*spans))
    begins = {s.trace_id: min(t.start_time_unix_nano for t in spans if t.trace_id == s.trace_id) for s in spans}
    expected = sorted(spans, key=lambda s: (begins[s.trace_id], s.trace_id, s.start_time_unix_nano, s.span_id))
    arranged = arrange(batch).batch
    names = [arranged.dictionary.strings.get(int(code)).decode() for code in arranged.name]
    assert names == [s.name for s in expected]
