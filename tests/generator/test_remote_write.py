"""Sending: what an endpoint sees, what its answers lead to, what a stop and a start leave; then a real Prometheus."""

from __future__ import annotations

import logging
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cramjam
import numpy as np
import pytest
import trustme
from prometheus import Prometheus
from remote_write_messages import WriteRequest

from vivace.config.generator import GeneratorStorage
from vivace.config.remote_write import Queue
from vivace.errors import ConfigError, DiskFullError
from vivace.generator.remote_write import RemoteWriter
from vivace.generator.write_endpoint import Answer, endpoint_name
from vivace.generator.write_queue import WriteQueue
from vivace.generator.write_report import WriteReport
from vivace.generator.write_request import (
    Exemplar,
    NativeHistogram,
    encode_labels,
    exemplar_requests,
    histogram_requests,
    series_head,
    write_requests,
)
from vivace.generator.write_segment import WriteRecord
from vivace.generator.write_sender import Sender
from vivace.telemetry import MemoryFigures, Telemetry

TENANT = "single-tenant"
DEADLINE_SECONDS = 10.0
NOW_MS = 1_800_000_000_000


def until(true: Callable[[], Any]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not true():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.005)


def request(value: float, name: str = "calls_total", at_ms: int = NOW_MS) -> bytes:
    (made,) = write_requests([series_head(encode_labels([("__name__", name)]))], np.array([value]), at_ms)
    return made


class Receiver:
    """An HTTP server that answers as it is told, one item of `answers` for each request, and 204 when none is left.

    An answer is a status, a status with headers and body, "close" (no answer) or "hang" (none until the end of the test).
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.answers: list[Any] = []
        self.requests: list[tuple[dict[str, str], Any]] = []
        self.connections: set[tuple[str, int]] = set()
        self.ended = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                message = WriteRequest.FromString(bytes(cramjam.snappy.decompress_raw(body)))
                receiver.connections.add(self.client_address)
                receiver.requests.append(
                    ({"path": self.path} | {k.lower(): v for k, v in self.headers.items()}, message)
                )
                answer = receiver.answers.pop(0) if receiver.answers else 204
                if answer == "hang":
                    receiver.ended.wait(DEADLINE_SECONDS)
                if answer in ("hang", "close"):
                    self.close_connection = True
                    return
                status, headers, text = answer if isinstance(answer, tuple) else (answer, {}, "")
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if status != 204:
                    self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *args: object) -> None:
                """A connection that ends in the middle is what these tests are about."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if context is not None:
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/v1/write"

    def values(self) -> list[float]:
        """Of all requests that were answered or not, in the order of their arrival."""
        return [s.samples[0].value for _, message in self.requests for s in message.timeseries if s.samples]

    def close(self) -> None:
        self.ended.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


