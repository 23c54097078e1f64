"""The `distributor` keys: OTLP receivers in OpenTelemetry Collector syntax, and what is done to spans on arrival."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from .section import PresentWhenNull, Section, Whole
from .units import ByteSize, Count, Duration, Endpoint, Secret

# What the Collector's HTTP server can unpack; "" is an uncompressed body.
_COMPRESSIONS = ("", "gzip", "zstd", "zlib", "snappy", "deflate", "lz4", "x-snappy-framed")


class ReceiverTls(Section):
    """TLS of a receiver; naming a client CA makes client certificates mandatory, as in the Collector."""

    cert_file: Path | None = Field(default=None, description="PEM file with the certificate chain.")
    key_file: Path | None = Field(default=None, description="PEM file with the private key.")
    client_ca_file: Path | None = Field(
        default=None, description="PEM file with the CAs that client certificates must chain to."
    )
    cert_pem: str = Field(default="", description="Certificate chain as PEM text, instead of `cert_file`.")
    key_pem: Secret | None = Field(default=None, description="Private key as PEM text, instead of `key_file`.")
    client_ca_pem: str = Field(default="", description="Client CAs as PEM text, instead of `client_ca_file`.")
    min_version: Literal["", "1.2", "1.3"] = Field(default="", description="Oldest TLS version; empty means 1.2.")
    max_version: Literal["", "1.2", "1.3"] = Field(default="", description="Newest TLS version; empty means 1.3.")

    @model_validator(mode="after")
    def _check_pairs(self) -> ReceiverTls:
        for kind, file, text in (
            ("certificate", self.cert_file, self.cert_pem),
            ("key", self.key_file, self.key_pem),
        ):
            if bool(file) == bool(text):
                raise ValueError(f"found {'two' if file else 'no'} {kind}s, expected a file or PEM text")
        if self.client_ca_file and self.client_ca_pem:
            raise ValueError("found client_ca_file and client_ca_pem, expected one of them")
        if (self.min_version, self.max_version) == ("1.3", "1.2"):
            raise ValueError("found min_version 1.3 above max_version 1.2, expected a version between them")
        return self


class KeepaliveParameters(Section):
    """When the gRPC receiver pings and closes connections; 0 leaves the library's own value."""

    max_connection_idle: Duration = Field(
        default=timedelta(0), description="Close a connection after this time without a call."
    )
    max_connection_age: Duration = Field(
        default=timedelta(0), description="Close a connection of this age; exporters reconnect."
    )
    max_connection_age_grace: Duration = Field(
        default=timedelta(0), description="Time for running calls after that age."
    )
    time: Duration = Field(default=timedelta(0), description="Ping a silent client after this time; 0 means 2h.")
    timeout: Duration = Field(
        default=timedelta(0), description="Close when a ping stays unanswered this long; 0 means 20s."
    )


class Keepalive(Section):
    """Keep-alive of the gRPC receiver."""

    server_parameters: KeepaliveParameters = Field(default=KeepaliveParameters(), description="What the receiver does.")


class OtlpGrpc(Section):
    """OTLP over gRPC."""

    endpoint: Endpoint = Field(
        default="localhost:4317",
        description="Where to listen; 0.0.0.0:4317 takes spans from other machines, localhost only from this one.",
    )
    tls: ReceiverTls | None = Field(default=None, description="TLS of this receiver; absent means plain text.")
    max_recv_msg_size_mib: Count = Field(
        default=4, description="Largest request in MiB, unpacked; more takes larger batches and more memory for each."
    )
    max_concurrent_streams: Count = Field(
        default=0,
        description="Requests that one connection may have open; less holds back greedy exporters, 0 means 100.",
    )
    keepalive: Keepalive = Field(default=Keepalive(), description="Pings and the life of connections.")


class Cors(Section):
    """Which web pages may send spans from a browser."""

    allowed_origins: tuple[str, ...] = Field(
        default=(), description="Origins that may send spans, `*` as wildcard; none refuses every cross-origin request."
    )
    allowed_headers: tuple[str, ...] = Field(
        default=(), description="Request headers allowed beyond the CORS-safe ones."
    )
    max_age: Count = Field(default=0, description="Seconds for which a browser may remember the answer; 0 means 600.")


class OtlpHttp(Section):
    """OTLP over HTTP: protobuf and JSON."""

    endpoint: Endpoint = Field(
        default="localhost:4318",
        description="Where to listen; 0.0.0.0:4318 takes spans from other machines, localhost only from this one.",
    )
    tls: ReceiverTls | None = Field(default=None, description="TLS of this receiver; absent means plain text.")
    cors: Cors | None = Field(default=None, description="Cross-origin rules for browsers; absent refuses them.")
    max_request_body_size: ByteSize = Field(
        default=20_971_520,
        description="Largest request in bytes, unpacked; more takes larger batches and more memory for each.",
    )
    traces_url_path: str = Field(default="/v1/traces", description="Path that takes spans.")
    compression_algorithms: tuple[str, ...] = Field(
        default=_COMPRESSIONS,
        description="Values of Content-Encoding that are taken, others are refused; the empty one is an uncompressed body.",
    )

    @field_validator("compression_algorithms")
    @classmethod
    def _check_algorithms(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in _COMPRESSIONS:
                known = ", ".join(algorithm for algorithm in _COMPRESSIONS if algorithm)
                raise ValueError(f"found {name!r}, expected some of {known}, or an empty one for uncompressed bodies")
        return value or _COMPRESSIONS


class OtlpProtocols(Section):
    """The transports of OTLP; a transport that is not named does not listen."""

    grpc: Annotated[OtlpGrpc | None, PresentWhenNull()] = Field(default=None, description="OTLP over gRPC.")
    http: Annotated[OtlpHttp | None, PresentWhenNull()] = Field(default=None, description="OTLP over HTTP.")


class Otlp(Section):
    """The OTLP receiver."""

    protocols: OtlpProtocols = Field(default=OtlpProtocols(), description="The transports; at least one.")

    @model_validator(mode="after")
    def _check_protocols(self) -> Otlp:
        if self.protocols.grpc is None and self.protocols.http is None:
            raise ValueError("found no protocol, expected protocols with grpc, http or both")
        return self


class Receivers(Section):
    """Receivers of spans; Vivace takes OTLP."""

    otlp: Annotated[Otlp | None, PresentWhenNull()] = Field(default=None, description="The OTLP receiver.")


# Without a `receivers` block both transports listen on all interfaces: a fresh start takes spans from everywhere.
# Inside a block the Collector's own default, localhost, holds.
_RECEIVERS_DEFAULT = Receivers(
    otlp=Otlp(protocols=OtlpProtocols(grpc=OtlpGrpc(endpoint="0.0.0.0:4317"), http=OtlpHttp(endpoint="0.0.0.0:4318")))
)


class Distributor(Section):
    """What happens to spans on arrival."""

    receivers: Annotated[Receivers, Whole()] = Field(
        default=_RECEIVERS_DEFAULT,
        description="Receivers in OpenTelemetry Collector syntax; without this block OTLP listens on 0.0.0.0:4317 (gRPC) and "
        "0.0.0.0:4318 (HTTP), inside it endpoints default to localhost.",
    )
    max_attribute_bytes: ByteSize = Field(
        default=2048,
        description="Longer attribute keys and string values are cut to this many bytes; more keeps more, 0 never cuts.",
    )
