"""Items of `metrics_generator.storage.remote_write`, in the syntax of Prometheus."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit, urlunsplit

from pydantic import Field, PlainSerializer, field_validator, model_validator

from .section import Section
from .units import Count, Kind, PrometheusDuration, Secret, Switch


def _mask_values(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: "<secret>" if value else "" for name, value in headers.items()}


def _mask_password(url: str) -> str:
    parts = urlsplit(url)
    if not parts.password:
        return url
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username}:<secret>@{host}"))


# Header values carry tokens more often than not, so /status/config shows names only.
Headers = Annotated[Mapping[str, str], Kind("map of text"), PlainSerializer(_mask_values, return_type=dict[str, str])]
Url = Annotated[str, Kind("URL"), PlainSerializer(_mask_password, return_type=str)]


class BasicAuth(Section):
    """HTTP basic authentication."""

    username: str = Field(default="", description="User name.")
    username_file: Path | None = Field(default=None, description="File with the user name, instead of `username`.")
    password: Secret | None = Field(default=None, description="Password.")
    password_file: Path | None = Field(default=None, description="File with the password, instead of `password`.")


class Authorization(Section):
    """The Authorization header."""

    type: str = Field(default="Bearer", description="Scheme of the header.")
    credentials: Secret | None = Field(default=None, description="Token of the header.")
    credentials_file: Path | None = Field(default=None, description="File with the token, instead of `credentials`.")


class ClientTls(Section):
    """TLS towards the receiving Prometheus."""

    ca: str = Field(default="", description="CA certificates as PEM text; empty means those of the system.")
    ca_file: Path | None = Field(default=None, description="PEM file with CA certificates, instead of `ca`.")
    cert: str = Field(default="", description="Client certificate as PEM text.")
    cert_file: Path | None = Field(default=None, description="PEM file with the client certificate, instead of `cert`.")
    key: Secret | None = Field(default=None, description="Client key as PEM text.")
    key_file: Path | None = Field(default=None, description="PEM file with the client key, instead of `key`.")
    server_name: str = Field(
        default="", description="Name to check the server's certificate against; empty means the URL's host."
    )
    insecure_skip_verify: Switch = Field(
        default=False, description="Whether any server certificate is trusted; for trials only."
    )
    min_version: Literal["", "TLS10", "TLS11", "TLS12", "TLS13"] = Field(
        default="", description="Oldest TLS version; empty: 1.2."
    )
    max_version: Literal["", "TLS10", "TLS11", "TLS12", "TLS13"] = Field(
        default="", description="Newest TLS version; empty: 1.3."
    )


class Queue(Section):
    """How samples are sent to an endpoint; they wait on disk, for all endpoints in one place."""

    max_samples_per_send: Count = Field(
        default=2_000, description="Samples in one request; more makes fewer, larger requests."
    )
    min_backoff: PrometheusDuration = Field(
        default=timedelta(milliseconds=30), description="First wait before a retry; doubled each time."
    )
    max_backoff: PrometheusDuration = Field(default=timedelta(seconds=5), description="Longest wait before a retry.")
    retry_on_http_429: Switch = Field(
        default=False, description="Whether a request answered with 429 is sent again; false drops it."
    )
    sample_age_limit: PrometheusDuration = Field(
        default=timedelta(0), description="Samples older than this are dropped unsent; 0 keeps them all."
    )


class Relabel(Section):
    """One relabelling rule, applied to every series before it is sent."""

    source_labels: tuple[str, ...] = Field(default=(), description="Labels whose values are joined and matched.")
    separator: str = Field(default=";", description="Text between the joined values.")
    target_label: str = Field(default="", description="Label that the rule writes.")
    regex: str = Field(default="(.*)", description="Anchored expression that the joined values must match.")
    modulus: Count = Field(default=0, description="Divisor of the hash for action hashmod.")
    replacement: str = Field(default="$1", description="Text written to the target label; $1 is the first group.")
    action: Literal[
        "replace",
        "keep",
        "drop",
        "hashmod",
        "labelmap",
        "labeldrop",
        "labelkeep",
        "lowercase",
        "uppercase",
        "keepequal",
        "dropequal",
    ] = Field(default="replace", description="What the rule does.")


class RemoteWrite(Section):
    """One endpoint that receives the generated series."""

    url: Url = Field(description="Address of the endpoint, such as http://prometheus:9090/api/v1/write; required.")
    name: str = Field(
        default="", description="Name of the endpoint in logs and metrics; empty means one made of its settings."
    )
    headers: Headers = Field(default={}, description="Headers sent along, such as X-Scope-OrgID.")
    remote_timeout: PrometheusDuration = Field(
        default=timedelta(seconds=30),
        description="Longest wait for an answer before a retry; more suits slow endpoints.",
    )
    send_exemplars: Switch = Field(default=True, description="Accepted as Tempo does: exemplars are always sent.")
    basic_auth: BasicAuth | None = Field(default=None, description="HTTP basic authentication.")
    authorization: Authorization | None = Field(default=None, description="The Authorization header.")
    bearer_token: Secret | None = Field(
        default=None, description="Bearer token; the same as `authorization.credentials`."
    )
    bearer_token_file: Path | None = Field(default=None, description="File with the bearer token.")
    tls_config: ClientTls = Field(default=ClientTls(), description="TLS towards the endpoint.")
    queue_config: Queue = Field(default=Queue(), description="How samples are sent to the endpoint.")
    write_relabel_configs: tuple[Relabel, ...] = Field(
        default=(), description="Rules applied to every series before it is sent."
    )

    @field_validator("url", mode="after")
    @classmethod
    def _check_url(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"found {_mask_password(url)!r}, expected an http or https address")
        return url

    @model_validator(mode="after")
    def _check_one_login(self) -> RemoteWrite:
        given = [
            name
            for name in ("basic_auth", "authorization", "bearer_token", "bearer_token_file")
            if getattr(self, name) is not None
        ]
        if len(given) > 1:
            raise ValueError(f"found {' and '.join(given)}, expected at most one of them")
        return self
