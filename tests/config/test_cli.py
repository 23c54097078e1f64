"""Exit codes and what is printed."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from vivace import __version__, cli
from vivace.config.settings import Settings

DATA = Path(__file__).parent / "data"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["-version"]) == 0
    assert capsys.readouterr().out.startswith(f"vivace, version {__version__} ")


def test_help_lists_the_flags(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["-h"]) == 0
    assert "  -config.file\n" in capsys.readouterr().out


def test_verify_prints_notices(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([f"-config.file={DATA / 'user.yaml'}", "-config.verify=true"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "metrics_generator.traces_storage.path",
        "metrics_generator.processor.local_blocks.flush_to_storage",
        "this configuration can be used",
    ]


def test_errors_exit_with_1_for_the_file_and_2_for_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("bogus: 1")
    assert cli.main([f"-config.file={file}", "-config.verify=true"]) == 1
    assert f"unknown key bogus at {file}:1:1" in capsys.readouterr().err
    assert cli.main(["-config.verify"]) == 2
    assert capsys.readouterr().err == "flag needs an argument: -config.verify\n"


def test_run_hands_the_settings_to_the_service(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[Settings] = []

    def run(settings: Settings) -> int:
        seen.append(settings)
        return 7

    service = ModuleType("vivace.process")
    monkeypatch.setattr(service, "run", run, raising=False)
    monkeypatch.setitem(sys.modules, "vivace.process", service)
    monkeypatch.setattr(cli.logs, "configure", lambda *arguments: None)
    assert cli.main(["-server.http-listen-port=5"]) == 7
    assert seen[0].server.http_listen_port == 5
