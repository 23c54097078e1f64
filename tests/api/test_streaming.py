"""gRPC queries on both ports: questions, parts of answers, statuses, hang-ups, bytes that are no requests."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from datetime import timedelta
from typing import Any

import grpc
import numpy as np
import pytest
from engines import NOW, Engines
from google.protobuf.message import Message
from stream_room import PORTS, RPCS, SlowEngines, ask, call, calls_of, refusal, run

from vivace.access import Credentials, Guard, Secret
from vivace.api.deps import QueryLimits
from vivace.api.grpc_server import HEALTH_SERVICE, SERVING
from vivace.api.stream_calls import CallError, encoded_text
from vivace.api.stream_parts import PACKET_BYTES_MAX, SearchParts, SeriesParts, packets
from vivace.api.streaming import SERVICE
from vivace.api.tenancy import tenant_from_header
from vivace.errors import InvariantError, LimitError, UnavailableError
from vivace.model.proto import tempopb_pb2 as pb
from vivace.query.answers import (
    Exemplar,
    LegacyTags,
    MetricsAnswer,
    QueryCost,
    SearchAnswer,
    Series,
    TagsAnswer,
    TagsRequest,
    TagValue,
    TagValuesAnswer,
    TagValuesRequest,
    TraceSummary,
)
from vivace.traceql import check, parse

SECOND = 10**9
WEEK = 168 * 3600


def trace(number: int, name: str = "GET /") -> TraceSummary:
    return TraceSummary(number, "web", name, start_unix_nano=number * SECOND, duration_nano=SECOND)


def found(*traces: TraceSummary, jobs: int = 0) -> SearchAnswer:
    return SearchAnswer(traces, QueryCost(completed_jobs=jobs, inspected_bytes=jobs))


def series(label: Any, samples: dict[int, float], *exemplars: Exemplar) -> Series:
    return Series((("l", label),), np.array([*samples]), np.array([*samples.values()], float), exemplars)


def made(*all_series: Series) -> MetricsAnswer:
    return MetricsAnswer(all_series, QueryCost(completed_jobs=1))


# -- questions --------------------------------------------------------------------------------------------------------

WITHIN = {"start_seconds": NOW - WEEK, "end_seconds": None}
SEARCHES: list[tuple[pb.SearchRequest, dict[str, Any]]] = [
    (pb.SearchRequest(), {"query": None, "tags": None, "limit": 20, "spans_max": 3, **WITHIN}),
    (pb.SearchRequest(Query="{ }", Limit=7, SpansPerSpanSet=5), {"limit": 7, "spans_max": 5}),
    (pb.SearchRequest(start=NOW - 9, end=NOW), {"start_seconds": NOW - 9, "end_seconds": NOW}),
    (pb.SearchRequest(Limit=2**32 - 1), {"limit": 2**31 - 1}),
    (pb.SearchRequest(Tags={"a": "b c"}), {"tags": LegacyTags({"a": "b c"})}),
    (pb.SearchRequest(MinDurationMs=5), {"tags": LegacyTags({}, 5_000_000)}),
    (
        pb.SearchRequest(Tags={"a": "b"}, MinDurationMs=5, MaxDurationMs=6),
        {"tags": LegacyTags({"a": "b"}, 5_000_000, 6_000_000)},
    ),
]
RANGE = {"start_unix_nano": (NOW - 3600) * SECOND, "end_unix_nano": NOW * SECOND}
RATE = "{ } | rate()"
METRICS: list[tuple[str, Message, dict[str, Any]]] = [
    ("Range", pb.QueryRangeRequest(query=RATE), {**RANGE, "step_nano": 15 * SECOND, "exemplars_max": 100}),
    ("Range", pb.QueryRangeRequest(query=RATE, end=NOW * SECOND), RANGE),
    (
        "Range",
        pb.QueryRangeRequest(query=RATE, step=60 * SECOND, exemplars=4),
        {"step_nano": 60 * SECOND, "exemplars_max": 4},
    ),
    ("Range", pb.QueryRangeRequest(query=RATE, maxSeries=3), {"series_max": 3}),
    ("Range", pb.QueryRangeRequest(query=RATE, step=2**64 - 1), {"step_nano": 2**63 - 1}),
    ("Instant", pb.QueryInstantRequest(query=RATE), {**RANGE, "instant": True, "exemplars_max": 0}),
    ("Instant", pb.QueryInstantRequest(query=RATE, start=5, end=9), {"start_unix_nano": 5, "end_unix_nano": 9}),
]
TAGS: list[tuple[str, Message, object]] = [
    ("SearchTags", pb.SearchTagsRequest(query="{ .a = 1 }"), TagsRequest("", "", NOW - WEEK)),
    (
        "SearchTagsV2",
        pb.SearchTagsRequest(scope="span", query="{ .a = 1 }", start=1, end=2, maxTagsPerScope=3),
        TagsRequest("span", "{ .a = 1 }", 1, 2, 3),
    ),
    ("SearchTagValues", pb.SearchTagValuesRequest(tagName="a", query="{ }"), TagValuesRequest("a", "", NOW - WEEK)),
    (
        "SearchTagValuesV2",
        pb.SearchTagValuesRequest(tagName="span.a", query="{ .a = 1 }", start=1, end=2, maxTagValues=3),
        TagValuesRequest("span.a", "{ .a = 1 }", 1, 2, 3),
    ),
]


async def drain(engines: Engines, rpc: str, request: Message | bytes, **changes: Any) -> list[bytes]:
    """All replies of a call, without a wire."""
    data = request if isinstance(request, bytes) else request.SerializeToString()
    return [reply async for reply in calls_of(engines, **changes)[f"/{SERVICE}/{rpc}"]([], data)]


@pytest.mark.parametrize(("request_", "asked"), SEARCHES)
def test_what_a_search_asks(request_: pb.SearchRequest, asked: dict[str, Any]) -> None:
    engines = Engines()
    asyncio.run(drain(engines, "Search", request_))
    assert {name: getattr(engines.asked[0], name) for name in asked} == asked


@pytest.mark.parametrize(("rpc", "request_", "asked"), METRICS)
def test_what_a_metrics_query_asks(rpc: str, request_: Message, asked: dict[str, Any]) -> None:
    engines = Engines()
    asyncio.run(drain(engines, f"MetricsQuery{rpc}", request_))
    assert {name: getattr(engines.asked[0], name) for name in asked} == asked


@pytest.mark.parametrize(("rpc", "request_", "asked"), TAGS)
def test_what_is_asked_of_tags(rpc: str, request_: Message, asked: object) -> None:
    engines = Engines()
    asyncio.run(drain(engines, rpc, request_))
    assert engines.asked == [asked]


# -- answers ----------------------------------------------------------------------------------------------------------

FULL = {
    "found": found(trace(2), trace(1), jobs=3),
    "tag_names": TagsAnswer({"resource": ("service.name",), "span": ("a",)}, QueryCost(total_blocks=2)),
    "tag_values": TagValuesAnswer((TagValue("int", "1"), TagValue("string", "x")), QueryCost(total_blocks=2)),
    "made": made(series("x", {1000: 0.5})),
}
FAST = {
    "Search": (
        pb.SearchRequest(),
        lambda r: [t.traceID for t in r.traces] == ["2", "1"] and r.metrics.completedJobs == 3,
    ),
    "SearchTags": (pb.SearchTagsRequest(), lambda r: [*r.tagNames] == ["a", "service.name"]),
    "SearchTagsV2": (pb.SearchTagsRequest(), lambda r: [s.name for s in r.scopes] == ["resource", "span"]),
    "SearchTagValues": (pb.SearchTagValuesRequest(tagName="a"), lambda r: [*r.tagValues] == ["1", "x"]),
    "SearchTagValuesV2": (
        pb.SearchTagValuesRequest(tagName=".a"),
        lambda r: r.tagValues[0] == pb.TagValue(type="int", value="1"),
    ),
    "MetricsQueryRange": (
        pb.QueryRangeRequest(query=RATE),
        lambda r: r.series[0].samples == [pb.Sample(value=0.5, timestamp_ms=1000)],
    ),
    "MetricsQueryInstant": (pb.QueryInstantRequest(query=RATE), lambda r: r.series[0].value == 0.5),
}


@pytest.mark.parametrize("port", PORTS)
def test_a_fast_query_gives_one_message(port: str) -> None:
    engines = SlowEngines(**FULL)  # type: ignore[arg-type]

    async def steps(addresses: dict[str, str]) -> None:
        for rpc, (request, holds) in FAST.items():
            engines.before = (found(trace(9)),) if rpc == "Search" else (made(series("y", {1: 1.0})),)
            replies = await ask(addresses[port], rpc, request)
            assert len(replies) == 1
            assert holds(replies[0]), (rpc, replies)
        engines.before, engines.found = (), found()
        assert await ask(addresses[port], "Search", pb.SearchRequest()) == [
            pb.SearchResponse(metrics=pb.SearchMetrics())
        ]

    run(steps, engines)
    text = engines.telemetry.render("")[0].decode()
    assert (
        'tempo_request_duration_seconds_count{method="gRPC",route="/tempopb.StreamingQuerier/Search",status_code="success",ws="false"} 2'
        in text
    )


@pytest.mark.parametrize("port", PORTS)
def test_a_slow_query_tells_how_it_gets_on(port: str) -> None:
    engines = SlowEngines(
        before=(found(trace(8)), found(trace(9), jobs=1)),
        found=found(trace(9), trace(3), jobs=2),
        hangs=True,
    )

    async def steps(addresses: dict[str, str]) -> None:
        async with grpc.aio.insecure_channel(addresses[port]) as channel:
            replies = []
            async for reply in call(channel, "Search", pb.SearchRequest()):
                replies.append(([t.traceID for t in reply.traces], reply.metrics.completedJobs))
                engines.go.set()
        assert replies == [(["9"], 1), (["3"], 2)]

    run(steps, engines, interval_seconds=0.1)


def test_messages_come_an_interval_apart() -> None:
    """Ten answers on the way, within one interval: the last of them is sent, and only when the interval is over."""
    engines = SlowEngines(before=tuple(found(trace(n)) for n in range(10)), found=found(trace(1)), hangs=True)

    async def steps() -> None:
        begun = asyncio.get_running_loop().time()
        times = []
        async for _ in calls_of(engines, interval_seconds=0.2)[f"/{SERVICE}/Search"]([], b""):
            times.append(asyncio.get_running_loop().time() - begun)
            asyncio.get_running_loop().call_later(0.5, engines.go.set)  # with nothing more to tell until then
        assert len(times) == 2
        assert times[0] >= 0.199

    asyncio.run(steps())


def test_parts_of_a_search() -> None:
    parts = SearchParts(None)
    answers = [found(trace(1)), found(trace(2), trace(1)), found(trace(2, "changed"), trace(1), jobs=1)]
    sent = [parts.next(answer, is_last=False) for answer in answers]
    assert sent == [found(trace(1)), found(trace(2)), found(trace(2, "changed"), jobs=1)]
    assert parts.next(answers[-1], is_last=True) == found(jobs=1)


@pytest.mark.parametrize(
    ("text", "waits"), [("{ } with(most_recent=true)", True), ("{ } with(most_recent=false)", False), ("{ }", False)]
)
def test_most_recent_waits_for_the_end(text: str, waits: bool) -> None:
    parts = SearchParts(check(parse(text)))
    assert parts.next(found(trace(1), jobs=1), is_last=False) == (found(jobs=1) if waits else found(trace(1), jobs=1))
    assert parts.next(found(trace(1)), is_last=True) == (found(trace(1)) if waits else found())


def samples(answer: MetricsAnswer) -> list[tuple[object, dict[int, float], int]]:
    return [
        (s.labels[0][1], dict(zip(s.timestamps_ms.tolist(), s.values.tolist(), strict=True)), len(s.exemplars))
        for s in answer.series
    ]


def test_parts_of_series() -> None:
    parts = SeriesParts(check(parse(RATE)))
    example = Exemplar((), 1.0, 1)
    nan = float("nan")
    steps: list[tuple[MetricsAnswer, bool, object]] = [
        (made(series("a", {}), series(1, {2: 1.0}, example)), False, [("a", {}, 0), (1, {2: 1.0}, 0)]),
        (made(series("a", {2: nan}), series(1, {2: 1.0})), False, [("a", {2: nan}, 0)]),
        (made(series("a", {2: nan}), series(True, {2: 1.0})), False, [(True, {2: 1.0}, 0)]),
        (made(series(1, {1: 3.0, 2: 1.0, 3: 0.0})), False, [(1, {1: 3.0, 3: 0.0}, 0)]),
        (made(series(1, {1: 3.0, 2: 2.0, 3: 0.0})), False, [(1, {2: 2.0}, 0)]),
        (
            made(series(1, {1: 3.0, 2: 2.0, 3: 0.0}, example), series("b", {1: 1.0})),
            True,
            [(1, {}, 1), ("b", {1: 1.0}, 0)],
        ),
    ]
    for answer, is_last, expected in steps:
        assert repr(samples(parts.next(answer, is_last=is_last))) == repr(expected)


@pytest.mark.parametrize("text", [f"{RATE} | topk(2)", f"{RATE} | bottomk(2)", "{ } | compare({ status = error })"])
def test_series_that_may_vanish_wait_for_the_end(text: str) -> None:
    parts = SeriesParts(check(parse(text)))
    assert parts.next(made(series("a", {1: 1.0})), is_last=False) == made()
    assert samples(parts.next(made(series("b", {1: 1.0})), is_last=True)) == [("b", {1: 1.0}, 0)]


def test_large_answers_are_cut() -> None:
    traces = [pb.TraceSearchMetadata(traceID=f"{n:x}", rootTraceName="n" * 1000) for n in range(5000)]
    message = pb.SearchResponse(traces=traces, metrics=pb.SearchMetrics(completedJobs=1))
    cut = [pb.SearchResponse.FromString(packet) for packet in packets(message)]
    assert len(cut) == 4
    assert [t for part in cut for t in part.traces] == traces
    assert all(part.metrics.completedJobs == 1 and part.ByteSize() <= PACKET_BYTES_MAX for part in cut)
    one = pb.SearchTagValuesResponse(tagValues=["v" * (PACKET_BYTES_MAX + 1)])
    assert [*packets(one)] == [one.SerializeToString()]


# -- refusals ---------------------------------------------------------------------------------------------------------

BUSY = LimitError("3 queries wait", limit="l", allowed=2, seen=3, retry_after_seconds=1.0)
LARGE = LimitError("too much", limit="l", allowed=2, seen=3, retry_after_seconds=None)
SEARCH, VALUES, INSTANT = pb.SearchRequest(), pb.SearchTagValuesRequest(), pb.QueryInstantRequest
REFUSALS: list[tuple[str, Message | bytes, Exception | None, str, str]] = [
    (
        "Search",
        pb.SearchRequest(Query="{ a }"),
        None,
        "INVALID_ARGUMENT",
        "invalid TraceQL query: parse error at line 1, col 3",
    ),
    ("Search", pb.SearchRequest(Query="ü" * 70_000), None, "INVALID_ARGUMENT", "TraceQL expression exceeds"),
    (
        "Search",
        pb.SearchRequest(Query="{ }", Tags={"a": "b"}),
        None,
        "INVALID_ARGUMENT",
        "invalid request: can't specify",
    ),
    ("Search", pb.SearchRequest(start=9, end=5), None, "INVALID_ARGUMENT", "http parameter start must be before end"),
    (
        "Search",
        pb.SearchRequest(start=9, end=NOW),
        None,
        "INVALID_ARGUMENT",
        "range specified by start and end exceeds",
    ),
    ("Search", pb.SearchRequest(SpansPerSpanSet=101), None, "INVALID_ARGUMENT", "spans per span set exceeds 100"),
    ("Search", pb.SearchRequest(MinDurationMs=5, MaxDurationMs=5), None, "INVALID_ARGUMENT", "invalid maxDuration"),
    ("Search", b"\xff\xff", None, "INVALID_ARGUMENT", "cannot decode tempopb.SearchRequest"),
    ("SearchTagsV2", pb.SearchTagsRequest(scope="foo"), None, "INVALID_ARGUMENT", "invalid scope: foo"),
    ("MetricsQueryRange", pb.QueryRangeRequest(query="{ }"), None, "UNKNOWN", "not a metrics query"),
    (
        "MetricsQueryRange",
        pb.QueryRangeRequest(query="{ a } | rate()"),
        None,
        "UNKNOWN",
        "compiling query: parse error",
    ),
    ("MetricsQueryInstant", INSTANT(query="{ }"), None, "UNKNOWN", "not a metrics query"),
    (
        "MetricsQueryInstant",
        INSTANT(query=RATE, start=9, end=9),
        None,
        "INVALID_ARGUMENT",
        "end must be greater than start",
    ),
    (
        "MetricsQueryInstant",
        INSTANT(query=RATE, end=2**63),
        None,
        "INVALID_ARGUMENT",
        "invalid end: 9223372036854775808 is not",
    ),
    (
        "MetricsQueryRange",
        pb.QueryRangeRequest(query=RATE, step=1),
        None,
        "INVALID_ARGUMENT",
        "step of 1ns is too small",
    ),
    (
        "MetricsQueryRange",
        pb.QueryRangeRequest(query=RATE, start=1),
        None,
        "INVALID_ARGUMENT",
        "metrics query time range",
    ),
    ("Search", SEARCH, BUSY, "RESOURCE_EXHAUSTED", "3 queries wait"),
    ("Search", SEARCH, LARGE, "UNKNOWN", "too much"),
    ("SearchTagValues", VALUES, UnavailableError("stopping"), "INTERNAL", "stopping"),
    ("SearchTagValues", VALUES, InvariantError("a secret"), "INTERNAL", "internal error e1: see the server's log"),
    (
        "SearchTagsV2",
        pb.SearchTagsRequest(),
        OSError("a secret"),
        "INTERNAL",
        "internal error e1: see the server's log",
    ),
]


@pytest.mark.parametrize("port", PORTS)
def test_refusals(port: str) -> None:
    engines = Engines()

    async def steps(addresses: dict[str, str]) -> None:
        for rpc, request, error, code, text in REFUSALS:
            engines.error = error
            seen_code, seen_text = await refusal(addresses[port], rpc, request)
            assert (seen_code, seen_text[: len(text)]) == (code, text)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            async with grpc.aio.insecure_channel(addresses[port]) as channel:
                await channel.unary_unary(f"/{SERVICE}/Nothing")(b"")
        assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED

    run(steps, engines)


def test_the_text_is_that_of_http() -> None:
    engines = Engines()
    http = engines.ask("/api/search?q=%7B+a+%7D").text
    with pytest.raises(CallError) as raised:
        asyncio.run(drain(engines, "Search", pb.SearchRequest(Query="{ a }")))
    assert raised.value.text == http


TEXTS = [
    ("größe: 7%", "gr%C3%B6%C3%9Fe: 7%25"),
    (" x ", "%20x%20"),
    ("  ", "%20%20"),
    (" ", "%20"),
    ("\n", "%0A"),
    ("", ""),
]


@pytest.mark.parametrize(("text", "sent"), TEXTS)
def test_a_status_text_on_the_wire(text: str, sent: str) -> None:
    assert encoded_text(text) == sent


def test_a_text_fits_in_trailers() -> None:
    engines = Engines(error=UnavailableError("ü" * 9000))
    with pytest.raises(CallError) as raised:
        asyncio.run(drain(engines, "Search", b""))
    assert raised.value.text.endswith("ü…")
    assert len(encoded_text(raised.value.text)) < 6100


@pytest.mark.parametrize("port", PORTS)
def test_tenants(port: str) -> None:
    engines = SlowEngines()

    async def steps(addresses: dict[str, str]) -> None:
        await ask(addresses[port], "Search", SEARCH, metadata=[("x-scope-orgid", "team-a")])
        assert engines.tenants == ["team-a"]
        assert await refusal(addresses[port], "Search", SEARCH) == ("UNAUTHENTICATED", "no org id")

    run(steps, engines, tenant_of=tenant_from_header)


@pytest.mark.parametrize("port", PORTS)
def test_credentials(port: str) -> None:
    engines = SlowEngines()
    guard = Guard(Credentials(tokens=(Secret("here", text="t"),)))

    async def steps(addresses: dict[str, str]) -> None:
        for metadata in ([], [("authorization", "Bearer wrong")]):
            code, _ = await refusal(addresses[port], "Search", SEARCH, metadata=metadata)
            assert code == "UNAUTHENTICATED"
        assert engines.tenants == []
        await ask(addresses[port], "Search", SEARCH, metadata=[("authorization", "Bearer t")])
        assert engines.tenants == ["single-tenant"]
        async with grpc.aio.insecure_channel(addresses[port]) as channel:  # health is for whoever asks, as /ready
            assert await channel.unary_unary(f"/{HEALTH_SERVICE}/Check")(b"") == SERVING

    run(steps, engines, guard=guard)


@pytest.mark.parametrize("port", PORTS)
def test_a_client_that_hangs_up_ends_the_query(port: str, caplog: pytest.LogCaptureFixture) -> None:
    engines = SlowEngines(hangs=True)

    async def steps(addresses: dict[str, str]) -> None:
        async with grpc.aio.insecure_channel(addresses[port]) as channel:
            running = call(channel, "Search", SEARCH)
            reading = asyncio.ensure_future(running.read())
            await engines.running.wait()
            running.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            await engines.cancelled.wait()

    run(steps, engines)
    assert "failed" not in caplog.text
    result = 'tempo_query_frontend_queries_total{op="search",result="canceled",tenant="single-tenant"} 1'
    assert result in engines.telemetry.render("")[0].decode()


@pytest.mark.parametrize("port", PORTS)
def test_a_client_that_vanishes_ends_the_query(port: str) -> None:
    engines = SlowEngines(hangs=True)

    async def steps(addresses: dict[str, str]) -> None:
        channel = grpc.aio.insecure_channel(addresses[port])
        reading = asyncio.ensure_future(call(channel, "MetricsQueryRange", pb.QueryRangeRequest(query=RATE)).read())
        await engines.running.wait()
        await channel.close()
        await asyncio.gather(reading, return_exceptions=True)
        await engines.cancelled.wait()

    run(steps, engines)


# -- bytes that are no requests ---------------------------------------------------------------------------------------

VALID = [
    (
        "Search",
        pb.SearchRequest(Query='{ span.a = "x" } | count() > 2', Limit=5, start=NOW - 9, end=NOW, Tags={"a": "b"}),
    ),
    ("SearchTags", pb.SearchTagsRequest(scope="span", start=NOW - 9, end=NOW)),
    ("SearchTagsV2", pb.SearchTagsRequest(scope="span", query="{ .a = 1 }")),
    ("SearchTagValues", pb.SearchTagValuesRequest(tagName="a", maxTagValues=5)),
    ("SearchTagValuesV2", pb.SearchTagValuesRequest(tagName="span.a", query="{ }")),
    (
        "MetricsQueryRange",
        pb.QueryRangeRequest(query=RATE, start=NOW * SECOND - 9, end=NOW * SECOND, step=5, exemplars=3),
    ),
    ("MetricsQueryInstant", pb.QueryInstantRequest(query=f"{RATE} by (name)", start=5, end=2**62)),
]
COMPILING = ("compiling query: ", "not a metrics query")


def is_fair(code: grpc.StatusCode, text: str) -> bool:
    """Whether a call that fails for its bytes fails as it should."""
    return code is grpc.StatusCode.INVALID_ARGUMENT or (code is grpc.StatusCode.UNKNOWN and text.startswith(COMPILING))


def mutated(rng: random.Random, data: bytes) -> bytes:
    """Random bytes, or `data` with some bytes changed, cut out or put in."""
    if rng.random() < 0.2:
        return rng.randbytes(rng.randrange(40))
    changed = bytearray(data)
    for _ in range(rng.randrange(1, 5)):
        at = rng.randrange(len(changed) + 1)
        changed[at : at + rng.randrange(3)] = rng.randbytes(rng.randrange(3))
    return bytes(changed)


def test_any_bytes_are_answered_or_refused() -> None:
    rng = random.Random(20261122)
    engines = Engines(limits=replace(QueryLimits(), metrics_duration_max=timedelta(0)))
    unfair: list[object] = []
    seen: set[str] = set()

    async def steps() -> None:
        for _ in range(150):
            for rpc, request in VALID:
                data = mutated(rng, request.SerializeToString())
                try:
                    await drain(engines, rpc, data)
                    seen.add("OK")
                except CallError as error:
                    seen.add(error.code.name)
                    if not is_fair(error.code, error.text):
                        unfair.append((rpc, data, error))

    asyncio.run(steps())
    assert unfair == []
    assert seen == {"OK", "INVALID_ARGUMENT", "UNKNOWN"}


@pytest.mark.parametrize("port", PORTS)
def test_any_bytes_over_the_wire(port: str) -> None:
    rng = random.Random(20261123)
    engines = Engines()
    unfair: list[object] = []

    async def steps(addresses: dict[str, str]) -> None:
        async with grpc.aio.insecure_channel(addresses[port]) as channel:
            for _ in range(8):
                for rpc, request in VALID:
                    data = mutated(rng, request.SerializeToString())
                    try:
                        assert len([reply async for reply in call(channel, rpc, data)]) == 1
                    except grpc.aio.AioRpcError as error:
                        if not is_fair(error.code(), error.details() or ""):
                            unfair.append((rpc, data, error))

    run(steps, engines)
    assert unfair == []


def test_every_rpc_of_the_service_is_there() -> None:
    methods = pb.DESCRIPTOR.services_by_name["StreamingQuerier"].methods
    declared = {m.name: (m.input_type.full_name, m.output_type.full_name) for m in methods}
    assert declared == {name: (q.DESCRIPTOR.full_name, a.DESCRIPTOR.full_name) for name, (q, a) in RPCS.items()}
    assert set(calls_of(Engines())) == {f"/{SERVICE}/{name}" for name in declared}
