"""Load whose every span can be named again: what was sent, what was acknowledged, does the server give it back.

Rule 1  a span is a function of (seed, trace number, span number), so nothing sent is kept to compare with.
Rule 2  the spans of a trace travel in several requests, so heads, cuts, blocks and merges all see parts of traces.
Rule 3  acknowledged: in every answer from then on, once. Refused, or unknown because the connection broke: once or
        not at all. Sent again after that: still once.
"""

from __future__ import annotations

import hashlib
import http.client
import random
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

import grpc
from google.rpc import error_details_pb2, status_pb2
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, TracesData
from server import Server

SPANS_A_TRACE = 64
SPANS_A_REQUEST = 16
"""Of each of the traces in it: a trace comes in four requests."""

SERVICES = ("frontend", "cart", "checkout", "payment", "catalog", "search", "shipping", "currency")
START_UNIX_NANO = 1_790_000_000_000_000_000
"""Fixed, so that a seed gives the same bytes every time; a trace a millisecond."""

REQUEST_SECONDS_MAX = 30.0


@dataclass(frozen=True, slots=True)
class Request:
    """Spans [first, last) of each of some traces, and the bytes that carry them."""

    traces: tuple[int, ...]
    first: int
    last: int
    body: bytes

    @property
    def span_count(self) -> int:
        return len(self.traces) * (self.last - self.first)


