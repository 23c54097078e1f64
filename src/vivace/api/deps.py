"""What the HTTP API needs of the rest of the house, as Protocols: the API itself knows neither storage nor configuration."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from starlette.requests import Request

from vivace.api.tenancy import single_tenant
from vivace.query.lookup import FoundTrace
from vivace.telemetry import Telemetry


class LookupMode(StrEnum):
    """Where trace-by-id looks: everywhere, in recent spans only, in blocks only, or in another server (we have none)."""

    ALL = "all"
    INGESTERS = "ingesters"
    BLOCKS = "blocks"
    EXTERNAL = "external"


class TraceLookup(Protocol):
    """Finds a trace by its id."""

    async def trace(
        self, tenant: str, trace_id: bytes, start_seconds: int | None, end_seconds: int | None, mode: str
    ) -> FoundTrace | None:
        """The trace with that 16-byte id, None when no span of it is stored. Cancelling the caller stops the search.

        start_seconds and end_seconds (Unix, start < end, both or none) say which blocks to read; recent spans are always read.
        mode is one of LookupMode. Stops at the tenant's max_bytes_per_trace and says so in `partial`.
        """
        ...


class ConfigMode(StrEnum):
    """Which settings a configuration page shows: those in force, those that differ from the defaults, or the defaults."""

    EFFECTIVE = ""
    DIFF = "diff"
    DEFAULTS = "defaults"


@dataclass(frozen=True, slots=True)
class ServiceRow:
    """One part of the service; state as Tempo names them (Running, Starting, Stopping, Failed), failure empty when none."""

    name: str
    state: str
    failure: str = ""


class StatusSource(Protocol):
    """What the /status pages show. Called on the event loop: every method must be quick."""

    @property
    def version(self) -> str:
        """Vivace's own version."""
        ...

    @property
    def revision(self) -> str:
        """The commit that this was built from, empty when unknown."""
        ...

    def services(self) -> Sequence[ServiceRow]: ...

    def config_yaml(self, mode: ConfigMode) -> str: ...

    def runtime_config_yaml(self, mode: ConfigMode) -> str:
        """The per-tenant overrides of all tenants; mode is EFFECTIVE or DIFF."""
        ...

    def overrides_yaml(self, tenant: str | None) -> str:
        """The limits in force for one tenant (None: for all without their own). Raises NotFoundError for an unknown one."""
        ...


def new_error_id() -> str:
    """16 hex digits that join a 500 reply to its log line."""
    return secrets.token_hex(8)


@dataclass(frozen=True, slots=True)
class ApiDeps:
    """Everything that the routes use.

    readiness            None when ready, else why not (the text of the 503)
    flush                cut and write one tenant's recent spans, or everybody's for None; NotFoundError for an unknown tenant
    shutdown             flush and stop taking spans; returns when that is done
    tenant_of            whose request it is; RequestError(status=401) when it does not say and must
    max_bytes_per_trace  by tenant, for the texts of replies; the lookup keeps to it
    http_api_prefix      stands before /api paths only, "" or like "/tempo"
    api_timeout_seconds  an /api request that takes longer is stopped and answered 503; 0 is no limit
    """

    lookup: TraceLookup
    telemetry: Telemetry
    status: StatusSource
    readiness: Callable[[], str | None]
    flush: Callable[[str | None], Awaitable[None]]
    shutdown: Callable[[], Awaitable[None]]
    max_bytes_per_trace: Callable[[str], int]
    tenant_of: Callable[[Request], str] = single_tenant
    http_api_prefix: str = ""
    api_timeout_seconds: float = 0
    error_id: Callable[[], str] = new_error_id
