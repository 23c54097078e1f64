"""Programs that tests run beside the server."""

from __future__ import annotations

import subprocess

STOP_SECONDS_MAX = 10.0


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask it to stop, and kill it when it does not."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
