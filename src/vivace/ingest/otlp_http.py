"""OTLP over HTTP: `POST /v1/traces`, protobuf or JSON, on uvicorn inside the caller's event loop.

Rule 1  a request is answered 200 only after Committer.submit() returned.
Rule 2  a body is read, and inflated, only up to max_request_body_size_bytes; nothing past it is ever held.
Rule 3  errors come back in the request's own encoding: a google.rpc.Status as JSON or as protobuf. Wrong paths,
        methods and media types are answered in plain text, before the body is read.
Rule 4  a client that goes away or stalls in mid-body costs nothing but its connection.

What senders are told: replies.py.  Content-Encoding: compression.py.  JSON: otlp_json.py.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any

import uvicorn
from starlette.middleware.cors import CORSMiddleware
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from vivace.errors import LimitError, RequestError, UnavailableError
from vivace.ingest.accept import Committer
from vivace.ingest.budget import Budget
from vivace.ingest.compression import CODECS, inflate
from vivace.ingest.endpoint import Endpoint
from vivace.ingest.otlp_json import encode_request
from vivace.ingest.replies import TenantOf, accepted_bytes, accepted_json, refusal_of, single_tenant
from vivace.tls import TlsOptions

logger = logging.getLogger(__name__)

# The shapes of ASGI 3. A message's keys depend on its type, so its values are not typed further.
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

JSON, PROTOBUF = b"application/json", b"application/x-protobuf"
PLAIN_TEXT = b"text/plain; charset=utf-8"
NOT_FOUND = b"404 page not found\n"
METHOD_NOT_ALLOWED = b"405 method not allowed, supported: [POST]"
UNSUPPORTED_MEDIA_TYPE = b"415 unsupported media type, supported: [application/json, application/x-protobuf]"
BODY_TOO_LARGE = "http: request body too large"

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
    max_connections: int = 1000  # past it uvicorn answers 503 and closes
    read_timeout_seconds: float = 30.0  # for a whole body
    idle_timeout_seconds: int = 120  # of a connection between requests; exporters send every 5 to 60 seconds
    encodings: frozenset[str] = frozenset(CODECS)  # values of Content-Encoding that are taken; "" is none at all
    cors: CorsOptions | None = None


class _Gone(Exception):
    """The client closed the connection in mid-body; there is nobody to answer."""


class HttpReceiver:
    """The OTLP/HTTP server. Runs on the event loop that calls start(); `port` is the bound one from then on."""

    def __init__(
        self,
        committer: Committer,
        endpoint: str,
        *,
        options: HttpOptions | None = None,
        tls: TlsOptions | None = None,
        tenant_of: TenantOf = single_tenant,
    ) -> None:
        self._options = options or HttpOptions()
        self._endpoint = Endpoint.parse(endpoint)
        self._tls = tls
        self._application = _with_cors(TracesApplication(committer, self._options, tenant_of), self._options.cors)
        self._state = ServerState()
        self._listener: asyncio.Server | None = None
        self.port = self._endpoint.port

    async def start(self) -> None:
        """Bind and serve. uvicorn.Server is left out: it takes over signals, and exits the process on a taken port.

        Raises  ConfigError for TLS files that cannot be used, OSError when the port cannot be bound.
        """
        context = self._tls.server_context(["http/1.1"]) if self._tls else None
        config = uvicorn.Config(
            self._application,
            http=HttpToolsProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            limit_concurrency=self._options.max_connections + 1,  # uvicorn counts the one that asks
            timeout_keep_alive=self._options.idle_timeout_seconds,
        )
        config.load()
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            lambda: _Connection(config=config, server_state=self._state, app_state={}),
            self._endpoint.host,
            self._endpoint.port,
            ssl=context,
        )
        self.port = self._listener.sockets[0].getsockname()[1]

    async def stop(self, grace_seconds: float) -> None:
        """Take no new requests, wait at most `grace_seconds` for those under way, then close. Safe to call twice."""
        if self._listener is None:
            return
        self._listener.close()
        self._listener = None
        for connection in list(self._state.connections):
            connection.shutdown()
        unanswered: Iterable[asyncio.Task[None]] = set(self._state.tasks)
        if unanswered:
            _, unanswered = await asyncio.wait(unanswered, timeout=grace_seconds)
        for task in unanswered:
            task.cancel()
        await asyncio.gather(*unanswered, return_exceptions=True)
        for connection in list(self._state.connections):
            connection.transport.close()


class _Connection(HttpToolsProtocol):
    """uvicorn's, but a connection that never sends a request is closed like one that idles between two."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)


