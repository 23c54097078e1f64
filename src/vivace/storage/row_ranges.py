"""Rows of a block's Parquet files by their number: a few spans, and what belongs to a range of them.

Of spans.parquet polars decodes the pages asked for, 4 ms of a row group of 62,500, of which pyarrow would decode all, in 40.
Of events, links and attributes without a column a row group has few rows mostly: pyarrow finds in 0.5 ms that nothing belongs
to a trace, and reads what does in 1, where polars takes 1.2 to 1.7; large ones are polars' too.

Raise, all of them: OSError, pa.ArrowException, polars_errors(), KeyError, ValueError for a file that cannot be read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vivace.model.attributes import I64
from vivace.storage.lazy_polars import polars

if TYPE_CHECKING:
    from polars import DataFrame, LazyFrame

WHOLE_ROWS_MAX = 20_000
"""Up to here whole row groups are decoded, 1 ms for six columns."""

ROW = "row_number"
"""Name for the row number that polars adds; no column is called so, those of attributes begin with their scope."""


def span_rows(path: Path, columns: Sequence[str], first: int, count: int) -> pa.Table:
    """Rows [first, first + count) of spans.parquet."""
    wanted = polars().col(columns)  # one expression: a list of names is made one by one, 1 ms
    return _table(_scan(path).select(wanted).slice(first, count).collect())


@dataclass(frozen=True, slots=True)
class _Groups:
    """The row groups of a file, one entry each: lowest and highest owner, the owners' scope, rows before it."""

    lowest: I64
    highest: I64
    scopes: NDArray[np.str_]
    rows_before: I64  # and one entry more: all rows


class OwnedRows:
    """A file whose rows belong to rows of another one: `owner` is the column with their number, ascending.

    by_scope  the column `scope` says which file that is; a row group holds one scope, and `owner` ascends within it
    """

    def __init__(self, path: Path, owner: str, *, by_scope: bool = False) -> None:
        self._path = path
        self._owner = owner
        self._by_scope = by_scope
        self._groups: _Groups | None = None

    def of(self, first: int, count: int, scope: str = "") -> tuple[int, pa.Table] | None:
        """(number of the first, rows) of what belongs to rows [first, first + count); None where there is nothing."""
        if self._groups is None:
            self._groups = _read_groups(self._path, self._owner, by_scope=self._by_scope)
        groups = self._groups
        inside = (groups.lowest < first + count) & (groups.highest >= first)
        if scope:
            inside &= groups.scopes == scope
        chosen = np.flatnonzero(inside)
        sizes = np.diff(groups.rows_before)[chosen]
        if sizes.sum() > WHOLE_ROWS_MAX:
            return self._by_polars(first, count, scope)
        if not len(chosen):
            return None
        with pq.ParquetFile(self._path) as file:
            read = partial(file.read_row_groups, chosen.tolist(), use_threads=False)
            a, b = np.searchsorted(read(columns=[self._owner])[self._owner].to_numpy(), (first, first + count)).tolist()
            if a == b:  # as for most traces; the other columns are most of the work
                return None
            table = read().combine_chunks()
        return int(groups.rows_before[chosen[0]]) + a, table.slice(a, b - a)

    def _by_polars(self, first: int, count: int, scope: str) -> tuple[int, pa.Table] | None:
        pl = polars()
        wanted = pl.col(self._owner).is_between(first, first + count, closed="left")
        if scope:
            wanted &= pl.col("scope") == scope
        table = _table(_scan(self._path, ROW).filter(wanted).collect())
        return (int(table[ROW][0].as_py()), table) if len(table) else None


def _read_groups(path: Path, owner: str, *, by_scope: bool) -> _Groups:
    metadata = pq.read_metadata(path)
    names = metadata.schema.names
    bounds, scopes, sizes = [], [], [0]
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        stats = group.column(names.index(owner)).statistics
        bounds.append((stats.min, stats.max))
        scopes.append(group.column(names.index("scope")).statistics.min if by_scope else "")
        sizes.append(group.num_rows)
    lowest, highest = np.array(bounds, np.int64).reshape(-1, 2).T
    return _Groups(lowest, highest, np.array(scopes, np.str_), np.cumsum(sizes))


def _scan(path: Path, row_index_name: str | None = None) -> LazyFrame:
    scan: LazyFrame = polars().scan_parquet(path, glob=False, cache=False, row_index_name=row_index_name)
    return scan


def _table(frame: DataFrame) -> pa.Table:
    return frame.to_arrow(compat_level=polars().CompatLevel.oldest()).combine_chunks()
