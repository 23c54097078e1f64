"""The recorded answers of Grafana Tempo, where they lie beside this repository: traces by id.

They are not part of the repository; without them the test is skipped.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from server import Server

CONFORMANCE = Path(__file__).parents[3] / "shared" / "conformance"


@pytest.mark.skipif(not (CONFORMANCE / "conformance.py").exists(), reason=f"no recorded answers in {CONFORMANCE}")
def test_traces_by_id(tmp_path: Path) -> None:
    with Server(tmp_path, {"stream_over_http_enabled": True}) as server:
        command = [sys.executable, str(CONFORMANCE / "conformance.py"), "--http", server.http]
        command += ["--otlp", server.otlp_http, "--load", "--group", "trace", "--wait", "0.1", "-v"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert ", 0 failed" in done.stdout
