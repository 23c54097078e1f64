"""The gRPC query port: health in plain text and over TLS, and bounds that grpcio is told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

import grpc
import pytest
import trustme

from vivace.api.grpc_server import HEALTH_SERVICE, MILLISECONDS_MAX, NOT_SERVING, SERVING, GrpcLimits, GrpcServer
from vivace.errors import ConfigError
from vivace.tls import TlsOptions

DEADLINE_SECONDS = 20
DEFAULT = GrpcLimits()
AUTHORITY = trustme.CA()
CA = AUTHORITY.cert_pem.bytes()
_SERVER = AUTHORITY.issue_cert("localhost")
_CLIENT = AUTHORITY.issue_cert("client")
TLS = TlsOptions(cert_pem=_SERVER.cert_chain_pems[0].bytes().decode(), key_pem=_SERVER.private_key_pem.bytes().decode())
MUTUAL = replace(TLS, client_ca_pem=CA.decode())
STRANGER = grpc.ssl_channel_credentials(CA)
FRIEND = grpc.ssl_channel_credentials(CA, _CLIENT.private_key_pem.bytes(), _CLIENT.cert_chain_pems[0].bytes())


def run(
    steps: Callable[[GrpcServer], Awaitable[None]],
    *,
    limits: GrpcLimits = DEFAULT,
    tls: TlsOptions | None = None,
    reason: str | None = None,
) -> None:
    async def main() -> None:
        server = GrpcServer("localhost", 0, readiness=lambda: reason, limits=limits, tls=tls)
        await server.start()
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                await steps(server)
        finally:
            await server.stop(0)

    asyncio.run(main())


async def check(server: GrpcServer, credentials: grpc.ChannelCredentials | None) -> bytes:
    """The answer of health, or the name of the status."""
    address = f"localhost:{server.port}"
    opened = grpc.aio.secure_channel(address, credentials) if credentials else grpc.aio.insecure_channel(address)
    async with opened as channel:
        try:
            return await channel.unary_unary(f"/{HEALTH_SERVICE}/Check")(b"", timeout=5)
        except grpc.aio.AioRpcError as error:
            return error.code().name.encode()


CHECKS = [  # the server's TLS, the client's, answer
    (None, None, SERVING),
    (TLS, STRANGER, SERVING),
    (TLS, None, b"UNAVAILABLE"),
    (MUTUAL, FRIEND, SERVING),
    (MUTUAL, STRANGER, b"UNAVAILABLE"),
]


@pytest.mark.parametrize(("tls", "credentials", "answer"), CHECKS)
def test_health(tls: TlsOptions | None, credentials: grpc.ChannelCredentials | None, answer: bytes) -> None:
    async def steps(server: GrpcServer) -> None:
        assert await check(server, credentials) == answer

    run(steps, tls=tls)


def test_health_before_the_start_is_done() -> None:
    async def steps(server: GrpcServer) -> None:
        assert await check(server, None) == NOT_SERVING

    run(steps, reason="starting")


REFUSED = [
    (replace(TLS, key_pem="nonsense"), "cannot use the certificate"),
    (replace(MUTUAL, client_optional=True), "optional client certificates"),
    (replace(TLS, min_version="1.3"), "TLS versions"),
]


@pytest.mark.parametrize(("tls", "message"), REFUSED)
def test_tls_that_cannot_be_had_is_refused(tls: TlsOptions, message: str) -> None:
    async def steps(server: GrpcServer) -> None:
        raise AssertionError("it started")

    with pytest.raises(ConfigError, match=message):
        run(steps, tls=tls)


ARGUMENTS = [  # limits, argument of grpcio, value (None: left out)
    (DEFAULT, "grpc.max_send_message_length", 16 << 20),
    (DEFAULT, "grpc.max_connection_idle_ms", None),
    (DEFAULT, "grpc.keepalive_permit_without_calls", 1),
    (GrpcLimits(pings_without_calls=False), "grpc.keepalive_permit_without_calls", 0),
    (GrpcLimits(send_bytes_max=5), "grpc.max_send_message_length", 5),
    (GrpcLimits(concurrent_streams_max=0), "grpc.max_concurrent_streams", None),
    (GrpcLimits(connection_idle_max=timedelta(seconds=2)), "grpc.max_connection_idle_ms", 2000),
    (GrpcLimits(connection_age_max=timedelta(days=300)), "grpc.max_connection_age_ms", MILLISECONDS_MAX),
    (GrpcLimits(connection_age_grace=timedelta(microseconds=1)), "grpc.max_connection_age_grace_ms", 1),
    (GrpcLimits(keepalive_time=timedelta(hours=2)), "grpc.keepalive_time_ms", 7_200_000),
    (GrpcLimits(keepalive_timeout=timedelta(seconds=20)), "grpc.keepalive_timeout_ms", 20_000),
    (DEFAULT, "grpc.http2.min_ping_interval_without_data_ms", 10_000),
]


@pytest.mark.parametrize(("limits", "name", "value"), ARGUMENTS)
def test_bounds_as_grpcio_takes_them(limits: GrpcLimits, name: str, value: int | None) -> None:
    assert dict(limits.channel_arguments()).get(name) == value


def test_an_aged_connection_is_closed() -> None:
    """That grpcio knows these names: it ignores those that it does not."""

    async def steps(server: GrpcServer) -> None:
        reader, writer = await asyncio.open_connection("localhost", server.port)
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))
        assert await reader.read()  # to its end: settings, then GOAWAY
        writer.close()

    run(
        steps,
        limits=GrpcLimits(
            connection_age_max=timedelta(milliseconds=50), connection_age_grace=timedelta(milliseconds=50)
        ),
    )
