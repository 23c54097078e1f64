"""Keys of attributes that some rows of a source have.

Rule 1  where pairs lie in tables (the head, resources and scopes), all keys are found in one pass over the codes.
Rule 2  of a block, columns are asked one by one, and only for keys that nobody has found; the pairs that have no column
        are read once, however many keys they have.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from vivace.model.attributes import Attributes
from vivace.model.batch import SpanBatch
from vivace.model.dictionary import Dictionary
from vivace.model.frame import LEVEL_OF_SCOPE, Attribute, Level, Mask
from vivace.model.memory_frame import MemoryFrame
from vivace.model.schema import AttributeScope
from vivace.query.sources import Source
from vivace.query.spans import Spans
from vivace.storage.block_reader import Block
from vivace.storage.column_cache import ColumnCache
from vivace.storage.column_files import damage
from vivace.storage.layout import ATTRIBUTES, RESOURCES
from vivace.storage.lazy_polars import polars
from vivace.storage.row_group import RowGroup

WELL_KNOWN = {
    **dict.fromkeys(
        (
            "service.name", "cluster", "namespace", "pod", "container",
            "k8s.cluster.name", "k8s.namespace.name", "k8s.pod.name", "k8s.container.name",
        ),
        AttributeScope.RESOURCE,
    ),
    **dict.fromkeys(("http.method", "http.url", "http.status_code"), AttributeScope.SPAN),
}  # fmt: skip
"""Keys that Tempo keeps in columns of their own, and their scopes. It names them whatever the filter is (as measured)."""

SHARED = (AttributeScope.RESOURCE, AttributeScope.INSTRUMENTATION)


def keys_of_part(batch: SpanBatch, scope: AttributeScope) -> set[str]:
    """All keys of a batch; of resources and scopes only those that its spans have."""
    rows = None
    if scope in SHARED:
        owner, count = (
            (batch.resource, batch.dictionary.resource_count)
            if scope is AttributeScope.RESOURCE
            else (batch.scope, batch.dictionary.scope_count)
        )
        rows = np.zeros(count, bool)
        rows[owner] = True
    return _keys_of_pairs(_pairs(batch, scope), batch.dictionary, rows)


def _pairs(batch: SpanBatch, scope: AttributeScope) -> Attributes:
    match scope:
        case AttributeScope.SPAN:
            return batch.attributes
        case AttributeScope.EVENT:
            return batch.events.attributes
        case AttributeScope.LINK:
            return batch.links.attributes
        case _:
            return _shared_pairs(batch.dictionary, scope)


def _shared_pairs(tables: Dictionary, scope: AttributeScope) -> Attributes:
    return tables.resources.attributes if scope is AttributeScope.RESOURCE else tables.scopes.attributes


def _keys_of_pairs(pairs: Attributes, dictionary: Dictionary, rows: Mask | None) -> set[str]:
    """Keys of the pairs of some rows, None for all. `rows` may be shorter than the table: what came later counts not."""
    keys = pairs.key
    if rows is not None:
        known = int(np.searchsorted(pairs.row, len(rows)))
        keys = keys[:known][rows[pairs.row[:known]]]
    seen = np.zeros(int(keys.max(initial=0)) + 1, bool)
    seen[keys] = True
    if not len(keys):
        return set()
    return {dictionary.strings.get(code).decode() for code in np.flatnonzero(seen).tolist()}


class KeyReader:
    """Reads keys of sources; columns of blocks go through `columns`."""

    def __init__(self, columns: ColumnCache) -> None:
        self._columns = columns

    def read(self, source: Source, spans: Spans, scope: AttributeScope, rows: Mask, known: Collection[str]) -> set[str]:
        """Keys of some rows of the scope's level, among them perhaps not those already known.

        Raises  CorruptionError when a block is damaged.
        """
        if not rows.any():
            return set()
        if source.block is None:
            assert isinstance(spans.frame, MemoryFrame)  # by sources.py
            batch = spans.frame.batch
            return _keys_of_pairs(_pairs(batch, scope), batch.dictionary, rows)
        if scope in SHARED:
            with damage(source.block.directory / RESOURCES, "resources and scopes"):
                tables = source.block.tables()
            return _keys_of_pairs(_shared_pairs(tables, scope), tables, rows)
        assert isinstance(spans.frame, RowGroup)  # by sources.py
        return self._of_row_group(source.block, spans.frame, scope, rows, known)

    def _of_row_group(
        self, block: Block, group: RowGroup, scope: AttributeScope, rows: Mask, known: Collection[str]
    ) -> set[str]:
        wanted = [s for s in block.meta.keys if s.key.scope is scope and s.key.name not in known]
        loose = {s.key.name for s in wanted if not s.column}
        found: set[str] = set()
        if loose:
            found = _loose_keys(block, scope, self._first_row(block, group, LEVEL_OF_SCOPE[scope]), rows, loose)
        for name in {s.key.name for s in wanted if s.column} - found:
            attribute = group.attribute(scope, name)
            if attribute is not None and _is_on(attribute, rows):
                found.add(name)
        return found

    def _first_row(self, block: Block, group: RowGroup, level: Level) -> int:
        """The number of the level's first row of a row group, in the whole block."""
        if level is Level.SPAN:
            return group.first_row
        return sum(before.count(level) for before in block.row_groups(self._columns)[: group.index])


def _loose_keys(block: Block, scope: AttributeScope, first: int, rows: Mask, keys: Collection[str]) -> set[str]:
    """Which keys have a pair without a column on some rows, `first` being the number of the first."""
    path = block.directory / ATTRIBUTES
    pl = polars()
    row = pl.col("row")
    here = (pl.col("scope") == scope.value) & row.is_between(first, first + len(rows), closed="left")
    with damage(path, f"keys of {scope.value} attributes"):
        pairs = (
            pl.scan_parquet(path, glob=False, cache=False)
            .filter(here & pl.col("key").is_in(list(keys)))
            .select("row", "key")
            .collect()
        )
        on_rows = rows[pairs["row"].to_numpy() - first]
        return set(pairs["key"].filter(pl.Series(on_rows)).unique().to_list())


def _is_on(attribute: Attribute, rows: Mask) -> bool:
    """Whether some rows have a value."""
    a = attribute
    if a.strings is not None and (a.strings.valid & rows).any():
        return True
    for numbers in (a.ints, a.doubles, a.bools):
        if numbers is not None and (numbers.valid is None or (numbers.valid & rows).any()):
            return True
    return a.compounds is not None and bool(rows[a.compounds.rows].any())
