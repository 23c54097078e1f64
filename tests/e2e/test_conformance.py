"""The recorded answers and series of Grafana Tempo 2.10.1, where they lie beside this repository.

They are not part of the repository; without them the tests are skipped.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus import Prometheus
from query.recorded import OWN_DIVERGENCES
from server import Server

CONFORMANCE = Path(__file__).parents[3] / "shared" / "conformance"
SERIES = 8795
SERIES_SECONDS_MAX = 60.0

pytestmark = pytest.mark.skipif(
    not (CONFORMANCE / "conformance.py").exists(), reason=f"no recorded answers in {CONFORMANCE}"
)


def settings(directory: Path, write_url: str) -> dict[str, object]:
    """What the answers were recorded with, paths and ports aside."""
    processor = {
        "span_metrics": {
            "dimensions": ["service.name", "http.method", "http.status_code", "http.target"],
        },
        "service_graphs": {"wait": "3s", "dimensions": ["service.name"]},
    }
    return {
        "stream_over_http_enabled": True,
        "query_frontend": {
            "search": {"max_duration": "0s", "max_spans_per_span_set": 0},
            "metrics": {"max_duration": "0s"},
        },
        "metrics_generator": {
            "registry": {"collection_interval": "1s", "external_labels": {"source": "tempo"}},
            "metrics_ingestion_time_range_slack": "87600h",
            "storage": {
                "path": str(directory / "generator"),
                "remote_write": [{"url": write_url, "send_native_histograms": True}],
            },
            "processor": processor,
        },
        "overrides": {
            "defaults": {
                "metrics_generator": {
                    "processors": ["span-metrics", "service-graphs"],
                }
            }
        },
    }


class Judged:
    """One run of conformance.py: which answers failed, why, and its output."""

    def __init__(self, server: Server, *arguments: str) -> None:
        command = [sys.executable, str(CONFORMANCE / "conformance.py"), "--http", server.http, *arguments]
        self.output = subprocess.run(command, capture_output=True, text=True, timeout=180).stdout
        self.failed = re.findall(r"^FAIL ([a-z]+-\d+) ", self.output, re.MULTILINE)
        found = re.search(r"^series: (\d+) of (\d+)$", self.output, re.MULTILINE)
        self.series = (int(found[1]), int(found[2])) if found else None


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Prometheus]]:
    directory = tmp_path_factory.mktemp("conformance")
    with (
        Prometheus(directory / "prometheus") as prometheus,
        Server(directory, settings(directory, prometheus.write_url)) as server,
    ):
        first = Judged(server, "--otlp", server.otlp_http, "--load", "--group", "trace")
        assert ", 0 failed" in first.output, first.output[-4000:]
        yield server, prometheus


def test_answers(loaded: tuple[Server, Prometheus]) -> None:
    server, _ = loaded
    judged = Judged(server)
    assert sorted(judged.failed) == sorted(OWN_DIVERGENCES), judged.output[-4000:]


def test_answers_are_the_same_once_all_is_in_blocks(loaded: tuple[Server, Prometheus]) -> None:
    server, _ = loaded
    assert server.get("/flush")[0] == 204
    judged = Judged(server)
    assert sorted(judged.failed) == sorted(OWN_DIVERGENCES), judged.output[-4000:]


def test_generated_series(loaded: tuple[Server, Prometheus]) -> None:
    server, prometheus = loaded
    deadline = time.monotonic() + SERIES_SECONDS_MAX
    judged = Judged(server, "--group", "trace", "--prometheus", prometheus.url)
    while (
        judged.series != (SERIES, SERIES) and time.monotonic() < deadline
    ):  # edges wait three seconds for their other side
        judged = Judged(server, "--group", "trace", "--prometheus", prometheus.url)
    assert judged.series == (SERIES, SERIES), judged.output[-4000:]
    report = json.loads(server.get("/status/cardinality?top=2")[1])
    counted = {metric["name"]: metric["series"] for metric in report["metrics"]}
    assert counted["traces_service_graph_request_total"] > 20
    assert {"span_name", "service", "http_target", "client", "server"} <= {label["name"] for label in report["labels"]}
    assert all(len(label["top"]) <= 2 for label in report["labels"])
