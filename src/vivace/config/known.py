"""Which keys there are: used ones (the models), accepted ones without effect (unused.yaml), and old names of used ones.

A path is a tuple of names without list positions: ("server", "http_listen_port").
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from importlib.resources import files
from typing import Self

import yaml

from .overrides import Limits
from .section import Section, item_type, section_type, yaml_fields
from .storage import Compaction

KeyPath = tuple[str, ...]

LIMITS_PATH: KeyPath = ("overrides", "defaults")

# Flat names of limits whose scoped name does not follow from them.
_FLAT_LIMITS = {
    "ingestion_rate_strategy": "ingestion.rate_strategy",
    "ingestion_rate_limit_bytes": "ingestion.rate_limit_bytes",
    "ingestion_burst_size_bytes": "ingestion.burst_size_bytes",
    "ingestion_tenant_shard_size": "ingestion.tenant_shard_size",
    "ingestion_max_attribute_bytes": "ingestion.max_attribute_bytes",
    "ingestion_artificial_delay": "ingestion.artificial_delay",
    "ingestion_retry_info_enabled": "ingestion.retry_info_enabled",
    "max_traces_per_user": "ingestion.max_traces_per_user",
    "max_global_traces_per_user": "ingestion.max_global_traces_per_user",
    "max_bytes_per_tag_values_query": "read.max_bytes_per_tag_values_query",
    "max_blocks_per_tag_values_query": "read.max_blocks_per_tag_values_query",
    "max_search_duration": "read.max_search_duration",
    "max_metrics_duration": "read.max_metrics_duration",
    "unsafe_query_hints": "read.unsafe_query_hints",
    "block_retention": "compaction.block_retention",
    "compaction_window": "compaction.compaction_window",
    "compaction_disabled": "compaction.compaction_disabled",
    "max_bytes_per_trace": "global.max_bytes_per_trace",
    "parquet_dedicated_columns": "storage.parquet_dedicated_columns",
    "metrics_generator_ring_size": "metrics_generator.ring_size",
    "metrics_generator_forwarder_queue_size": "metrics_generator.forwarder.queue_size",
    "metrics_generator_forwarder_workers": "metrics_generator.forwarder.workers",
    **{
        f"metrics_generator_processor_local_blocks_{key}": f"metrics_generator.processor.local_blocks.{key}"
        for key in (
            "max_live_traces",
            "max_block_duration",
            "max_block_bytes",
            "flush_check_period",
            "trace_idle_period",
            "complete_block_timeout",
        )
    },
    # Scoped and flat name are the same.
    "forwarders": "forwarders",
    "cost_attribution": "cost_attribution",
}
# Since 3.0 retention and merging are set here; the names below are those of `compactor.compaction`.
_COMPACTION_HOMES = (("backend_worker", "compaction"), ("backend_scheduler", "provider"))


@dataclass(frozen=True, slots=True)
class Unused:
    """A pattern of unused.yaml: `*` is any text within a name, `subtree` takes in everything below."""

    pattern: KeyPath
    subtree: bool
    reason: str

    def matches(self, path: KeyPath) -> bool:
        if len(path) < len(self.pattern) or (len(path) > len(self.pattern) and not self.subtree):
            return False
        return self._agrees(path)

    def lies_below(self, path: KeyPath) -> bool:
        return len(path) < len(self.pattern) and self._agrees(path)

    def _agrees(self, path: KeyPath) -> bool:
        return all(fnmatchcase(name, part) for part, name in zip(self.pattern, path, strict=False))

    def __str__(self) -> str:
        return ".".join((*self.pattern, "*") if self.subtree else self.pattern)


class KnownKeys:
    """All keys below one root section. Flat names of limits are known right below `flat_parent` only."""

    def __init__(self, root: type[Section], unused: tuple[Unused, ...], flat_parent: KeyPath) -> None:
        self.unused = unused
        self._flat_parent = flat_parent
        self._used = dict(_walk(root, ()))
        self._flat = {flat: tuple(scoped.split(".")) for flat, scoped in _FLAT_LIMITS.items()} | {
            "_".join(path): path
            for path, section in _walk(Limits, ())
            if path[0] == "metrics_generator" and section is None
        }

    @classmethod
    def of(cls, root: type[Section], flat_parent: KeyPath = ("overrides",)) -> Self:
        """The keys of `root` and those of unused.yaml."""
        return cls(root, read_unused(), flat_parent)

    def reason(self, path: KeyPath) -> str | None:
        """Why the key has no effect; None when it is not in unused.yaml."""
        return next((entry.reason for entry in self.unused if entry.matches(path)), None)

    def leads_on(self, path: KeyPath) -> bool:
        """Whether unused keys lie below this one, so that it may stand in a file as a map."""
        return any(entry.lies_below(path) for entry in self.unused)

    def is_used(self, path: KeyPath) -> bool:
        return path in self._used

    def moved_to(self, path: KeyPath) -> KeyPath | None:
        """The present name of a key with an old or another version's name; None when it has none."""
        if path == ("auth_enabled",):
            return ("multitenancy_enabled",)
        if path[:2] in _COMPACTION_HOMES and path[-1] in Compaction.model_fields:
            return ("compactor", "compaction", path[-1])
        if path[:-1] == self._flat_parent and path[-1] in self._flat:
            target = LIMITS_PATH + self._flat[path[-1]]
            return target if target != path else None
        return None

    def nearest(self, path: KeyPath) -> KeyPath | None:
        """The known key that was most likely meant: beside the unknown one first, then anywhere with nearly its name."""
        parent, name = path[:-1], path[-1]
        beside = self.below(parent)
        elsewhere = [known for known in self._all() if known[:-1] != parent]
        if close := get_close_matches(name, beside, n=1, cutoff=0.8):
            return (*parent, close[0])
        if close := get_close_matches(name, {known[-1] for known in elsewhere}, n=1, cutoff=0.8):
            same_name = [known for known in elsewhere if known[-1] == close[0]]
            return max(same_name, key=lambda known: (len(set(known) & set(path)), -len(known)))
        # A mere resemblance counts beside the key only: among all keys every short name resembles some.
        close = get_close_matches(name, beside, n=1)
        return (*parent, close[0]) if close else None

    def below(self, parent: KeyPath) -> list[str]:
        """Names that may stand directly below a key, used ones first."""
        depth = len(parent)
        names = [path[depth] for path in self._all() if len(path) > depth and path[:depth] == parent]
        return list(dict.fromkeys(name for name in names if "*" not in name))

    def _all(self) -> Iterator[KeyPath]:
        yield from self._used
        for entry in self.unused:
            yield entry.pattern


def _walk(section: type[Section], path: KeyPath) -> Iterator[tuple[KeyPath, type[Section] | None]]:
    """Every key below a section, with its section type when it has keys itself."""
    for name, field in yaml_fields(section).items():
        child = section_type(field.annotation) or section_type(item_type(field.annotation))
        yield (*path, name), child
        if child is not None:
            yield from _walk(child, (*path, name))


def read_unused() -> tuple[Unused, ...]:
    """The patterns of unused.yaml, in its order."""
    groups = yaml.safe_load(files("vivace.config").joinpath("unused.yaml").read_text(encoding="utf-8"))
    entries = []
    for group in groups:
        for key in group["keys"]:
            path = tuple(key.split("."))
            subtree = path[-1] == "**"
            entries.append(Unused(path[:-1] if subtree else path, subtree, group["reason"]))
    return tuple(entries)
