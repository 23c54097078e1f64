"""What the metrics generator costs: CPU microseconds a span, and CPU seconds of one collection.

Usage: python bench/generator.py WORKLOAD [--group N] [--dimensions KEY,KEY] [--template KEY] [--profile]
WORKLOAD is as for bench/decode.py. Spans are decoded first, outside the measurement, N requests to a batch and 8 batches
to a tick, and offered as group commit would. The default dimensions are those of the first user's tempo.yaml.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import resource
import struct
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from vivace.generator.generator import Generator
from vivace.generator.settings import RegistrySettings, ServiceGraphsSettings, SpanMetricsSettings, TenantSettings
from vivace.ingest.decode import decoder
from vivace.model.batch import SpanBatch
from vivace.model.dictionary import Dictionary

ATTRIBUTE_BYTES_MAX = 2048
BATCHES_A_TICK = 8
TICKS_A_COLLECTION = 15


def requests(path: Path) -> Iterator[bytes]:
    """The messages of a workload file."""
    with path.open("rb") as file:
        while header := file.read(8):
            yield file.read(struct.unpack("<II", header)[0])


def batches(path: Path, group: int) -> Iterator[SpanBatch]:
    """Batches of a new dictionary every 100 groups, as a head that is cut now and then."""
    bodies: list[bytes] = []
    decode, made = decoder(Dictionary(), ATTRIBUTE_BYTES_MAX), 0
    for body in requests(path):
        bodies.append(body)
        if len(bodies) == group:
            yield decode.decode(bodies)[0]
            bodies, made = [], made + 1
            if made % 100 == 0:
                decode = decoder(Dictionary(), ATTRIBUTE_BYTES_MAX)
    if bodies:
        yield decode.decode(bodies)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workload", type=Path)
    parser.add_argument("--group", type=int, default=16, help="requests decoded at once")
    parser.add_argument("--dimensions", default="service.name,http.method,http.status_code,http.target")
    parser.add_argument("--template", default="", help="dimension of which ids are replaced")
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    settings = TenantSettings(
        processors=frozenset({"span-metrics", "service-graphs"}),
        span_metrics=SpanMetricsSettings(
            dimensions=tuple(arguments.dimensions.split(",")), templates=frozenset({arguments.template})
        ),
        service_graphs=ServiceGraphsSettings(dimensions=("service.name",)),
        registry=RegistrySettings(external_labels=(("source", "tempo"),)),
        collection_seconds=1e9,
        slack_seconds=1e9,
    )
    clock, sent = [0.0], [0]

    def sink(tenant: str, made: Iterable[bytes]) -> None:
        sent[0] += sum(map(len, made))

    generator = Generator(
        lambda tenant: settings, sink, clock=lambda: clock[0], now_unix_nano=time.time_ns, host="bench"
    )
    profile = cProfile.Profile()
    spans = ticks = 0
    cpu, collections = 0.0, []
    for number, batch in enumerate(batches(arguments.workload, arguments.group), 1):
        spans += len(batch)
        started = time.process_time()
        if arguments.profile:
            profile.enable()
        generator.offer("t", batch)
        if number % BATCHES_A_TICK == 0:
            clock[0] += 1
            ticks += 1
            generator.tick()
        profile.disable()
        cpu += time.process_time() - started
        if ticks == TICKS_A_COLLECTION:
            ticks, started = 0, time.process_time()
            generator.collect()
            collections.append(time.process_time() - started)
    started = time.process_time()
    generator.collect()
    collections.append(time.process_time() - started)
    figures = generator.figures()["t"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{cpu / spans * 1e6:6.2f} µs a span over {spans} spans, {figures.label_sets} label sets")
    print(f"{collections[-1]:6.3f} s for the last of {len(collections)} collections, {figures.active_series} series")
    print(f"{sent[0] / 1e6:6.0f} MB of requests, peak memory of this process {peak:.0f} MB")
    if arguments.profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    main()
