"""What the receiver tests share: a committer that remembers, certificates, and a way to run on the production loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import trustme
import uvloop

from vivace.errors import DecodeError
from vivace.ingest.accept import Accepted
from vivace.ingest.otlp_grpc import GrpcReceiver
from vivace.ingest.otlp_http import HttpReceiver
from vivace.model.proto.otlp_pb2 import ExportTraceServiceRequest, Span
from vivace.tls import TlsOptions

Result = TypeVar("Result")

# Past it a test hangs rather than waits.
DEADLINE_SECONDS = 20


def run(scenario: Coroutine[None, None, Result]) -> Result:
    """Run on uvloop, as the service does."""

    async def bounded() -> Result:
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await scenario

    return uvloop.run(bounded())


class MemoryCommitter:
    """Decodes with the protobuf library and remembers. `fate` is what comes of a request: an answer or an error."""

    def __init__(self, fate: Accepted | Exception | None = None) -> None:
        self.fate = fate
        self.bodies: list[bytes] = []
        self.tenants: list[str] = []
        self.gate: asyncio.Event | None = None  # when set, submit() waits for it
        self.arrived = asyncio.Semaphore(0)  # released once a request

    async def submit(self, tenant: str, body: bytes) -> Accepted:
        self.tenants.append(tenant)
        self.bodies.append(body)
        self.arrived.release()
        if self.gate is not None:
            await self.gate.wait()
        else:
            await asyncio.sleep(0)
        if isinstance(self.fate, Exception):
            raise self.fate
        if self.fate is not None:
            return self.fate
        return Accepted(len(_spans(body)))

    def enqueue(self, tenant: str, body: bytes) -> asyncio.Future[Accepted]:
        return asyncio.ensure_future(self.submit(tenant, body))

    @property
    def spans(self) -> list[Span]:
        return [span for body in self.bodies for span in _spans(body)]

    def requests(self) -> list[ExportTraceServiceRequest]:
        return [ExportTraceServiceRequest.FromString(body) for body in self.bodies]


def _spans(body: bytes) -> list[Span]:
    try:
        request = ExportTraceServiceRequest.FromString(body)
    except Exception as error:
        raise DecodeError(str(error), offset=0, field="request") from error
    return [span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what no event tells of; run() is the deadline."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def serving(receiver: GrpcReceiver | HttpReceiver) -> AsyncIterator[int]:
    """Start, yield the port, stop."""
    await receiver.start()
    try:
        yield receiver.port
    finally:
        await receiver.stop(5)


@dataclass(frozen=True, slots=True)
class Certificates:
    """Files of one certificate authority, a server certificate for localhost and a client certificate."""

    ca_file: str
    cert_file: str
    key_file: str
    client_cert_file: str
    client_key_file: str

    @classmethod
    def make(cls, directory: Path) -> Certificates:
        authority = trustme.CA()
        server = authority.issue_cert("localhost", "127.0.0.1")
        client = authority.issue_cert("exporter@example.com")
        names = ("ca", "cert", "key", "client_cert", "client_key")
        paths = [directory / f"{name}.pem" for name in names]
        authority.cert_pem.write_to_path(paths[0])
        server.private_key_and_cert_chain_pem.write_to_path(paths[1])
        server.private_key_pem.write_to_path(paths[2])
        client.private_key_and_cert_chain_pem.write_to_path(paths[3])
        client.private_key_pem.write_to_path(paths[4])
        return cls(*(str(path) for path in paths))

    def tls(self, *, mutual: bool) -> TlsOptions:
        return TlsOptions(
            cert_file=self.cert_file, key_file=self.key_file, client_ca_file=self.ca_file if mutual else ""
        )
