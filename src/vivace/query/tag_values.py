"""Values of attributes and intrinsics, for editors.

Rule 1  without a filter, values come out of the tables of distinct strings; what a block has is remembered.
Rule 2  with a filter, values are those of the spans that satisfy it; a condition `tag = value` on the tag itself leaves only
        that value.
Rule 3  sources are taken newest first, and no more of them once a limit is passed; then the answer says so.
Rule 4  a range of time chooses blocks, row groups and parts of the head by their bounds, not single spans.

What counts as a value: distinct.py.  Names: tags.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from vivace.errors import CorruptionError, RequestError, TraceQLError
from vivace.model.arrange import Arranged
from vivace.model.batch import SpanBatch
from vivace.model.frame import Fixed, Frame, Level, Strings
from vivace.model.memory_frame import MemoryFrame
from vivace.model.schema import KINDS, AttributeScope
from vivace.model.tenant import split
from vivace.query import fields
from vivace.query.answers import QueryCost, TagValue, TagValuesAnswer, TagValuesRequest
from vivace.query.control import QueryControl
from vivace.query.distinct import Caps, Distinct, Union, as_values, distinct, union
from vivace.query.fields import level_of
from vivace.query.plan import Keys, Plan
from vivace.query.search import COLUMN_BYTES, SPAN_BYTES
from vivace.query.sources import Source, SourceRoom
from vivace.query.spans import Spans
from vivace.query.tag_filters import demanded, expression_of, rows_of, spans_of, tag_filter
from vivace.query.tag_keys import WELL_KNOWN
from vivace.query.values import Lane, Values
from vivace.query.visits import TIME_IS_UP, cost_of, outside, too_large, visited
from vivace.storage.block_reader import Block
from vivace.storage.column_cache import BLOCK, ColumnCache, ColumnKey
from vivace.storage.head import Part
from vivace.storage.row_group import RowGroup
from vivace.storage.store import Snapshot, Store
from vivace.traceql import parse_field
from vivace.traceql.ast import Attribute, Field, Intrinsic, IntrinsicId, Scope, Static
from vivace.traceql.types import Type

KEYWORDS = {"status": ("error", "ok", "unset"), "kind": KINDS}
"""Tags whose values are known without looking. Under their scoped names (`span:status`) they are numbers: so does Tempo."""

V1_FIXED = {"status.code": ("0", "1", "2", "error", "ok", "unset"), "error": ("true",)}
"""Tags of v1 that are no attributes, and their values."""

_LISTED = frozenset(
    {
        IntrinsicId.NAME,
        IntrinsicId.STATUS_MESSAGE,
        IntrinsicId.STATUS,
        IntrinsicId.KIND,
        IntrinsicId.DURATION,
        IntrinsicId.TRACE_DURATION,
        IntrinsicId.ROOT_NAME,
        IntrinsicId.ROOT_SERVICE_NAME,
        IntrinsicId.EVENT_NAME,
        IntrinsicId.INSTRUMENTATION_NAME,
        IntrinsicId.INSTRUMENTATION_VERSION,
    }
)
"""Intrinsics whose values are listed. Of ids, places in the trace and counts nobody picks one from a list."""

_OF_SCOPE = {AttributeScope.RESOURCE: Scope.RESOURCE, AttributeScope.SPAN: Scope.SPAN}

_V1_FIELDS: Mapping[str, Field] = {
    **{key: Attribute(_OF_SCOPE[scope], key) for key, scope in WELL_KNOWN.items()},
    **{
        id.value: Intrinsic(id)
        for id in (IntrinsicId.NAME, IntrinsicId.STATUS_MESSAGE, IntrinsicId.ROOT_NAME, IntrinsicId.ROOT_SERVICE_NAME)
    },
}
"""Tags of v1 that are more than an attribute without a scope."""

_ROOTS = {IntrinsicId.ROOT_NAME: Fixed.ROOT_NAME, IntrinsicId.ROOT_SERVICE_NAME: Fixed.ROOT_SERVICE_NAME}

_SERVICE = Attribute(Scope.RESOURCE, "service.name")
"""Every resource has one, if only an empty one."""


@dataclass(slots=True)
class _Run:
    """What a request has so far."""

    caps: Caps
    found: Union
    cost: QueryCost = field(default_factory=QueryCost)
    message: str = ""


@dataclass(frozen=True, slots=True)
class _Question:
    """A request as it is understood. fields: whose values are wanted; `planned`: the filter, None for all spans."""

    fields: tuple[Field, ...]
    planned: Plan | None
    start_seconds: int | None
    end_seconds: int | None

    @property
    def needs_whole_traces(self) -> bool:
        return self.planned is not None or any(level_of(f) is Level.TRACE for f in self.fields)

    def outside(self, start_nano: int, end_nano: int) -> str:
        return outside(start_nano, end_nano, self.start_seconds, self.end_seconds)

    def covers(self, block: Block) -> bool:
        """Whether all of a block is inside the range."""
        return not self.outside(block.meta.end_time_unix_nano, block.meta.start_time_unix_nano)

    def may_be_in(self, block: Block) -> bool:
        """Whether a block can have a value, as far as its meta tells."""
        keys = Keys(block)
        return any(not isinstance(f, Attribute) or f == _SERVICE or keys.has(f) for f in self.fields)


class TagValues:
    """Lists values of one tenant, synchronously.

    bytes_max   of a tenant: bytes of values in an answer;  blocks_max: blocks read for it. 0 is no limit.
    """

    def __init__(
        self,
        store: Store,
        room: SourceRoom,
        columns: ColumnCache,
        results: ColumnCache,
        *,
        bytes_max: Callable[[str], int],
        blocks_max: Callable[[str], int],
    ) -> None:
        self._store = store
        self._room = room
        self._columns = columns
        self._results = results
        self._bytes_max = bytes_max
        self._blocks_max = blocks_max

    def run(self, tenant: str, request: TagValuesRequest, control: QueryControl) -> TagValuesAnswer:
        """Values with their types. Raises RequestError when the tag is no TraceQL identifier, QueryStoppedError when nobody
        waits any more."""
        field = _parsed(request.tag)
        try:
            planned = tag_filter(request.filter)
        except TraceQLError:
            return TagValuesAnswer((), QueryCost())  # it cannot hold on any span
        own = demanded(expression_of(planned), field)
        if request.tag in KEYWORDS:
            return TagValuesAnswer(_keywords(request, own), QueryCost())
        if not _is_listed(field):
            return TagValuesAnswer((), QueryCost())
        question = _Question(_scoped(field), planned, request.start_seconds, request.end_seconds)
        state = self._run(tenant, question, request.limit, control)
        found = state.found.all()
        values, left_out = as_values(found if own is None else found.equal_to(own), state.caps)
        return TagValuesAnswer(values, state.cost, "; ".join(filter(None, (left_out, state.message))))

    def run_v1(self, tenant: str, request: TagValuesRequest, control: QueryControl) -> tuple[str, ...]:
        """Values as text, sorted, of the attribute of spans and resources that is named so; filters are not known here."""
        fixed = V1_FIXED.get(request.tag)
        if fixed is not None:
            return fixed[: request.limit or None]
        field = _V1_FIELDS.get(request.tag, Attribute(Scope.UNSCOPED, request.tag))
        question = _Question(_scoped(field), None, request.start_seconds, request.end_seconds)
        state = self._run(tenant, question, request.limit, control)
        values, _ = as_values(state.found.all(), state.caps)
        return tuple(sorted({text for _, texts in values.by_type for text in texts}))

    def _run(self, tenant: str, question: _Question, limit: int, control: QueryControl) -> _Run:
        caps = Caps(limit, self._bytes_max(tenant))
        state = _Run(caps, Union(caps.fold_min))
        with self._store.snapshot(*split(tenant)) as snapshot:
            snapshot = self._within_blocks_max(tenant, snapshot, state)
            if question.needs_whole_traces:
                self._read_sources(snapshot, question, control, state)
            else:
                self._read_tables(snapshot, question, control, state)
        return state

    def _within_blocks_max(self, tenant: str, snapshot: Snapshot, state: _Run) -> Snapshot:
        allowed = self._blocks_max(tenant)
        if not allowed or len(snapshot.blocks) <= allowed:
            return snapshot
        state.message = (
            f"only the newest {allowed} of {len(snapshot.blocks)} blocks were read: "
            "read.max_blocks_per_tag_values_query"
        )
        return replace(snapshot, blocks=snapshot.blocks[:allowed])

    # -- without a filter: what each block has, each part of the head -------------------------------------------------

    def _read_tables(self, snapshot: Snapshot, question: _Question, control: QueryControl, state: _Run) -> None:
        jobs = len(snapshot.parts) + sum(len(block.meta.row_groups) for block in snapshot.blocks)
        state.cost = cost_of(snapshot, jobs)
        for part in reversed(snapshot.parts):
            if _is_done(control, state):
                return
            self._read_part(part, question, state)
        for block in snapshot.blocks:
            if _is_done(control, state):
                return
            self._read_block(block, question, control, state)

    def _read_part(self, part: Part, question: _Question, state: _Run) -> None:
        batch = part.batch
        start, end = int(batch.start_time_unix_nano.min()), int(batch.end_time_unix_nano.max())
        found = Distinct.none()
        if not question.outside(start, max(start, end)):
            found = _all_of(MemoryFrame(_in_any_order(batch)), question.fields)
        state.found.add(found)
        state.cost = visited(state.cost, traces=0, spans=len(batch), byte_count=found.nbytes)

    def _read_block(self, block: Block, question: _Question, control: QueryControl, state: _Run) -> None:
        meta = block.meta
        found = Distinct.none()
        if not question.outside(meta.start_time_unix_nano, meta.end_time_unix_nano) and question.may_be_in(block):
            needed = max(meta.row_groups) * COLUMN_BYTES * len(question.fields)
            with control.memory.reserved(needed, control) as granted:
                if not granted:
                    state.message = too_large(f"block {meta.id}")
                    return
                try:
                    found = self._of_block(block, question)
                except CorruptionError as e:
                    self._store.catalog.suspect(block, e)
                    return
        state.found.add(found)
        state.cost = visited(
            state.cost,
            traces=meta.trace_count,
            spans=meta.span_count,
            byte_count=found.nbytes,
            jobs=len(meta.row_groups),
        )

    def _of_block(self, block: Block, question: _Question) -> Distinct:
        """The distinct values of a block, or of its row groups that overlap the range; both are remembered."""
        if question.covers(block):
            key = ColumnKey(block.meta.id, BLOCK, ("distinct", question.fields))
            return self._columns.get(key, lambda: _of_groups(block.row_groups(self._columns), question.fields))
        inside = [g for g in block.row_groups(self._columns) if not question.outside(g.start_min, g.end_max)]
        return union([self._of_group(block, group, question.fields) for group in inside])

    def _of_group(self, block: Block, group: RowGroup, fields: tuple[Field, ...]) -> Distinct:
        key = ColumnKey(block.meta.id, group.index, ("distinct", fields))
        return self._columns.get(key, lambda: _all_of(group, fields))

    # -- of spans that are looked at ----------------------------------------------------------------------------------

    def _read_sources(self, snapshot: Snapshot, question: _Question, control: QueryControl, state: _Run) -> None:
        sources = self._room.sources(snapshot)
        state.cost = cost_of(snapshot, len(sources))
        for source in sources:
            if _is_done(control, state):
                return
            self._read_source(source, question, control, state)

    def _read_source(self, source: Source, question: _Question, control: QueryControl, state: _Run) -> None:
        if question.outside(source.start_min, source.end_max) or not _may_match(source, question):
            state.cost = visited(state.cost, traces=0, spans=0, byte_count=0)
            return
        columns = len(question.fields) + (len(question.planned.reads) if question.planned else 0)
        needed = source.span_count * (SPAN_BYTES + COLUMN_BYTES * columns)
        with control.memory.reserved(needed, control) as granted:
            if not granted:
                state.message = too_large(source.name)
                return
            try:
                found, inspected = self._of_source(source, question)
            except CorruptionError as e:
                self._room.suspect(source, e)
                return
        state.found.add(found)
        state.cost = visited(state.cost, traces=source.trace_count, spans=source.span_count, byte_count=inspected)

    def _of_source(self, source: Source, question: _Question) -> tuple[Distinct, int]:
        """(the values of its spans, bytes read for them); those of a row group are remembered."""
        inspected = 0

        def read() -> Distinct:
            nonlocal inspected
            spans = Spans(source.open())
            found = _of_source(source, spans, question)
            inspected = spans.frame.inspected_bytes
            return found

        if source.block is None or len(source.leave):
            return read(), inspected
        pipeline = question.planned.pipeline if question.planned is not None else ""
        key = ColumnKey(source.block.meta.id, source.row_group, ("distinct", question.fields, pipeline))
        return self._results.get(key, read), inspected


def _is_done(control: QueryControl, state: _Run) -> bool:
    if control.is_over():
        state.message = TIME_IS_UP
        return True
    return state.caps.are_passed(state.found)


def _may_match(source: Source, question: _Question) -> bool:
    if source.block is None:
        return True
    may_hold = question.planned is None or question.planned.may_match(source.block)
    return may_hold and question.may_be_in(source.block)


def _of_source(source: Source, spans: Spans, question: _Question) -> Distinct:
    mask = spans_of(source, spans, expression_of(question.planned))
    if not mask.any():
        return Distinct.none()
    parts = []
    for wanted in question.fields:
        values = _read(spans, wanted)
        parts.append(distinct(values, rows_of(spans, mask, values.level)))
    return union(parts)


def _of_groups(groups: Sequence[RowGroup], fields: tuple[Field, ...]) -> Distinct:
    found = Union()
    for group in reversed(groups):  # the last is the newest
        found.add(_all_of(group, fields))
    return found.all()


def _all_of(frame: Frame, fields: tuple[Field, ...]) -> Distinct:
    """The distinct values of all spans of a frame. Tables of resources and scopes may have rows that no span uses."""
    spans = Spans(frame)
    return union(list(_each(spans, fields)))


def _each(spans: Spans, fields: tuple[Field, ...]) -> Iterator[Distinct]:
    for wanted in fields:
        values = _read(spans, wanted)
        if not values.lanes and values.compounds is None:
            continue
        shared = values.level in (Level.RESOURCE, Level.SCOPE)
        rows = rows_of(spans, np.ones(spans.count, bool), values.level) if shared else None
        yield distinct(values, rows)


def _read(spans: Spans, wanted: Field) -> Values:
    """As conditions see a field, but a trace without a root has no root name."""
    if isinstance(wanted, Intrinsic) and wanted.id in _ROOTS:
        column = spans.frame.fixed(_ROOTS[wanted.id])
        assert isinstance(column, Strings)  # by the contract of Frame.fixed
        return Values(Level.TRACE, len(column), (Lane(Type.STRING, column),))
    return fields.read(spans, wanted)


def _in_any_order(batch: SpanBatch) -> Arranged:
    """Spans as they arrived, in a frame that is good for all but what whole traces say: arranging takes much longer."""
    none, no_rows = np.empty(0, np.int32), np.empty(0, np.int64)
    return Arranged(batch, none, none, none, no_rows, no_rows, 0)


# -- tags -----------------------------------------------------------------------------------------------------------------


def _parsed(tag: str) -> Field:
    try:
        return parse_field(tag)
    except TraceQLError as e:
        raise RequestError(f"please provide a valid tagName: failed to parse identifier {tag[:200]}: {e.reason}") from e


def _is_listed(field: Field) -> bool:
    return field.id in _LISTED if isinstance(field, Intrinsic) else field.scope is not Scope.PARENT


def _scoped(field: Field) -> tuple[Field, ...]:
    """Without a scope, an attribute is the span's or the resource's."""
    if isinstance(field, Attribute) and field.scope is Scope.UNSCOPED:
        return Attribute(Scope.SPAN, field.name), Attribute(Scope.RESOURCE, field.name)
    return (field,)


def _keywords(request: TagValuesRequest, own: Static | None) -> tuple[TagValue, ...]:
    words = [w for w in KEYWORDS[request.tag] if own is None or own.value == w]
    return tuple(TagValue("keyword", word) for word in words[: request.limit or None])
