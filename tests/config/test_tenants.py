"""Entries of tenants replace the defaults as a whole."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from vivace.config.load import load
from vivace.config.overrides import Limits
from vivace.config.tenants import parse_tenants
from vivace.errors import ConfigError

FILE = """
overrides:
  scoped:
    ingestion: {rate_limit_bytes: 5, tenant_shard_size: 3}
    compaction: {block_retention: 2w}
  flat:
    ingestion_burst_size_bytes: 7
  empty:
  "*":
    read: {left_pad_trace_ids: true}
"""


def test_an_entry_replaces_the_defaults_as_a_whole() -> None:
    tenants = parse_tenants(FILE)
    scoped = tenants.limits("scoped", Limits())
    assert scoped.ingestion.rate_limit_bytes == 5
    assert scoped.ingestion.burst_size_bytes == 0
    assert scoped.global_.max_bytes_per_trace == 0
    assert scoped.compaction.block_retention == timedelta(days=14)
    assert scoped.metrics_generator.native_histogram_max_bucket_number == 100
    assert scoped.metrics_generator.native_histogram_min_reset_duration == timedelta(minutes=15)
    assert tenants.limits("flat", Limits()).ingestion.burst_size_bytes == 7
    assert tenants.limits("empty", Limits()).ingestion.rate_limit_bytes == 0
    assert tenants.limits("other", Limits()).read.left_pad_trace_ids
    assert [notice.partition(":")[0] for notice in tenants.notices] == [
        "overrides.scoped.ingestion.tenant_shard_size",
        "overrides.flat.ingestion_burst_size_bytes",
    ]


@pytest.mark.parametrize("text", ["", "overrides:", "overrides: {}", "overrides: {a: {}}"])
def test_tenants_without_an_entry_have_the_defaults(text: str) -> None:
    assert parse_tenants(text).limits("b", Limits()) == Limits()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "overrides: {a: {ingestion: {rate_limt_bytes: 1}}}",
            "unknown key overrides.a.ingestion.rate_limt_bytes at t:1:29",
        ),
        (
            "overrides: {a: {ingestion: {rate_limit_bytes: x}}}",
            "overrides.a.ingestion.rate_limit_bytes at t:1:47: found 'x'",
        ),
        ("tenants: {}", "unknown key tenants at t:1:1; expected overrides, then tenants"),
        ("overrides: [a]", "overrides at t:1:12: expected a map of tenants"),
        ("- a", "the file at t:1:1: expected overrides, then tenants"),
    ],
)
def test_a_wrong_file_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_tenants(text, "t")
    assert message in str(error.value)


def test_the_file_is_checked_with_the_settings(tmp_path: Path) -> None:
    file = tmp_path / "tenants.yaml"
    argv = ["-config.verify=true", f"-config.per-user-override-config={file}"]
    with pytest.raises(ConfigError, match=r"cannot read .*tenants\.yaml: No such file"):
        load(argv, {})
    file.write_text(FILE)
    assert len(load(argv, {}).settings.notices) == 2
