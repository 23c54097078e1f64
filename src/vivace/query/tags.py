"""Names of attributes, for editors.

Rule 1  without a filter no span is looked at: blocks tell their keys in meta.json, the head in its tables of pairs.
Rule 2  with a filter, a name counts when a span that satisfies it has the attribute; one of the span's events or links, its
        resource or its scope counts likewise. A name that was found is not looked for again.
Rule 3  a key whose value is not set is a name, too.
Rule 4  a range of time chooses blocks, row groups and parts of the head by their bounds, not single spans.

Keys of one source: tag_keys.py.  Values: tag_values.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from vivace.errors import CorruptionError, TraceQLError
from vivace.model.frame import LEVEL_OF_SCOPE
from vivace.model.schema import AttributeScope
from vivace.model.tenant import split
from vivace.query.answers import QueryCost, TagsAnswer, TagsRequest
from vivace.query.control import QueryControl
from vivace.query.plan import Plan
from vivace.query.search import COLUMN_BYTES, SPAN_BYTES
from vivace.query.sources import Source, SourceRoom
from vivace.query.spans import Spans
from vivace.query.tag_filters import expression_of, rows_of, spans_of, tag_filter
from vivace.query.tag_keys import WELL_KNOWN, KeyReader, keys_of_part
from vivace.query.visits import cost_of, outside, visited
from vivace.storage.column_cache import ColumnCache
from vivace.storage.store import Snapshot, Store

INTRINSICS = (
    "duration", "event:name", "event:timeSinceStart", "instrumentation:name", "instrumentation:version", "kind",
    "link:spanID", "link:traceID", "name", "rootName", "rootServiceName", "span:duration", "span:id", "span:kind",
    "span:name", "span:parentID", "span:status", "span:statusMessage", "status", "statusMessage", "trace:duration",
    "trace:id", "trace:rootName", "trace:rootService", "traceDuration",
)  # fmt: skip
"""Names of intrinsics, sorted; no limit shortens them."""

_ATTRIBUTES = {
    "": tuple(AttributeScope),
    "none": tuple(AttributeScope),
    "intrinsic": (),
    **{scope.value: (scope,) for scope in AttributeScope},
}
"""Attribute scopes by the scope that is asked for."""

Names = dict[AttributeScope, set[str]]


@dataclass(slots=True)
class _Run:
    """What a request has so far, by each scope that is asked for."""

    names: Names
    cost: QueryCost = field(default_factory=QueryCost)


class TagNames:
    """Lists names of one tenant, synchronously. `bytes_max` of a tenant: bytes of names in an answer, 0 is no limit."""

    def __init__(
        self, store: Store, room: SourceRoom, columns: ColumnCache, *, bytes_max: Callable[[str], int]
    ) -> None:
        self._store = store
        self._room = room
        self._keys = KeyReader(columns)
        self._bytes_max = bytes_max

    def run(self, tenant: str, request: TagsRequest, control: QueryControl) -> TagsAnswer:
        """Names by scope; fewer when the time is up. Raises QueryStoppedError when nobody waits any more."""
        try:
            planned = tag_filter(request.filter)
        except TraceQLError:
            return TagsAnswer({}, QueryCost())  # it cannot hold on any span
        state = _Run({scope: set() for scope in _ATTRIBUTES[request.scope]})
        if state.names:
            with self._store.snapshot(*split(tenant)) as snapshot:
                if planned is None:
                    _read_all(snapshot, request, state)
                else:
                    self._read_matching(snapshot, request, planned, control, state)
                    _add_well_known(snapshot, request, state)
        scopes = _within(state.names, request.limit, self._bytes_max(tenant))
        if request.scope in ("", "none", "intrinsic"):
            scopes["intrinsic"] = INTRINSICS
        return TagsAnswer(scopes, state.cost)

    def _read_matching(
        self, snapshot: Snapshot, request: TagsRequest, planned: Plan, control: QueryControl, state: _Run
    ) -> None:
        sources = self._room.sources(snapshot)
        state.cost = cost_of(snapshot, len(sources))
        for source in sources:
            if control.is_over():
                return
            if _can_add(source, request, planned, state):
                self._read_source(source, planned, control, state)
            else:
                state.cost = visited(state.cost, traces=0, spans=0, byte_count=0)

    def _read_source(self, source: Source, planned: Plan, control: QueryControl, state: _Run) -> None:
        needed = source.span_count * (SPAN_BYTES + COLUMN_BYTES * (1 + len(planned.reads)))
        with control.memory.reserved(needed, control) as granted:
            if not granted:
                return
            try:
                spans = Spans(source.open())
                mask = spans_of(source, spans, expression_of(planned))
                if mask.any():
                    for scope, names in state.names.items():
                        names |= self._keys.read(
                            source, spans, scope, rows_of(spans, mask, LEVEL_OF_SCOPE[scope]), names
                        )
            except CorruptionError as e:
                self._room.suspect(source, e)
                return
        state.cost = visited(
            state.cost, traces=source.trace_count, spans=source.span_count, byte_count=spans.frame.inspected_bytes
        )


def _read_all(snapshot: Snapshot, request: TagsRequest, state: _Run) -> None:
    state.cost = cost_of(snapshot, len(snapshot.parts) + len(snapshot.blocks))
    _collect(snapshot, request, state.names)
    state.cost = visited(state.cost, traces=0, spans=0, byte_count=0, jobs=state.cost.total_jobs)


def _collect(snapshot: Snapshot, request: TagsRequest, names: Names) -> None:
    """The names of all spans."""
    for part in snapshot.parts:
        batch = part.batch
        start, end = int(batch.start_time_unix_nano.min()), int(batch.end_time_unix_nano.max())
        if not outside(start, max(start, end), request.start_seconds, request.end_seconds):
            for scope, found in names.items():
                found |= keys_of_part(batch, scope)
    for block in snapshot.blocks:
        meta = block.meta
        if not outside(meta.start_time_unix_nano, meta.end_time_unix_nano, request.start_seconds, request.end_seconds):
            for stats in meta.keys:
                if stats.key.scope in names:
                    names[stats.key.scope].add(stats.key.name)


def _add_well_known(snapshot: Snapshot, request: TagsRequest, state: _Run) -> None:
    """Well-known names count if any span has them, and any span satisfies the filter."""
    if not any(state.names.values()):
        return
    of_all: Names = {scope: set() for scope in state.names}
    _collect(snapshot, request, of_all)
    for scope, found in state.names.items():
        found |= {name for name in of_all[scope] if WELL_KNOWN.get(name) is scope}


def _can_add(source: Source, request: TagsRequest, planned: Plan, state: _Run) -> bool:
    """Whether a source can have a name that was not found yet."""
    if outside(source.start_min, source.end_max, request.start_seconds, request.end_seconds):
        return False
    if source.block is None:
        return True
    keys: Iterable[tuple[AttributeScope, str]] = ((k.key.scope, k.key.name) for k in source.block.meta.keys)
    is_new = any(scope in state.names and name not in state.names[scope] for scope, name in keys)
    return is_new and planned.may_match(source.block)


def _within(names: Names, limit: int, bytes_max: int) -> dict[str, tuple[str, ...]]:
    """Sorted names, at most `limit` a scope and bytes_max bytes in all; 0 is no limit. Scopes without names are left out."""
    bytes_left = bytes_max
    kept: dict[str, tuple[str, ...]] = {}
    for scope, found in names.items():
        chosen: list[str] = []
        for name in sorted(found)[: limit or None]:
            bytes_left -= len(name.encode(errors="surrogatepass"))
            if bytes_max and bytes_left < 0:
                break
            chosen.append(name)
        if chosen:
            kept[scope.value] = tuple(chosen)
    return kept
