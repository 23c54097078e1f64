"""TLS of a receiver: the server's certificate, and with `client_ca_file` also the clients' (mTLS).

Each of certificate, key and client CA is a file or the PEM text itself, as in the Collector's `tls` block.
"""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from vivace.errors import ConfigError

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """The `tls` block of one receiver. An empty string means: not set."""

    cert_file: str = ""
    cert_pem: str = ""
    key_file: str = ""
    key_pem: str = ""
    client_ca_file: str = ""
    client_ca_pem: str = ""
    min_version: str = "1.2"

    def server_context(self, alpn_protocols: list[str]) -> ssl.SSLContext:
        """A context for a listener that offers `alpn_protocols`, most wanted first.

        Raises  ConfigError, naming the key, when a part is missing, doubled, unreadable or not what it should be.
        """
        if self.min_version not in VERSIONS:
            raise ConfigError(f"tls.min_version is {self.min_version!r}, expected 1.2 or 1.3", key="tls.min_version")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = VERSIONS[self.min_version]
        context.set_alpn_protocols(alpn_protocols)
        with (
            _as_file("cert", self.cert_file, self.cert_pem) as cert_path,
            _as_file("key", self.key_file, self.key_pem) as key_path,
        ):
            try:
                context.load_cert_chain(cert_path, key_path)
            except (OSError, ssl.SSLError) as error:
                raise ConfigError(
                    f"cannot use the certificate {cert_path} with the key {key_path}: {error}", key="tls.cert_file"
                ) from error
        if self.client_ca_file or self.client_ca_pem:
            with _as_file("client_ca", self.client_ca_file, self.client_ca_pem) as ca_path:
                try:
                    context.load_verify_locations(ca_path)
                except (OSError, ssl.SSLError) as error:
                    raise ConfigError(
                        f"cannot read client certificates' authorities from {ca_path}: {error}",
                        key="tls.client_ca_file",
                    ) from error
            context.verify_mode = ssl.CERT_REQUIRED
        return context


@contextmanager
def _as_file(name: str, path: str, pem: str) -> Iterator[str]:
    """Yield a path that holds this part: the ssl module reads certificates and keys from files only.

    PEM text goes through a file that only we can read and that is gone when the block ends.
    """
    if bool(path) == bool(pem):
        found = "both" if path else "neither"
        raise ConfigError(f"{found} of tls.{name}_file and tls.{name}_pem set, expected one", key=f"tls.{name}_file")
    if path:
        yield path
        return
    descriptor, temporary = tempfile.mkstemp(prefix=f"vivace-{name}-", suffix=".pem")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(pem)
        yield temporary
    finally:
        os.unlink(temporary)
