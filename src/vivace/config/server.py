"""The `server` keys: where the query API listens and how patient it is."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from .section import Section
from .units import ByteSize, Count, Duration, Port, Secret, Switch


class ListenTls(Section):
    """Certificates of one listener, each as text or as a file; TLS is on when a certificate is given."""

    cert: str = Field(default="", description="Certificate chain as PEM text; empty leaves TLS to `cert_file`.")
    key: Secret | None = Field(default=None, description="Private key as PEM text; belongs to `cert`.")
    client_ca: str = Field(
        default="", description="CA certificates as PEM text that client certificates must chain to."
    )
    cert_file: Path | None = Field(
        default=None, description="PEM file with the certificate chain; naming one turns TLS on."
    )
    key_file: Path | None = Field(default=None, description="PEM file with the private key of `cert_file`.")
    client_ca_file: Path | None = Field(
        default=None, description="PEM file with the CA certificates that client certificates must chain to."
    )
    client_auth_type: Literal["", "NoClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert"] = Field(
        default="",
        description="How much of a client certificate is demanded; empty means none, the others need a client CA.",
    )

    @property
    def enabled(self) -> bool:
        return bool(self.cert or self.cert_file)

    @property
    def checks_clients(self) -> bool:
        return self.client_auth_type in ("VerifyClientCertIfGiven", "RequireAndVerifyClientCert")

    @model_validator(mode="after")
    def _check_pairs(self) -> ListenTls:
        for name in ("cert", "key", "client_ca"):
            if getattr(self, name) and getattr(self, f"{name}_file"):
                raise ValueError(f"found {name} and {name}_file, expected one of them")
        if bool(self.cert or self.cert_file) != bool(self.key or self.key_file):
            raise ValueError("found a certificate without its key or a key without its certificate, expected both")
        client_ca = bool(self.client_ca or self.client_ca_file)
        if self.checks_clients and not client_ca:
            raise ValueError(f"found client_auth_type {self.client_auth_type} without a client CA, expected both")
        if client_ca and not self.checks_clients:
            raise ValueError("found a client CA that checks nobody, add client_auth_type: RequireAndVerifyClientCert")
        if client_ca and not self.enabled:
            raise ValueError("found a client CA without a certificate of the server, expected both or neither")
        return self


class Server(Section):
    """HTTP and gRPC listeners of the query API, and the process's own log."""

    http_listen_address: str = Field(
        default="", description="Host or address of the HTTP API; empty listens on all interfaces."
    )
    http_listen_port: Port = Field(default=3200, description="Port of the HTTP API; 0 picks a free one.")
    grpc_listen_address: str = Field(
        default="", description="Host or address of the gRPC query API; empty listens on all interfaces."
    )
    grpc_listen_port: Port = Field(default=9095, description="Port of the gRPC query API; 0 picks a free one.")
    http_tls_config: ListenTls = Field(
        default=ListenTls(), description="TLS of the HTTP API; off without a certificate."
    )
    grpc_tls_config: ListenTls = Field(
        default=ListenTls(), description="TLS of the gRPC query API; off without a certificate."
    )
    tls_min_version: Literal["", "VersionTLS12", "VersionTLS13"] = Field(
        default="",
        description="Oldest TLS version accepted; empty means 1.2. Version 1.3 cannot be had together with TLS on the gRPC port.",
    )
    graceful_shutdown_timeout: Duration = Field(
        default=timedelta(seconds=30),
        description="How long running queries may finish after a stop signal, at most 5s; more loses fewer answers, less stops "
        "sooner.",
    )
    http_server_read_timeout: Duration = Field(
        default=timedelta(seconds=30),
        description="How long a request may take to arrive; more suits slow links, less frees stuck connections "
        "sooner, 0 waits forever.",
    )
    http_server_write_timeout: Duration = Field(
        default=timedelta(seconds=30),
        description="How long an answer may take to compute, and its client to take in what was sent; more allows heavier "
        "queries, 0 waits forever.",
    )
    http_server_idle_timeout: Duration = Field(
        default=timedelta(minutes=2),
        description="How long an unused keep-alive connection stays open; more saves handshakes, less frees sockets, 0 means "
        "`http_server_read_timeout`.",
    )
    grpc_server_max_recv_msg_size: ByteSize = Field(
        default=16_777_216,
        description="Largest gRPC request in bytes; more takes larger queries and more memory for each.",
    )
    grpc_server_max_send_msg_size: ByteSize = Field(
        default=16_777_216,
        description="Largest gRPC answer message in bytes; more lets larger traces through in one message.",
    )
    grpc_server_max_concurrent_streams: Count = Field(
        default=100,
        description="Streams that one gRPC connection may have open; more lets one client ask more at a time, 0 sets no limit.",
    )
    grpc_server_max_connection_idle: Duration = Field(
        default=timedelta(0), description="Close a gRPC connection after this time without a call; 0 never does."
    )
    grpc_server_max_connection_age: Duration = Field(
        default=timedelta(0),
        description="Close a gRPC connection of this age, so that clients spread anew; 0 never does.",
    )
    grpc_server_max_connection_age_grace: Duration = Field(
        default=timedelta(0),
        description="Time for running calls after `grpc_server_max_connection_age`; 0 waits for them all.",
    )
    grpc_server_keepalive_time: Duration = Field(
        default=timedelta(hours=2),
        description="Ping a silent gRPC client after this time; less notices dead peers sooner, 0 means 2h.",
    )
    grpc_server_keepalive_timeout: Duration = Field(
        default=timedelta(seconds=20),
        description="Close the gRPC connection when a ping is not answered for this time; 0 means 20s.",
    )
    grpc_server_min_time_between_pings: Duration = Field(
        default=timedelta(seconds=10),
        description="gRPC clients that ping more often than this are disconnected; less allows more pings, 0 means 5m.",
    )
    grpc_server_ping_without_stream_allowed: Switch = Field(
        default=True, description="Whether gRPC clients may ping while they have no call open."
    )
    log_level: Literal["debug", "info", "warn", "error"] = Field(
        default="info", description="Least severe messages that are logged; debug says most, error least."
    )
    log_format: Literal["logfmt", "json"] = Field(default="logfmt", description="Form of a log line on standard error.")

    @model_validator(mode="after")
    def _check_grpc_tls(self) -> Server:
        """grpcio takes no TLS version, and of client certificates only: none, or demanded and checked."""
        if self.grpc_tls_config.client_auth_type == "VerifyClientCertIfGiven":
            raise ValueError(
                "found VerifyClientCertIfGiven in grpc_tls_config, expected NoClientCert or RequireAndVerifyClientCert there"
            )
        if self.grpc_tls_config.enabled and self.tls_min_version == "VersionTLS13":
            raise ValueError(
                "found tls_min_version VersionTLS13 beside grpc_tls_config, but the gRPC port also takes TLS 1.2; remove one"
            )
        return self
