"""The layout of a block: file names, column names, meta.json. Bytes and meaning: docs/formats/block.md.

Rule 1  which attributes are columns is decided once a block, by count; the rest lies in attributes.parquet.
Rule 2  meta.json names every column and every key that lies in the overflow, so a block without a key is not opened.
Rule 3  readers refuse a format version that they do not know, they never guess.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from vivace.errors import CorruptionError
from vivace.model.schema import SCALARS, AttributeScope, ValueType

FORMAT_VERSION = 1

SPANS, TRACES, EVENTS, LINKS = "spans.parquet", "traces.parquet", "events.parquet", "links.parquet"
RESOURCES, SCOPES, ATTRIBUTES = "resources.parquet", "scopes.parquet", "attributes.parquet"
INDEX, META = "ids.index", "meta.json"
DATA_FILES = (SPANS, TRACES, EVENTS, LINKS, RESOURCES, SCOPES, ATTRIBUTES, INDEX)

COLUMNS_MAX = 128
"""Attribute columns a file: 300 more in a 500,000-row block take 708 MB to write, an overflow of pairs 122 MB (measured)."""

COLUMN_SHARE_MIN = 0.002
"""An attribute on fewer rows than this share is not worth a column: its pages would hold little but nulls."""

ROW_GROUP_SPANS = 62_500
"""Spans a row group: the unit of pruning, and of the memory that writing and compaction take."""

ROW_GROUP_BYTES = 24 << 20
"""Bytes of memory a row group, about: of large spans it has fewer. With spans of 10 KB, merging six blocks in row groups of
62,500 took 2 GB (measured)."""


def row_group_spans(span_bytes: int) -> int:
    """Spans a row group when one takes `span_bytes` of memory; 0 = not known."""
    return max(1, min(ROW_GROUP_SPANS, ROW_GROUP_BYTES // max(1, span_bytes)))


@dataclass(frozen=True, slots=True)
class Key:
    """An attribute of one type in one scope: what may become a column."""

    scope: AttributeScope
    name: str
    type: ValueType


@dataclass(frozen=True, slots=True)
class KeyStats:
    """A key of a block: rows that carry it, and the column that holds it ("" = attributes.parquet)."""

    key: Key
    rows: int
    column: str


def choose_columns(counts: Mapping[Key, int], row_counts: Mapping[AttributeScope, int]) -> list[KeyStats]:
    """Decide which keys of a block are columns: in each scope the most frequent scalars, up to COLUMNS_MAX.

    counts      rows by key;  row_counts: rows by scope. The answer names every key, most frequent first.
    """
    chosen: list[KeyStats] = []
    taken: dict[AttributeScope, set[str]] = {}
    for key, rows in sorted(counts.items(), key=lambda item: (-item[1], item[0].scope, item[0].name, item[0].type)):
        names = taken.setdefault(key.scope, set())
        often = rows >= COLUMN_SHARE_MIN * row_counts[key.scope]
        named = "\0" not in key.name  # Arrow hands column names over as C strings
        if key.type in SCALARS and often and named and len(names) < COLUMNS_MAX:
            column = _free_name(key, names)
            names.add(column)
            chosen.append(KeyStats(key, rows, column))
        else:
            chosen.append(KeyStats(key, rows, ""))
    return chosen


def _free_name(key: Key, taken: set[str]) -> str:
    name = f"{key.scope.value}.{key.name}"
    while name in taken:  # a second type of the same key, or a key that looks like one
        name += f":{key.type.name.lower()}"
    return name


@dataclass(frozen=True, slots=True)
class BlockMeta:
    """What is known of a block without opening its data; times in nanoseconds since the epoch.

    wal_until   sequence of the first WAL record that this block may lack: spans of these traces in earlier records are
                here, so replay leaves them out
    overflow    pairs without a column, by scope
    row_groups  spans in each row group of spans.parquet
    span_bytes  memory that a span takes when it is read, about; 0 = not known
    level       0 = cut from the head, n = merged n times
    replaces    ids of the blocks that this one was merged from
    files       size in bytes by file name;  checksums: its CRC-32
    """

    id: str
    tenant: str
    start_time_unix_nano: int
    end_time_unix_nano: int
    created_unix_nano: int
    span_count: int
    trace_count: int
    event_count: int
    link_count: int
    overflow: dict[str, int]
    row_groups: tuple[int, ...]
    wal_until: int
    level: int
    keys: tuple[KeyStats, ...]
    replaces: tuple[str, ...] = ()
    span_bytes: int = 0
    files: dict[str, int] = field(default_factory=dict)
    checksums: dict[str, int] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    @property
    def data_bytes(self) -> int:
        return sum(self.files.values())

    def to_json(self) -> bytes:
        """meta.json, sorted so that equal blocks have equal bytes; `crc32` is of its content without that key."""
        document: dict[str, Any] = asdict(self)
        document["keys"] = [
            {"scope": k.key.scope.value, "name": k.key.name, "type": k.key.type.name.lower(), "rows": k.rows,
             "column": k.column}
            for k in self.keys
        ]  # fmt: skip
        document["crc32"] = _content_crc(document)
        return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)


def _content_crc(document: Mapping[str, Any]) -> int:
    """The same however the document is laid out: keys sorted, no white space."""
    return zlib.crc32(orjson.dumps(document, option=orjson.OPT_SORT_KEYS))


def read_meta(directory: Path) -> BlockMeta:
    """Meta of the block in `directory`.

    Raises  CorruptionError when it is missing, altered, of another version, or a file has another size than
            it says; OSError when the system refuses to read it.
    """
    path = directory / META
    try:
        document = orjson.loads(path.read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError) as e:
        raise CorruptionError(path, offset=0, expected="the meta of a block", found=str(e)) from e
    version = document.get("format_version") if isinstance(document, dict) else None
    if version != FORMAT_VERSION:
        raise CorruptionError(path, offset=0, expected=f"format version {FORMAT_VERSION}", found=repr(version))
    stated = document.pop("crc32", None)
    content_crc = _content_crc(document)
    if stated != content_crc:
        raise CorruptionError(path, offset=0, expected=f"crc32 {stated}", found=f"{content_crc}")
    try:
        keys = tuple(
            KeyStats(
                Key(AttributeScope(k["scope"]), k["name"], ValueType[k["type"].upper()]), int(k["rows"]), k["column"]
            )
            for k in document.pop("keys")
        )
        meta = BlockMeta(
            keys=keys,
            row_groups=tuple(document.pop("row_groups")),
            replaces=tuple(document.pop("replaces")),
            **document,
        )
    except (KeyError, TypeError, ValueError) as e:
        raise CorruptionError(path, offset=0, expected="the keys of a block's meta", found=repr(e)) from e
    for name, size in meta.files.items():
        found = (directory / name).stat().st_size if (directory / name).exists() else None
        if found != size:
            raise CorruptionError(directory / name, offset=0, expected=f"{size} bytes", found=f"{found}")
    return meta
