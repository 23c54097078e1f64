"""The per-tenant file while it changes: usable states hold, others leave what was, and each is told once."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from vivace.config.live import LiveLimits
from vivace.config.overrides import Limits
from vivace.errors import ConfigError

RATE_1 = "overrides: {a: {ingestion: {rate_limit_bytes: 1}}}"
RATE_2 = "overrides: {a: {ingestion: {rate_limit_bytes: 2, tenant_shard_size: 3}}}"
WRONG = "overrides: {a: {ingestion: {rate_limt_bytes: 3}}}"
GONE = None
DEFAULT = Limits().ingestion.rate_limit_bytes

STEPS: list[tuple[str | None, int, list[bool], list[str]]] = [  # file, rate of tenant a, reports so far, log lines
    (RATE_1, 1, [True], []),
    (RATE_2, 2, [True, True], ["overrides.a.ingestion.tenant_shard_size", "read new limits"]),
    (RATE_2, 2, [True, True], []),
    (WRONG, 2, [True, True, False], ["stay as they were: unknown key overrides.a.ingestion.rate_limt_bytes"]),
    (WRONG, 2, [True, True, False], []),
    (GONE, 2, [True, True, False, False], ["stay as they were: cannot read"]),
    (GONE, 2, [True, True, False, False], []),
    (RATE_2, 2, [True, True, False, False, True], ["overrides.a.ingestion.tenant_shard_size", "read new limits"]),
    ("", DEFAULT, [True, True, False, False, True, True], ["read new limits"]),
]


def test_reloading(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    file = tmp_path / "tenants.yaml"
    file.write_text(RATE_1)
    reports: list[bool] = []
    limits = LiveLimits(Limits(), file, reports.append)
    for text, rate, reported, lines in STEPS:
        file.unlink(missing_ok=True)
        if text is not None:
            file.write_text(text)
        caplog.clear()
        limits.reload()
        assert limits.of("a").ingestion.rate_limit_bytes == rate
        assert limits.of("b") == Limits()
        assert reports == reported
        assert len(caplog.messages) == len(lines)
        for message, words in zip(caplog.messages, lines, strict=True):
            assert words in message


def test_a_start_needs_a_usable_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        LiveLimits(Limits(), tmp_path / "none.yaml")


def test_without_a_file_the_defaults_hold() -> None:
    limits = LiveLimits(Limits(), None)
    limits.reload()
    assert limits.of("a") == Limits()
    assert limits.tenants is None
