"""A real Prometheus that takes remote write, in a directory of its own, on a port that the system picks.

    with Prometheus(tmp_path) as prometheus:          # started and ready
        post(prometheus.write_url, ...)
        assert prometheus.query("up")

The binary is Debian's: `make prometheus` unpacks it below .make/ without installing it. One that is on the PATH is taken first.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, Self

from programs import end

UNPACKED = Path(__file__).parents[1] / ".make/prometheus/usr/bin/prometheus"
START_SECONDS_MAX = 30.0
POLL_SECONDS = 0.02
LISTENING = re.compile(r'msg="Listening on" address=127\.0\.0\.1:(\d+)')
FEATURES = "exemplar-storage,native-histograms"


def binary() -> str:
    """The path of the binary; a test without it fails, for nothing else shows that Prometheus takes what we send."""
    found = shutil.which("prometheus") or (str(UNPACKED) if UNPACKED.exists() else None)
    assert found, f"found prometheus neither on the PATH nor at {UNPACKED}: run `make prometheus`"
    return found


class Prometheus:
    """Starts on entering, ends on leaving; start() and stop() may be called between, on the same data and another port each time."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def write_url(self) -> str:
        return f"{self.url}/api/v1/write"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def start(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.port = 0
        config, log_path = self.directory / "prometheus.yml", self.directory / "prometheus.log"
        config.write_text("storage: {exemplars: {max_exemplars: 1000}}\n")
        with log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    binary(),
                    f"--config.file={config}",
                    f"--storage.tsdb.path={self.directory / 'data'}",
                    "--web.listen-address=127.0.0.1:0",
                    "--web.enable-remote-write-receiver",
                    f"--enable-feature={FEATURES}",
                ],
                stdout=log,
                stderr=log,
                cwd=self.directory,
            )
        deadline = time.monotonic() + START_SECONDS_MAX
        while not self._is_ready(log_path):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise AssertionError(f"prometheus did not start: {log_path.read_text()}")
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        if self._process is None:
            return
        end(self._process)
        self._process = None

    def query(self, text: str, at: float | None = None) -> list[dict[str, Any]]:
        """The result of an instant query, or of a range vector's selector."""
        parameters = {"query": text} | ({"time": str(at)} if at is not None else {})
        return self._get("query", parameters)["result"]

    def exemplars(self, text: str, start: float, end: float) -> list[dict[str, Any]]:
        return self._get("query_exemplars", {"query": text, "start": str(start), "end": str(end)})

    def _get(self, path: str, parameters: dict[str, str]) -> Any:
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as reply:
            return json.load(reply)["data"]

    def _is_ready(self, log_path: Path) -> bool:
        found = LISTENING.search(log_path.read_text(errors="replace"))
        if found is None:
            return False
        self.port = int(found[1])
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5):
                return True
        except (urllib.error.URLError, ConnectionError):
            return False
