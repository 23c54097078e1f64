"""What remote write costs: encoding a pass, queueing it, memory while requests wait, sending them.

Usage: python bench/remote_write.py [--series N] [--samples N] [--megabytes N]
A pass is `series` label sets with `samples` samples each (a histogram with 14 buckets and a counter make 17 or 18). Passes are queued for
an endpoint that is down until `megabytes` wait; then an endpoint in this process takes them, and its CPU counts with ours.
"""

from __future__ import annotations

import argparse
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from vivace.config.generator import GeneratorStorage
from vivace.generator.remote_write import RemoteWriter
from vivace.generator.write_request import encode_labels, series_head, write_requests
from vivace.telemetry import Telemetry, memory_figures


class Sink(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


def writer(directory: str, port: int) -> RemoteWriter:
    endpoint = {"url": f"http://127.0.0.1:{port}/api/v1/write", "name": "bench"}
    settings = GeneratorStorage.model_validate({"path": directory, "remote_write": [endpoint]})
    telemetry = Telemetry(version="bench")
    made = RemoteWriter(settings, telemetry, version="bench", bytes_max=8 << 30)
    telemetry.register_gauges(made.gauges)
    return made


def label_sets(count: int) -> list[bytes]:
    return [
        encode_labels(
            {
                "__name__": "traces_spanmetrics_latency_bucket",
                "__metrics_gen_instance": "host",
                "le": "0.512",
                "http_method": "GET",
                "service": f"service-{number % 300}",
                "span_kind": "SPAN_KIND_SERVER",
                "span_name": f"GET /api/items/{number:016x}",
                "status_code": "STATUS_CODE_UNSET",
            }.items()
        )
        for number in range(count)
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--series", type=int, default=20_000)
    parser.add_argument("--samples", type=int, default=17)
    parser.add_argument("--megabytes", type=int, default=200)
    arguments = parser.parse_args()

    started = time.process_time()
    labels = label_sets(arguments.series)
    print(f"labels: {(time.process_time() - started) / arguments.series * 1e6:.1f} µs of CPU a series")
    heads = [series_head(one) for one in labels] * arguments.samples
    values = np.random.default_rng(1).random(len(heads))

    started = time.process_time()
    size = sum(map(len, write_requests(heads, values, 1_800_000_000_000)))
    print(f"encode: {time.process_time() - started:.3f} s of CPU for {len(heads)} samples, {size / 1e6:.1f} MB")

    with TemporaryDirectory() as directory:
        away = writer(directory, 9)
        away.start()
        waiting = passes = 0
        while waiting < arguments.megabytes << 20:
            started = time.process_time()
            away.append("single-tenant", write_requests(heads, values, 1_800_000_000_000 + passes))
            cpu = time.process_time() - started
            passes += 1
            waiting = sum(path.stat().st_size for path in Path(directory).rglob("*.rwq"))
            if passes in (1, 2) or waiting >= arguments.megabytes << 20:
                resident = memory_figures().resident / 1e6
                print(
                    f"queue: pass {passes} {cpu:.3f} s of CPU, {waiting / 1e6:.1f} MB wait, {resident:.1f} MB resident"
                )
        away.stop(5)

        server = ThreadingHTTPServer(("127.0.0.1", 0), Sink)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        back = writer(directory, server.server_address[1])
        started, started_cpu = time.monotonic(), time.process_time()
        back.start()
        back.stop(600)
        samples = passes * len(heads)
        wall, cpu = time.monotonic() - started, time.process_time() - started_cpu
        print(f"send: {samples} samples in {wall:.1f} s, {samples / wall / 1e6:.2f}M samples/s, {cpu:.1f} s of CPU")


if __name__ == "__main__":
    main()
