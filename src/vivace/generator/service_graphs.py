"""The service-graphs processor: requests between services, counted once both sides are known or one has waited long enough.

Rule 1  sides are matched a batch at a time (edges.py); what is left over waits in `_waiting`, at most `items_max`.
Rule 2  a side that waited `wait` seconds becomes an edge to a virtual node where the rules allow it, else it expires.
Rule 3  what waits is held in numbers of Texts, so it outlives the dictionary of its batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vivace.generator.columns import Columns
from vivace.generator.combinations import Combinations
from vivace.generator.edges import Events, keys, match, take
from vivace.generator.labels import Label, LabelPlan
from vivace.generator.metrics import F64, Counter
from vivace.generator.policies import SpanFilter, Weigher
from vivace.generator.registry import Registry, histograms
from vivace.generator.settings import ServiceGraphsSettings
from vivace.generator.table import Table
from vivace.generator.texts import ABSENT, EMPTY, Texts
from vivace.generator.values import label_name
from vivace.model.attributes import I32, I64, U64
from vivace.model.schema import NO_PARENT

REQUESTS = "traces_service_graph_request_total"
FAILED = "traces_service_graph_request_failed_total"
SERVER = "traces_service_graph_request_server_seconds"
CLIENT = "traces_service_graph_request_client_seconds"
MESSAGING = "traces_service_graph_request_messaging_system_seconds"

EXPIRY_SECONDS = 2.0
"""How often what waits is looked through; Tempo's period."""

_UNKNOWN_CLIENT = "user"

KIND_SERVER, KIND_CLIENT, KIND_PRODUCER, KIND_CONSUMER = 2, 3, 4, 5
STATUS_ERROR = 2


@dataclass(frozen=True, slots=True)
class GraphObserver:
    """What the processor reports: numbers of edges, and of spans."""

    edges: Callable[[int], None] = lambda n: None
    expired: Callable[[int], None] = lambda n: None
    dropped: Callable[[int], None] = lambda n: None
    filtered: Callable[[int], None] = lambda n: None


@dataclass(frozen=True, slots=True)
class Edges:
    """Edges to count. Names and labels are numbers of Texts; `dimensions` is (edges, labels)."""

    client: I32
    server: I32
    connection: I32
    virtual_node: I32
    dimensions: NDArray[np.int32]
    client_seconds: F64
    server_seconds: F64
    messaging_seconds: F64
    failed: NDArray[np.bool_]
    weight: F64
    trace_high: U64
    trace_low: U64

    def __len__(self) -> int:
        return len(self.client)


