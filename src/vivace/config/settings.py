"""Every setting that Vivace uses, under Tempo's YAML names and with Tempo's defaults where not said otherwise.

One module for each group: access, server, receivers (distributor), storage (ingester, compactor, storage), frontend (query_frontend,
querier), generator (metrics_generator), overrides. Keys that Tempo has and Vivace does not use: unused.yaml. A file and flags
become Settings in load.py; dump.py prints them; docs/configuration.md is made of the descriptions.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from pydantic import Field, field_validator

from .access import Access
from .dump import to_yaml
from .frontend import Querier, QueryFrontend
from .generator import MetricsGenerator
from .overrides import Overrides
from .receivers import Distributor
from .section import Section
from .server import Server
from .storage import Compactor, Ingester, Storage
from .units import Duration, Switch

# Tempo's other targets: roles of a cluster. Vivace is one process.
_CLUSTER_TARGETS = (
    "distributor",
    "ingester",
    "querier",
    "query-frontend",
    "compactor",
    "metrics-generator",
    "metrics-generator-no-local-blocks",
    "block-builder",
    "live-store",
    "backend-scheduler",
    "backend-worker",
)


class Settings(Section):
    """What holds for the whole process."""

    target: Literal["all", "scalable-single-binary", "all-3.0"] = Field(
        default="all", description="Parts to run; every value runs all of them in one process."
    )
    http_api_prefix: str = Field(
        default="", description="Path put before /api of the query API; not before /ready and /metrics."
    )
    stream_over_http_enabled: Switch = Field(
        default=False, description="Whether the HTTP port also speaks gRPC, which Grafana's streaming needs."
    )
    multitenancy_enabled: Switch = Field(
        default=False,
        description="Whether `X-Scope-OrgID` names the tenant and is required; false puts everything into one tenant.",
    )
    shutdown_delay: Duration = Field(
        default=timedelta(0), description="Time between not being ready and stopping; more lets load balancers notice."
    )
    server: Server = Field(default=Server(), description="Listeners of the query API, and the log.")
    distributor: Distributor = Field(default=Distributor(), description="What happens to spans on arrival.")
    ingester: Ingester = Field(default=Ingester(), description="Recent spans, before they are written into a block.")
    compactor: Compactor = Field(default=Compactor(), description="Merging and retention.")
    storage: Storage = Field(default=Storage(), description="Where traces are kept.")
    query_frontend: QueryFrontend = Field(default=QueryFrontend(), description="Limits of the query API.")
    querier: Querier = Field(default=Querier(), description="How queries run.")
    metrics_generator: MetricsGenerator = Field(default=MetricsGenerator(), description="Series made of spans.")
    overrides: Overrides = Field(default=Overrides(), description="Limits for everyone and for single tenants.")
    access: Access = Field(default=Access(), description="Credentials of those who send and ask.")
    notices: tuple[str, ...] = Field(
        default=(), exclude=True, description="Lines to log at start, for keys and flags without effect; not a key."
    )

    @field_validator("target", mode="before")
    @classmethod
    def _refuse_roles(cls, value: object) -> object:
        if value in _CLUSTER_TARGETS:
            raise ValueError(f"found {value!r}, not yet: Vivace runs as one process; use target: all")
        return value

    def to_yaml(self, mode: Literal["all", "diff", "defaults"] = "all") -> str:
        """The settings as YAML that load.py reads back, secrets as `<secret>`; "diff" leaves out what is default."""
        return to_yaml(self, mode)
