"""Frame: whole traces as columns, the one thing that queries read. A row group of a block is one, and so is the head.

Rule 1  a frame holds whole traces: rows of one trace stand together, in block order (model/arrange.py).
Rule 2  a column is read when it is asked for, and not before; asking for what is not there is cheap and gives None.
Rule 3  what a frame gives is shared and cached: nobody writes into it.
Rule 4  columns live at the level where they vary: a resource attribute has one value a resource, not one a span.

Bodies: storage/row_group.py (a block), model/memory_frame.py (spans in memory).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vivace.model.schema import AttributeScope, ValueType

Mask = NDArray[np.bool_]
Rows = NDArray[np.int64]


class Level(Enum):
    """The tables of a frame."""

    SPAN = "span"
    RESOURCE = "resource"
    SCOPE = "scope"
    TRACE = "trace"
    EVENT = "event"
    LINK = "link"


LEVEL_OF_SCOPE = {
    AttributeScope.SPAN: Level.SPAN,
    AttributeScope.RESOURCE: Level.RESOURCE,
    AttributeScope.INSTRUMENTATION: Level.SCOPE,
    AttributeScope.EVENT: Level.EVENT,
    AttributeScope.LINK: Level.LINK,
}


class Fixed(Enum):
    """Columns that every frame has: (name, level). Times and durations are int64 nanoseconds; the first group has one row a span."""

    NAME = ("name", Level.SPAN)
    START = ("start_time_unix_nano", Level.SPAN)
    DURATION = ("duration_nano", Level.SPAN)
    KIND = ("kind", Level.SPAN)
    STATUS = ("status_code", Level.SPAN)
    STATUS_MESSAGE = ("status_message", Level.SPAN)
    SPAN_ID = ("span_id", Level.SPAN)
    PARENT_SPAN_ID = ("parent_span_id", Level.SPAN)
    NESTED_LEFT = ("nested_set_left", Level.SPAN)
    NESTED_RIGHT = ("nested_set_right", Level.SPAN)
    NESTED_PARENT = ("nested_set_parent", Level.SPAN)

    TRACE_ID_HIGH = ("trace_id_high", Level.TRACE)
    TRACE_ID_LOW = ("trace_id_low", Level.TRACE)
    TRACE_START = ("trace_start_time_unix_nano", Level.TRACE)
    TRACE_DURATION = ("trace_duration_nano", Level.TRACE)
    ROOT_NAME = ("root_name", Level.TRACE)
    ROOT_SERVICE_NAME = ("root_service_name", Level.TRACE)

    SCOPE_NAME = ("scope_name", Level.SCOPE)
    SCOPE_VERSION = ("scope_version", Level.SCOPE)

    EVENT_NAME = ("event_name", Level.EVENT)
    EVENT_TIME = ("event_time_unix_nano", Level.EVENT)

    LINK_TRACE_ID = ("link_trace_id", Level.LINK)
    LINK_SPAN_ID = ("link_span_id", Level.LINK)

    def __init__(self, column: str, level: Level) -> None:
        self.column = column
        self.level = level


@dataclass(frozen=True, slots=True)
class Strings:
    """Strings by code. A row without a value has the code len(table), so a verdict on the table with one False behind it,
    taken by `codes`, is the verdict on the rows. No two entries of `table` are equal; not all of them need be used.
    """

    codes: NDArray[np.int32]
    table: pa.Array  # of pa.string() or pa.binary() (ids of links), no nulls

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def nbytes(self) -> int:
        return int(self.codes.nbytes + self.table.nbytes)

    @property
    def valid(self) -> Mask:
        mask: Mask = self.codes != len(self.table)
        return mask


@dataclass(frozen=True, slots=True)
class Numbers:
    """int64, uint64 (ids), float64 or bool values, one a row, 0 where a row has none; `valid` is None exactly when every
    row has one.
    """

    values: NDArray[Any]
    valid: Mask | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def nbytes(self) -> int:
        return int(self.values.nbytes + (0 if self.valid is None else self.valid.nbytes))


@dataclass(frozen=True, slots=True)
class Compounds:
    """Values that are no scalars, of the few rows that have one: raw bytes, or an encoded ArrayValue or KeyValueList.
    Sorted by row, then by type: a row stands here once for each type that it has.
    """

    rows: Rows
    types: tuple[ValueType, ...]
    values: tuple[bytes, ...]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def nbytes(self) -> int:
        return int(self.rows.nbytes) + sum(map(len, self.values)) + 64 * len(self.values)


@dataclass(frozen=True, slots=True)
class Attribute:
    """All values of one key at one level, by type; None where no row has the type.

    A row that carries the key twice with one type shows the first; a row with two types shows up in both.

    unset   rows, ascending, that carry the key with a value that is not set (ValueType.EMPTY), which is no value
    """

    strings: Strings | None = None
    ints: Numbers | None = None
    doubles: Numbers | None = None
    bools: Numbers | None = None
    compounds: Compounds | None = None
    unset: Rows | None = None

    @property
    def nbytes(self) -> int:
        parts = (self.strings, self.ints, self.doubles, self.bools, self.compounds, self.unset)
        return sum(p.nbytes for p in parts if p is not None)


class Frame(Protocol):
    """Whole traces as columns. Safe to use from one thread at a time; the arrays it gives may be shared with others."""

    def count(self, level: Level) -> int:
        """Rows of a level. Resources and scopes count the table's rows, used here or not."""
        ...

    def owners(self, level: Level) -> NDArray[np.integer[Any]]:
        """How a level hangs together with spans: for RESOURCE, SCOPE and TRACE the row of each span there (one a span); for
        EVENT and LINK the span of each row (ascending). Not for SPAN.
        """
        ...

    def first_rows(self) -> Rows:
        """The first span of each trace."""
        ...

    def fixed(self, column: Fixed) -> Strings | Numbers:
        """A fixed column, one value a row of its level.

        KIND and STATUS are int64 of OTLP's numbers; span ids are uint64; ROOT_NAME and ROOT_SERVICE_NAME have no value where
        the root is unknown; LINK_… are binary strings. Raises KeyError for none.
        """
        ...

    def attribute(self, scope: AttributeScope, key: str) -> Attribute | None:
        """Values of a key, None when no row of the frame can have it. Of a level without rows always None."""
        ...

    def keys(self, scope: AttributeScope) -> Iterable[str]:
        """Every key that some row of the scope may have, each once; a superset is enough."""
        ...

    @property
    def inspected_bytes(self) -> int:
        """Bytes of the columns that were handed out so far, each counted once."""
        ...
