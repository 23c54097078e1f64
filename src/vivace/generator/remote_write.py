"""Remote write: requests of the metrics generator, kept on disk until every endpoint has them.

Rule 1  append() costs its caller a compression and a write to the page cache, whatever the endpoints do.
Rule 2  each endpoint has a thread and a place in the queue of its own: one that is down holds up no other.
Rule 3  what was not sent at a stop is sent after the next start, before anything newer.

What waits: write_queue.py.  Order and repeats: write_sender.py.  One attempt: write_endpoint.py.
Counters and log: write_report.py.  What a request holds: write_request.py.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

import cramjam

from ..config.generator import GeneratorStorage
from ..config.remote_write import RemoteWrite
from ..errors import ConfigError, DiskFullError, InvariantError, StorageError
from ..telemetry import Pulled, Reading, Telemetry
from .relabel import Relabeller
from .write_endpoint import Endpoint, endpoint_name
from .write_queue import SEGMENT_BYTES_MAX, Lost, WriteQueue
from .write_report import WriteReport
from .write_request import SAMPLES_MAX, contents
from .write_segment import WriteRecord
from .write_sender import Sender

_WHERE: Final = "metrics_generator.storage.remote_write"
_DIRECTORY: Final = "remote-write"


class RemoteWriter:
    """All endpoints of one service. start() begins to send, stop() ends it; append() works before, between and from any thread."""

    def __init__(
        self,
        settings: GeneratorStorage,
        telemetry: Telemetry,
        *,
        version: str,
        bytes_max: int,
        multitenant: bool = False,
        headers_of: Callable[[str], Mapping[str, str]] = lambda tenant: {},
        account: Callable[[int], None] = lambda delta: None,
        check_room: Callable[[int], None] = lambda wanted: None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        source: random.Random | None = None,
        log: logging.Logger | None = None,
    ) -> None:
        """Open the queue below `settings.path`; without endpoints there is none and append() does nothing.

        version      of Vivace, for the User-Agent
        bytes_max    of the queue on disk; more bridges longer outages
        multitenant  whether requests carry X-Scope-OrgID, if the settings allow it
        headers_of   a tenant's own `remote_write_headers`
        account, check_room  as WriteQueue takes them
        clock, now   monotonic and Unix time, in seconds
        Raises       ConfigError for settings that cannot be used, StorageError when the directory cannot.
        """
        self._settings = settings
        self._telemetry = telemetry
        self._clock = clock
        self._now = now
        self._log = logging.getLogger(__name__) if log is None else log
        self._queued_ms: int | None = None
        self._endpoints: dict[str, Endpoint] = {}
        self._reports: dict[str, WriteReport] = {}
        self._senders: dict[str, Sender] = {}
        self._queue: WriteQueue | None = None
        if not settings.remote_write:
            return
        if settings.path is None:
            raise InvariantError("found remote_write without path, expected the settings to refuse that")
        _check_names(settings.remote_write)
        # they tell every request at level info, and of what httpcore tells at level debug nobody promises that it is no secret
        for library in ("httpx", "httpcore"):
            logging.getLogger(library).setLevel(logging.WARNING)
        relabellers: list[Relabeller | None] = []
        for place, item in enumerate(settings.remote_write):
            endpoint = Endpoint(
                item,
                f"{_WHERE}[{place}]",
                version=version,
                adds_org_id=multitenant and settings.remote_write_add_org_id_header,
                headers_of=headers_of,
                now=now,
            )
            rules = item.write_relabel_configs
            relabellers.append(Relabeller(rules, f"{_WHERE}[{place}].write_relabel_configs") if rules else None)
            self._endpoints[endpoint.name] = endpoint
            self._reports[endpoint.name] = WriteReport(telemetry, endpoint.name, endpoint.url, clock, self._log)
        self._queue = WriteQueue(
            settings.path / _DIRECTORY,
            list(self._endpoints),
            bytes_max=bytes_max,
            segment_bytes_max=min(settings.wal.wal_segment_size, SEGMENT_BYTES_MAX),
            account=account,
            check_room=check_room,
            on_lost=self._lost,
            log=self._log,
        )
        for item, relabeller in zip(settings.remote_write, relabellers, strict=True):
            name = endpoint_name(item)
            self._senders[name] = Sender(
                name,
                self._queue,
                self._endpoints[name],
                self._reports[name],
                item.queue_config,
                relabeller,
                clock=clock,
                now=now,
                source=random.Random() if source is None else source,
                log=self._log,
            )

    @property
    def samples_max(self) -> int:
        """Samples that a request should hold at most, for `write_requests`: the smallest max_samples_per_send."""
        limits = [item.queue_config.max_samples_per_send for item in self._settings.remote_write]
        return min(filter(None, limits), default=SAMPLES_MAX)

    def start(self) -> None:
        """Begin to send, first what waits from earlier."""
        for sender in self._senders.values():
            sender.start()

    def append(self, tenant: str, requests: Iterable[bytes]) -> None:
        """Queue requests of write_request.py for every endpoint, in this order.

        What the disk does not take is dropped, counted and told: a caller could do nothing else.
        """
        if self._queue is None:
            return
        for request in requests:
            kind, count = contents(request)
            queued_ms = int(self._now() * 1000)
            record = WriteRecord(tenant, kind, count, queued_ms, bytes(cramjam.snappy.compress_raw(request)))
            try:
                self._queue.append(record)
            except StorageError as error:
                reason = "queue_full" if isinstance(error, DiskFullError) else "disk_error"
                for report in self._reports.values():
                    report.dropped(tenant, count, reason)
                    report.tell(reason, "dropping %s: %s", kind, error)
            else:
                self._queued_ms = queued_ms

    def stop(self, seconds: float | None = None) -> None:
        """Send what waits for so many seconds (remote_write_flush_deadline), less where endpoints fail; the rest stays on disk."""
        if self._queue is None:
            return
        deadline = self._clock() + (
            self._settings.remote_write_flush_deadline.total_seconds() if seconds is None else seconds
        )
        for sender in self._senders.values():
            sender.ask_to_stop()
        self._queue.wake()
        for name, sender in self._senders.items():
            if sender.join(max(0.0, deadline - self._clock())):
                self._endpoints[name].close()
            waiting = self._queue.pending(name)
            if waiting:
                self._log.info("%d samples for %s stay on disk and are sent after the next start", waiting, name)
        self._queue.close()

    def gauges(self) -> Iterator[Reading]:
        """For Telemetry.register_gauges()."""
        if self._queue is None:
            return
        yield Reading(Pulled.REMOTE_QUEUE_BYTES, self._queue.bytes_on_disk)
        if self._queued_ms is not None:
            yield Reading(Pulled.REMOTE_TIMESTAMP, self._queued_ms / 1000)
        for name, endpoint in self._endpoints.items():
            labels = (name, endpoint.url)
            yield Reading(Pulled.REMOTE_SAMPLES_PENDING, self._queue.pending(name), labels)
            oldest_ms = self._queue.oldest_ms(name)
            age = 0.0 if oldest_ms is None else max(0.0, self._now() - oldest_ms / 1000)
            yield Reading(Pulled.REMOTE_OLDEST_SECONDS, age, labels)
            sent_ms = self._senders[name].sent_ms
            if sent_ms is not None:
                yield Reading(Pulled.REMOTE_SENT_TIMESTAMP, sent_ms / 1000, labels)

    def _lost(self, lost: Lost) -> None:
        self._reports[lost.reader].lost(lost)


def _check_names(items: Iterable[RemoteWrite]) -> None:
    """Each endpoint keeps its place in the queue under its name."""
    names = [endpoint_name(item) for item in items]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(
                f"found two items of {_WHERE} that are named {name} or have the same url and headers, "
                "expected a name of its own for each",
                key=_WHERE,
            )
