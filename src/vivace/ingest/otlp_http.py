"""OTLP over HTTP: `POST /v1/traces`, protobuf or JSON.

Rule 1  a request is answered 200 only after the Committer has kept it.
Rule 2  a body is read, and inflated, only up to max_request_body_size_bytes; nothing past it is ever held.
Rule 3  errors come back in the request's own encoding: a google.rpc.Status as JSON or as protobuf. Wrong paths,
        methods and media types are answered in plain text, before the body is kept.
Rule 4  a client that goes away or stalls in mid-body costs nothing but its connection.

HTTP itself: http_connection.py.  What senders are told: replies.py.  Content-Encoding: compression.py.  JSON: otlp_json.py.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote

from starlette.middleware.cors import CORSMiddleware

from vivace.access import OPEN, Guard
from vivace.errors import AccessError, LimitError, RequestError, UnavailableError, VivaceError
from vivace.ingest.accept import Accepted, Committer
from vivace.ingest.budget import Budget
from vivace.ingest.compression import CODECS, inflate
from vivace.ingest.endpoint import Endpoint
from vivace.ingest.http_connection import BodyTooLargeError, HttpConnection, Request, Response, encode
from vivace.ingest.otlp_json import encode_request
from vivace.ingest.replies import (
    ACCEPTED_ALL,
    TenantOf,
    accepted_bytes,
    accepted_json,
    refusal_of,
    single_tenant,
    tenant_of,
)
from vivace.tls import TlsOptions

logger = logging.getLogger(__name__)

JSON, PROTOBUF = b"application/json", b"application/x-protobuf"
PLAIN_TEXT = b"text/plain; charset=utf-8"
NOT_FOUND = b"404 page not found\n"
METHOD_NOT_ALLOWED = b"405 method not allowed, supported: [POST]"
UNSUPPORTED_MEDIA_TYPE = b"415 unsupported media type, supported: [application/json, application/x-protobuf]"
BODY_TOO_LARGE = "http: request body too large"
STOPPING = "the server is stopping, send again"

# Longer JSON goes to a thread, so that the event loop can serve others: this much takes about 4 ms.
INLINE_JSON_BYTES_MAX = 64 * 1024


@dataclass(frozen=True, slots=True)
class CorsOptions:
    """`cors` of the Collector: which web pages may send spans. An origin may hold `*` for any run of characters."""

    allowed_origins: tuple[str, ...]
    allowed_headers: tuple[str, ...] = ()  # besides the CORS-safelisted ones; "*" for all
    max_age_seconds: int = 600


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """Limits and address of the HTTP receiver. Sizes are bytes."""

    traces_url_path: str = "/v1/traces"
    max_request_body_size_bytes: int = 20 << 20  # as sent, and decompressed
    max_buffered_bytes: int = 64 << 20  # all requests being read or committed: three of the largest
    max_connections: int = 1000  # past it requests are answered 503 and the connection closed
    read_timeout_seconds: float = 30.0  # for a whole body
    idle_timeout_seconds: int = 120  # of a connection between requests; exporters send every 5 to 60 seconds
    encodings: frozenset[str] = frozenset(CODECS)  # values of Content-Encoding that are taken; "" is none at all
    cors: CorsOptions | None = None


class HttpReceiver:
    """The OTLP/HTTP server. Runs on the event loop that calls start(); `port` is the bound one from then on."""

    def __init__(
        self,
        committer: Committer,
        endpoint: str,
        *,
        options: HttpOptions | None = None,
        tls: TlsOptions | None = None,
        named: TenantOf = single_tenant,
        guard: Guard = OPEN,
    ) -> None:
        options = options or HttpOptions()
        self._options = options
        self._endpoint = Endpoint.parse(endpoint)
        self._tls = tls
        self._traces = TracesHandler(committer, options, named, guard)
        self._cors = _cors_of(self._traces, options.cors)
        self._listener: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self.connections: set[HttpConnection] = set()
        self.replies: set[asyncio.Future[Any]] = set()
        self.port = self._endpoint.port
        # What an HttpConnection reads:
        self.body_bytes_max = options.max_request_body_size_bytes
        self.budget = self._traces.budget

    async def start(self) -> None:
        """Bind and serve.

        Raises  ConfigError for TLS files that cannot be used, OSError when the port cannot be bound.
        """
        context = self._tls.server_context(["http/1.1"]) if self._tls else None
        self.loop = asyncio.get_running_loop()
        self._listener = await self.loop.create_server(
            lambda: HttpConnection(self), self._endpoint.host, self._endpoint.port, ssl=context
        )
        self.port = self._listener.sockets[0].getsockname()[1]
        self._sweep()

    async def stop(self, grace_seconds: float) -> None:
        """Take no new requests, wait at most `grace_seconds` for those under way, then close. Safe to call twice."""
        if self._listener is None or self._sweeper is None:
            return
        self._listener.close()
        self._listener = None
        self._sweeper.cancel()
        for connection in list(self.connections):
            connection.drain()
        unanswered = set(self.replies)
        if unanswered:
            _, unanswered = await asyncio.wait(unanswered, timeout=grace_seconds)
        for reply in unanswered:
            reply.cancel()
        await asyncio.gather(*unanswered, return_exceptions=True)
        for connection in list(self.connections):
            connection.transport.close()

    # For HttpConnection

    def connection_opened(self, connection: HttpConnection) -> bool:
        self.connections.add(connection)
        return len(self.connections) <= self._options.max_connections

    def connection_closed(self, connection: HttpConnection) -> None:
        self.connections.discard(connection)

    def run(self, reply: Coroutine[None, None, None]) -> None:
        task = self.loop.create_task(reply)
        self.replies.add(task)
        task.add_done_callback(self._replied)

    def _replied(self, reply: asyncio.Future[None]) -> None:
        self.replies.discard(reply)
        if not reply.cancelled() and (error := reply.exception()) is not None:
            logger.error("answering a request failed by our fault", exc_info=error)

    def refuse_early(self, request: Request) -> Response | None:
        if self._cors is not None and request.method == "OPTIONS":
            return None  # a preflight
        return self._traces.refuse_early(request)

    def refuse(self, request: Request, error: VivaceError) -> Response:
        return self._traces.refuse(request, error)

    def keep(self, request: Request) -> asyncio.Future[Accepted] | Response | None:
        if self._cors is not None and (request.method == "OPTIONS" or b"origin" in request.headers):
            return None
        fate = self._traces.keep(request)
        if isinstance(fate, asyncio.Future):
            self.replies.add(fate)
            fate.add_done_callback(self.replies.discard)
        return fate

    def kept(self, request: Request, fate: asyncio.Future[Accepted]) -> Response:
        return self._traces.kept(request, fate)

    async def respond(self, request: Request) -> Response:
        if self._cors is not None and b"origin" in request.headers:
            return await _through(self._cors, request)
        return await self._traces.respond(request)

    # Own

    def _sweep(self) -> None:
        """Refuse requests that do not become whole, close connections that idle."""
        now = self.loop.time()
        read_timeout, idle_timeout = self._options.read_timeout_seconds, self._options.idle_timeout_seconds
        for connection in list(self.connections):
            if connection.asking_since is not None:
                if now - connection.asking_since > read_timeout:
                    waited = f"{read_timeout:g} seconds"
                    connection.refuse_late(UnavailableError(f"the body was not complete after {waited}"))
            elif not connection.is_answering and now - connection.quiet_since > idle_timeout:
                connection.drain()
        pause = max(SWEEP_SECONDS_MIN, min(SWEEP_SECONDS_MAX, read_timeout / 4, idle_timeout / 4))
        self._sweeper = self.loop.call_later(pause, self._sweep)


SWEEP_SECONDS_MIN, SWEEP_SECONDS_MAX = 0.01, 1.0  # timeouts are kept to a quarter, and to a second


class TracesHandler:
    """What is behind the port: one path, one method, two media types."""

    def __init__(
        self, committer: Committer, options: HttpOptions, named: TenantOf = single_tenant, guard: Guard = OPEN
    ) -> None:
        self._committer = committer
        self._options = options
        self._named = named
        self._guard = guard
        self.budget = Budget(options.max_buffered_bytes)

    def refuse_early(self, request: Request) -> Response | None:
        """The plain-text reply to a request for something else; the refusal of one that must not send."""
        path = unquote(request.path) if "%" in request.path else request.path
        if path != self._options.traces_url_path:
            return _plain(404, NOT_FOUND)
        if request.method != "POST":
            return _plain(405, METHOD_NOT_ALLOWED)
        if _media_type(request) not in (JSON, PROTOBUF):
            return _plain(415, UNSUPPORTED_MEDIA_TYPE)
        try:
            tenant_of(request.headers, self._guard, self._named)
        except RequestError as error:
            return self.refuse(request, error)
        return None

    def refuse(self, request: Request, error: Exception) -> Response:
        """The reply to a request that failed, in its own encoding."""
        refusal = refusal_of(RequestError(BODY_TOO_LARGE) if isinstance(error, BodyTooLargeError) else error)
        media_type = _media_type(request)
        headers = [(b"content-type", media_type)]
        if refusal.retry_after_seconds is not None:
            # Whole seconds, and never 0: a client would come back at once.
            headers.append((b"retry-after", str(max(1, math.ceil(refusal.retry_after_seconds))).encode()))
        if isinstance(error, AccessError):
            headers.append((b"www-authenticate", error.challenge.encode()))
        body = refusal.status_json() if media_type == JSON else refusal.status()
        return Response(refusal.http_status, headers, body)

    def keep(self, request: Request) -> asyncio.Future[Accepted] | Response | None:
        """What most senders send needs neither a task nor a wait but that for its group: protobuf as it is."""
        if _media_type(request) == JSON or b"content-encoding" in request.headers:
            return None
        try:
            return self._committer.enqueue(tenant_of(request.headers, self._guard, self._named), request.body)
        except Exception as error:
            return self.refuse(request, error)

    def kept(self, request: Request, fate: asyncio.Future[Accepted]) -> Response:
        """The reply to a request of keep()."""
        try:
            return self._accepted(fate.result())
        except asyncio.CancelledError:  # only stop() cancels
            return self.refuse(request, UnavailableError(STOPPING))
        except Exception as error:
            return self.refuse(request, error)

    def _accepted(self, accepted: Accepted) -> Response:
        return KEPT if not accepted.rejected else Response(200, PROTOBUF_HEADERS, accepted_bytes(accepted))

    async def respond(self, request: Request) -> Response:
        """The reply to a whole request."""
        if request.method != "POST" and (early := self.refuse_early(request)) is not None:
            return early  # OPTIONS that were no preflight: all others were refused by their head
        is_json = _media_type(request) == JSON
        inflated_bytes = 0
        try:
            tenant = tenant_of(request.headers, self._guard, self._named)
            body = request.body
            encoding = self._encoding(request)
            if encoding:
                body = await self._inflated(body, encoding)
                self.budget.take(len(body))
                inflated_bytes = len(body)
            if is_json:
                long = len(body) > INLINE_JSON_BYTES_MAX
                body = await asyncio.to_thread(encode_request, body) if long else encode_request(body)
            accepted = await self._committer.submit(tenant, body)
        except asyncio.CancelledError:
            # Only stop() cancels, when its grace is over. The sender learns that it should send again.
            return self.refuse(request, UnavailableError(STOPPING))
        except Exception as error:
            return self.refuse(request, error)
        finally:
            self.budget.give_back(inflated_bytes)
        if is_json:
            return Response(200, ((b"content-type", JSON),), accepted_json(accepted))
        return self._accepted(accepted)

    def _encoding(self, request: Request) -> str:
        """Content-Encoding, "" for none. Raises RequestError for one that is not taken."""
        encoding = request.headers.get(b"content-encoding", b"").decode("latin-1").strip().lower()
        encoding = "" if encoding == "identity" else encoding
        if encoding not in self._options.encodings:
            raise RequestError(f"unsupported Content-Encoding: {encoding or 'none'}")
        return encoding

    async def _inflated(self, body: bytes, encoding: str) -> bytes:
        """The body, decompressed. Raises RequestError when it is too long or not what its encoding says."""
        try:
            return await inflate(body, encoding, self._options.max_request_body_size_bytes)
        except LimitError as error:
            raise RequestError(BODY_TOO_LARGE) from error


PROTOBUF_HEADERS = ((b"content-type", PROTOBUF),)
KEPT = Response(200, PROTOBUF_HEADERS, ACCEPTED_ALL)
KEPT = replace(KEPT, encoded=encode(KEPT, ends=False))


def _media_type(request: Request) -> bytes:
    value = request.headers.get(b"content-type", b"")
    return value if value == PROTOBUF else value.partition(b";")[0].strip().lower()


def _plain(status: int, text: bytes) -> Response:
    return Response(status, ((b"content-type", PLAIN_TEXT), (b"x-content-type-options", b"nosniff")), text)


# Web pages: Starlette's middleware knows CORS, so their requests take the way of ASGI. They are few.

Message = MutableMapping[str, Any]
Application = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]


def _cors_of(traces: TracesHandler, cors: CorsOptions | None) -> Application | None:
    if cors is None or not cors.allowed_origins:
        return None

    async def application(scope: Message, receive: Any, send: Any) -> None:
        response = await traces.respond(scope["request"])
        await send({"type": "http.response.start", "status": response.status, "headers": list(response.headers)})
        await send({"type": "http.response.body", "body": response.body})

    patterns = [origin for origin in cors.allowed_origins if "*" in origin and origin != "*"]
    return CORSMiddleware(
        application,
        allow_origins=[origin for origin in cors.allowed_origins if origin not in patterns],
        allow_origin_regex="|".join(_origin_regex(pattern) for pattern in patterns) or None,
        allow_methods=["POST"],
        allow_headers=cors.allowed_headers,
        allow_credentials=True,
        max_age=cors.max_age_seconds,
    )


async def _through(application: Application, request: Request) -> Response:
    """What an ASGI application replies to a request that is whole."""
    status, headers, chunks = 500, [], []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status, headers
        if message["type"] == "http.response.start":
            status = message["status"]
            headers = [h for h in message["headers"] if h[0].lower() != b"content-length"]
        else:
            chunks.append(message.get("body", b""))

    scope = {
        "type": "http",
        "method": request.method,
        "path": request.path,
        "headers": list(request.headers.items()),
        "request": request,
    }
    await application(scope, receive, send)
    return Response(status, headers, b"".join(chunks))


def _origin_regex(pattern: str) -> str:
    """`https://*.example.com` as a regular expression, where a star is any run of characters."""
    return ".*".join(re.escape(part) for part in pattern.split("*"))
