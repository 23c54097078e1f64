"""Spans, blocks and stores in few words, for tests: only what a test says of a span matters to it.

`span()` and `request()` make OTLP messages, `batch()` decodes them as the receivers do, `contents()` tells what a batch or
an answer holds in a form that two of them can be compared by, whatever their order and their dictionaries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

from vivace.ingest.decode import decoder
from vivace.ingest.replay import replay
from vivace.model.arrange import arrange
from vivace.model.batch import SpanBatch
from vivace.model.dictionary import Dictionary
from vivace.model.encode import encode
from vivace.model.proto import otlp_pb2
from vivace.model.schema import AttributeScope
from vivace.storage.block_reader import Block
from vivace.storage.block_writer import BlockWriter, count_keys
from vivace.storage.catalog import Catalog
from vivace.storage.disk import DiskBudget
from vivace.storage.layout import choose_columns
from vivace.storage.store import CutSettings, Observers, Store
from vivace.storage.wal import Wal

SECOND = 1_000_000_000
NOON = 1_763_812_800 * SECOND
"""The start of spans that do not say one: 2025-11-22 12:00 UTC."""

TENANT = "t"

Value = str | int | float | bool | bytes | list[Any] | dict[str, Any] | None
Pairs = Mapping[str, Value] | Sequence[tuple[str, Value]]
"""Attributes; as a list of pairs where a key comes twice. None is the value that is not set."""

# -- OTLP -------------------------------------------------------------------------------------------------------------


def trace_id(number: int) -> bytes:
    return number.to_bytes(16)


def set_value(to: otlp_pb2.AnyValue, value: Value) -> None:
    match value:
        case None:
            to.SetInParent()
        case bool():
            to.bool_value = value
        case str():
            to.string_value = value
        case int():
            to.int_value = value
        case float():
            to.double_value = value
        case bytes():
            to.bytes_value = value
        case list():
            to.array_value.SetInParent()
            for each in value:
                set_value(to.array_value.values.add(), each)
        case dict():
            to.kvlist_value.SetInParent()
            set_pairs(to.kvlist_value.values, value)


def set_pairs(to: Any, pairs: Pairs) -> None:
    for key, value in pairs.items() if isinstance(pairs, Mapping) else pairs:
        pair = to.add()
        pair.key = key
        set_value(pair.value, value)


def span(
    trace: int = 1,
    id: int = 1,
    parent: int = 0,
    *,
    start: int = NOON,
    duration: int = 1000,
    attributes: Pairs = (),
    events: Iterable[otlp_pb2.Span.Event] = (),
    links: Iterable[otlp_pb2.Span.Link] = (),
    status: tuple[int, str] = (0, ""),
    **fields: Any,
) -> otlp_pb2.Span:
    """`fields` are fields of the Span message as they are; times are nanoseconds."""
    made = otlp_pb2.Span(
        trace_id=trace_id(trace),
        span_id=id.to_bytes(8),
        parent_span_id=parent.to_bytes(8) if parent else b"",
        start_time_unix_nano=start,
        end_time_unix_nano=start + duration,
        events=events,
        links=links,
        **fields,
    )
    made.status.code, made.status.message = status  # type: ignore[assignment]
    set_pairs(made.attributes, attributes)
    return made


def event(name: str = "e", time: int = NOON, attributes: Pairs = (), **fields: Any) -> otlp_pb2.Span.Event:
    made = otlp_pb2.Span.Event(name=name, time_unix_nano=time, **fields)
    set_pairs(made.attributes, attributes)
    return made


def link(trace: bytes = b"", span: bytes = b"", attributes: Pairs = (), **fields: Any) -> otlp_pb2.Span.Link:
    made = otlp_pb2.Span.Link(trace_id=trace, span_id=span, **fields)
    set_pairs(made.attributes, attributes)
    return made


def request(
    *spans: otlp_pb2.Span,
    resource: Pairs = (),
    resource_url: str = "",
    scope: str = "",
    version: str = "",
    scope_attributes: Pairs = (),
    scope_url: str = "",
    dropped: int = 0,
) -> otlp_pb2.ExportTraceServiceRequest:
    """All spans under one resource and one scope; `dropped` attributes are said of both."""
    made = otlp_pb2.ExportTraceServiceRequest()
    group = made.resource_spans.add(schema_url=resource_url)
    set_pairs(group.resource.attributes, resource)
    group.resource.dropped_attributes_count = dropped
    scoped = group.scope_spans.add(schema_url=scope_url)
    scoped.scope.name, scoped.scope.version = scope, version
    scoped.scope.dropped_attributes_count = dropped
    set_pairs(scoped.scope.attributes, scope_attributes)
    scoped.spans.extend(spans)
    return made


def batch(*requests: otlp_pb2.ExportTraceServiceRequest, dictionary: Dictionary | None = None) -> SpanBatch:
    """The requests decoded as one group."""
    made, outcomes = decoder(dictionary or Dictionary(), 0).decode([r.SerializeToString() for r in requests])
    assert all(o.error is None and not o.rejected for o in outcomes), outcomes
    return made


def contents(*held: SpanBatch | bytes | otlp_pb2.ExportTraceServiceRequest) -> list[bytes]:
    """Every span with its resource and scope, one byte string each, sorted: equal for equal spans in any order.

    The order of attributes says nothing in OTLP, so it is sorted away; that of events and links is kept.
    """
    found = []
    for each in held:
        message = each
        if isinstance(each, SpanBatch):
            message = otlp_pb2.ExportTraceServiceRequest.FromString(encode(each))
        elif isinstance(each, bytes):
            message = otlp_pb2.ExportTraceServiceRequest.FromString(each)
        assert isinstance(message, otlp_pb2.ExportTraceServiceRequest)
        for group in message.resource_spans:
            sort_pairs(group.resource)
            for scoped in group.scope_spans:
                sort_pairs(scoped.scope)
                head = [group.resource, scoped.scope]
                urls = f"{group.schema_url}|{scoped.schema_url}".encode()
                for each_span in scoped.spans:
                    for owner in (each_span, *each_span.events, *each_span.links):
                        sort_pairs(owner)
                    each_span.status.SetInParent()
                    found.append(b"\n".join([*(m.SerializeToString() for m in (each_span, *head)), urls]))
    return sorted(found)


def sort_pairs(owner: Any) -> None:
    pairs = sorted(owner.attributes, key=lambda pair: pair.SerializeToString())
    del owner.attributes[:]
    owner.attributes.extend(pairs)


# -- blocks -----------------------------------------------------------------------------------------------------------


def write_block(
    directory: Path,
    spans: SpanBatch,
    id: str = "block",
    *,
    tenant: str = TENANT,
    wal_until: int = 0,
    created: int = NOON,
    replaces: tuple[str, ...] = (),
) -> Block:
    """The spans as a block in `directory`, as a cut would write them."""
    rows = {
        AttributeScope.SPAN: len(spans),
        AttributeScope.EVENT: len(spans.events),
        AttributeScope.LINK: len(spans.links),
    }
    span_bytes = (spans.nbytes + spans.dictionary.nbytes) // len(spans)
    writer = BlockWriter(directory, id, choose_columns(count_keys(spans), rows), span_bytes=span_bytes)
    writer.append(arrange(spans))
    path, meta = writer.finish(
        tenant=tenant, wal_until=wal_until, level=0, created_unix_nano=created, replaces=replaces
    )
    return Block(path, meta)


def all_rows(block: Block) -> SpanBatch:
    return block.rows(0, block.meta.span_count)


def flip_byte(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0xFF
    path.write_bytes(data)


# -- a store ----------------------------------------------------------------------------------------------------------


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds

    def now_unix_nano(self) -> int:
        return NOON + int((self.seconds - 1000) * SECOND)


class House:
    """A store in a directory, with what it needs; `open()` again after `crash()` is a restart."""

    def __init__(self, directory: Path, *, head_bytes_max: int = 64 << 20, cap: int = 1 << 40) -> None:
        self.directory = directory
        self.clock = Clock()
        self.head_bytes_max = head_bytes_max
        self.cap = cap
        self.segment_bytes_max = 64 << 20
        self.quarantined = 0
        self.duplicates = 0
        self._ids = count(1)  # next() of it is one step: two threads never get the same number
        self.open()

    def open(self, after_group: Callable[[], None] = lambda: None) -> None:
        """Build the parts and replay the WAL, as the service does at its start."""
        blocks, wal = self.directory / "blocks", self.directory / "wal"
        self.catalog = Catalog(blocks, on_quarantine=self._count_quarantined)
        blocks.mkdir(parents=True, exist_ok=True)
        self.disk = DiskBudget(blocks, {"blocks": blocks, "wal": wal}, cap=self.cap, floor=0)
        self.wal = Wal(wal, sync=False, segment_bytes_max=self.segment_bytes_max)
        self.store = Store(
            wal=self.wal,
            catalog=self.catalog,
            disk=self.disk,
            cut=CutSettings(self.head_bytes_max, timedelta(seconds=5), timedelta(seconds=30), timedelta(minutes=30)),
            observers=Observers(lambda seconds: None, lambda: None, self._count_duplicates),
            clock=self.clock,
            now_unix_nano=self.clock.now_unix_nano,
            new_id=self.new_id,
        )
        self.catalog.open()
        self.store.check_claims()
        self.disk.rescan()
        replay(self.wal.replay(), self.store, attribute_bytes_max=lambda tenant: 0, after_group=after_group)
        self.store.replay_done()

    def _count_quarantined(self) -> None:
        self.quarantined += 1

    def _count_duplicates(self, tenant: str, spans: int) -> None:
        self.duplicates += spans

    def new_id(self) -> str:
        """Ascending, and not that of a block that is there. Cutter and keeper ask for ids at the same time."""
        for number in self._ids:
            if not list((self.directory / "blocks").glob(f"*/{number:04}*")):
                return f"{number:04}"
        raise AssertionError("count() has no end")

    def send(self, *requests: otlp_pb2.ExportTraceServiceRequest, tenant: str = TENANT) -> None:
        """Acknowledge requests: log and publish them as one group, on the writer thread."""
        self.store.writer.submit(self._commit, requests, tenant).result()

    def _commit(self, requests: Sequence[otlp_pb2.ExportTraceServiceRequest], tenant: str) -> None:
        decoded = batch(*requests, dictionary=self.store.dictionary(tenant))
        sequences = self.store.append([(tenant, r.SerializeToString()) for r in requests])
        self.store.publish(tenant, decoded, sequences.start)

    def contents(self, tenant: str = TENANT) -> list[bytes]:
        """All that a query could see now, from one snapshot."""
        with self.store.snapshot(tenant) as seen:
            return contents(*(p.batch for p in seen.parts), *(all_rows(b) for b in seen.blocks))

    def crash(self) -> None:
        """As after kill -9: nothing is finished, only the lock of the WAL and the thread go."""
        self.store.writer.shutdown(wait=True)
        self.wal.close()

    def restart(self) -> None:
        self.crash()
        self.open()


@contextmanager
def house(directory: Path, **options: Any) -> Any:
    """A House that is closed again, so that no thread and no lock outlives the test."""
    made = House(directory, **options)
    try:
        yield made
    finally:
        made.crash()