class TracesApplication:
    """The ASGI application behind the port: one path, one method, two media types."""

    def __init__(self, committer: Committer, options: HttpOptions, tenant_of: TenantOf) -> None:
        self._committer = committer
        self._options = options
        self._tenant_of = tenant_of
        self._budget = Budget(options.max_buffered_bytes)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["path"] != self._options.traces_url_path:
            await _reply(send, 404, PLAIN_TEXT, NOT_FOUND)
            return
        if scope["method"] != "POST":
            await _reply(send, 405, PLAIN_TEXT, METHOD_NOT_ALLOWED)
            return
        headers: dict[bytes, bytes] = dict(scope["headers"])
        media_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if media_type not in (JSON, PROTOBUF):
            await _reply(send, 415, PLAIN_TEXT, UNSUPPORTED_MEDIA_TYPE)
            return
        try:
            status, body, retry_after = await self._answer(headers, media_type == JSON, receive)
        except _Gone:
            logger.info("a client went away in the middle of its request")
            return
        await _reply(send, status, media_type, body, retry_after)

    async def _answer(
        self, headers: dict[bytes, bytes], is_json: bool, receive: Receive
    ) -> tuple[int, bytes, float | None]:
        """(HTTP status, body, seconds for Retry-After) of one request."""
        charge = _Charge(self._budget)
        try:
            tenant_header = headers.get(b"x-scope-orgid")
            tenant = self._tenant_of(None if tenant_header is None else tenant_header.decode("latin-1"))
            request = await self._read(headers, charge, receive)
            if is_json:
                long = len(request) > INLINE_JSON_BYTES_MAX
                request = await asyncio.to_thread(encode_request, request) if long else encode_request(request)
            accepted = await self._committer.submit(tenant, request)
        except _Gone:
            raise
        except asyncio.CancelledError:
            # Only stop() cancels, when its grace is over. The sender learns that it should send again.
            refusal = refusal_of(UnavailableError("the server is stopping, send again"))
        except Exception as error:
            refusal = refusal_of(error)
        else:
            return 200, accepted_json(accepted) if is_json else accepted_bytes(accepted), None
        finally:
            charge.release()
        body = refusal.status_json() if is_json else refusal.status()
        return refusal.http_status, body, refusal.retry_after_seconds

    async def _read(self, headers: dict[bytes, bytes], charge: _Charge, receive: Receive) -> bytes:
        """The whole body, decompressed.

        Raises  RequestError when it is too long, in an encoding that we do not take or not what its Content-Encoding
                says, UnavailableError when it takes too long or the receiver is full, _Gone when the client closes.
        """
        encoding = headers.get(b"content-encoding", b"").decode("latin-1").strip().lower()
        encoding = "" if encoding == "identity" else encoding
        size_max = self._options.max_request_body_size_bytes
        try:
            async with asyncio.timeout(self._options.read_timeout_seconds):
                body = await _read_body(receive, charge, size_max)
        except TimeoutError:
            waited = f"{self._options.read_timeout_seconds:g} seconds"
            raise UnavailableError(f"the body was not complete after {waited}") from None
        if encoding not in self._options.encodings:
            raise RequestError(f"unsupported Content-Encoding: {encoding or 'none'}")
        try:
            inflated = await inflate(body, encoding, size_max)
        except LimitError as error:
            raise RequestError(BODY_TOO_LARGE) from error
        if inflated is not body:
            charge.take(len(inflated))
        return inflated


class _Charge:
    """What one request has taken from the budget."""

    __slots__ = ("_budget", "_taken_bytes")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._taken_bytes = 0

    def take(self, size_bytes: int) -> None:
        self._budget.take(size_bytes)
        self._taken_bytes += size_bytes

    def release(self) -> None:
        self._budget.give_back(self._taken_bytes)
        self._taken_bytes = 0


async def _read_body(receive: Receive, charge: _Charge, size_max: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Gone
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > size_max:
            raise RequestError(BODY_TOO_LARGE)
        charge.take(len(chunk))
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def _reply(send: Send, status: int, media_type: bytes, body: bytes, retry_after: float | None = None) -> None:
    headers = [(b"content-type", media_type), (b"content-length", str(len(body)).encode())]
    if media_type == PLAIN_TEXT:
        headers.append((b"x-content-type-options", b"nosniff"))
    if retry_after is not None:
        # Whole seconds, and never 0: a client would come back at once.
        headers.append((b"retry-after", str(max(1, math.ceil(retry_after))).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _with_cors(application: Application, cors: CorsOptions | None) -> Application:
    if cors is None or not cors.allowed_origins:
        return application
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


def _origin_regex(pattern: str) -> str:
    """`https://*.example.com` as a regular expression, where a star is any run of characters."""
    return ".*".join(re.escape(part) for part in pattern.split("*"))
