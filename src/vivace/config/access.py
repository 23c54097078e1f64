"""The `access` keys, which Tempo does not have: credentials that senders and readers of spans have to show."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import Field, field_validator, model_validator

from .section import Section
from .units import Secret

_DIGEST = re.compile(r"[0-9a-fA-F]{64}")


class _SecretSection(Section):
    """A secret in one of three forms, whose keys begin with the same word."""

    def _check_one_form(self, word: str) -> None:
        forms = [word, f"{word}_file", f"{word}_sha256"]
        given = [name for name in forms if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"found {' and '.join(given) or 'none of them'}, expected one of {', '.join(forms)}")
        value = getattr(self, given[0])
        if isinstance(value, Path):
            return
        if not value.get_secret_value():
            raise ValueError(f"found an empty {given[0]}, expected a secret")
        if given[0] == forms[2] and not _DIGEST.fullmatch(value.get_secret_value()):
            raise ValueError(f"found a {given[0]} of another form, expected 64 hexadecimal digits")


class User(_SecretSection):
    """A name with a password, sent by HTTP basic authentication."""

    name: str = Field(description="Name of the user; required (Vivace's own key).")
    password: Secret | None = Field(default=None, description="Password (Vivace's own key).")
    password_file: Path | None = Field(
        default=None,
        description="File with the password, instead of `password`; it is read again when it has changed (Vivace's own key).",
    )
    password_sha256: Secret | None = Field(
        default=None,
        description="SHA-256 of the password in hexadecimal, instead of `password`; for long random ones only, a short one "
        "can be guessed from it (Vivace's own key).",
    )

    @field_validator("name", mode="after")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if not name or ":" in name:
            raise ValueError(f"found {name!r}, expected a name without a colon")
        return name

    @model_validator(mode="after")
    def _check_password(self) -> User:
        self._check_one_form("password")
        return self


class Token(_SecretSection):
    """A bearer token."""

    token: Secret | None = Field(default=None, description="Token (Vivace's own key).")
    token_file: Path | None = Field(
        default=None,
        description="File with the token, instead of `token`; it is read again when it has changed (Vivace's own key).",
    )
    token_sha256: Secret | None = Field(
        default=None, description="SHA-256 of the token in hexadecimal, instead of `token` (Vivace's own key)."
    )

    @model_validator(mode="after")
    def _check_token(self) -> Token:
        self._check_one_form("token")
        return self


class IngestAccess(Section):
    """Who may send spans, over OTLP/gRPC and OTLP/HTTP; with no user and no token everyone may."""

    users: tuple[User, ...] = Field(default=(), description="Names with passwords.")
    tokens: tuple[Token, ...] = Field(default=(), description="Bearer tokens.")


class QueryAccess(Section):
    """Who may use the HTTP port and the gRPC query port; with no user and no token everyone may."""

    users: tuple[User, ...] = Field(default=(), description="Names with passwords.")
    tokens: tuple[Token, ...] = Field(default=(), description="Bearer tokens.")
    open_paths: tuple[str, ...] = Field(
        default=("/ready",),
        description="Paths of the HTTP port that need no credentials, with all below them, such as `/metrics` for a Prometheus "
        "without; gRPC health checks never need any (Vivace's own key).",
    )

    @field_validator("open_paths", mode="after")
    @classmethod
    def _check_paths(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        for path in paths:
            if not path.startswith("/"):
                raise ValueError(f"found {path!r}, expected a path such as /metrics")
        return paths


class Access(Section):
    """Credentials for each side."""

    ingest: IngestAccess = Field(default=IngestAccess(), description="Who may send spans.")
    query: QueryAccess = Field(default=QueryAccess(), description="Who may ask.")
