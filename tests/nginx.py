"""A real nginx before the server, with TLS and HTTP/2, in a directory of its own, on ports that the system picks.

    with Nginx(tmp_path, certificate, {"api": "location / { proxy_pass http://127.0.0.1:3200; }"}) as nginx:
        https_get(nginx.ports["api"], "/ready")

The binary is Debian's: `make nginx` unpacks it below .make/ without installing it. One that is on the PATH is taken first.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from programs import end
from trustme import LeafCert

UNPACKED = Path(__file__).parents[1] / ".make/nginx/usr/sbin/nginx"
START_SECONDS_MAX = 30.0
POLL_SECONDS = 0.02

# Root's nginx makes its worker another user, who cannot use a test's directory, unless it is told to stay root.
CONFIG = f"""
daemon off; worker_processes 1; {"user root;" if os.geteuid() == 0 else ""} pid nginx.pid; error_log error.log warn;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  ssl_certificate tls.pem; ssl_certificate_key tls.pem;
  %s
}}
"""
SERVER = """
  server {
    listen 127.0.0.1:%d ssl http2;
    %s
  }
"""


def binary() -> str:
    """The path of the binary; a test without it fails, for nothing else shows that clients get through a proxy."""
    found = shutil.which("nginx") or (str(UNPACKED) if UNPACKED.exists() else None)
    assert found, f"found nginx neither on the PATH nor at {UNPACKED}: run `make nginx`"
    return found


class Nginx:
    """Runs from entering to leaving. `ports` holds the port of each of `servers`, which are what stands in a server block."""

    def __init__(
        self, directory: Path, certificate: LeafCert, servers: Mapping[str, str], *, upstreams: str = ""
    ) -> None:
        """upstreams: blocks that the servers share."""
        self.ports: dict[str, int] = {}
        self._directory = directory
        self._certificate = certificate
        self._servers = servers
        self._upstreams = upstreams
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._directory.mkdir(parents=True)
        self._certificate.private_key_and_cert_chain_pem.write_to_path(self._directory / "tls.pem")
        config = self._directory / "nginx.conf"
        with ExitStack() as held, (self._directory / "out.log").open("wb") as log:
            # nginx takes no port 0, but takes over sockets that listen already, as it does from itself when it is upgraded
            sockets = {name: held.enter_context(socket.create_server(("127.0.0.1", 0))) for name in self._servers}
            self.ports = {name: listener.getsockname()[1] for name, listener in sockets.items()}
            descriptors = [listener.fileno() for listener in sockets.values()]
            blocks = [SERVER % (self.ports[name], text) for name, text in self._servers.items()]
            config.write_text(CONFIG % (self._upstreams + "".join(blocks)))
            self._process = subprocess.Popen(
                [binary(), "-p", self._directory, "-c", config, "-e", "error.log"],
                pass_fds=descriptors,
                env={**os.environ, "NGINX": "".join(f"{number};" for number in descriptors)},
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_SECONDS_MAX
        while not (self._directory / "nginx.pid").exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise AssertionError(f"nginx did not start: {self.log()}")
            time.sleep(POLL_SECONDS)
        return self

    def __exit__(self, *exception: object) -> None:
        assert self._process is not None
        end(self._process)

    def log(self) -> str:
        """What it said: warnings, errors, and why it did not start."""
        paths = (self._directory / "out.log", self._directory / "error.log")
        return "".join(path.read_text(errors="replace") for path in paths if path.exists())