class ServiceGraphs:
    """One tenant's service graph. Implements instance.Processor."""

    name = "service-graphs"

    def __init__(
        self,
        settings: ServiceGraphsSettings,
        registry: Registry,
        texts: Texts,
        random: np.random.Generator,
        observer: GraphObserver,
    ) -> None:
        """Raises ConfigError when the filter policies cannot be used."""
        self._settings = settings
        self._texts = texts
        self._observer = observer
        self._filter = SpanFilter(settings.policies)
        self._weigher = Weigher(settings.multiplier)
        self._seeds = random.integers(1 << 63, size=3, dtype=np.uint64) | np.uint64(1)
        self._waiting: Events = Events.none(len(settings.dimensions))
        self._scanned = -np.inf
        self._plan = label_plan(settings, {name for name, _ in registry.external_labels})
        self._requests, self._failed = Counter(REQUESTS), Counter(FAILED, optional=True)
        self._server = histograms([SERVER], settings.histogram)
        self._client = histograms([CLIENT], settings.histogram)
        self._messaging = (
            histograms([MESSAGING], settings.histogram, optional=True) if settings.messaging_latency else ()
        )
        metrics = [self._requests, self._failed, *self._server, *self._client, *self._messaging]
        self._table = registry.add(self._plan.names, metrics)
        self._rows = Combinations(self._resolve, random)
        self.tables: tuple[Table, ...] = (self._table,)

    def _resolve(self, columns: list[I32]) -> list[int]:
        return self._table.rows_of(self._plan.label_sets(columns, self._texts))

    @property
    def waiting(self) -> int:
        """Sides without their other side."""
        return len(self._waiting)

    def rows_changed(self) -> None:
        """Rows of the table were freed."""
        self._rows.forget()

    def renew(self, texts: Texts) -> None:
        """Numbers of another Texts from now on; what waits takes its texts along."""
        old, self._texts = self._texts, texts
        waiting = self._waiting
        self._waiting = replace(
            waiting,
            service=_renumbered(waiting.service, old, texts),
            peer=_renumbered(waiting.peer, old, texts),
            database_name=_renumbered(waiting.database_name, old, texts),
            dimensions=_renumbered(waiting.dimensions, old, texts),
        )
        self._rows.forget()

    # -- spans to edges ---------------------------------------------------------------------------------------------

    def process(self, columns: Columns, now: float) -> None:
        """Match the spans of one batch, in their order, with each other and with what waits."""
        waited = len(self._waiting)
        new = self._events(columns, now)
        events = self._waiting.followed_by(new) if waited else new
        found = match(events)
        self._count(self._complete(events, found.client, found.server, found.first, found.last), now)
        made = len(found.client) + len(found.waiting) - waited
        kept = found.waiting[: self._settings.items_max]
        dropped = len(found.waiting) - len(kept)
        self._waiting = events.rows(kept)
        if dropped:
            self._observer.dropped(dropped)
        if made - dropped > 0:
            self._observer.edges(made - dropped)

    def _events(self, columns: Columns, now: float) -> Events:
        """The sides among the spans of a batch."""
        batch, settings = columns.batch, self._settings
        kind = batch.kind
        is_client = (kind == KIND_CLIENT) | (kind == KIND_PRODUCER)
        is_side = is_client | (kind == KIND_SERVER) | (kind == KIND_CONSUMER)
        mask = self._filter.passing(columns)
        if mask is not None:
            self._observer.filtered(int(np.count_nonzero(is_side & ~mask)))
            is_side &= mask
        rows = np.flatnonzero(is_side & (columns.service > EMPTY))
        weights = self._weigher.weights(columns)
        is_client, is_messaging = is_client[rows], kind[rows] >= KIND_PRODUCER

        high, low = batch.trace_id_high[rows], batch.trace_id_low[rows]
        parent = batch.parent_span_id[rows]
        database = columns.first_of(settings.database_attributes)[rows]
        is_database = is_client & (database > EMPTY)
        dimensions = [columns.attribute(key)[rows] for key in settings.dimensions]
        return Events(
            key=keys(high, low, np.where(is_client, batch.span_id[rows], parent), self._seeds),
            arrived=np.full(len(rows), now),
            trace_high=high,
            trace_low=low,
            moment=np.where(is_client, batch.end_time_unix_nano[rows], batch.start_time_unix_nano[rows]),
            seconds=columns.duration_nano[rows] / 1e9,
            weight=np.ones(len(rows)) if weights is None else weights[rows],
            service=columns.service[rows],
            peer=columns.first_of(settings.peer_attributes, columns.span_attribute)[rows],
            database_name=_database_name(columns, rows, database) if is_database.any() else database,
            dimensions=np.stack(dimensions, axis=1) if dimensions else np.empty((len(rows), 0), np.int32),
            is_client=is_client,
            is_database=is_database,
            is_messaging=is_messaging,
            is_root=parent == NO_PARENT,
            failed=batch.status_code[rows] == STATUS_ERROR,
        )

    def _complete(self, events: Events, client: I64, server: I64, first: I64, last: I64) -> Edges:
        """Edges between events, given by their indexes, -1 for a side that is not there; `last` always is."""
        is_database = take(events.is_database, client, False)
        is_messaging = take(events.is_messaging, client, False) | take(events.is_messaging, server, False)
        connection = np.where(is_messaging, self._texts.number("messaging_system"), ABSENT)
        connection = np.where(is_database, self._texts.number("database"), connection)
        client_seconds = take(events.seconds, client, 0.0)
        server_seconds = take(events.seconds, server, 0.0)
        messaging = np.zeros(len(client))
        if self._messaging and len(events):
            both = is_messaging & ~is_database & (client >= 0) & (server >= 0)
            between = (events.moment[server] - events.moment[client]).view(np.int64) / 1e9
            messaging = np.where(both, between, 0.0)
        return Edges(
            client=take(events.service, client, ABSENT),
            server=np.where(
                is_database, take(events.database_name, client, ABSENT), take(events.service, server, ABSENT)
            ),
            connection=connection.astype(np.int32),
            virtual_node=np.zeros(len(client), np.int32),
            dimensions=self._dimensions(events, client, server, first, last),
            client_seconds=client_seconds,
            server_seconds=np.where(is_database, client_seconds, server_seconds),
            messaging_seconds=messaging,
            failed=take(events.failed, client, False) | take(events.failed, server, False),
            weight=events.weight[last],
            trace_high=events.trace_high[last],
            trace_low=events.trace_low[last],
        )

    def _dimensions(self, events: Events, client: I64, server: I64, first: I64, last: I64) -> NDArray[np.int32]:
        """Both sides' dimensions beside each other, or else one set: what the later side says, or the earlier one."""
        values = events.dimensions
        if self._settings.side_prefix:
            return np.concatenate([_side(values, client), _side(values, server)], axis=1)
        late, early = _side(values, last), _side(values, first)
        return np.where(late == ABSENT, early, late)

    # -- waiting ----------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Let go of what waited long enough."""
        if now - self._scanned < EXPIRY_SECONDS:
            return
        self._scanned = now
        is_over = now - self._waiting.arrived >= self._settings.wait
        if not is_over.any():
            return
        over, self._waiting = self._waiting.rows(is_over), self._waiting.rows(~is_over)
        to_peer = over.is_client & (over.peer > EMPTY)
        from_root = ~over.is_client & over.is_root
        self._count(self._virtual(over.rows(to_peer | from_root)), now)
        expired = len(over) - int(np.count_nonzero(to_peer | from_root))
        if expired:
            self._observer.expired(expired)

    def _virtual(self, events: Events) -> Edges:
        """Edges from events to sides that were never seen: a client's peer, or whoever called a root server."""
        index = np.arange(len(events))
        is_client = events.is_client
        known = self._complete(
            events, np.where(is_client, index, -1), np.where(is_client, -1, index), np.full(len(events), -1), index
        )
        number = self._texts.number
        caller = np.where(events.peer > EMPTY, events.peer, number(_UNKNOWN_CLIENT))
        return Edges(
            client=np.where(is_client, known.client, caller).astype(np.int32),
            server=np.where(is_client, events.peer, known.server).astype(np.int32),
            connection=np.full(len(events), number("virtual_node"), np.int32),
            virtual_node=np.where(is_client, number("server"), number("client")).astype(np.int32),
            dimensions=known.dimensions,
            client_seconds=known.client_seconds,
            server_seconds=known.server_seconds,
            messaging_seconds=known.messaging_seconds,
            failed=known.failed,
            weight=known.weight,
            trace_high=known.trace_high,
            trace_low=known.trace_low,
        )

    # -- counting ---------------------------------------------------------------------------------------------------

    def _count(self, edges: Edges, now: float) -> None:
        if not len(edges):
            return
        rows = self._rows.rows(self._plan.columns(edges))
        self._requests.add(rows, edges.weight, now)
        failed = edges.failed
        self._failed.add(rows[failed], edges.weight[failed], now)
        high, low = edges.trace_high, edges.trace_low
        for metric in self._server:
            metric.observe(rows, edges.server_seconds, edges.weight, high, low, now)
        for metric in self._client:
            metric.observe(rows, edges.client_seconds, edges.weight, high, low, now)
        late = edges.messaging_seconds > 0
        for metric in self._messaging:
            metric.observe(rows[late], edges.messaging_seconds[late], edges.weight[late], high[late], low[late], now)


