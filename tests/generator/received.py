"""What a generator has sent, read back from the bytes of its write requests: a small decoder of its own, for tests.

Source  https://prometheus.io/docs/specs/prw/remote_write_spec/
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

Series = tuple[tuple[str, str], ...]
"""Labels as they were sent, in order."""


def fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """(number, value) of each field: int for varints, float for eight bytes, bytes."""
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        match tag & 7:
            case 0:
                value, at = varint(data, at)
                yield tag >> 3, value
            case 1:
                yield tag >> 3, struct.unpack_from("<d", data, at)[0]
                at += 8
            case 2:
                size, at = varint(data, at)
                yield tag >> 3, data[at : at + size]
                at += size
            case wire:
                raise AssertionError(f"wire type {wire}")


def varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7


@dataclass(slots=True)
class Received:
    """A sink. Samples are (timestamp in ms, value), in the order of their arrival."""

    samples: dict[Series, list[tuple[int, float]]] = field(default_factory=dict)
    exemplars: dict[Series, list[tuple[Series, int, float]]] = field(default_factory=dict)
    histograms: dict[Series, list[dict[int, list[Any]]]] = field(default_factory=dict)
    sizes: list[int] = field(default_factory=list)
    _labels: dict[bytes, tuple[str, str]] = field(default_factory=dict)

    def __call__(self, tenant: str, requests: Iterable[bytes]) -> None:
        for request in requests:
            self.sizes.append(len(request))
            for number, series in fields(request):
                assert number == 1
                self._take(series)

    def _take(self, data: bytes) -> None:
        parts = list(fields(data))
        series = self._series(v for n, v in parts if n == 1)
        assert list(series) == sorted(series), series
        assert len({name for name, _ in series}) == len(series), series
        for number, value in parts:
            if number == 2:
                sample = dict(fields(value))
                self.samples.setdefault(series, []).append((sample[2], sample[1]))
            elif number == 3:
                exemplar = list(fields(value))
                own = self._series(v for n, v in exemplar if n == 1)
                rest = dict(exemplar)
                self.exemplars.setdefault(series, []).append((own, rest[3], rest[2]))
            elif number == 4:
                found: dict[int, list[Any]] = {}
                for n, v in fields(value):
                    found.setdefault(n, []).append(v)
                self.histograms.setdefault(series, []).append(found)

    def _series(self, data: Iterable[bytes]) -> Series:
        return tuple(map(self._label, data))

    def _label(self, data: bytes) -> tuple[str, str]:
        if data not in self._labels:
            pair = dict(fields(data))
            self._labels[data] = (pair[1].decode(), pair.get(2, b"").decode())
        return self._labels[data]

    def latest(self) -> dict[Series, float]:
        """The last value of each series."""
        return {series: samples[-1][1] for series, samples in self.samples.items()}

    def of(self, name: str) -> dict[Series, float]:
        """The last values of the series of one name; labels without the name and what the generator adds to all."""
        hidden = ("__name__", "__metrics_gen_instance")
        return {
            tuple((n, v) for n, v in series if n not in hidden): value
            for series, value in self.latest().items()
            if dict(series)["__name__"] == name
        }

    def clear(self) -> None:
        for held in (self.samples, self.exemplars, self.histograms):
            held.clear()
        self.sizes.clear()
