"""Limits of queries that ask several tenants: the strictest of theirs, whatever is set for one alone."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from vivace.config.live import LiveLimits
from vivace.config.load import parse
from vivace.limits import QueryRules

SETTINGS = "query_frontend: {search: {max_duration: 10h}, metrics: {max_duration: 0s}}"
TENANTS = """
overrides:
  wide: {read: {left_pad_trace_ids: true}}
  narrow:
    global: {max_bytes_per_trace: 7}
    read:
      max_search_duration: 1h
      max_metrics_duration: 2h
      max_bytes_per_tag_values_query: 3
      max_blocks_per_tag_values_query: 4
      left_pad_trace_ids: true
  other: {global: {max_bytes_per_trace: 5}, read: {max_search_duration: 20h, max_metrics_duration: 1h}}
"""

CASES = [  # tenants, hours of a search, hours of a metrics query, bytes of a trace, bytes and blocks of tag values, padded ids
    ("wide", 10, 0, 0, 0, 0, True),
    ("narrow", 1, 2, 7, 3, 4, True),
    ("other", 20, 1, 5, 0, 0, False),
    ("narrow|wide", 1, 2, 7, 3, 4, True),
    ("other|wide", 10, 1, 5, 0, 0, False),
    ("narrow|other|wide", 1, 1, 5, 3, 4, False),
]


@pytest.mark.parametrize(("tenant", "search", "metrics", "trace", "tag_bytes", "tag_blocks", "padded"), CASES)
def test_the_strictest_limit_holds(
    tmp_path: Path, tenant: str, search: int, metrics: int, trace: int, tag_bytes: int, tag_blocks: int, padded: bool
) -> None:
    file = tmp_path / "tenants.yaml"
    file.write_text(TENANTS)
    settings = parse(SETTINGS)
    rules = QueryRules(settings, LiveLimits(settings.overrides.defaults, file))
    limits, engines = rules.limits(tenant), rules.of_engines()
    assert (limits.search_duration_max, limits.metrics_duration_max) == (
        timedelta(hours=search),
        timedelta(hours=metrics),
    )
    assert limits.left_pad_trace_ids is padded
    assert rules.max_bytes_per_trace(tenant) == trace
    assert engines.tag_values_bytes_max(tenant) == tag_bytes
    assert engines.tag_values_blocks_max(tenant) == tag_blocks
