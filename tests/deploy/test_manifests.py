"""The manifests: those of a Tempo but for the image; units, pipelines and data sources that name what there is.

tests/deploy/tempo/ holds the manifests of a Grafana Tempo 2.10 as its user has them.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from vivace import __version__, cli

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
TEMPO = Path(__file__).parent / "tempo"


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


# -- Kubernetes -------------------------------------------------------------------------------------------------------

SAME = ["service.yaml", "ingress-tailscale.yaml", "ingress-tailscale-otlp.yaml", "tempo.yaml"]


@pytest.mark.parametrize("name", SAME)
def test_the_rest_is_the_same(name: str) -> None:
    assert read(DEPLOY / "kubernetes" / name) == read(TEMPO / name)


def test_the_stateful_set_differs_by_its_image() -> None:
    ours, theirs = read(DEPLOY / "kubernetes/statefulset.yaml"), read(TEMPO / "statefulset.yaml")
    (container,) = ours["spec"]["template"]["spec"]["containers"]
    assert container.pop("image") == "vivace:kustomized"
    assert theirs["spec"]["template"]["spec"]["containers"][0].pop("image") == "grafana/tempo:kustomized"
    assert ours == theirs
    assert container["resources"]["limits"] == {"memory": "1Gi", "cpu": "500m"}


def test_the_kustomization_differs_by_its_image() -> None:
    ours, theirs = read(DEPLOY / "kubernetes/kustomization.yaml"), read(TEMPO / "kustomization.yaml")
    assert ours.pop("images") == [{"name": "vivace", "newName": "vivace", "newTag": __version__}]
    assert theirs.pop("images") == [{"name": "grafana/tempo", "newTag": "2.10.1"}]
    assert ours == theirs
    for name in (*ours["resources"], *ours["configMapGenerator"][0]["files"]):
        assert (DEPLOY / "kubernetes" / name).is_file()


def test_what_its_head_tells_users_of_tempo_to_do() -> None:
    """The `images` in the comment, put into a Tempo's kustomization, names our image for Tempo's."""
    lines = re.findall(r"^#   (.*)$", (DEPLOY / "kubernetes/kustomization.yaml").read_text(), re.MULTILINE)
    assert yaml.safe_load("\n".join(lines)) == {
        "images": [{"name": "grafana/tempo", "newName": "vivace", "newTag": __version__}]
    }


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")
def test_what_kustomize_makes_differs_in_one_line() -> None:
    made = []
    for directory in (TEMPO, DEPLOY / "kubernetes"):
        done = subprocess.run(["kubectl", "kustomize", directory], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        made.append(done.stdout.splitlines())
    differing = [pair for pair in zip(*made, strict=True) if pair[0] != pair[1]]
    assert [(a.strip(), b.strip()) for a, b in differing] == [
        ("image: grafana/tempo:2.10.1", f"image: vivace:{__version__}")
    ]


def test_the_configuration_can_be_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["config", "check", f"-config.file={DEPLOY / 'kubernetes/tempo.yaml'}"]) == 0
    assert "this configuration can be used" in capsys.readouterr().out


# -- systemd ----------------------------------------------------------------------------------------------------------

UNIT = DEPLOY / "systemd/vivace.service"


def unit() -> ConfigParser:
    parser = ConfigParser(delimiters=("=",), comment_prefixes=("#",), interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(UNIT.read_text())
    return parser


def test_the_unit() -> None:
    service = unit()["Service"]
    assert service["ExecStart"] == "/opt/vivace/bin/vivace -config.file=/etc/tempo/config.yml"
    assert service["Restart"] == "on-failure"
    assert float(service["TimeoutStopSec"].removesuffix("s")) > 10, "a stop may take 10 s"
    assert service["ProtectSystem"] == "strict"
    assert service["ReadWritePaths"] == "/var/tempo"
    user = service["User"]
    assert re.search(rf"^u {user} 10001 ", (UNIT.parent / "vivace.sysusers").read_text(), re.MULTILINE)
    assert f"d /var/tempo 0700 {user} {user} -" in (UNIT.parent / "vivace.tmpfiles").read_text()


def test_the_files_that_its_head_names() -> None:
    head = UNIT.read_text().split("[Unit]")[0]
    named = re.findall(r"\bdeploy/\S+", head)
    assert len(named) == 5
    assert all((ROOT / name).is_file() for name in named)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    copy = tmp_path / UNIT.name
    copy.write_text(
        UNIT.read_text().replace("/opt/vivace/bin/vivace", "/bin/true")
    )  # it looks whether the program is there
    done = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


# -- Alloy ------------------------------------------------------------------------------------------------------------

ALLOY = sorted((DEPLOY / "alloy").glob("*.alloy"))
COMPONENT = re.compile(r'^([a-z_.]+) "(\w+)" \{$', re.MULTILINE)
REFERENCE = re.compile(r"\b(otelcol\.[a-z_.]+\.\w+)\.input\b")


def without_comments(path: Path) -> str:
    return re.sub(r"^\s*//.*\n", "", path.read_text(), flags=re.MULTILINE)


@pytest.mark.parametrize("path", ALLOY, ids=lambda path: path.name)
def test_alloy(path: Path) -> None:
    text = without_comments(path)
    without_strings = re.sub(r'"[^"\n]*"', '""', text)
    for opening, closing in ("{}", "[]", "()"):
        assert without_strings.count(opening) == without_strings.count(closing)
    components = {f"{kind}.{label}" for kind, label in COMPONENT.findall(text)}
    references = set(REFERENCE.findall(text))
    assert references <= components
    exporters = {name for name in components if ".exporter." in name}
    assert exporters <= references, "nothing is sent to it"
    assert any(name.endswith(".vivace") for name in exporters)


def test_alloy_of_a_tempo_user_changes_by_its_exporter() -> None:
    def pipeline(path: Path) -> str:
        return " ".join(without_comments(path).partition("otelcol.exporter.")[0].split())

    ours, theirs = pipeline(DEPLOY / "alloy/beyla.alloy"), pipeline(TEMPO / "config.alloy")
    assert ours.replace("otlphttp.vivace.input", "otlphttp.tempo.input") == theirs


# -- Collector --------------------------------------------------------------------------------------------------------

COLLECTOR = sorted((DEPLOY / "collector").glob("*.yaml"))


@pytest.mark.parametrize("path", COLLECTOR, ids=lambda path: path.name)
def test_collector(path: Path) -> None:
    config = read(path)
    (pipeline,) = config["service"]["pipelines"].values()
    for part in ("receivers", "processors", "exporters"):
        assert set(pipeline[part]) == config[part].keys(), part
    endpoints = [exporter["endpoint"] for exporter in config["exporters"].values()]
    assert all(endpoint.endswith(":4317") for endpoint in endpoints)
    assert "otlp/vivace" in pipeline["exporters"]
