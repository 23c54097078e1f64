"""The metrics generator: acknowledged spans become series, and every collection interval samples go to the sink.

Rule 1  offer() costs the writer thread an append; everything else happens on one thread of its own, about once a second.
Rule 2  what waits for that thread is bounded: beyond `waiting_bytes_max` spans are not counted for metrics, and that is
        reported. They are stored and found all the same.
Rule 3  all work is in tick(), which a test calls with a clock of its own; the thread only calls it again and again.
Rule 4  an error of one tenant is logged and counted, and does not keep the others from their work.

One tenant: instance.py.  Series: registry.py.  Where requests go: `sink`, see remote_write.py.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from functools import partial

import numpy as np

from vivace.generator.cardinality import Cardinality
from vivace.generator.instance import Figures, Instance
from vivace.generator.observer import GeneratorObserver
from vivace.generator.settings import TenantSettings
from vivace.model.batch import SpanBatch

log = logging.getLogger(__name__)

TICK_SECONDS = 1.0
"""Between two looks at what has gathered: fewer array calls a span than at each commit, and well below any interval."""

CONFIGURE_SECONDS = 10.0
"""How often a tenant's settings are asked for again; Tempo's period."""

WAITING_BYTES_MAX = 64 << 20
"""Bytes of spans that may wait, all tenants together: above a second at full speed. The head holds the same arrays, so
they cost memory of their own only once it is cut."""

STOP_SECONDS = 5.0
"""For the thread to end its present work at a stop."""

INSTANCE_LABEL = "__metrics_gen_instance"

Sink = Callable[[str, Iterable[bytes]], None]
"""Takes the write requests (uncompressed) of one collection of a tenant. Must use them up; may raise."""


class Generator:
    """All tenants. start() and stop() once each; offer(), cardinality() and figures() from any thread in between."""

    def __init__(
        self,
        settings: Callable[[str], TenantSettings],
        sink: Sink,
        *,
        clock: Callable[[], float],
        now_unix_nano: Callable[[], int],
        host: str,
        observer: GeneratorObserver | None = None,
        random: np.random.Generator | None = None,
        waiting_bytes_max: int = WAITING_BYTES_MAX,
    ) -> None:
        """`settings` says what holds for a tenant now; it is asked on the generator's thread. `clock` gives seconds."""
        self._settings = settings
        self._sink = sink
        self._clock = clock
        self._now_unix_nano = now_unix_nano
        self._started_ms = now_unix_nano() // 1_000_000
        self._own_labels = ((INSTANCE_LABEL, host),)
        self._observer = observer or GeneratorObserver()
        self._random = random or np.random.default_rng()
        self._waiting_bytes_max = waiting_bytes_max
        self._instances: dict[str, Instance] = {}
        self._waiting: dict[str, list[SpanBatch]] = {}
        self._waiting_bytes = 0
        self._offers = threading.Lock()  # held for moments
        self._work = threading.Lock()  # held for as long as a tick takes
        self._configure_at = clock() + CONFIGURE_SECONDS
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    # -- any thread -------------------------------------------------------------------------------------------------

    def offer(self, tenant: str, batch: SpanBatch) -> None:
        """Count these spans soon. Neither waits nor raises: it is a sink of group commit."""
        instance = self._instances.get(tenant)
        if instance is not None and not instance.is_active:
            return
        size = batch.nbytes
        with self._offers:
            fits = self._waiting_bytes + size <= self._waiting_bytes_max
            if fits:
                self._waiting_bytes += size
                self._waiting.setdefault(tenant, []).append(batch)
        if not fits:
            self._observer.discarded(tenant, "buffer_full", "", len(batch))
        if self._waiting_bytes * 2 > self._waiting_bytes_max:
            self._wake.set()

    def cardinality(self, tenant: str, top: int = 10) -> Cardinality | None:
        """What a tenant's series are made of; None for a tenant without any. Waits while a tick runs."""
        with self._work:
            instance = self._instances.get(tenant)
            return None if instance is None else instance.cardinality(top)

    def figures(self) -> dict[str, Figures]:
        """Figures by tenant, as of the last tick."""
        return {tenant: instance.figures for tenant, instance in list(self._instances.items())}

    # -- work -------------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Count what waits, do what is due."""
        with self._work:
            now, now_unix_nano = self._clock(), self._now_unix_nano()
            if now >= self._configure_at:
                self._configure_at = now + CONFIGURE_SECONDS
                for tenant, instance in self._instances.items():
                    self._guarded(tenant, "configure", partial(self._configure, instance))
            for tenant, batches in self._take_waiting().items():
                self._guarded(tenant, "process", partial(self._process, tenant, batches, now, now_unix_nano))
            for tenant, instance in self._instances.items():
                self._guarded(tenant, "tick", partial(instance.tick, now))
                if now >= instance.collect_at:
                    self._collect(instance, now, now_unix_nano)

    def collect(self) -> None:
        """Count what waits and collect all tenants, due or not."""
        self.tick()
        with self._work:
            now, now_unix_nano = self._clock(), self._now_unix_nano()
            for instance in self._instances.values():
                self._collect(instance, now, now_unix_nano)

    def _configure(self, instance: Instance) -> None:
        instance.configure(self._settings(instance.tenant))

    def _take_waiting(self) -> dict[str, list[SpanBatch]]:
        with self._offers:
            taken, self._waiting = self._waiting, {}
            self._waiting_bytes = 0
        return taken

    def _process(self, tenant: str, batches: list[SpanBatch], now: float, now_unix_nano: int) -> None:
        instance = self._instances.get(tenant)
        if instance is None:
            settings = self._settings(tenant)
            instance = Instance(
                tenant, settings, self._own_labels, self._observer, self._random, now, started_ms=self._started_ms
            )
            self._instances[tenant] = instance
        if instance.is_active:
            instance.process(batches, now, now_unix_nano)

    def _collect(self, instance: Instance, now: float, now_unix_nano: int) -> None:
        try:
            self._sink(instance.tenant, instance.collect(now, now_unix_nano))
            self._observer.collected(instance.tenant)
        except Exception as e:
            self._observer.collection_failed(instance.tenant, type(e).__name__)
            log.exception("metrics generator of tenant %s: a collection failed, going on", instance.tenant)

    def _guarded(self, tenant: str, step: str, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception:
            log.exception("metrics generator of tenant %s: %s failed, going on", tenant, step)
            self._observer.update_failed(tenant)

    # -- the thread -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="vivace-generator", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread, then collect once more. What is offered from now on is not counted."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)
            if self._thread.is_alive():
                log.error("the metrics generator did not end in %g s; its last samples are not sent", STOP_SECONDS)
                return
        self.collect()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.tick()
            self._wake.wait(TICK_SECONDS)
            self._wake.clear()
