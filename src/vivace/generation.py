"""The metrics generator and its remote write as the service has them: one thing that takes spans, starts and stops.

Samples wait on disk below `metrics_generator.storage.path`, within the disk cap, until Prometheus has them.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping

from vivace import __version__
from vivace.config.live import LiveLimits
from vivace.config.settings import Settings
from vivace.generator.configure import tenant_settings
from vivace.generator.generator import Generator
from vivace.generator.remote_write import RemoteWriter
from vivace.generator.settings import TenantSettings
from vivace.model.batch import SpanBatch
from vivace.observers import generator_observer, generator_readings
from vivace.storage.disk import DiskBudget
from vivace.telemetry import Telemetry

QUEUE_SHARE = 0.1
"""Of the disk cap, for samples that wait: of the 8.5 GB that a volume of 10 GB gives it is a week of 20,000 series each 15 s."""


class Generation:
    """Series from spans to Prometheus, for all tenants."""

    def __init__(self, settings: Settings, limits: LiveLimits, disk: DiskBudget, telemetry: Telemetry) -> None:
        """Raises ConfigError for settings that cannot be used, StorageError when the directory of the queue cannot."""
        self._settings = settings
        self._limits = limits
        self._writer = RemoteWriter(
            settings.metrics_generator.storage,
            telemetry,
            version=__version__,
            bytes_max=int(QUEUE_SHARE * disk.cap_bytes()),
            multitenant=settings.multitenancy_enabled,
            headers_of=self._headers,
            account=lambda delta: disk.add("generator", delta),
            check_room=disk.check_room,
        )
        self._generator = Generator(
            self._settings_of,
            self._writer.append,
            clock=time.monotonic,
            now_unix_nano=time.time_ns,
            host=socket.gethostname(),
            observer=generator_observer(telemetry),
        )
        telemetry.register_gauges(lambda: generator_readings(self._generator, telemetry))
        telemetry.register_gauges(self._writer.gauges)

    @property
    def generator(self) -> Generator:
        return self._generator

    def offer(self, tenant: str, batch: SpanBatch) -> None:
        """Take durable spans; quick, on the writer's thread."""
        self._generator.offer(tenant, batch)

    def start(self) -> None:
        self._writer.start()
        self._generator.start()

    def stop(self, seconds: float) -> None:
        """Collect a last time and send for at most `seconds`; what is left waits on disk for the next start."""
        self._generator.stop()
        deadline = self._settings.metrics_generator.storage.remote_write_flush_deadline.total_seconds()
        self._writer.stop(min(seconds, deadline))

    def _settings_of(self, tenant: str) -> TenantSettings:
        return tenant_settings(self._settings.metrics_generator, self._limits.of(tenant).metrics_generator, tenant)

    def _headers(self, tenant: str) -> Mapping[str, str]:
        return self._limits.of(tenant).metrics_generator.remote_write_headers
