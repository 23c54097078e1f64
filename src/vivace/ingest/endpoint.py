"""Where a receiver listens: `host:port` as the Collector writes it."""

from __future__ import annotations

from dataclasses import dataclass

from vivace.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A TCP address to listen on. `host` is None for every interface; port 0 lets the system choose."""

    host: str | None
    port: int

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """`0.0.0.0:4317`, `localhost:4318`, `[::1]:4317` or `:4317`.

        Raises  ConfigError when there is no port from 0 to 65535.
        """
        host, colon, port = text.rpartition(":")
        if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
            raise ConfigError(f"endpoint is {text!r}, expected host:port such as 0.0.0.0:4317", key="endpoint")
        return cls(host.removeprefix("[").removesuffix("]") or None, int(port))
