"""What /status/config shows is what load.py reads."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from vivace.config.load import parse
from vivace.config.settings import Settings

DATA = Path(__file__).parent / "data"
TEXTS = [
    "",
    "distributor: {receivers: {otlp: {protocols: {grpc: {endpoint: 0.0.0.0:4317}}}}}",
    "overrides: {defaults: {read: {max_search_duration: 36h}, compaction: {block_retention: 2w}}}",
    "storage: {trace: {local: {max_bytes: 5GB, min_free_bytes: 0.5%}}}",
    *(file.read_text() for file in sorted(DATA.glob("*.yaml"))),
]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("mode", ["all", "diff"])
def test_round_trip(text: str, mode: str) -> None:
    settings = parse(text).model_copy(update={"notices": ()})
    printed = settings.to_yaml("diff" if mode == "diff" else "all")
    assert parse(printed) == settings


def test_modes() -> None:
    settings = parse("server: {log_level: debug}\nstorage: {trace: {local: {path: /b}}}")
    assert yaml.safe_load(settings.to_yaml("diff")) == {
        "server": {"log_level": "debug"},
        "storage": {"trace": {"local": {"path": "/b"}}},
    }
    assert settings.to_yaml("defaults") == Settings().to_yaml("all")
    assert yaml.safe_load(Settings().to_yaml("diff")) == {}
    assert "notices" not in settings.to_yaml("all")


def test_secrets_are_masked() -> None:
    text = """
    server: {http_tls_config: {cert: c, key: hunter1}}
    metrics_generator:
      storage:
        path: x
        remote_write:
          - {url: "http://u:hunter2@a/", basic_auth: {username: u, password: hunter3}}
          - {url: "http://a/", authorization: {credentials: hunter4}, headers: {X-Token: hunter5}}
    """
    settings = parse(text)
    printed = settings.to_yaml("all")
    assert "hunter" not in printed
    assert printed.count("<secret>") == 5
    assert "hunter1" not in repr(settings)
    assert settings.metrics_generator.storage.remote_write[1].headers["X-Token"] == "hunter5"
