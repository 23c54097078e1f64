"""The command line: Tempo's flags, read as Go reads them.

One dash or two; `-flag=value` or `-flag value`; a boolean may stand alone and never takes the next word. Flags that stand for
a setting override the file. Errors here are ConfigErrors whose `place` is COMMAND_LINE: the exit code is 2 for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from vivace.errors import ConfigError

from .known import KeyPath, KnownKeys

COMMAND_LINE = "command line"

# Flags that tell the program what to do. Both booleans need a value: Tempo reads them as text first.
_FILE, _EXPAND, _VERIFY, _VERSION = "config.file", "config.expand-env", "config.verify", "version"
_HELP = ("h", "help")

# Flag -> the key that it sets. Used and unused keys alike; which one it is says KnownKeys.
FLAG_KEYS = {
    "target": "target",
    "multitenancy.enabled": "multitenancy_enabled",
    "auth.enabled": "multitenancy_enabled",
    "http-api-prefix": "http_api_prefix",
    "shutdown-delay": "shutdown_delay",
    "enable-go-runtime-metrics": "enable_go_runtime_metrics",
    "server.http-listen-port": "server.http_listen_port",
    "server.grpc-listen-port": "server.grpc_listen_port",
    "log.level": "server.log_level",
    "memberlist.host-port": "memberlist.join_members",
    "memberlist.bind-port": "memberlist.bind_port",
    "reporting.enabled": "usage_report.reporting_enabled",
    "compactor.disabled": "compactor.disabled",
    "distributor.log-received-spans.enabled": "distributor.log_received_spans.enabled",
    "distributor.log-received-spans.include-attributes": "distributor.log_received_spans.include_all_attributes",
    "distributor.log-received-spans.filter-by-status-error": "distributor.log_received_spans.filter_by_status_error",
    "distributor.log-discarded-spans.enabled": "distributor.log_discarded_spans.enabled",
    "distributor.log-discarded-spans.include-attributes": "distributor.log_discarded_spans.include_all_attributes",
    "distributor.log-discarded-spans.filter-by-status-error": "distributor.log_discarded_spans.filter_by_status_error",
    "distributor.rate-limit-strategy": "overrides.defaults.ingestion.rate_strategy",
    "distributor.ingestion-rate-limit-bytes": "overrides.defaults.ingestion.rate_limit_bytes",
    "distributor.ingestion-burst-size-bytes": "overrides.defaults.ingestion.burst_size_bytes",
    "ingester.trace-idle-period": "ingester.trace_idle_period",
    "ingester.max-block-duration": "ingester.max_block_duration",
    "ingester.max-block-bytes": "ingester.max_block_bytes",
    "ingester.complete-block-timeout": "ingester.complete_block_timeout",
    "ingester.max-traces-per-user": "overrides.defaults.ingestion.max_traces_per_user",
    "ingester.max-global-traces-per-user": "overrides.defaults.ingestion.max_global_traces_per_user",
    "ingester.max-bytes-per-trace": "overrides.defaults.global.max_bytes_per_trace",
    "ingester.availability-zone": "ingester.lifecycler.availability_zone",
    "querier.frontend-address": "querier.frontend_worker.frontend_address",
    "querier.max-bytes-per-tag-values-query": "overrides.defaults.read.max_bytes_per_tag_values_query",
    "querier.max-blocks-per-tag-values-query": "overrides.defaults.read.max_blocks_per_tag_values_query",
    "metrics-generator.native-histogram-bucket-factor": (
        "overrides.defaults.metrics_generator.native_histogram_bucket_factor"
    ),
    "metrics-generator.native-histogram-max-bucket-number": (
        "overrides.defaults.metrics_generator.native_histogram_max_bucket_number"
    ),
    "metrics-generator.native-histogram-min-reset-duration": (
        "overrides.defaults.metrics_generator.native_histogram_min_reset_duration"
    ),
    "storage.trace.backend": "storage.trace.backend",
    "storage.trace.local.path": "storage.trace.local.path",
    "storage.trace.wal.path": "storage.trace.wal.path",
    "storage.trace.blocklist_poll": "storage.trace.blocklist_poll",
    "storage.trace.pool.max-workers": "storage.trace.pool.max_workers",
    "storage.trace.pool.queue-depth": "storage.trace.pool.queue_depth",
    # The doubled word is Tempo 2.10's; 3.0 shortened it.
    "compactor.compaction.compaction.block-retention": "compactor.compaction.block_retention",
    "compactor.compaction.compaction.max-objects-per-block": "compactor.compaction.max_compaction_objects",
    "compactor.compaction.compaction.max-block-bytes": "compactor.compaction.max_block_bytes",
    "compactor.compaction.compaction.compaction-window": "compactor.compaction.compaction_window",
    "compaction.block-retention": "compactor.compaction.block_retention",
    "compaction.max-objects-per-block": "compactor.compaction.max_compaction_objects",
    "compaction.max-block-bytes": "compactor.compaction.max_block_bytes",
    "compaction.compaction-window": "compactor.compaction.compaction_window",
    "config.per-user-override-config": "overrides.per_tenant_override_config",
    "config.per-user-override-period": "overrides.per_tenant_override_period",
    "config.enable-legacy-overrides": "overrides.enable_legacy_overrides",
    "mcp-server.enabled": "query_frontend.mcp_server.enabled",
}
# Flag -> why it has no effect; there is no such key.
_OTHER_FLAGS = {
    "mem-ballast-size-mbs": "Python needs no ballast",
    "mutex-profile-fraction": "not yet: Vivace does not profile itself",
    "block-profile-threshold": "not yet: Vivace does not profile itself",
}
# Every flag with these beginnings stands for a key below.
_FLAG_FAMILIES = {
    "storage.trace.s3.": "storage.trace.s3",
    "storage.trace.gcs.": "storage.trace.gcs",
    "storage.trace.azure.": "storage.trace.azure",
    "storage.trace.block.": "storage.trace.block",
}
# Booleans may stand without a value, so these never take the next word.
_BOOLEANS = frozenset(
    name
    for name in FLAG_KEYS
    if name.endswith((".enabled", ".disabled", "include-attributes", "by-status-error", "legacy-overrides"))
) | {"enable-go-runtime-metrics"}


@dataclass(frozen=True, slots=True)
class Override:
    """A setting given as a flag: where it goes, and the text that came with it."""

    flag: str
    key: KeyPath
    text: str


@dataclass(frozen=True, slots=True)
class CommandLine:
    """What the command line asks for; `notices` name its flags that have no effect."""

    action: Literal["run", "verify", "version", "help"]
    file: str
    expand_env: bool
    overrides: tuple[Override, ...]
    notices: tuple[str, ...]


def parse_flags(argv: Sequence[str], known: KnownKeys) -> CommandLine:
    """Read the arguments behind the program name. Raises ConfigError (place COMMAND_LINE) for what does not fit."""
    given: dict[str, str] = {}
    overrides: list[Override] = []
    notices: list[str] = []
    words = list(argv)
    while words:
        word = words.pop(0)
        if word == "--" and not words:
            break
        name, value = _read_flag(word, words)
        if name in (_FILE, _EXPAND, _VERIFY, _VERSION, *_HELP):
            given[name] = value
            continue
        key = _key_of(name)
        if key is not None and known.is_used(key):
            overrides.append(Override(name, key, value))
        else:
            reason = _OTHER_FLAGS.get(name) or (known.reason(key) if key else None)
            if reason is None:
                raise _unknown(name)
            notices.append(f"-{name}: accepted, has no effect ({reason})")
    return CommandLine(_action(given), given.get(_FILE, ""), _truth(given, _EXPAND), tuple(overrides), tuple(notices))


def flag_names() -> list[str]:
    """Every flag, sorted; families end in `*`."""
    fixed = {_FILE, _EXPAND, _VERIFY, _VERSION, *FLAG_KEYS, *_OTHER_FLAGS}
    return sorted(fixed | {f"{family}*" for family in _FLAG_FAMILIES})


def parse_truth(text: str) -> bool | None:
    """A boolean as Go spells it; None for anything else."""
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    return False if text in ("0", "f", "F", "false", "FALSE", "False") else None


def _read_flag(word: str, rest: list[str]) -> tuple[str, str]:
    """Name and value of a flag; the value is taken from `rest` when the word has none."""
    bare = word[2:] if word.startswith("--") else word.removeprefix("-")
    if not word.startswith("-") or not bare:
        raise _usage(f"unexpected argument {word!r}, expected flags such as -config.file=tempo.yaml")
    name, equals, value = bare.partition("=")
    if name.startswith("-") or not name:
        raise _usage(f"bad flag syntax: {word}")
    if equals:
        return name, value
    if name in _BOOLEANS or name in (_VERSION, *_HELP):
        return name, "true"
    if name not in (_FILE, _EXPAND, _VERIFY, *_OTHER_FLAGS) and _key_of(name) is None:
        raise _unknown(name)
    if not rest:
        raise _usage(f"flag needs an argument: -{name}")
    return name, rest.pop(0)


def _key_of(name: str) -> KeyPath | None:
    if name in FLAG_KEYS:
        return tuple(FLAG_KEYS[name].split("."))
    for family, key in _FLAG_FAMILIES.items():
        if name.startswith(family):
            return (*key.split("."), name.removeprefix(family))
    return None


def _action(given: dict[str, str]) -> Literal["run", "verify", "version", "help"]:
    if any(name in given for name in _HELP):
        return "help"
    if _truth(given, _VERSION):
        return "version"
    return "verify" if _truth(given, _VERIFY) else "run"


def _truth(given: dict[str, str], name: str) -> bool:
    truth = parse_truth(given.get(name, "false"))
    if truth is None:
        raise _usage(f"-{name}: found {given[name]!r}, expected true or false")
    return truth


def _unknown(name: str) -> ConfigError:
    close = get_close_matches(name, flag_names(), n=1)
    hint = f"; did you mean -{close[0]}?" if close else "; -help lists the flags"
    return _usage(f"flag provided but not defined: -{name}{hint}")


def _usage(message: str) -> ConfigError:
    return ConfigError(message, place=COMMAND_LINE)
