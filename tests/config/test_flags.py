"""The command line: what each form gives, what wins, what is refused."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from vivace.config.flags import COMMAND_LINE, FLAG_KEYS
from vivace.config.known import KnownKeys
from vivace.config.load import load
from vivace.config.settings import Settings
from vivace.errors import ConfigError


@pytest.mark.parametrize(
    ("argv", "action"),
    [
        ([], "run"),
        (["-config.verify=true"], "verify"),
        (["--config.verify", "true"], "verify"),
        (["-config.verify=false"], "run"),
        (["-version"], "version"),
        (["--version=true"], "version"),
        (["-help"], "help"),
        (["-h"], "help"),
        (["-version", "-config.file=/no/such"], "version"),
    ],
)
def test_actions(argv: list[str], action: str) -> None:
    assert load(argv, {}).action == action


def test_flags_override_the_file(tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    file.write_text("server: {http_listen_port: 1, grpc_listen_port: 2}")
    argv = [
        "--config.file",
        str(file),
        "-server.http-listen-port=7",
        "-target=all",
        "-compactor.disabled",
        "-compactor.compaction.compaction.block-retention=2h",
        "-storage.trace.local.path",
        "/x",
        "-distributor.ingestion-rate-limit-bytes=10MB",
        "-ingester.max-bytes-per-trace=9",
        "-metrics-generator.native-histogram-bucket-factor=1.5",
        "-log.level=debug",
        "-shutdown-delay=3s",
        "-config.per-user-override-period=1d",
    ]
    settings = load(argv, {}).settings
    assert (settings.server.http_listen_port, settings.server.grpc_listen_port) == (7, 2)
    assert settings.compactor.disabled
    assert settings.compactor.compaction.block_retention == timedelta(hours=2)
    assert settings.storage.trace.local.path == Path("/x")
    assert settings.overrides.defaults.ingestion.rate_limit_bytes == 10_000_000
    assert settings.overrides.defaults.global_.max_bytes_per_trace == 9
    assert settings.overrides.defaults.metrics_generator.native_histogram_bucket_factor == 1.5
    assert settings.server.log_level == "debug"
    assert settings.shutdown_delay == timedelta(seconds=3)
    assert settings.overrides.per_tenant_override_period == timedelta(days=1)
    assert settings.notices == ()


@pytest.mark.parametrize(
    ("argv", "notice"),
    [
        (["-mem-ballast-size-mbs=64"], "-mem-ballast-size-mbs: accepted, has no effect (Python needs no ballast)"),
        (["-memberlist.bind-port", "1"], "-memberlist.bind-port: accepted, has no effect (Vivace runs as one process)"),
        (["-storage.trace.s3.bucket=b"], "-storage.trace.s3.bucket: accepted, has no effect (not yet: only the local"),
        (
            ["-storage.trace.blocklist_poll=1m"],
            "-storage.trace.blocklist_poll: accepted, has no effect (new blocks are",
        ),
        (
            ["-ingester.max-block-bytes=5"],
            "-ingester.max-block-bytes: accepted, has no effect (a block holds what fits",
        ),
        (["-reporting.enabled"], "-reporting.enabled: accepted, has no effect (Vivace sends no usage reports)"),
    ],
)
def test_flags_without_effect_give_a_notice(argv: list[str], notice: str) -> None:
    (line,) = load(argv, {}).settings.notices
    assert line.startswith(notice)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["-config.verify"], "flag needs an argument: -config.verify"),
        (["-config.expand-env"], "flag needs an argument: -config.expand-env"),
        (["-config.file"], "flag needs an argument: -config.file"),
        (["-config.verify=perhaps"], "-config.verify: found 'perhaps', expected true or false"),
        (["-config.fil=x"], "flag provided but not defined: -config.fil; did you mean -config.file?"),
        (["-qqqqqqqq"], "flag provided but not defined: -qqqqqqqq; -help lists the flags"),
        (["tempo.yaml"], "unexpected argument 'tempo.yaml'"),
        (["-multitenancy.enabled", "false"], "unexpected argument 'false'"),
        (["---target=all"], "bad flag syntax: ---target=all"),
        (["-server.http-listen-port=x"], "-server.http-listen-port: found 'x', expected a whole number"),
        (["-multitenancy.enabled=x"], "-multitenancy.enabled: found 'x', expected true or false"),
        (["-target=querier"], "-target: found 'querier', not yet: Vivace runs as one process; use target: all"),
    ],
)
def test_a_command_line_that_does_not_fit(argv: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(argv, {})
    assert str(error.value).startswith(message)
    assert error.value.place == COMMAND_LINE


def test_every_flag_stands_for_a_known_key() -> None:
    known = KnownKeys.of(Settings)
    for flag, key in FLAG_KEYS.items():
        path = tuple(key.split("."))
        assert known.is_used(path) != (known.reason(path) is not None), flag
