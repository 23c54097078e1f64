"""TLS of a listener: its certificate, the oldest and newest version, and how much of a client certificate it demands.

Rule 1  each of certificate, key and client CA is a file or the PEM text itself, never both.
Rule 2  what cannot be used is refused when the listener starts, with the key to blame; nothing falls back to plain text.
Rule 3  TLS 1.2 is the oldest version: OpenSSL 3 has the older ones switched off.
"""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vivace.errors import ConfigError

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


@dataclass(frozen=True, slots=True)
class Pem:
    """The three parts as PEM bytes, for libraries that take no files. `client_ca` is None when there is none."""

    certificate: bytes
    key: bytes
    client_ca: bytes | None


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """What one listener is told. An empty string means: not set.

    client_optional  with a client CA: a client may come without a certificate; one that it shows is still checked
    where            the section that the options come from, for messages
    """

    cert_file: str = ""
    cert_pem: str = ""
    key_file: str = ""
    key_pem: str = ""
    client_ca_file: str = ""
    client_ca_pem: str = ""
    min_version: str = "1.2"
    max_version: str = ""
    client_optional: bool = False
    where: str = "tls"

    def server_context(self, alpn_protocols: list[str]) -> ssl.SSLContext:
        """A context for a listener that offers `alpn_protocols`, most wanted first.

        Raises  ConfigError, naming the key, when a part is missing, doubled, unreadable or not what it should be.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = self._version("min_version")
        if self.max_version:
            context.maximum_version = self._version("max_version")
        context.set_alpn_protocols(alpn_protocols)
        with as_file(*self._source("cert")) as cert_path, as_file(*self._source("key")) as key_path:
            try:
                context.load_cert_chain(cert_path, key_path)
            except (OSError, ssl.SSLError) as error:
                raise ConfigError(
                    f"cannot use the certificate {cert_path} with the key {key_path}: {error}",
                    key=f"{self.where}.cert_file",
                ) from error
        if self.client_ca_file or self.client_ca_pem:
            with as_file(*self._source("client_ca")) as ca_path:
                try:
                    context.load_verify_locations(ca_path)
                except (OSError, ssl.SSLError) as error:
                    raise ConfigError(
                        f"cannot read client certificates' authorities from {ca_path}: {error}",
                        key=f"{self.where}.client_ca_file",
                    ) from error
            context.verify_mode = ssl.CERT_OPTIONAL if self.client_optional else ssl.CERT_REQUIRED
        return context

    def pem(self) -> Pem:
        """The parts themselves. Raises ConfigError, naming the key, as server_context() does."""
        self.server_context([])  # a library that takes bytes may find out at the first handshake only
        client_ca = self._bytes("client_ca") if self.client_ca_file or self.client_ca_pem else None
        return Pem(self._bytes("cert"), self._bytes("key"), client_ca)

    def _version(self, name: str) -> ssl.TLSVersion:
        found = getattr(self, name)
        if found not in VERSIONS:
            key = f"{self.where}.{name}"
            raise ConfigError(f"{key} is {found!r}, expected 1.2 or 1.3", key=key)
        return VERSIONS[found]

    def _source(self, part: str) -> tuple[str, str]:
        """The part's path and its PEM text, exactly one of which is set. Raises ConfigError otherwise."""
        path, pem = getattr(self, f"{part}_file"), getattr(self, f"{part}_pem")
        if bool(path) == bool(pem):
            found = "both" if path else "neither"
            key = f"{self.where}.{part}"
            raise ConfigError(f"{found} of {key}_file and {key}_pem set, expected one", key=f"{key}_file")
        return path, pem

    def _bytes(self, part: str) -> bytes:
        path, pem = self._source(part)
        return Path(path).read_bytes() if path else pem.encode()


@contextmanager
def as_file(path: str, pem: str) -> Iterator[str]:
    """A path that holds what is in a file or in PEM text: the ssl module reads certificates and keys from files only.

    Text goes through a file that only we can read and that is gone when the block ends.
    """
    if path:
        yield path
        return
    descriptor, temporary = tempfile.mkstemp(prefix="vivace-", suffix=".pem")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(pem)
        yield temporary
    finally:
        os.unlink(temporary)
