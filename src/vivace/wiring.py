"""Settings as the rooms want them: the names and units of a configuration file on one side, of options on the other.

No decisions here; a setting's meaning is in its description, an option's in its room.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from pydantic import SecretStr
from starlette.requests import Request

from vivace.access import Credentials, Guard, Secret
from vivace.api import tenancy
from vivace.api.grpc_server import GrpcLimits
from vivace.api.stream_wire import WireLimits
from vivace.config.access import IngestAccess, QueryAccess
from vivace.config.receivers import OtlpGrpc, OtlpHttp, ReceiverTls
from vivace.config.server import ListenTls, Server
from vivace.config.settings import Settings
from vivace.config.units import BytesOrPercent
from vivace.ingest import replies
from vivace.ingest.accept import Committer
from vivace.ingest.otlp_grpc import GrpcOptions, GrpcReceiver, Keepalive
from vivace.ingest.otlp_http import CorsOptions, HttpOptions, HttpReceiver
from vivace.ingest.replies import TenantOf
from vivace.model import tenant
from vivace.tls import TlsOptions


def disk_limit(limit: BytesOrPercent) -> int | float:
    """As DiskBudget takes it: bytes, or a fraction of the file system."""
    return limit.size_bytes if limit.size_bytes is not None else (limit.percent or 0.0) / 100


def grpc_receiver(commit: Committer, settings: OtlpGrpc, named: TenantOf, guard: Guard) -> GrpcReceiver:
    defaults = GrpcOptions()
    times = settings.keepalive.server_parameters
    usual = defaults.keepalive
    return GrpcReceiver(
        commit,
        settings.endpoint,
        options=GrpcOptions(
            max_recv_msg_size_bytes=(settings.max_recv_msg_size_mib or 4) << 20,
            max_concurrent_streams=settings.max_concurrent_streams or defaults.max_concurrent_streams,
            keepalive=Keepalive(
                time_seconds=times.time.total_seconds() or usual.time_seconds,
                timeout_seconds=times.timeout.total_seconds() or usual.timeout_seconds,
                max_connection_idle_seconds=times.max_connection_idle.total_seconds()
                or usual.max_connection_idle_seconds,
                max_connection_age_seconds=times.max_connection_age.total_seconds() or usual.max_connection_age_seconds,
                max_connection_age_grace_seconds=times.max_connection_age_grace.total_seconds()
                or usual.max_connection_age_grace_seconds,
            ),
        ),
        tls=receiver_tls(settings.tls),
        named=named,
        guard=guard,
    )


def http_receiver(commit: Committer, settings: OtlpHttp, named: TenantOf, guard: Guard) -> HttpReceiver:
    cors = settings.cors
    return HttpReceiver(
        commit,
        settings.endpoint,
        options=HttpOptions(
            traces_url_path=settings.traces_url_path,
            max_request_body_size_bytes=settings.max_request_body_size or HttpOptions().max_request_body_size_bytes,
            encodings=frozenset(settings.compression_algorithms),
            cors=CorsOptions(cors.allowed_origins, cors.allowed_headers, cors.max_age or 600) if cors else None,
        ),
        tls=receiver_tls(settings.tls),
        named=named,
        guard=guard,
    )


def receiver_tls(settings: ReceiverTls | None) -> TlsOptions | None:
    if settings is None:
        return None
    return TlsOptions(
        cert_file=str(settings.cert_file or ""),
        cert_pem=settings.cert_pem,
        key_file=str(settings.key_file or ""),
        key_pem=settings.key_pem.get_secret_value() if settings.key_pem else "",
        client_ca_file=str(settings.client_ca_file or ""),
        client_ca_pem=settings.client_ca_pem,
        min_version=settings.min_version or "1.2",
        max_version=settings.max_version,
    )


def listen_tls(settings: ListenTls, where: str, min_version: str) -> TlsOptions | None:
    if not settings.enabled:
        return None
    return TlsOptions(
        cert_file=str(settings.cert_file or ""),
        cert_pem=settings.cert,
        key_file=str(settings.key_file or ""),
        key_pem=settings.key.get_secret_value() if settings.key else "",
        client_ca_file=str(settings.client_ca_file or ""),
        client_ca_pem=settings.client_ca,
        min_version="1.3" if min_version == "VersionTLS13" else "1.2",
        client_optional=settings.client_auth_type == "VerifyClientCertIfGiven",
        where=where,
    )


def grpc_limits(server: Server) -> GrpcLimits:
    return GrpcLimits(
        receive_bytes_max=server.grpc_server_max_recv_msg_size,
        send_bytes_max=server.grpc_server_max_send_msg_size,
        concurrent_streams_max=server.grpc_server_max_concurrent_streams,
        connection_idle_max=server.grpc_server_max_connection_idle,
        connection_age_max=server.grpc_server_max_connection_age,
        connection_age_grace=server.grpc_server_max_connection_age_grace,
        keepalive_time=server.grpc_server_keepalive_time,
        keepalive_timeout=server.grpc_server_keepalive_timeout,
        ping_interval_min=server.grpc_server_min_time_between_pings,
        pings_without_calls=server.grpc_server_ping_without_stream_allowed,
    )


def ingest_guard(settings: Settings) -> Guard:
    """Raises ConfigError for a file of a secret that cannot be used."""
    return _guard(settings.access.ingest, "access.ingest")


def query_guard(settings: Settings) -> Guard:
    """Raises ConfigError for a file of a secret that cannot be used."""
    return _guard(settings.access.query, "access.query")


def _guard(side: IngestAccess | QueryAccess, where: str) -> Guard:
    users = (
        (
            user.name,
            _secret(f"{where}.users[{place}].password", user.password, user.password_file, user.password_sha256),
        )
        for place, user in enumerate(side.users)
    )
    tokens = (
        _secret(f"{where}.tokens[{place}].token", token.token, token.token_file, token.token_sha256)
        for place, token in enumerate(side.tokens)
    )
    return Guard(Credentials(tuple(users), tuple(tokens), where))


def _secret(where: str, text: SecretStr | None, file: Path | None, sha256: SecretStr | None) -> Secret:
    return Secret(
        f"{where}_file" if file is not None else where,
        text=text.get_secret_value() if text is not None else "",
        file=file,
        sha256_hex=sha256.get_secret_value() if sha256 is not None else "",
    )


def sender(settings: Settings) -> TenantOf:
    """Whose spans a request brings, by its header."""
    return tenant.one if settings.multitenancy_enabled else replies.single_tenant


def asker(settings: Settings) -> Callable[[Request], str]:
    """Whose spans a query asks for."""
    if not settings.multitenancy_enabled:
        return tenancy.single_tenant
    joined = settings.query_frontend.multi_tenant_queries_enabled
    return tenancy.tenants_from_header if joined else tenancy.tenant_from_header


def wire_limits(server: Server, read_seconds: float) -> WireLimits:
    """Of gRPC on the HTTP port."""
    return WireLimits(
        receive_bytes_max=server.grpc_server_max_recv_msg_size,
        send_bytes_max=server.grpc_server_max_send_msg_size,
        read_seconds=read_seconds,
    )


def seconds_or_never(timeout: timedelta) -> float:
    """As Go's HTTP server reads it: zero is no timeout."""
    return timeout.total_seconds() or math.inf