class Writers:
    """Remote writers in one directory; each is stopped before the next begins and at the end of the test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.telemetry = Telemetry(version="1", memory=lambda: MemoryFigures(1, 1))
        self.writer: RemoteWriter | None = None

    def __call__(self, *items: dict[str, Any], start: bool = True, **options: Any) -> RemoteWriter:
        self.stop()
        self.telemetry = Telemetry(version="1", memory=lambda: MemoryFigures(1, 1))
        self.writer = writer = RemoteWriter(
            settings(self.directory, *items), self.telemetry, **({"version": "1.2.3", "bytes_max": 1 << 24} | options)
        )
        self.telemetry.register_gauges(writer.gauges)
        if start:
            writer.start()
        return writer

    def stop(self, seconds: float = 5.0) -> None:
        if self.writer is not None:
            self.writer.stop(seconds)

    def samples(self) -> dict[str, float]:
        """Metrics by name, those of several label sets added up."""
        found: dict[str, float] = {}
        for line in self.telemetry.render("")[0].decode().splitlines():
            if not line.startswith("#"):
                name, value = line.split("{")[0].split(" ")[0], float(line.rsplit(" ", 1)[1])
                found[name] = found.get(name, 0) + value
        return found


@pytest.fixture
def writers(tmp_path: Path) -> Iterator[Writers]:
    made = Writers(tmp_path / "generator")
    yield made
    made.stop()


def settings(directory: Path, *items: dict[str, Any]) -> GeneratorStorage:
    fast = {"min_backoff": "1ms", "max_backoff": "10ms"}
    made = [item | {"queue_config": fast | item.get("queue_config", {})} for item in items]
    return GeneratorStorage.model_validate({"path": directory, "remote_write": made})


# ---- what an endpoint sees ----


def test_what_an_endpoint_sees(receiver: Receiver, writers: Writers) -> None:
    writer = writers({"url": receiver.url})
    writer.append(TENANT, [request(1), request(2)])
    until(lambda: len(receiver.requests) == 2)
    headers, message = receiver.requests[0]
    assert {name: headers.get(name) for name in (*EXPECTED, "authorization", "x-scope-orgid", "retry-attempt")} == {
        **EXPECTED,
        "authorization": None,
        "x-scope-orgid": None,
        "retry-attempt": None,
    }
    (one,) = message.timeseries
    assert [(label.name, label.value) for label in one.labels] == [("__name__", "calls_total")]
    assert [(sample.value, sample.timestamp) for sample in one.samples] == [(1, NOW_MS)]
    assert len(receiver.connections) == 1


EXPECTED = {
    "path": "/api/v1/write",
    "content-encoding": "snappy",
    "content-type": "application/x-protobuf",
    "x-prometheus-remote-write-version": "0.1.0",
    "user-agent": "Vivace/1.2.3",
}

SECRET = "s3cr3t"
BASIC = "Basic dXNlcjpzM2NyM3Q="
LOGINS: dict[str, tuple[dict[str, Any], dict[str, str | None]]] = {  # settings -> headers
    "basic": ({"basic_auth": {"username": "user", "password": SECRET}}, {"authorization": BASIC}),
    "basic of files": (
        {"basic_auth": {"username_file": "{user}", "password_file": "{secret}"}},
        {"authorization": BASIC},
    ),
    "in the URL": ({"url": "http://user:s3cr3t@"}, {"authorization": BASIC}),
    "authorization": ({"authorization": {"type": "Token", "credentials": SECRET}}, {"authorization": "Token s3cr3t"}),
    "authorization of a file": (
        {"authorization": {"credentials_file": "{secret}"}},
        {"authorization": "Bearer s3cr3t"},
    ),
    "bearer token": ({"bearer_token": SECRET}, {"authorization": "Bearer s3cr3t"}),
    "bearer token of a file": ({"bearer_token_file": "{secret}"}, {"authorization": "Bearer s3cr3t"}),
    "own headers": ({"headers": {"X-Own": SECRET, "content-type": "text/plain"}}, EXPECTED | {"x-own": SECRET}),
    "the tenant": ({}, {"x-scope-orgid": TENANT}),
    "a configured tenant": ({"headers": {"x-scope-orgid": "fixed"}}, {"x-scope-orgid": "fixed"}),
    "headers of the tenant": ({"headers": {"X-A": "1", "X-B": "1"}}, {"x-a": "1", "x-b": "2"}),
}


@pytest.mark.parametrize("case", LOGINS)
def test_headers(
    receiver: Receiver, writers: Writers, tmp_path: Path, caplog: pytest.LogCaptureFixture, case: str
) -> None:
    item, expected = LOGINS[case]
    (tmp_path / "user").write_text("user\n")
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    item = {name: _filled(value, tmp_path) for name, value in item.items()}
    item["url"] = receiver.url.replace("http://", item.get("url", "http://"))
    receiver.answers = [503, 400]
    with caplog.at_level(logging.DEBUG):
        writer = writers(item, multitenant=True, headers_of=lambda tenant: {"X-B": "2"} if "of the" in case else {})
        writer.append(TENANT, [request(1)])
        until(lambda: len(receiver.requests) == 2)
        writers.stop()
    for headers, _ in receiver.requests:
        assert {name: headers.get(name) for name in expected} == expected
    assert receiver.requests[1][0]["retry-attempt"] == "1"
    assert "status 503" in caplog.text
    assert {record.name for record in caplog.records} == {"vivace.generator.remote_write"}
    assert SECRET not in caplog.text
    assert SECRET not in writers.telemetry.render("")[0].decode()


def _filled(value: Any, directory: Path) -> Any:
    if isinstance(value, dict):
        return {name: _filled(one, directory) for name, one in value.items()}
    return value.format(user=directory / "user", secret=directory / "secret") if isinstance(value, str) else value


def test_org_id_is_left_out_when_told(receiver: Receiver, tmp_path: Path) -> None:
    storage = settings(tmp_path, {"url": receiver.url}).model_copy(update={"remote_write_add_org_id_header": False})
    telemetry = Telemetry(version="1", memory=lambda: MemoryFigures(1, 1))
    writer = RemoteWriter(storage, telemetry, version="1", bytes_max=1 << 20, multitenant=True)
    writer.append(TENANT, [request(1)])
    writer.start()
    writer.stop(5)
    assert "x-scope-orgid" not in receiver.requests[0][0]


def test_a_rotated_token_is_read_and_a_missing_one_waited_for(
    receiver: Receiver, writers: Writers, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    token = tmp_path / "token"
    writer = writers({"url": receiver.url, "bearer_token_file": str(token)})
    writer.append(TENANT, [request(1)])
    until(lambda: "cannot read the login or headers: FileNotFoundError" in caplog.text)
    assert not receiver.requests
    token.write_text("one")
    until(lambda: len(receiver.requests) == 1)
    token.write_text("two")
    writer.append(TENANT, [request(2)])
    until(lambda: len(receiver.requests) == 2)
    assert [headers["authorization"] for headers, _ in receiver.requests] == ["Bearer one", "Bearer two"]


def test_a_login_that_is_no_header_is_not_quoted(
    receiver: Receiver, writers: Writers, caplog: pytest.LogCaptureFixture
) -> None:
    writers({"url": receiver.url, "bearer_token": f"{SECRET}\nX: y"}).append(TENANT, [request(1)])
    until(lambda: "a header that HTTP does not allow" in caplog.text)
    assert SECRET not in caplog.text


# ---- what answers lead to, on a clock of our own ----


class Clock:
    """Monotonic and Unix time that only waiting moves."""

    def __init__(self) -> None:
        self.seconds = NOW_MS / 1000
        self.waits: list[float] = []
        self.stop_after: int | None = None

    def __call__(self) -> float:
        return self.seconds

    def wait(self, seconds: float) -> bool:
        self.waits.append(round(seconds, 6))
        self.seconds += seconds
        return self.stop_after is not None and len(self.waits) >= self.stop_after


class Script:
    """An endpoint that answers from a list."""

    def __init__(self, answers: list[Answer]) -> None:
        self.answers = answers
        self.attempts: list[int] = []

    def send(self, body: bytes, tenant: str, attempt: int) -> Answer:
        self.attempts.append(attempt)
        return self.answers.pop(0)


class Highest(random.Random):
    def uniform(self, a: float, b: float) -> float:
        return b


TAKEN, DOWN = Answer("taken", 204), Answer("again", 0, "ConnectError", "ConnectError refused")
BUSY, LATER = Answer("again", 429, "status 429", "status 429"), Answer("again", 503, "status 503", "status 503", 7.0)
BAD = Answer("refused", 400, "status 400", "status 400 out of order sample")
RECORD = WriteRecord(TENANT, "samples", 5, NOW_MS, b"body")

ANSWERS: dict[str, tuple[dict[str, Any], list[Answer], list[float], str]] = {  # settings, answers -> waits, fate of 5 samples
    "taken": ({}, [TAKEN], [], "sent"),
    "down, then up": ({}, [DOWN] * 3 + [TAKEN], [0.03, 0.06, 0.12], "sent"),
    "up to the longest wait": ({"max_backoff": "100ms"}, [DOWN] * 5 + [TAKEN], [0.03, 0.06, 0.1, 0.1, 0.1], "sent"),
    "no shortest wait": ({"min_backoff": "0s"}, [DOWN] * 3 + [TAKEN], [0.001, 0.002, 0.004], "sent"),
    "Retry-After": ({}, [LATER, DOWN, TAKEN], [7.0, 0.06], "sent"),
    "refused": ({}, [BAD], [], "failed"),
    "refused after a repeat": ({}, [DOWN, BAD], [0.03], "failed"),
    "429 is refused": ({}, [BUSY], [], "failed"),
    "429 is repeated when told": ({"retry_on_http_429": True}, [BUSY, TAKEN], [0.03], "sent"),
    "too old to repeat": ({"sample_age_limit": "10s"}, [LATER, LATER], [7.0, 7.0], "dropped"),
    "too old by 4 s in the queue": ({"sample_age_limit": "1ms"}, [DOWN], [0.03], "dropped"),
}  # fmt: skip


def sender(tmp_path: Path, clock: Clock, script: Script, queue_config: dict[str, Any]) -> tuple[Sender, Writers]:
    kept = Writers(tmp_path)
    report = WriteReport(kept.telemetry, "x", "http://x", clock, logging.getLogger("test"))
    queue = WriteQueue(tmp_path / "queue", ["x"], bytes_max=1 << 20)
    queue.close()  # deliver() does not need it
    made = Sender(
        "x", queue, script, report, Queue.model_validate(queue_config), None,
        clock=clock, now=clock, source=Highest(), log=logging.getLogger("test"), wait=clock.wait,
    )  # fmt: skip
    return made, kept


@pytest.mark.parametrize("case", ANSWERS)
def test_answers(tmp_path: Path, case: str) -> None:
    queue_config, answers, waits, fate = ANSWERS[case]
    clock, script = Clock(), Script(list(answers))
    made, kept = sender(tmp_path, clock, script, queue_config)
    assert made.deliver(RECORD)
    assert clock.waits == waits
    assert script.attempts == list(range(len(answers)))
    found = kept.samples()
    prefix = "prometheus_remote_storage_samples"
    again = len(answers) - (fate != "dropped")
    assert found[f"{prefix}_total"] == 5 * len(answers)
    assert found.get(f"{prefix}_retried_total", 0) == 5 * again
    assert found.get(f"{prefix}_failed_total", 0) == (5 if fate == "failed" else 0)
    assert found.get(f"{prefix}_dropped_total", 0) == (5 if fate == "dropped" else 0)
    assert (made.sent_ms == NOW_MS) == (fate == "sent")


def test_waits_lie_between_the_shortest_and_the_next(tmp_path: Path) -> None:
    clock = Clock()
    made, _ = sender(tmp_path, clock, Script([DOWN] * 50 + [TAKEN]), {})
    made._random = random.Random(7)
    made.deliver(RECORD)
    limits = [min(0.03 * 2**n, 5.0) for n in range(50)]
    assert all(0.03 <= wait <= limit for wait, limit in zip(clock.waits, limits, strict=True))
    assert len(set(clock.waits)) > 40


def test_a_stop_ends_repeats(tmp_path: Path) -> None:
    clock = Clock()
    clock.stop_after = 2
    made, _ = sender(tmp_path, clock, Script([DOWN] * 2), {})
    assert not made.deliver(RECORD)


def test_each_kind_of_trouble_is_told_once_an_hour(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    script = Script([BAD] * 10 + [DOWN, BAD, DOWN, TAKEN])
    made, _ = sender(tmp_path, clock, script, {})
    for _ in range(12):
        made.deliver(RECORD)
    told = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert told == [
        "remote write to x (http://x): samples of tenant single-tenant refused, dropping them: status 400 out of order sample",
        "remote write to x (http://x): ConnectError refused; trying again until it works, requests wait on disk",
    ]
    clock.seconds += 3601
    script.answers = [BAD, DOWN, TAKEN]
    made.deliver(RECORD)
    made.deliver(RECORD)
    assert len([r for r in caplog.records if r.levelno == logging.WARNING]) == 4
    assert "works again after 2 attempts" in caplog.text


# ---- real connections ----


def test_everything_arrives_in_order_whatever_the_endpoint_does(receiver: Receiver, writers: Writers) -> None:
    receiver.answers = [503, "close", 204, 500, "hang", (429, {"Retry-After": "0"}, ""), 204, "close"]
    writer = writers(
        {"url": receiver.url, "remote_timeout": "1s", "queue_config": {"retry_on_http_429": True}},
    )
    writer.append(TENANT, map(request, (1, 2, 3, 4)))
    until(lambda: len(receiver.requests) == 10)
    writers.stop()
    assert receiver.values() == [1, 1, 1, 2, 2, 2, 2, 3, 3, 4]
    found = writers.samples()
    assert found["prometheus_remote_storage_samples_pending"] == 0
    assert found["prometheus_remote_storage_samples_retried_total"] == 6


def test_refused_requests_are_dropped_and_the_next_are_sent(
    receiver: Receiver, writers: Writers, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.answers = [(400, {}, "out of order sample\nmore"), (301, {"Location": "/x"}, ""), 404, 400, 429, 204]
    writer = writers({"url": receiver.url})
    writer.append(TENANT, map(request, range(1, 7)))
    until(lambda: len(receiver.requests) == 6)
    writers.stop()
    assert receiver.values() == [1, 2, 3, 4, 5, 6]
    assert caplog.text.count("status 400") == 1
    assert "status 400 out of order sample\n" in caplog.text
    assert writers.samples()["prometheus_remote_storage_samples_failed_total"] == 5


RETRY_AFTER = {  # header -> seconds
    "3": 3.0,
    format_datetime(datetime.fromtimestamp(NOW_MS / 1000 + 20, UTC), usegmt=True): 20.0,
    format_datetime(datetime.fromtimestamp(NOW_MS / 1000 - 20, UTC), usegmt=True): 0.0,
    "999999": 600.0,
    "soon": None,
    "-5": None,
}


@pytest.mark.parametrize("header", RETRY_AFTER)
def test_retry_after(receiver: Receiver, writers: Writers, header: str) -> None:
    receiver.answers = [(429, {"Retry-After": header}, "")]
    writers({"url": receiver.url}, start=False, now=lambda: NOW_MS / 1000)
    assert writers.writer is not None
    (endpoint,) = writers.writer._endpoints.values()
    answer = endpoint.send(bytes(cramjam.snappy.compress_raw(request(1))), TENANT, 0)
    endpoint.close()
    assert (answer.status, answer.retry_after_seconds) == (429, RETRY_AFTER[header])


def test_an_answer_without_end_is_cut(receiver: Receiver, writers: Writers, caplog: pytest.LogCaptureFixture) -> None:
    receiver.answers = [(400, {}, "x" * 1_000_000)]
    writers({"url": receiver.url}).append(TENANT, [request(1), request(2)])
    until(lambda: len(receiver.requests) == 2)
    assert len(caplog.text) < 2000
    assert len(receiver.connections) == 2  # the rest was not worth reading


def test_an_endpoint_that_is_down_holds_up_no_other(receiver: Receiver, writers: Writers, tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # not listening: connections are refused
        down = {"url": f"http://127.0.0.1:{unused.getsockname()[1]}/", "name": "down"}
        writer = writers(down, {"url": receiver.url, "name": "up"})
        writer.append(TENANT, map(request, (1, 2)))
        until(lambda: len(receiver.requests) == 2)
        lines = writers.telemetry.render("")[0].decode()
        assert f'samples_pending{{remote_name="down",url="{down["url"]}"}} 2.0' in lines
        writers.stop()
    writers({"url": receiver.url, "name": "down"})
    until(lambda: len(receiver.requests) == 4)
    assert receiver.values() == [1, 2, 1, 2]


def test_what_was_not_sent_at_a_stop_goes_first_after_the_start(receiver: Receiver, writers: Writers) -> None:
    receiver.answers = [503] * 1000
    writer = writers({"url": receiver.url})
    writer.append(TENANT, map(request, (1, 2, 3)))
    until(lambda: len(receiver.requests) > 3)
    started = time.monotonic()
    writers.stop(60)
    assert time.monotonic() - started < 5  # the first failure ends it
    assert set(receiver.values()) == {1}
    receiver.answers, before = [], len(receiver.requests)
    writer = writers({"url": receiver.url}, start=False)
    writer.append(TENANT, [request(4)])
    writer.start()
    until(lambda: len(receiver.requests) == before + 4)
    assert receiver.values()[before:] == [1, 2, 3, 4]


def test_a_stop_sends_what_waits(receiver: Receiver, writers: Writers) -> None:
    writer = writers({"url": receiver.url}, start=False)
    writer.append(TENANT, map(request, range(1, 51)))
    writer.start()
    writers.stop(30)
    assert receiver.values() == list(range(1, 51))


def test_a_stop_does_not_wait_for_an_endpoint_that_hangs(receiver: Receiver, writers: Writers) -> None:
    receiver.answers = ["hang"]
    writer = writers({"url": receiver.url})
    writer.append(TENANT, map(request, (1, 2)))
    until(lambda: receiver.requests)
    started = time.monotonic()
    writers.stop(0.2)
    assert time.monotonic() - started < 3
    receiver.ended.set()
    writers({"url": receiver.url})
    until(lambda: len(receiver.requests) >= 3)
    until(lambda: receiver.values()[-2:] == [1, 2])


def test_relabelled_for_one_endpoint_only(receiver: Receiver, writers: Writers) -> None:
    rules = [
        {"source_labels": ["__name__"], "regex": "drop_.*", "action": "drop"},
        {"target_label": "env", "replacement": "prod"},
    ]
    writer = writers({"url": receiver.url, "name": "a", "write_relabel_configs": rules}, start=False)
    both = b"".join((request(1, "drop_total"), request(2)))  # messages put together are their fields put together
    writer.append(TENANT, [request(0, "drop_total"), both])
    writer.start()
    until(lambda: receiver.requests)
    writers.stop()
    ((_, message),) = receiver.requests
    assert [[(label.name, label.value) for label in one.labels] for one in message.timeseries] == [
        [("__name__", "calls_total"), ("env", "prod")]
    ]
    assert writers.samples()["prometheus_remote_storage_samples_dropped_total"] == 2


def test_a_full_disk_costs_requests_and_is_told_once(writers: Writers, caplog: pytest.LogCaptureFixture) -> None:
    def no_room(wanted: int) -> None:
        raise DiskFullError("no room for 1 byte")

    writer = writers({"url": "http://127.0.0.1:1/"}, start=False, check_room=no_room)
    writer.append(TENANT, map(request, (1, 2, 3)))
    assert caplog.text.count("no room for 1 byte") == 1
    assert writers.samples()["prometheus_remote_storage_samples_dropped_total"] == 3


def test_metrics_are_there(receiver: Receiver, writers: Writers) -> None:
    now = [NOW_MS / 1000]
    writer = writers({"url": receiver.url}, start=False, now=lambda: now[0])
    writer.append(TENANT, [request(1)])
    now[0] += 5
    found = writers.samples()
    assert found["vivace_remote_write_oldest_seconds"] == 5
    assert found["vivace_remote_write_queue_bytes"] > 50
    assert found["prometheus_remote_storage_samples_pending"] == 1
    writer.start()
    until(lambda: writers.samples()["prometheus_remote_storage_samples_pending"] == 0)
    found = writers.samples()
    prefix = "prometheus_remote_storage"
    assert found[f"{prefix}_queue_highest_sent_timestamp_seconds"] == NOW_MS / 1000
    assert found[f"{prefix}_highest_timestamp_in_seconds"] == NOW_MS / 1000
    assert found[f"{prefix}_sent_batch_duration_seconds_count"] == 1
    assert found[f"{prefix}_bytes_total"] > 10


def test_without_endpoints_nothing_is_kept(writers: Writers) -> None:
    writer = writers()
    writer.append(TENANT, [request(1)])
    assert not writers.directory.exists()
    assert writer.samples_max == 2000


def test_names_and_limits(tmp_path: Path, writers: Writers) -> None:
    items = settings(
        tmp_path,
        {"url": "http://user:one@a/"},
        {"url": "http://user:two@a/", "remote_timeout": "1s"},
        {"url": "http://a/", "headers": {"X-Scope-OrgID": "b"}},
        {"url": "http://a/", "name": "mine"},
    ).remote_write
    names = [endpoint_name(item) for item in items]
    assert names[0] == names[1]
    assert len(set(names)) == 3
    assert names[3] == "mine"
    with pytest.raises(ConfigError, match="expected a name of its own"):
        writers({"url": "http://a/"}, {"url": "http://a/"}, start=False)
    sends = [{"url": "http://a/", "name": str(n), "queue_config": {"max_samples_per_send": n}} for n in (3000, 500)]
    assert writers(*sends, start=False).samples_max == 500


# ---- TLS ----

CA, OTHER_CA = trustme.CA(), trustme.CA()


def tls_receiver(*, wants_client: bool) -> Receiver:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    CA.issue_cert("prometheus.example").configure_cert(context)
    CA.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED if wants_client else ssl.CERT_NONE
    return Receiver(context)


CA_TEXT = CA.cert_pem.bytes().decode()
NAMED = {"ca": CA_TEXT, "server_name": "prometheus.example"}
TLS: dict[str, tuple[dict[str, Any], bool, bool]] = {  # tls_config, whether a client certificate is wanted, whether it works
    "authority as text": (NAMED, False, True),
    "authority as file": ({"ca_file": "{ca}", "server_name": "prometheus.example"}, False, True),
    "client certificate as files": (NAMED | {"cert_file": "{cert}", "key_file": "{key}"}, True, True),
    "client certificate as text": (NAMED | {"cert": "[cert]", "key": "[key]"}, True, True),
    "no check": ({"insecure_skip_verify": True}, False, True),
    "TLS 1.3": (NAMED | {"min_version": "TLS13"}, False, True),
    "unknown authority": ({"server_name": "prometheus.example"}, False, False),
    "another name": ({"ca": CA_TEXT}, False, False),
    "no client certificate": (NAMED, True, False),
}  # fmt: skip


@pytest.mark.parametrize("case", TLS)
def test_tls(writers: Writers, tmp_path: Path, caplog: pytest.LogCaptureFixture, case: str) -> None:
    config, wants_client, works = TLS[case]
    client = CA.issue_cert("client.example")
    parts = {"ca": CA.cert_pem, "cert": client.cert_chain_pems[0], "key": client.private_key_pem}
    for name, part in parts.items():
        part.write_to_path(tmp_path / name)
        config = {
            key: part.bytes().decode() if value == f"[{name}]" else value.replace(f"{{{name}}}", str(tmp_path / name))
            if isinstance(value, str) else value
            for key, value in config.items()
        }  # fmt: skip
    receiver = tls_receiver(wants_client=wants_client)
    try:
        writer = writers({"url": receiver.url.replace("http:", "https:"), "tls_config": config})
        writer.append(TENANT, [request(1)])
        if works:
            until(lambda: receiver.requests)
        else:
            until(lambda: "trying again until it works" in caplog.text)
        assert bool(receiver.requests) == works
    finally:
        writers.stop()
        receiver.close()


TLS_WRONG = [
    ({"ca": "no certificate"}, "ca_file"),
    ({"ca_file": "/does/not/exist"}, "ca_file"),
    ({"cert_file": "/does/not/exist", "key_file": "/does/not/exist"}, "cert_file"),
    ({"max_version": "TLS10"}, "max_version"),
]


@pytest.mark.parametrize(("config", "key"), TLS_WRONG)
def test_tls_that_cannot_be_used(writers: Writers, config: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        writers({"url": "https://a/", "tls_config": config}, start=False)
    assert caught.value.key == f"metrics_generator.storage.remote_write[0].tls_config.{key}"


# ---- a real Prometheus ----


def pass_at(seconds: float, value: float, **labels: str) -> bytes:
    head = series_head(encode_labels([("__name__", "calls_total"), ("service", "shop"), *labels.items()]))
    (made,) = write_requests([head], np.array([value]), int(seconds * 1000))
    return made


def test_prometheus_takes_all_that_we_send(writers: Writers, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    now = int(time.time())
    bucket = encode_labels([("__name__", "latency_bucket"), ("le", "0.5"), ("service", "shop")])
    native = encode_labels([("__name__", "latency"), ("service", "shop")])
    histogram = NativeHistogram(3, 2.0**-128, 1, [(-7, 2), (-6, 1), (9, 4)], 8, 12.5, now * 1000)
    with Prometheus(tmp_path / "prometheus") as prometheus:
        writer = writers({"url": prometheus.write_url})
        writer.append(TENANT, [pass_at(now - 45, 0), pass_at(now - 30, 3), pass_at(now - 15, 5), pass_at(now, 9)])
        writer.append(TENANT, write_requests([series_head(bucket)], np.array([4.0]), now * 1000))
        exemplar = Exemplar(encode_labels([("traceID", "abc123")]), 0.25, now * 1000)
        writer.append(TENANT, exemplar_requests([bucket], [exemplar]))
        writer.append(TENANT, histogram_requests([native], [histogram]))
        until(lambda: writers.samples()["prometheus_remote_storage_samples_pending"] == 0)
        assert caplog.text == ""

        (found,) = prometheus.query("calls_total[5m]", now)
        assert found["metric"] == {"__name__": "calls_total", "service": "shop"}
        assert found["values"] == [[now - 45, "0"], [now - 30, "3"], [now - 15, "5"], [now, "9"]]
        (found,) = prometheus.exemplars("latency_bucket", now - 60, now + 60)
        assert found["seriesLabels"]["le"] == "0.5"
        assert found["exemplars"] == [{"labels": {"traceID": "abc123"}, "value": "0.25", "timestamp": now}]
        assert prometheus.query("histogram_count(latency)", now)[0]["value"][1] == "8"
        assert prometheus.query("histogram_sum(latency)", now)[0]["value"][1] == "12.5"
        # bucket 9 of schema 3 reaches to 2^(9/8)
        assert prometheus.query("histogram_quantile(1, latency)", now)[0]["value"][1] == repr(2 ** (9 / 8))

        writer.append(TENANT, [pass_at(now, 9)])  # again, as after a kill between sending and noting it
        writer.append(TENANT, [pass_at(now - 20, 4)])
        writer.append(TENANT, [pass_at(now - 21, 4)])
        writer.append(TENANT, [pass_at(now + 15, 12)])
        until(lambda: writers.samples()["prometheus_remote_storage_samples_pending"] == 0)
        assert len(prometheus.query("calls_total[5m]", now + 15)[0]["values"]) == 5
        assert caplog.text.count("status 400 out of order sample") == 1
        assert writers.samples()["prometheus_remote_storage_samples_failed_total"] == 2


def test_prometheus_away_for_a_while_misses_nothing(writers: Writers, tmp_path: Path) -> None:
    now = int(time.time())
    prometheus = Prometheus(tmp_path / "prometheus")
    with prometheus:
        writer = writers({"url": prometheus.write_url, "name": "prometheus"})
        writer.append(TENANT, [pass_at(now - 300, 0)])
        until(lambda: prometheus.query("calls_total[10m]", now))
        prometheus.stop()
        for value in range(1, 20):
            writer.append(TENANT, [pass_at(now - 300 + 15 * value, value)])
        until(lambda: writers.samples()["prometheus_remote_storage_samples_retried_total"] > 2)
        writers.stop()
        prometheus.start()
        writer = writers({"url": prometheus.write_url, "name": "prometheus"})
        writer.append(TENANT, [pass_at(now, 0.5)])  # a new process counts from the beginning
        until(lambda: writers.samples()["prometheus_remote_storage_samples_pending"] == 0)
        (found,) = prometheus.query("calls_total[10m]", now)
        assert [float(value) for _, value in found["values"]] == [*map(float, range(20)), 0.5]
