"""Data sources, dashboard and alerts: schema, links, and every metric that they ask for is one that we report."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml
from prometheus import binary

from vivace.telemetry import PULLED, MemoryFigures, Telemetry

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DASHBOARD = DEPLOY / "grafana/dashboards/vivace.json"
RULES = DEPLOY / "prometheus/vivace.rules.yaml"
TEMPO_SOURCES = Path(__file__).parent / "tempo/datasources.yaml"
SOURCES = DEPLOY / "grafana/provisioning/datasources/datasources.yaml"


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


# -- metrics ----------------------------------------------------------------------------------------------------------

NAME = re.compile(r"\b(?:vivace|tempo|tempodb|go|process|prometheus)_[a-z0-9_]+\b")
SUFFIXES = ("_bucket", "_sum", "_count")


def reported() -> set[str]:
    """Every metric of /metrics and of its page."""
    telemetry = Telemetry(version="1", memory=lambda: MemoryFigures(2, 1))
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)", telemetry.render("")[0].decode(), re.MULTILINE))
    documented = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE))
    histograms = {name + suffix for name, kind in types.items() if kind == "histogram" for suffix in SUFFIXES}
    return types.keys() | documented | histograms | {gauge.value for gauge in PULLED}


def expressions() -> list[str]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    rules = [rule for group in read(RULES)["groups"] for rule in group["rules"]]
    return [t["expr"] for panel in panels for t in panel["targets"]] + [rule["expr"] for rule in rules]


def test_every_metric_that_is_asked_for_is_reported() -> None:
    known = reported()
    asked = {name for expression in expressions() for name in NAME.findall(expression)}
    assert len(asked) > 20
    assert asked - known == set()


def test_every_metric_name_is_seen() -> None:
    """A name that NAME does not recognise would not be checked: what is left of an expression must be PromQL's own words."""
    words = {"sum", "by", "on", "and", "rate", "increase", "changes", "min", "max", "without", "or", "processor", "up"}
    words |= {"histogram_quantile", "le", "job", "instance", "url", "reason", "kind", "op", "result", "route", "fate"}
    for expression in expressions():
        bare = NAME.sub("", re.sub(r'"[^"]*"|\[[^]]*\]', "", expression))
        assert set(re.findall(r"\b[a-z_]+\b", bare)) <= words, expression


# -- the dashboard ----------------------------------------------------------------------------------------------------


def test_dashboard() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    assert (dashboard["title"], dashboard["uid"]) == ("Vivace", "vivace")
    names = {variable["name"] for variable in dashboard["templating"]["list"]}
    panels = dashboard["panels"]
    assert [panel["id"] for panel in panels] == list(range(1, len(panels) + 1))
    for panel in panels:
        assert panel["type"] in ("stat", "timeseries")
        assert panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs)
        for target in panel["targets"]:
            assert target["datasource"] == panel["datasource"]
            assert set(re.findall(r"\$(\w+)", target["expr"])) <= names | {"__rate_interval", "__range"}
            assert 'job=~"$job"' in target["expr"]
        legends = {target["legendFormat"] for target in panel["targets"]}
        for override in panel["fieldConfig"]["overrides"]:
            assert override["matcher"]["options"] in legends


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells


# -- data sources -----------------------------------------------------------------------------------------------------


def test_data_sources_are_a_tempos_and_streaming() -> None:
    ours, theirs = read(SOURCES), read(TEMPO_SOURCES)
    (tempo,) = (source for source in ours["datasources"] if source["type"] == "tempo")
    assert tempo["jsonData"].pop("streamingEnabled") == {"search": True, "metrics": True}
    # theirs names no tags, so that $__tags stays as it is, and a histogram that is there as an alias only
    assert tempo["jsonData"]["tracesToMetrics"].pop("tags") == [{"key": "service.name", "value": "service"}]
    p95 = tempo["jsonData"]["tracesToMetrics"]["queries"][2]
    p95["query"] = p95["query"].replace("traces_spanmetrics_latency", "traces_spanmetrics_duration_seconds")
    assert ours == theirs


def test_data_sources_name_each_other() -> None:
    sources = read(SOURCES)["datasources"]
    uids = {source["uid"] for source in sources}
    assert set(re.findall(r"datasourceUid: (\w+)", SOURCES.read_text())) <= uids
    port = {"tempo": 3200, "prometheus": 9090, "loki": 3100}
    assert all(source["url"].endswith(f":{port[source['type']]}") for source in sources)


# -- alerts -----------------------------------------------------------------------------------------------------------


def alerts() -> list[dict[str, Any]]:
    return [rule for group in read(RULES)["groups"] for rule in group["rules"]]


def test_alerts() -> None:
    assert len({alert["alert"] for alert in alerts()}) == len(alerts())
    for alert in alerts():
        assert alert.keys() <= {"alert", "expr", "for", "labels", "annotations"}
        assert alert["labels"]["severity"] in ("critical", "warning", "info")
        assert alert["annotations"].keys() == {"summary", "description"}


def test_every_alert_has_its_cure() -> None:
    page = (ROOT / "docs/troubleshooting.md").read_text()
    assert [a["alert"] for a in alerts() if f"`{a['alert']}`" not in page] == []


def test_prometheus_takes_the_rules() -> None:
    tests = Path(__file__).parent / "vivace.rules.test.yaml"
    promtool = Path(binary()).with_name("promtool")
    for command in (
        ["check", "rules", RULES],
        ["check", "config", DEPLOY / "prometheus/scrape.yaml"],
        ["test", "rules", tests],
    ):
        done = subprocess.run([promtool, *command], capture_output=True, text=True, timeout=60, cwd=tests.parent)
        assert done.returncode == 0, done.stdout + done.stderr
