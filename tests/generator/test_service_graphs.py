"""Service graphs: which spans make an edge, how it is labelled, what becomes of sides that stay alone."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from builders import NOON, SECOND, Pairs, request, span
from room import CLIENT, CONSUMER, ERROR, INTERNAL, PRODUCER, SERVER, Labels, Room

from vivace.generator.edges import Events, match
from vivace.generator.settings import Match, Multiplier, Policy, ServiceGraphsSettings
from vivace.model.proto import otlp_pb2

REQUESTS = "traces_service_graph_request_total"
FAILED = "traces_service_graph_request_failed_total"

Request = otlp_pb2.ExportTraceServiceRequest


def made(**settings: Any) -> Room:
    return Room("service-graphs", service_graphs=ServiceGraphsSettings(**settings))


def of(service: str, *spans: otlp_pb2.Span, **resource: Any) -> Request:
    return request(*spans, resource={"service.name": service, **resource})


def client(id: int = 1, parent: int = 9, kind: int = CLIENT, **fields: Any) -> otlp_pb2.Span:
    return span(1, id, parent, kind=kind, **fields)


def server(parent: int = 1, id: int = 100, kind: int = SERVER, **fields: Any) -> otlp_pb2.Span:
    return span(1, id, parent, kind=kind, **fields)


def edges(room: Room) -> list[tuple[str, str, str, float]]:
    return [
        (labels["client"], labels["server"], labels.get("connection_type", ""), n)
        for labels, n in room.values(REQUESTS)
    ]


PAIR = ("a", "b", "", 1.0)
QUEUE = ("a", "b", "messaging_system", 1.0)

# name -> (requests in order, edges at once, edges after the wait, expired)
CASES: dict[str, tuple[list[Request], list[Any], list[Any], int]] = {
    "client, server": ([of("a", client()), of("b", server())], [PAIR], [PAIR], 0),
    "server, client": ([of("b", server()), of("a", client())], [PAIR], [PAIR], 0),
    "two calls": (
        [of("a", client(1), client(2)), of("b", server(2), server(1, 101))],
        [("a", "b", "", 2.0)], [("a", "b", "", 2.0)], 0,
    ),
    "other kinds": ([of("a", client(kind=INTERNAL)), of("b", server(kind=0))], [], [], 0),
    "no service name": ([request(client()), of("b", server())], [], [], 1),
    "message": ([of("a", client(kind=PRODUCER)), of("b", server(kind=CONSUMER))], [QUEUE], [QUEUE], 0),
    "message, read by a server": ([of("a", client(kind=PRODUCER)), of("b", server())], [QUEUE], [QUEUE], 0),
    "one message, two consumers": (
        [of("a", client(kind=PRODUCER)), of("b", server(kind=CONSUMER)), of("c", server(1, 101, kind=CONSUMER))],
        [QUEUE], [QUEUE], 1,
    ),
    "two consumers before the producer": (
        [of("c", server(1, 101, kind=CONSUMER)), of("b", server(kind=CONSUMER)), of("a", client(kind=PRODUCER))],
        [QUEUE], [QUEUE], 0,
    ),
    "a client twice": ([of("x", client()), of("a", client()), of("b", server())], [PAIR], [PAIR], 0),
    "client, server, client, server": (
        [of("a", client()), of("b", server()), of("a", client()), of("b", server())],
        [("a", "b", "", 2.0)], [("a", "b", "", 2.0)], 0,
    ),
    "root server": ([of("b", server(0))], [], [("user", "b", "virtual_node", 1.0)], 0),
    "root server with a peer": (
        [of("b", server(0, attributes={"peer.service": "browser"}))], [], [("browser", "b", "virtual_node", 1.0)], 0,
    ),
    "server with a lost parent": ([of("b", server(5))], [], [], 1),
    "client with a peer": (
        [of("a", client(attributes={"peer.service": "pay"}))], [], [("a", "pay", "virtual_node", 1.0)], 0,
    ),
    "a peer on the resource does not count": ([of("a", client(), **{"peer.service": "pay"})], [], [], 1),
    "client without a peer": ([of("a", client())], [], [], 1),
    "database": ([of("a", client(attributes={"db.system": "pg"}))],
                 [("a", "pg", "database", 1.0)], [("a", "pg", "database", 1.0)], 0),
    "database by its first attribute": (
        [of("a", client(attributes={"db.system": "pg", "db.name": "shop"}))],
        [("a", "shop", "database", 1.0)], [("a", "shop", "database", 1.0)], 0,
    ),
    "database with an address": (
        [of("a", client(attributes={"db.system": "pg", "server.address": "db1", "network.peer.address": "10.0.0.1"}))],
        [("a", "db1", "database", 1.0)], [("a", "db1", "database", 1.0)], 0,
    ),
    "database with a peer address": (
        [
            of("a", client(1, attributes={"db.system": "pg", "network.peer.address": "10.0.0.1", "network.peer.port": 5432})),
            of("a", client(2, attributes={"db.system": "pg", "network.peer.address": "10.0.0.1"})),
        ],
        [("a", "10.0.0.1", "database", 1.0), ("a", "10.0.0.1:5432", "database", 1.0)],
        [("a", "10.0.0.1", "database", 1.0), ("a", "10.0.0.1:5432", "database", 1.0)], 0,
    ),
    "database with a peer service": (
        [of("a", client(attributes={"db.system": "pg", "peer.service": "main", "server.address": "db1"}))],
        [("a", "main", "database", 1.0)], [("a", "main", "database", 1.0)], 0,
    ),
    "a server of a database is none": ([of("b", server(5, attributes={"db.system": "pg"}))], [], [], 1),
    "a database without a name": ([of("a", client(attributes={"db.name": ""}))], [], [], 1),
    "database, then its server": (
        [of("a", client(attributes={"db.system": "pg"})), of("b", server())],
        [("a", "pg", "database", 1.0)], [("a", "pg", "database", 1.0)], 1,
    ),
    "server, then its database client": (
        [of("b", server()), of("a", client(attributes={"db.system": "pg"}))],
        [("a", "pg", "database", 1.0)], [("a", "pg", "database", 1.0)], 0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "in several batches"])
@pytest.mark.parametrize("case", CASES)
def test_edges(case: str, together: bool) -> None:
    requests, at_once, at_last, expired = CASES[case]
    room = made()
    for group in [requests] if together else [[r] for r in requests]:
        room.send(*group)
    assert edges(room) == at_once
    room.wait(10)
    room.wait(2)
    assert edges(room) == at_last
    assert room.counted[("edges_expired",)] == expired


def test_sides_wait_no_longer_than_they_should() -> None:
    room = made(wait=10)
    room.send(of("a", client()))
    room.wait(9)
    room.send(of("b", server()))
    assert edges(room) == [PAIR]
    room.send(of("a", client()))
    room.wait(11)
    room.send(of("b", server()))
    assert edges(room) == [PAIR]
    assert room.counted[("edges_expired",)] == 1


def test_a_side_that_comes_twice_waits_from_the_first_time_on() -> None:
    room = made(wait=10)
    room.send(of("a", client()))
    room.wait(6)
    room.send(of("a", client()))
    room.wait(5)
    assert room.counted[("edges_expired",)] == 1


def test_what_waits_outlives_its_dictionary() -> None:
    room = made(dimensions=("zone",))
    room.send(of("a", client(), zone="eu"))
    room.dictionary = type(room.dictionary)()
    room.send(of("filler", span(kind=INTERNAL)))
    room.send(of("b", server()))
    assert room.values(REQUESTS) == [({"client": "a", "server": "b", "zone": "eu"}, 1)]


def test_latencies_and_failures() -> None:
    room = made()
    room.send(of("a", client(duration=SECOND)), of("b", server(duration=SECOND // 2, status=ERROR)))
    room.send(of("a", client(2, duration=SECOND)), of("b", server(2, 101)))
    room.send(of("c", client(3, attributes={"db.system": "pg"}, duration=SECOND, status=ERROR)))
    room.send(of("d", server(0, duration=SECOND)))
    room.wait(10)
    received = room.collect()
    labels = ("a", "b"), ("c", "pg"), ("user", "d")

    def of_edges(name: str) -> list[float]:
        found = {(dict(s)["client"], dict(s)["server"]): v for s, v in received.of(name).items()}
        return [found.get(pair, -1) for pair in labels]

    assert of_edges(REQUESTS) == [2, 1, 1]
    assert of_edges(FAILED) == [1, 1, -1]
    assert of_edges("traces_service_graph_request_client_seconds_sum") == [2, 1, 0]
    assert of_edges("traces_service_graph_request_server_seconds_sum") == [pytest.approx(0.500001), 1, 1]
    assert of_edges("traces_service_graph_request_client_seconds_count") == [2, 1, 1]


def test_time_between_producer_and_consumer() -> None:
    room = made(messaging_latency=True)
    name = "traces_service_graph_request_messaging_system_seconds"
    room.send(of("a", client(kind=PRODUCER, duration=SECOND)), of("b", server(kind=CONSUMER, start=NOON + 3 * SECOND)))
    room.send(of("a", client(2, kind=PRODUCER, duration=SECOND)), of("b", server(2, 101, kind=CONSUMER)))
    assert room.values(f"{name}_sum")[0][1] == 2
    assert room.values(f"{name}_count")[0][1] == 1


DIMENSIONS: list[tuple[dict[str, Any], Pairs, Pairs, Labels]] = [
    ({}, {"zone": "x"}, {"zone": "y"}, {"zone": "y"}),
    ({}, {"zone": "x"}, {}, {"zone": "x"}),
    ({}, {}, {"zone": 5}, {"zone": "5"}),
    ({}, {}, {}, {}),
    ({"side_prefix": True}, {"zone": "x"}, {"zone": "y"}, {"client_zone": "x", "server_zone": "y"}),
    ({"side_prefix": True}, {"zone": "x"}, {}, {"client_zone": "x"}),
]


@pytest.mark.parametrize(("settings", "of_client", "of_server", "labels"), DIMENSIONS)
def test_dimensions(settings: dict[str, Any], of_client: Pairs, of_server: Pairs, labels: Labels) -> None:
    room = made(dimensions=("zone",), **settings)
    room.send(of("a", client(attributes=of_client)), of("b", server(attributes=of_server)))
    assert room.values(REQUESTS) == [({"client": "a", "server": "b", **labels}, 1)]


@pytest.mark.parametrize("last", ["client", "server"])
def test_the_later_side_fills_a_shared_label(last: str) -> None:
    room = made(dimensions=("service.name",))
    sides = [of("a", client()), of("b", server())]
    room.send(*(sides if last == "server" else reversed(sides)))
    ((labels, _),) = room.values(REQUESTS)
    assert labels["service_name"] == ("b" if last == "server" else "a")


def test_virtual_node_label() -> None:
    room = made(virtual_node_label=True)
    room.send(of("b", server(0)), of("a", client(attributes={"peer.service": "pay"})))
    room.send(of("c", client(7, attributes={"db.system": "pg"})))
    room.wait(10)
    found = {labels["client"]: labels.get("virtual_node") for labels, _ in room.values(REQUESTS)}
    assert found == {"user": "client", "a": "server", "c": None}


def test_more_than_may_wait() -> None:
    room = made(items_max=3)
    room.send(*(of("a", client(n)) for n in range(1, 6)))
    assert room.counted[("edges_dropped",)] == 2
    assert room.counted[("edges",)] == 3
    room.send(*(of("b", server(n, 100 + n)) for n in range(1, 6)))
    assert edges(room) == [("a", "b", "", 3.0)]


def test_weights_and_policies() -> None:
    room = made(multiplier=Multiplier("ratio"), policies=(Policy(exclude=Match(False, (("name", "skip"),))),))
    room.send(
        of("a", client(attributes={"ratio": 0.5})), of("b", server(attributes={"ratio": 0.25})),
        of("a", client(2, name="skip")), of("b", server(2, 101)),
    )  # fmt: skip
    assert edges(room) == [("a", "b", "", 4.0)]
    assert room.counted["discarded", "service_graphs_filtered", "service-graphs"] == 1


def test_numbers_are_renewed_with_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vivace.generator.texts.TEXTS_MAX", 10)
    room = made(dimensions=("zone",))
    room.send(of("a", client(), zone="eu"))
    for n in range(20):
        room.send(of(f"service {n}", server(0, 200 + n, attributes={"peer.service": f"peer {n}"})))
    room.send(of("b", server()))
    assert ({"client": "a", "server": "b", "zone": "eu"}, 1) in room.values(REQUESTS)


# ---- matching against the rules, one event at a time ----


def plainly(events: list[tuple[int, str]]) -> tuple[set[tuple[int, int]], list[int]]:
    """(edges as (client, server), waiting): events are (key, side), side C, S or D for a call to a database."""
    held: dict[int, int] = {}
    found = set()
    for number, (key, side) in enumerate(events):
        other = held.pop(key, None)
        if side == "D":
            found.add((number, other if other is not None and events[other][1] == "S" else -1))
        elif other is None or events[other][1] == side:
            held[key] = number
        else:
            found.add((number, other) if side == "C" else (other, number))
    return found, sorted(held.values())


@pytest.mark.parametrize("seed", range(30))
def test_matching(seed: int) -> None:
    source = random.Random(seed)
    drawn = [(source.randrange(1, 12 + seed * 10), source.choice("CSSD" if seed % 2 else "CS")) for _ in range(60)]
    none = Events.none(0)
    events = replace(
        none,
        key=np.array([key * 0x9E3779B97F4A7C15 % 2**64 for key, _ in drawn], np.uint64),
        arrived=np.arange(60.0),
        is_client=np.array([side != "S" for _, side in drawn]),
        is_database=np.array([side == "D" for _, side in drawn]),
    )
    found = match(events)
    want_edges, want_waiting = plainly(drawn)
    got = set(zip(found.client.tolist(), found.server.tolist(), strict=True))
    assert (got, found.waiting.tolist()) == (want_edges, want_waiting)
    assert (found.last == np.maximum(found.client, found.server)).all()
    assert (found.first == np.minimum(found.client, found.server)).all()


def test_nothing_matches_nothing() -> None:
    found = match(Events.none(2))
    assert [len(x) for x in (found.client, found.server, found.waiting)] == [0, 0, 0]
