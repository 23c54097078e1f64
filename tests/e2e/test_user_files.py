"""A first user's tempo.yaml, unchanged: paths below /var/tempo, the ports of Tempo.

The server runs in a mount namespace in which /var/tempo is a directory of the test. That needs root, `unshare` and the
ports; where one of them is missing the test is skipped.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest
from faults.load import Ledger, Load, Senders
from server import Server

TEMPO_YAML = Path(__file__).parent / "data" / "tempo.yaml"
PORTS = (3200, 9095, 4317, 4318)


def why_not(tmp_path: Path) -> str | None:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return "needs root and unshare(1)"
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        return "no mount namespaces here"
    with ExitStack() as held:
        for port in PORTS:
            try:
                held.enter_context(socket.create_server(("0.0.0.0", port)))
            except OSError:
                return f"port {port} is in use"
    return None


def test_tempo_yaml(tmp_path: Path) -> None:
    reason = why_not(tmp_path)
    if reason:
        pytest.skip(reason)
    (tmp_path / "var").mkdir()
    var = Path("/var/tempo")
    created = not var.exists()
    var.mkdir(exist_ok=True)  # a mount needs a place; it stays empty
    script = f'mount --bind "{tmp_path / "var"}" {var} && exec "$0" "$@"'
    server = Server(tmp_path, data=tmp_path / "var", prefix=("unshare", "--mount", "sh", "-c", script))
    server.config.write_bytes(TEMPO_YAML.read_bytes())
    try:
        with server:
            assert server.http == "http://127.0.0.1:3200"
            assert (server.otlp_grpc, server.otlp_http) == ("127.0.0.1:4317", "http://127.0.0.1:4318")
            ledger = Ledger(Load(71))
            senders = Senders(server, ledger, range(8)).start()
            senders.join()
            assert not senders.unacknowledged
            assert server.get("/flush")[0] == 204
            ledger.check(server)
            assert server.stop() == 0
            assert len(server.blocks()) == 1
            server.start()
            ledger.check(server)
            assert server.stop() == 0
    finally:
        if created:
            var.rmdir()
