"""The metrics generator and its remote write as the service has them: one thing that takes spans, starts and stops.

Samples wait on disk below `metrics_generator.storage.path`, within the disk cap, until Prometheus has them.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from vivace import __version__
from vivace.config.live import LiveLimits
from vivace.config.settings import Settings
from vivace.gauges import Pulled, Reading
from vivace.generator.cardinality import Cardinality
from vivace.generator.configure import tenant_settings
from vivace.generator.generator import Generator
from vivace.generator.settings import TenantSettings
from vivace.model.batch import SpanBatch
from vivace.observers import generator_observer, generator_readings
from vivace.storage.disk import DiskBudget
from vivace.telemetry import Telemetry

if TYPE_CHECKING:
    from vivace.generator.remote_write import RemoteWriter

QUEUE_SHARE = 0.1
"""Of the disk cap, for samples that wait: of the 8.5 GB that a volume of 10 GB gives it is a week of 20,000 series each 15 s."""


COUNT_SECONDS = 60.0
"""Between two counts of labels: 20,000 series take some 100 ms."""


class Generation:
    """Series from spans to Prometheus, for all tenants."""

    def __init__(self, settings: Settings, limits: LiveLimits, disk: DiskBudget, telemetry: Telemetry) -> None:
        """Raises ConfigError for settings that cannot be used, StorageError when the directory of the queue cannot."""
        self._settings = settings
        self._limits = limits
        self._telemetry = telemetry
        self._counted: list[Cardinality] = []
        self._counted_at = -COUNT_SECONDS
        self._writer = self._build_writer(disk) if settings.metrics_generator.storage.remote_write else None
        self._generator = Generator(
            self._settings_of,
            self._writer.append if self._writer is not None else lambda tenant, requests: None,
            clock=time.monotonic,
            now_unix_nano=time.time_ns,
            host=socket.gethostname(),
            observer=generator_observer(telemetry),
        )
        telemetry.register_gauges(lambda: generator_readings(self._generator, telemetry))
        if self._writer is not None:
            telemetry.register_gauges(self._writer.gauges)
        telemetry.register_gauges(self._readings)

    def cardinality(self, tenant: str, top: int) -> Mapping[str, object] | None:
        """What the series of a tenant are made of, as the API shows it; None for a tenant without series."""
        found = self._generator.cardinality(tenant, top)
        return None if found is None else asdict(found)

    def _readings(self) -> Iterable[Reading]:
        """Series by metric, values by label; counted anew once a minute, since it looks at every label of every series."""
        if time.monotonic() - self._counted_at > COUNT_SECONDS:
            self._counted_at = time.monotonic()
            tenants = self._generator.figures()
            self._counted = [c for t in tenants if (c := self._generator.cardinality(t, 1)) is not None]
        for counted in self._counted:
            tenant = self._telemetry.tenant_label(counted.tenant)
            for metric in counted.metrics:
                yield Reading(Pulled.GENERATOR_SERIES_BY_METRIC, metric.series, (tenant, metric.name))
            for label in counted.labels:
                yield Reading(Pulled.GENERATOR_LABEL_VALUES, label.values, (tenant, label.name))

    def offer(self, tenant: str, batch: SpanBatch) -> None:
        """Take durable spans; quick, on the writer's thread."""
        self._generator.offer(tenant, batch)

    def start(self) -> None:
        if self._writer is not None:
            self._writer.start()
        self._generator.start()

    def stop(self, seconds: float) -> None:
        """Collect a last time and send for at most `seconds`; what is left waits on disk for the next start."""
        self._generator.stop()
        deadline = self._settings.metrics_generator.storage.remote_write_flush_deadline.total_seconds()
        if self._writer is not None:
            self._writer.stop(min(seconds, deadline))

    def _build_writer(self, disk: DiskBudget) -> RemoteWriter:
        from vivace.generator.remote_write import RemoteWriter  # 6 MB that only those pay who send something

        return RemoteWriter(
            self._settings.metrics_generator.storage,
            self._telemetry,
            version=__version__,
            bytes_max=int(QUEUE_SHARE * disk.cap_bytes()),
            multitenant=self._settings.multitenancy_enabled,
            headers_of=self._headers,
            account=lambda delta: disk.add("generator", delta),
            check_room=disk.check_room,
        )

    def _settings_of(self, tenant: str) -> TenantSettings:
        return tenant_settings(self._settings.metrics_generator, self._limits.of(tenant).metrics_generator, tenant)

    def _headers(self, tenant: str) -> Mapping[str, str]:
        return self._limits.of(tenant).metrics_generator.remote_write_headers