def _side(values: NDArray[np.int32], index: I64) -> NDArray[np.int32]:
    """Rows of a table of dimensions, ABSENT for the index -1."""
    if not len(values):
        return np.zeros((len(index), values.shape[1]), np.int32)
    return np.where((index >= 0)[:, None], values[index], ABSENT).astype(np.int32)


def _renumbered(numbers: NDArray[np.int32], old: Texts, new: Texts) -> NDArray[np.int32]:
    """The same texts, by the numbers of another Texts."""
    distinct, back = np.unique(numbers, return_inverse=True)
    made = [new.number(old.text(n)) if n != ABSENT else ABSENT for n in distinct.tolist()]
    return np.array(made, np.int32)[back].reshape(numbers.shape)


def _database_name(columns: Columns, rows: I64, database: I32) -> I32:
    """What a call to a database names as its server; `database` is its database attribute, of these rows."""
    name = columns.first_of(("peer.service", "server.address"))[rows]
    address = columns.attribute("network.peer.address")[rows]
    if address.any():
        port = columns.attribute("network.peer.port")[rows]
        distinct, back = np.unique(np.stack([address, port]), axis=1, return_inverse=True)
        texts = columns.texts
        joined = [":".join(filter(None, (texts.text(a), texts.text(p)))) for a, p in distinct.T.tolist()]
        full = np.array([texts.number(text) for text in joined], np.int32)[back.reshape(-1)]
        name = np.where((name == ABSENT) & (address != ABSENT), full, name)
    return np.where(name == ABSENT, database, name)


def label_plan(settings: ServiceGraphsSettings, taken: set[str]) -> LabelPlan[Edges]:
    """client, server, connection_type, virtual_node where asked for, then dimensions."""
    labels: list[Label[Edges]] = [
        Label("client", (lambda e: e.client,)),
        Label("server", (lambda e: e.server,)),
        Label("connection_type", (lambda e: e.connection,)),
    ]
    if settings.virtual_node_label:
        labels.append(Label("virtual_node", (lambda e: e.virtual_node,)))
    names = [label_name(key) for key in settings.dimensions]
    if settings.side_prefix:
        names = [f"client_{name}" for name in names] + [f"server_{name}" for name in names]
    labels += [Label(name, (_dimension(place),)) for place, name in enumerate(names)]
    return LabelPlan(labels, taken)


def _dimension(place: int) -> Callable[[Edges], I32]:
    return lambda edges: edges.dimensions[:, place]
