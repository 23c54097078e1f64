"""The dashboard of a first user: every expression in it finds its series, and they say what happened.

A real Prometheus scrapes the server and evaluates each expression as Grafana would.
"""

from __future__ import annotations

import json
import math
import re
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from faults.load import Ledger, Load, Senders
from prometheus import binary
from server import Server, eventually

DASHBOARD = Path(__file__).parent / "data" / "dashboard-configmap.yaml"

NAME = re.compile(r"\b((?:tempo|tempodb|go)_[a-z_]+)\b")


def expressions() -> list[str]:
    document = json.loads(yaml.safe_load(DASHBOARD.read_text())["data"]["tempo.json"])
    return sorted({target["expr"] for panel in document["panels"] for target in panel["targets"]})


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Ledger]]:
    """A server with blocks, spans, and queries that were answered."""
    with Server(tmp_path_factory.mktemp("metrics")) as server:
        ledger = Ledger(Load(61))
        senders = Senders(server, ledger, range(40)).start()
        senders.join()
        assert not senders.unacknowledged
        assert server.get("/flush")[0] == 204
        ledger.check(server)
        yield server, ledger


def test_every_name_is_there(loaded: tuple[Server, Ledger]) -> None:
    present = {series.split("{")[0] for series in loaded[0].metrics()}
    wanted = {name for expression in expressions() for name in NAME.findall(expression)}
    assert len(wanted) == 8
    assert wanted <= present, wanted - present


def test_values_are_true(loaded: tuple[Server, Ledger]) -> None:
    server, ledger = loaded
    assert server.metric("tempo_distributor_spans_received_total") == ledger.acknowledged_spans
    sent_bytes = sum(len(r.body) for n in range(4) for r in ledger.load.requests(range(40)[n::4]))
    assert server.metric("tempo_distributor_bytes_received_total") == sent_bytes
    assert server.metric("tempo_query_frontend_result_metrics_duration_seconds_count") >= len(ledger.traces())
    assert server.metric("go_memstats_heap_sys_bytes") > server.metric("go_memstats_heap_idle_bytes") >= 0
    assert 10e6 < server.metric("go_memstats_heap_inuse_bytes") < 1e9

    def blocks_agree() -> bool:  # merges go on meanwhile
        before = server.blocks()
        listed, stored = server.metric("tempodb_blocklist_length"), server.metric("tempodb_backend_bytes_total")
        files = sum(p.stat().st_size for b in before for p in b.iterdir() if p.name != "meta.json")
        return server.blocks() == before and (listed, stored) == (len(before), files)

    eventually(blocks_agree, "as many blocks and bytes are reported as there are on disk")


def test_every_expression_has_data(loaded: tuple[Server, Ledger], tmp_path: Path) -> None:
    """A Prometheus that scrapes as the user's does evaluates each panel to a value."""
    server, ledger = loaded
    config = {
        "scrape_configs": [
            {
                "job_name": "tempo",
                "scrape_interval": "1s",
                "static_configs": [{"targets": [server.http.removeprefix("http://")]}],
                "metric_relabel_configs": [{"target_label": "cluster", "replacement": "indri"}],
            }
        ]
    }
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [binary(), f"--config.file={tmp_path / 'prometheus.yml'}", f"--storage.tsdb.path={tmp_path / 'tsdb'}"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([*command, f"--web.listen-address={address}"], stdout=log, stderr=log)
    try:
        eventually(lambda: len(query(address, "up == 1")) == 1, "the server is scraped")
        scrapes = 'count_over_time(up{job="tempo"}[1m])'
        eventually(lambda: value(address, scrapes) >= 1, "a first scrape")
        seen = value(address, scrapes)
        Senders(server, ledger, range(1000, 1040)).start().join()  # so that there is a rate
        ledger.check(server, range(1000, 1040))
        eventually(lambda: value(address, scrapes) >= seen + 2, "two scrapes later")
        for expression in expressions():
            assert value(address, expression) > 0, expression
    finally:
        process.terminate()
        process.wait(20)


def value(address: str, expression: str) -> float:
    """Of a vector of one; not a number while there is none, which compares as less than everything."""
    found = query(address, expression)
    return float(found[0]["value"][1]) if len(found) == 1 else math.nan


def query(address: str, expression: str) -> list[dict[str, Any]]:
    """The vector that an expression evaluates to now; empty while Prometheus does not answer."""
    url = f"http://{address}/api/v1/query?" + urllib.parse.urlencode({"query": expression, "time": time.time()})
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return json.load(reply)["data"]["result"]
    except OSError:
        return []
