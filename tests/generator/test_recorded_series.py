"""The series that Grafana Tempo 2.10.1 made of the recorded spans, where they lie beside this repository.

They are not part of the repository; without them the test is skipped. Tempo counts the size of its own messages, so of
traces_spanmetrics_size_total only the series are compared.
"""

from __future__ import annotations

import gzip
import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders import SECOND, Clock
from received import Received

from vivace.generator.generator import Generator
from vivace.generator.settings import RegistrySettings, ServiceGraphsSettings, SpanMetricsSettings, TenantSettings
from vivace.ingest.decode import decoder
from vivace.model.dictionary import Dictionary

CONFORMANCE = Path(__file__).parents[3] / "shared" / "conformance"

SETTINGS = TenantSettings(  # server.yaml beside the recorded answers
    processors=frozenset({"span-metrics", "service-graphs", "local-blocks"}),
    span_metrics=SpanMetricsSettings(dimensions=("service.name", "http.method", "http.status_code", "http.target")),
    service_graphs=ServiceGraphsSettings(wait=3, dimensions=("service.name",)),
    registry=RegistrySettings(external_labels=(("source", "tempo"),)),
    slack_seconds=87600 * 3600,
    collection_seconds=5,
)

Series = dict[tuple[tuple[str, str], ...], float]


def bodies() -> Iterator[bytes]:
    data, at = (CONFORMANCE / "dataset.bin").read_bytes(), 0
    while at < len(data):
        size, _spans = struct.unpack_from("<II", data, at)
        yield data[at + 8 : at + 8 + size]
        at += 8 + size


def recorded() -> Series:
    with gzip.open(CONFORMANCE / "series.json.gz") as file:
        results = json.load(file)["data"]["result"]
    return {labels_of(r["metric"]): float(r["value"][1]) for r in results}


def labels_of(metric: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((n, v) for n, v in metric.items() if n != "__metrics_gen_instance"))


@pytest.mark.skipif(not CONFORMANCE.exists(), reason=f"no recorded series in {CONFORMANCE}")
@pytest.mark.parametrize("group", [1, 1000])
def test_series_are_tempos(group: int) -> None:
    """Whether requests are counted one by one or all at once."""
    clock, received = Clock(), Received()
    recorded_at = 1795178700 * SECOND
    generator = Generator(
        lambda tenant: SETTINGS, received, clock=clock, now_unix_nano=lambda: recorded_at, host="here"
    )
    requests, decode = list(bodies()), decoder(Dictionary(), 0)
    for first in range(0, len(requests), group):
        batch, _ = decode.decode(requests[first : first + group])
        generator.offer("t", batch)
        clock.seconds += 0.001
        generator.tick()
    clock.seconds += 10
    generator.collect()

    got, want = {labels_of(dict(s)): v for s, v in received.latest().items()}, recorded()
    assert got.keys() - want.keys() == set()
    assert want.keys() - got.keys() == set()
    wrong = {
        s: (want[s], got[s])
        for s in want
        if "size_total" not in dict(s)["__name__"] and not math.isclose(got[s], want[s], rel_tol=1e-6)
    }
    assert wrong == {}
    assert len(want) == 8795
