"""What remote write says of one endpoint: its counters, and each kind of trouble once in TELL_AGAIN_SECONDS in the log.

Counters are those of Prometheus' own remote write, by name and meaning; docs/metrics.md has them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from ..telemetry import Telemetry
from .write_queue import Lost
from .write_segment import WriteRecord

TELL_AGAIN_SECONDS: Final = 3600.0
"""A trouble that lasts for days should not be found in the first day's log only."""

_KINDS_MAX: Final = 100
"""There are some 60 status codes and a few kinds of connection trouble."""


class WriteReport:
    """Counts and tells for one endpoint. Used by its sender and by whoever fills the queue; losing a count to a race is fine."""

    def __init__(
        self, telemetry: Telemetry, name: str, url: str, clock: Callable[[], float], log: logging.Logger
    ) -> None:
        """`url` must hold no secret; `clock` is monotonic, in seconds."""
        self._telemetry = telemetry
        self._name = name
        self._url = url
        self._clock = clock
        self._log = log
        self._told: dict[str, float] = {}
        self._durations = telemetry.prometheus_remote_storage_sent_batch_duration_seconds.labels(name, url)
        self._damaged = telemetry.remote_write_damaged_records.labels(name)

    def attempt(self, record: WriteRecord, count: int, byte_count: int, seconds: float) -> None:
        """A request with `count` series went out and was answered or failed after so many seconds."""
        t = self._telemetry
        labels = self._labels(record.tenant)
        sent = {
            "samples": t.prometheus_remote_storage_samples,
            "exemplars": t.prometheus_remote_storage_exemplars,
            "histograms": t.prometheus_remote_storage_histograms,
        }
        sent[record.kind].labels(*labels).inc(count)
        t.prometheus_remote_storage_bytes.labels(*labels).inc(byte_count)
        self._durations.observe(seconds)

    def refused(self, record: WriteRecord, count: int, kind: str, reason: str) -> None:
        """The endpoint will never take the request."""
        t = self._telemetry
        failed = {
            "samples": t.prometheus_remote_storage_samples_failed,
            "exemplars": t.prometheus_remote_storage_exemplars_failed,
            "histograms": t.prometheus_remote_storage_histograms_failed,
        }
        failed[record.kind].labels(*self._labels(record.tenant)).inc(count)
        self.tell(kind, "%s of tenant %s refused, dropping them: %s", record.kind, record.tenant, reason)

    def retried(self, record: WriteRecord, count: int) -> None:
        if record.kind == "samples":
            self._telemetry.prometheus_remote_storage_samples_retried.labels(*self._labels(record.tenant)).inc(count)

    def dropped(self, tenant: str, count: int, reason: str) -> None:
        """Series that are not sent: `reason` is queue_full, disk_error, too_old or dropped_series."""
        labels = (*self._labels(tenant), reason)
        self._telemetry.prometheus_remote_storage_samples_dropped.labels(*labels).inc(count)

    def lost(self, lost: Lost) -> None:
        """What the queue could not keep; it does not know whose it was."""
        if lost.damaged:
            self._damaged.inc()
        if lost.count:
            self.dropped("", lost.count, "disk_error" if lost.damaged else "queue_full")
        if not lost.damaged:
            self.tell(
                "queue_full",
                "no room for more requests on disk, dropping the oldest unsent; the endpoint must take them faster",
            )

    def tell(self, kind: str, message: str, *values: object) -> bool:
        """Log a warning unless one of this kind was logged lately; says whether it did."""
        now = self._clock()
        before = self._told.get(kind)
        if before is not None and now - before < TELL_AGAIN_SECONDS:
            return False
        if len(self._told) >= _KINDS_MAX:
            self._told.clear()
        self._told[kind] = now
        self._log.warning(f"remote write to %s (%s): {message}", self._name, self._url, *values)
        return True

    def recovered(self, attempts: int, seconds: float) -> None:
        self._log.info(
            "remote write to %s (%s) works again after %d attempts in %.0f s", self._name, self._url, attempts, seconds
        )

    def _labels(self, tenant: str) -> tuple[str, str, str]:
        return self._name, self._telemetry.tenant_label(tenant) if tenant else "", self._url
