"""A real server process for tests: `vivace -config.file=…` on free ports in a directory of its own.

    with Server(tmp_path) as server:      # started and ready
        urlopen(server.http + "/ready")
        server.kill()                     # as kill -9 does
        server.start()                    # same data, other ports
        assert server.stop() == 0

The settings are small on purpose: blocks are cut and merged all the time. Waiting is polling with a deadline.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import yaml

START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 10.0
POLL_SECONDS = 0.02

READY = re.compile(r"ready: .*")
PORT = re.compile(r"(API|GrpcReceiver|HttpReceiver) on port (\d+)")


def settings(data: Path) -> dict[str, Any]:
    """A configuration with everything below `data`, ports that the system picks, and cuts at every moment."""
    return {
        "server": {
            "http_listen_address": "127.0.0.1",
            "http_listen_port": 0,
            "grpc_listen_address": "127.0.0.1",
            "grpc_listen_port": 0,
        },
        "distributor": {
            "receivers": {
                "otlp": {"protocols": {"grpc": {"endpoint": "127.0.0.1:0"}, "http": {"endpoint": "127.0.0.1:0"}}}
            }
        },
        "storage": {
            "trace": {
                "backend": "local",
                "wal": {"path": str(data / "wal"), "segment_max_bytes": 256 << 10},
                "local": {"path": str(data / "blocks")},
            }
        },
        "ingester": {
            "head_max_bytes": 8 << 20,
            "trace_idle_period": "50ms",
            "trace_live_period": "300ms",
            "flush_check_period": "50ms",
            "max_block_duration": "150ms",
        },
        "compactor": {"compaction": {"compaction_cycle": "200ms", "block_retention": "87600h"}},
        "overrides": {
            "defaults": {
                "ingestion": {"rate_limit_bytes": 1_000_000_000, "burst_size_bytes": 1_000_000_000},
                "global": {"max_bytes_per_trace": 0},
            }
        },
    }


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the leaves of `changes` put in."""
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


def eventually(condition: Callable[[], object], what: str, seconds: float = 20.0) -> None:
    """Return when `condition` holds; fail, naming `what`, when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(POLL_SECONDS)


class Server:
    """One data directory and, most of the time, one process on it."""

    def __init__(
        self,
        directory: Path,
        changes: Mapping[str, Any] | None = None,
        *,
        data: Path | None = None,
        prefix: tuple[str, ...] = (),
    ) -> None:
        """changes: settings other than settings(). data: where spans go, below `directory` if not said.
        prefix: a command that runs the server, as `unshare` does."""
        self.directory = directory
        self.data = data or directory / "data"
        self.config = directory / "vivace.yaml"
        self.log_path = directory / "vivace.log"
        self.http = self.otlp_http = self.otlp_grpc = ""
        self._prefix = prefix
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0
        directory.mkdir(parents=True, exist_ok=True)
        self.configure(changes or {})

    def configure(self, changes: Mapping[str, Any]) -> None:
        """Settings from the next start on."""
        self.config.write_text(yaml.safe_dump(merged(settings(self.data), changes)))

    # -- life -------------------------------------------------------------------------------------------------------

    def start(self, *, wait: bool = True) -> Self:
        """Start the process and, unless told otherwise, wait until it is ready."""
        assert self._process is None, "it runs already"
        self._log_start = self.log_path.stat().st_size if self.log_path.exists() else 0
        command = [*self._prefix, sys.executable, "-m", "vivace.cli", f"-config.file={self.config}"]
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(command, stderr=log, stdout=log, cwd=self.directory)
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS_MAX
        while (found := READY.search(self.log())) is None:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the server did not become ready:\n{self.log()[-4000:]}")
            time.sleep(POLL_SECONDS)
        ports = dict(PORT.findall(found[0]))
        self.http = f"http://127.0.0.1:{ports['API']}"
        self.otlp_grpc = f"127.0.0.1:{ports['GrpcReceiver']}"
        self.otlp_http = f"http://127.0.0.1:{ports['HttpReceiver']}"
        assert self.get("/ready") == (200, b"ready\n")

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "it does not run"
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    def kill(self) -> None:
        """End the process at once; nothing of it gets to tidy up."""
        self.process.kill()
        self.process.wait()
        self._process = None

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask the process to end; returns its exit code. Fails when it takes longer than `docker stop` waits."""
        os.kill(self.pid, number)
        return self.wait()

    def wait(self) -> int:
        try:
            code = self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"did not stop within {STOP_SECONDS_MAX} s:\n{self.log()[-4000:]}") from None
        self._process = None
        return code

    def __enter__(self) -> Self:
        return self if self._process else self.start()

    def __exit__(self, *exception: object) -> None:
        if self._process is not None:
            self.kill()

    # -- looking ----------------------------------------------------------------------------------------------------

    def log(self) -> str:
        """What the process said since its start."""
        with self.log_path.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode()

    def get(self, path: str, accept: str = "application/json", timeout: float = 60.0) -> tuple[int, bytes]:
        """Status and body of a GET on the query API."""
        request = urllib.request.Request(self.http + path, headers={"Accept": accept})
        try:
            with urllib.request.urlopen(request, timeout=timeout) as reply:
                return reply.status, reply.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def metrics(self) -> dict[str, float]:
        """/metrics: value by series as written, `name{label="value"}`."""
        _, text = self.get("/metrics", accept="text/plain")
        lines = [line for line in text.decode().splitlines() if line and not line.startswith("#")]
        return {series: float(value) for series, value in (line.rsplit(" ", 1) for line in lines)}

    def metric(self, name: str) -> float:
        """Sum of all series of one name."""
        return sum(v for series, v in self.metrics().items() if series.split("{")[0] == name)

    def blocks(self) -> list[Path]:
        """Directories of finished blocks, by name, which is by age."""
        found = (self.data / "blocks").glob("*/*/meta.json")
        return sorted(p.parent for p in found if p.parent.suffix == "" and ".quarantine" not in p.parts)