class Load:
    """The spans of one seed. Immutable."""

    def __init__(self, seed: int, *, spans_a_trace: int = SPANS_A_TRACE, noise_bytes: int = 0) -> None:
        """noise_bytes: of each span, as text that does not compress, to fill disks with few spans."""
        self.seed = seed
        self.spans_a_trace = spans_a_trace
        self.noise_bytes = noise_bytes

    def trace_id(self, trace: int) -> bytes:
        return hashlib.blake2b(f"{self.seed}/{trace}".encode(), digest_size=16).digest()

    def span_id(self, trace: int, number: int) -> bytes:
        return (trace * 1_000_003 + number + 1).to_bytes(8, "big")

    def service(self, number: int) -> str:
        return SERVICES[number % len(SERVICES)]

    def fill(self, span: Span, trace: int, number: int) -> None:
        """Everything that is known of a span, into an empty message."""
        start = START_UNIX_NANO + trace * 1_000_000 + number * 1_000
        span.trace_id = self.trace_id(trace)
        span.span_id = self.span_id(trace, number)
        if number:
            span.parent_span_id = self.span_id(trace, (number - 1) // 2)
        span.name = f"operation {number % 10}"
        span.kind = 1 + number % 5
        span.start_time_unix_nano = start
        span.end_time_unix_nano = start + 10_000 + number
        _put(span, "http.method", ("GET", "POST")[number % 2])
        _put(span, "http.status_code", 200 + number % 4)
        _put(span, "sent.as", f"trace {trace}, span {number} of seed {self.seed}")
        if self.noise_bytes:
            _put(span, "noise", hashlib.shake_128(span.span_id).hexdigest(self.noise_bytes // 2))
        if number % 16 == 3:
            _put(span, f"rare.{trace % 50}", number / 3)
        span.status.SetInParent()  # as SDKs do: present even where nothing is set
        if number % 8 == 5:
            span.status.code = 2
            span.status.message = "upstream failed"
            event = span.events.add(name="exception", time_unix_nano=start + 5_000)
            _put(event, "exception.type", "TimeoutError")
        if number % 32 == 7:
            span.links.add(trace_id=self.trace_id(trace + 1), span_id=self.span_id(trace + 1, 0))

    def request(self, traces: Sequence[int], first: int, last: int) -> Request:
        """One export request."""
        message = ExportTraceServiceRequest()
        for number in range(first, min(last, first + len(SERVICES))):
            group = message.resource_spans.add()
            _put(group.resource, "service.name", self.service(number))
            _put(group.resource, "shard", number % len(SERVICES))
            spans = group.scope_spans.add()
            spans.scope.name, spans.scope.version = "vivace/faults", "1.0"
            for trace in traces:
                for same_service in range(number, last, len(SERVICES)):
                    self.fill(spans.spans.add(), trace, same_service)
        return Request(tuple(traces), first, last, message.SerializeToString())

    def requests(self, traces: Iterable[int], *, at_once: int = 4) -> Iterable[Request]:
        """All spans of some traces: `at_once` traces a request, each trace over several requests."""
        waiting = list(traces)
        for place in range(0, len(waiting), at_once):
            group = waiting[place : place + at_once]
            for first in range(0, self.spans_a_trace, SPANS_A_REQUEST):
                yield self.request(group, first, min(first + SPANS_A_REQUEST, self.spans_a_trace))

    def problems(self, trace: int, found: TracesData | None, acknowledged: set[int], sent: set[int]) -> list[str]:
        """What is wrong with an answer; empty when it is as rule 3 says."""
        counts: Counter[int] = Counter()
        problems = []
        for group in found.resource_spans if found else ():
            for scope in group.scope_spans:
                for span in scope.spans:
                    number = int.from_bytes(span.span_id, "big") - trace * 1_000_003 - 1
                    counts[number] += 1
                    if number not in sent:
                        problems.append(f"span {number} was never sent")
                    elif not self._equal(span, trace, number):
                        problems.append(f"span {number} is not what was sent: {_one_line(span)}")
                    service = self.service(number)
                    if _plain(group.resource) != {"service.name": service, "shard": number % len(SERVICES)}:
                        problems.append(f"span {number} of {service} has the resource {_plain(group.resource)}")
                    if (scope.scope.name, scope.scope.version) != ("vivace/faults", "1.0"):
                        problems.append(f"span {number} has the scope {scope.scope}")
        missing = sorted(acknowledged - counts.keys())
        if missing:
            problems.append(f"{len(missing)} of {len(acknowledged)} acknowledged spans are missing: {missing[:20]}")
        doubled = sorted(n for n, count in counts.items() if count > 1)
        if doubled:
            problems.append(f"{len(doubled)} spans are there more than once: {doubled[:20]}")
        return [f"trace {trace} ({self.trace_id(trace).hex()}): {p}" for p in problems]

    def _equal(self, span: Span, trace: int, number: int) -> bool:
        expected = Span()
        self.fill(expected, trace, number)
        return _sorted(span) == _sorted(expected)


def _one_line(span: Span) -> str:
    return " ".join(str(span).split())


def _put(owner: object, key: str, value: str | int | float) -> None:
    pair = owner.attributes.add(key=key)  # type: ignore[attr-defined]
    if isinstance(value, str):
        pair.value.string_value = value
    elif isinstance(value, int):
        pair.value.int_value = value
    else:
        pair.value.double_value = value


def _plain(owner: object) -> dict[str, object]:
    return {p.key: getattr(p.value, p.value.WhichOneof("value")) for p in owner.attributes}  # type: ignore[attr-defined]


def _sorted(span: Span) -> bytes:
    """Bytes that are equal for equal spans: the order of attributes means nothing."""
    for owner in (span, *span.events, *span.links):
        owner.attributes.sort(key=lambda pair: pair.key)
    return span.SerializeToString(deterministic=True)


class Ledger:
    """Which spans of which traces were sent, and which of them were acknowledged. Thread-safe."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self._mutex = threading.Lock()
        self._sent: dict[int, set[int]] = defaultdict(set)
        self._acknowledged: dict[int, set[int]] = defaultdict(set)

    def sending(self, request: Request) -> None:
        """Call before the first byte leaves."""
        with self._mutex:
            for trace in request.traces:
                self._sent[trace].update(range(request.first, request.last))

    def acknowledge(self, request: Request) -> None:
        with self._mutex:
            for trace in request.traces:
                self._acknowledged[trace].update(range(request.first, request.last))

    def traces(self) -> list[int]:
        """With an acknowledged span, in order of their numbers."""
        with self._mutex:
            return sorted(self._acknowledged)

    def acknowledged(self, trace: int) -> set[int]:
        with self._mutex:
            return set(self._acknowledged.get(trace, ()))

    def sent(self, trace: int) -> set[int]:
        with self._mutex:
            return set(self._sent.get(trace, ()))

    @property
    def acknowledged_spans(self) -> int:
        with self._mutex:
            return sum(map(len, self._acknowledged.values()))

    def check(self, server: Server, traces: Iterable[int] | None = None) -> None:
        """Read traces (all, if not said) and fail with all that is wrong with them."""
        chosen = self.traces() if traces is None else list(traces)
        with ThreadPoolExecutor(2) as readers:
            problems = [p for found in readers.map(lambda t: self.problems(server, t), chosen) for p in found]
        assert not problems, f"{len(problems)} problems in {len(chosen)} traces:\n" + "\n".join(problems[:20])

    def problems(self, server: Server, trace: int) -> list[str]:
        """What is wrong with a trace now. What is acknowledged while it is read may be in the answer or not."""
        acknowledged = self.acknowledged(trace)
        found = read_trace(server, self.load.trace_id(trace).hex())
        return self.load.problems(trace, found, acknowledged, self.sent(trace))


def read_trace(server: Server, trace_id: str, query: str = "") -> TracesData | None:
    """A trace by /api/v2/traces as protobuf; None when there is none."""
    status, body = server.get(f"/api/v2/traces/{trace_id}{query}", accept="application/protobuf")
    assert status == 200, f"{status} {body[:500]!r}"
    # TraceByIDResponse: field 1 is the trace, itself a message with field 1 repeated ResourceSpans
    assert body[0] == 0x0A, body[:20]
    length, shift, place = 0, 0, 1
    while True:
        byte = body[place]
        length |= (byte & 0x7F) << shift
        shift, place = shift + 7, place + 1
        if byte < 0x80:
            break
    return TracesData.FromString(body[place : place + length]) if length else None


# -- senders ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Refused(Exception):
    """The server said no. `retry_seconds` is None when the answer forbids or does not ask for another try."""

    status: str
    message: str
    retry_seconds: float | None


class Broken(Exception):
    """No answer: nobody knows whether the spans are stored."""


class Sender(Protocol):
    """One connection."""

    def send(self, body: bytes) -> None:
        """Return when acknowledged. Raises Refused or Broken."""
        ...

    def close(self) -> None: ...


class GrpcSender:
    """TraceService/Export over one channel."""

    def __init__(self, server: Server) -> None:
        # a channel of its own connection: channels with equal options share one
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        self._channel = grpc.insecure_channel(server.otlp_grpc, options)
        self._export = self._channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export")

    def send(self, body: bytes) -> None:
        try:
            self._export(body, timeout=REQUEST_SECONDS_MAX)
        except grpc.RpcError as error:
            details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin")
            if details is None:
                raise Broken(f"{error.code()} {error.details()}") from error
            raise Refused(error.code().name, error.details(), _retry_seconds(details)) from error

    def close(self) -> None:
        self._channel.close()


def _retry_seconds(status: bytes) -> float | None:
    for detail in status_pb2.Status.FromString(status).details:
        info = error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            return float(info.retry_delay.ToTimedelta().total_seconds())
    return None


class HttpSender:
    """POST /v1/traces over one kept connection."""

    def __init__(self, server: Server) -> None:
        place = urlsplit(server.otlp_http)
        self._connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=REQUEST_SECONDS_MAX)

    def send(self, body: bytes) -> None:
        try:
            self._connection.request("POST", "/v1/traces", body, {"Content-Type": "application/x-protobuf"})
            reply = self._connection.getresponse()
            answer = reply.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise Broken(repr(error)) from error
        if reply.status != 200:
            after = reply.headers.get("Retry-After")
            message = status_pb2.Status.FromString(answer).message
            raise Refused(str(reply.status), message, float(after) if after else None)

    def close(self) -> None:
        self._connection.close()


SENDERS: tuple[Callable[[Server], Sender], ...] = (GrpcSender, HttpSender, GrpcSender, HttpSender)
"""Four connections, as many as one agent with two pipelines has."""


class Senders:
    """Four threads that send until told to stop, their server dies, or their traces are sent."""

    def __init__(
        self,
        server: Server,
        ledger: Ledger,
        traces: Sequence[int],
        *,
        again: Iterable[Request] = (),
        at_once: int = 4,
        pause_seconds: float = 0.0,
    ) -> None:
        """Each sender takes every fourth of `traces`, and of the requests `again` that were not acknowledged."""
        self.server = server
        self.ledger = ledger
        self.unacknowledged: list[Request] = []
        self.refused: list[Refused] = []
        self._pause_seconds = pause_seconds
        self._stop = threading.Event()
        again = list(again)
        self._threads = [
            threading.Thread(target=self._send, args=(make, traces[n::4], again[n::4], at_once), name=f"sender {n}")
            for n, make in enumerate(SENDERS)
        ]

    def start(self) -> Senders:
        for thread in self._threads:
            thread.start()
        return self

    def stop(self) -> None:
        self._stop.set()
        self.join()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    @property
    def running(self) -> bool:
        return any(t.is_alive() for t in self._threads)

    def _send(
        self, make: Callable[[Server], Sender], traces: Sequence[int], again: list[Request], at_once: int
    ) -> None:
        sender = make(self.server)
        try:
            for request in again:
                if not self._one(sender, request):
                    return
            for request in self.ledger.load.requests(traces, at_once=at_once):
                if not self._one(sender, request):
                    return
        finally:
            sender.close()

    def _one(self, sender: Sender, request: Request) -> bool:
        """Whether to go on."""
        if self._stop.wait(self._pause_seconds):
            return False
        self.ledger.sending(request)
        try:
            sender.send(request.body)
        except Refused as refused:
            self.refused.append(refused)
            self.unacknowledged.append(request)
            return self._stop.wait(0.05) is False
        except Broken:
            self.unacknowledged.append(request)
            return False
        self.ledger.acknowledge(request)
        return True


class Reader:
    """A thread that reads random acknowledged traces while everything else goes on."""

    def __init__(self, server: Server, ledger: Ledger, chance: random.Random) -> None:
        self.problems: list[str] = []
        self.traces_read = 0
        self._server = server
        self._ledger = ledger
        self._chance = chance
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, name="reader")

    def start(self) -> Reader:
        self._thread.start()
        return self

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _read(self) -> None:
        while not self._stop.wait(0.005):
            known = self._ledger.traces()
            if not known:
                continue
            try:
                self.problems += self._ledger.problems(self._server, self._chance.choice(known))
                self.traces_read += 1
            except (OSError, http.client.HTTPException):  # it was killed
                continue
