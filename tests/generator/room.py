"""A generator with a clock in hand, for tests: send spans, let time pass, see what was collected."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from builders import Clock, batch
from received import Received

from vivace.generator.generator import Generator
from vivace.generator.observer import GeneratorObserver
from vivace.generator.settings import TenantSettings
from vivace.model.dictionary import Dictionary
from vivace.model.proto import otlp_pb2

SERVER, CLIENT, PRODUCER, CONSUMER, INTERNAL = 2, 3, 4, 5, 1
ERROR = (2, "")

Labels = dict[str, str]


class Counted:
    """What a generator reported, added up: by the name of the report and its words."""

    def __init__(self) -> None:
        self.numbers: dict[tuple[str, ...], int] = {}

    def __getitem__(self, key: tuple[str, ...]) -> int:
        return self.numbers.get(key, 0)

    def observer(self) -> GeneratorObserver:
        names = GeneratorObserver.__dataclass_fields__
        return GeneratorObserver(**{name: self._report(name) for name in names})

    def _report(self, name: str) -> Any:
        def report(*values: Any) -> None:
            words = [v for v in values[1:] if isinstance(v, str)]
            number = next((v for v in values if isinstance(v, int)), 1)
            key = (name, *words)
            self.numbers[key] = self.numbers.get(key, 0) + number

        return report


class Room:
    """`settings` as for TenantSettings; the processors are given by name."""

    def __init__(self, *processors: str, settings: TenantSettings | None = None, **changes: Any) -> None:
        self.settings = replace(settings or TenantSettings(), processors=frozenset(processors), **changes)
        self.clock = Clock()
        self.received = Received()
        self.counted = Counted()
        self.dictionary = Dictionary()
        self.generator = Generator(
            lambda tenant: self.settings,
            lambda tenant, requests: self.received(tenant, requests),
            clock=self.clock,
            now_unix_nano=self.clock.now_unix_nano,
            host="here",
            observer=self.counted.observer(),
            random=np.random.default_rng(1),
        )

    def send(self, *requests: otlp_pb2.ExportTraceServiceRequest, tenant: str = "t") -> None:
        """Offer the requests as one batch and count them."""
        self.generator.offer(tenant, batch(*requests, dictionary=self.dictionary))
        self.generator.tick()

    def wait(self, seconds: float) -> None:
        self.clock.seconds += seconds
        self.generator.tick()

    def collect(self) -> Received:
        """What one collection sends."""
        self.received = Received()
        self.generator.collect()
        return self.received

    def values(self, name: str) -> list[tuple[Labels, float]]:
        """The series of one name after a collection, sorted."""
        found = self.collect().of(name)
        return [(dict(series), value) for series, value in sorted(found.items())]
