"""What /metrics says: every metric documented and named by its rule, gauges asked at each scrape, memory from the right place."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from pathlib import Path

import pytest
from prometheus_client import parser
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.openmetrics import parser as openmetrics_parser

from vivace import telemetry as telemetry_module
from vivace.telemetry import (
    PULLED,
    TENANT_OVERFLOW,
    MemoryFigures,
    Pulled,
    Reading,
    Telemetry,
    memory_figures,
)

METRICS_PAGE = (Path(__file__).parents[1] / "docs/metrics.md").read_text()
GIB = 2**30


def make() -> Telemetry:
    return Telemetry(version="0.3.1", memory=lambda: MemoryFigures(4 * GIB, GIB))


def samples(telemetry: Telemetry) -> dict[str, float]:
    lines = telemetry.render("")[0].decode().splitlines()
    return {name: float(value) for name, value in (x.rsplit(" ", 1) for x in lines if not x.startswith("#"))}


def names_in(telemetry: Telemetry) -> set[str]:
    return set(re.findall(r"^# TYPE (\S+)", telemetry.render("")[0].decode(), re.MULTILINE))


def test_every_metric_is_on_its_page_and_no_other() -> None:
    assert set(re.findall(r"^\| `(\w+)` \|", METRICS_PAGE, re.MULTILINE)) == names_in(make())


def test_labels_and_types_are_as_the_page_says() -> None:
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)", make().render("")[0].decode(), re.MULTILINE))
    labels = {m._name: m._labelnames for m in vars(make()).values() if isinstance(m, MetricWrapperBase)}
    labels |= {gauge.value: names for gauge, (names, _) in PULLED.items()}
    for name, kind, cell in re.findall(r"^\| `(\w+)` \| (\w+)[^|]*\| ([^|]*)\|", METRICS_PAGE, re.MULTILINE):
        assert types[name] == ("untyped" if name.startswith("tempo_receiver_") else kind), name
        if name.removesuffix("_total") in labels or name in labels:
            found = labels.get(name, labels.get(name.removesuffix("_total")))
            assert set(re.findall(r"`(\w+)`", cell)) == set(found or ()), name


def test_attributes_are_named_after_their_metrics() -> None:
    metrics = {a: m for a, m in vars(make()).items() if isinstance(m, MetricWrapperBase)}
    assert len(metrics) > 30
    assert {a: m._name.removeprefix("vivace_") for a, m in metrics.items()} == {a: a for a in metrics}


DASHBOARD = [
    "tempodb_backend_bytes_total", "tempodb_blocklist_length", "go_memstats_heap_idle_bytes", "go_memstats_heap_sys_bytes",
    "go_memstats_heap_inuse_bytes", "tempo_distributor_spans_received_total", "tempo_distributor_bytes_received_total",
    "tempo_query_frontend_result_metrics_duration_seconds",
]  # fmt: skip


@pytest.mark.parametrize("name", DASHBOARD)
def test_the_dashboard_finds_its_metrics(name: str) -> None:
    assert name in names_in(make())
    panels = METRICS_PAGE.split("## The panels")[1].split("\n## ")[0]
    assert name in panels


def test_heap_usage_is_the_share_of_the_budget() -> None:
    found = samples(make())
    assert 1 - found["go_memstats_heap_idle_bytes"] / found["go_memstats_heap_sys_bytes"] == 0.25
    assert found["go_memstats_heap_inuse_bytes"] == GIB


def test_without_proc_the_memory_gauges_are_absent() -> None:
    def no_proc() -> MemoryFigures:
        raise OSError("no /proc")

    assert not any(name.startswith("go_") for name in names_in(Telemetry(version="1", memory=no_proc)))


# ---- memory: name -> (files under the root, budget) ----

MEMINFO = {"proc/meminfo": "MemFree: 1 kB\nMemTotal:       8388608 kB\n", "proc/self/statm": "500 100 50 1 0 90 0\n"}
V2, V1 = "sys/fs/cgroup", "sys/fs/cgroup/memory"
MEMORY = {
    "no control group": ({"proc/self/cgroup": "0::/\n"}, 8 * GIB),
    "container, version 2": ({"proc/self/cgroup": "0::/\n", f"{V2}/memory.max": f"{GIB}\n"}, GIB),
    "no limit set": ({"proc/self/cgroup": "0::/\n", f"{V2}/memory.max": "max\n"}, 8 * GIB),
    "the host's path is not visible": ({"proc/self/cgroup": "0::/kubepods/pod1\n", f"{V2}/memory.max": f"{GIB}\n"}, GIB),
    "the smallest of own and parents": (
        {"proc/self/cgroup": "0::/a/b\n", f"{V2}/a/b/memory.max": "max\n", f"{V2}/a/memory.max": f"{2 * GIB}\n"},
        2 * GIB,
    ),
    "version 1": (
        {"proc/self/cgroup": "4:cpu,cpuacct:/x\n2:memory:/x\n", f"{V1}/x/memory.limit_in_bytes": f"{GIB}\n"},
        GIB,
    ),
    "version 1, no limit": (
        {"proc/self/cgroup": "2:memory:/\n", f"{V1}/memory.limit_in_bytes": "9223372036854771712\n"},
        8 * GIB,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MEMORY)
def test_memory_budget(tmp_path: Path, case: str) -> None:
    files, budget = MEMORY[case]
    for name, text in (MEMINFO | files).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    figures = memory_figures(tmp_path)
    assert figures.budget == budget
    assert figures.resident % 100 == 0
    assert figures.resident > 0


def test_memory_of_this_process() -> None:
    figures = memory_figures()
    assert 0 < figures.resident < figures.budget


# ---- pulled gauges ----


def test_gauges_are_asked_at_each_scrape_and_add_up() -> None:
    telemetry, wal_bytes = make(), [5.0]
    telemetry.register_gauges(
        lambda: [Reading(Pulled.DISK_BYTES, wal_bytes[0], ("wal",)), Reading(Pulled.HEAD_SPANS, 3)]
    )
    telemetry.register_gauges(lambda: [Reading(Pulled.DISK_BYTES, 7, ("blocks",)), Reading(Pulled.HEAD_SPANS, 4)])
    assert samples(telemetry)["vivace_head_spans"] == 7
    wal_bytes[0] = 6
    found = samples(telemetry)
    assert (found['vivace_disk_bytes{kind="wal"}'], found['vivace_disk_bytes{kind="blocks"}']) == (6, 7)
    assert "vivace_head_bytes" not in found


def test_a_failing_source_is_counted_and_spares_the_others(caplog: pytest.LogCaptureFixture) -> None:
    def failing() -> Iterable[Reading]:
        yield Reading(Pulled.HEAD_SPANS, 1)
        raise OSError("disk gone")

    telemetry = make()
    telemetry.register_gauges(failing)
    telemetry.register_gauges(lambda: [Reading(Pulled.HEAD_TRACES, 2)])
    with caplog.at_level(logging.ERROR):
        assert samples(telemetry)["vivace_head_traces"] == 2
    assert "a source of gauges failed" in caplog.text
    assert samples(telemetry)["vivace_scrape_errors_total"] >= 1


# ---- exposition ----


def used() -> Telemetry:
    telemetry = make()
    telemetry.tempo_receiver_accepted_spans.inc(3, "otlp", "grpc")
    telemetry.tempo_receiver_accepted_spans.inc(2, "otlp", "grpc")
    telemetry.spans.labels("single-tenant", "received").inc(4)
    telemetry.wal_fsync_seconds.observe(0.0007)
    telemetry.register_gauges(lambda: [Reading(Pulled.BACKEND_BYTES, 9, ("single-tenant", "live"))])
    return telemetry


def test_text() -> None:
    body, content_type = used().render("text/plain")
    assert content_type.startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in parser.text_string_to_metric_families(body.decode())}
    assert families["tempo_receiver_accepted_spans"].samples[0].value == 5
    assert families["tempodb_backend_bytes_total"].type == "gauge"
    found = samples(used())
    assert found['tempo_receiver_accepted_spans{receiver="otlp",transport="grpc"}'] == 5
    assert found['vivace_spans_total{fate="received",tenant="single-tenant"}'] == 4
    assert found['vivace_wal_fsync_seconds_bucket{le="0.001"}'] == 1
    assert found["vivace_wal_torn_tails_total"] == 0
    assert not any("_created" in name for name in found)


def test_openmetrics_when_asked() -> None:
    body, content_type = used().render("application/openmetrics-text; version=1.0.0,text/plain;q=0.5")
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    families = {family.name: family for family in openmetrics_parser.text_string_to_metric_families(body.decode())}
    assert families["vivace_spans"].type == "counter"
    assert families["tempo_receiver_accepted_spans"].type == "unknown"


def test_two_services_in_one_process_do_not_meet() -> None:
    one, two = make(), make()
    one.wal_torn_tails.inc()
    assert (samples(one)["vivace_wal_torn_tails_total"], samples(two)["vivace_wal_torn_tails_total"]) == (1, 0)


def test_tenant_labels_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry_module, "TENANTS_MAX", 2)
    telemetry = make()
    assert [telemetry.tenant_label(x) for x in ("a", "b", "c", "a", "d")] == [
        "a",
        "b",
        TENANT_OVERFLOW,
        "a",
        TENANT_OVERFLOW,
    ]
