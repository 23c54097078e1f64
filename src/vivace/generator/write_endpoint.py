"""One attempt to hand a request to one remote-write endpoint, and what its answer means.

Rule 1  an answer is one of three: taken (2xx), to be sent again (no answer, 5xx, 429), refused (all else).
Rule 2  nothing of an attempt raises: what goes wrong on the way is an answer too.
Rule 3  no more than ANSWER_BYTES_MAX of an answer are read, and redirects are not followed: they would carry the login elsewhere.

Repeating: write_sender.py.  Logins and TLS: write_auth.py.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import httpx

from ..config.remote_write import RemoteWrite
from .write_auth import bare_url, client_context, login_headers

ANSWER_BYTES_MAX: Final = 4096
"""Enough for the reason that Prometheus gives; an endpoint that talks on costs us its connection."""

RETRY_AFTER_SECONDS_MAX: Final = 600.0
"""An endpoint that asks for more is asked again by then: it may have meant another unit."""

_REASON_CHARACTERS_MAX: Final = 300
_KEEP_ALIVE_SECONDS: Final = 300.0  # what Prometheus keeps idle connections for; passes come every 15 s


@dataclass(frozen=True, slots=True)
class Answer:
    """`status` is 0 where there was no answer; `kind` names the trouble in a word or two, `reason` says it in full."""

    verdict: Literal["taken", "again", "refused"]
    status: int = 0
    kind: str = ""
    reason: str = ""
    retry_after_seconds: float | None = None


def endpoint_name(settings: RemoteWrite) -> str:
    """The configured name, or one made of URL and headers: the same after a restart, whatever else was changed."""
    if settings.name:
        return settings.name
    parts = (bare_url(settings.url), *(f"{name}: {value}" for name, value in sorted(settings.headers.items())))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:6]


class Endpoint:
    """The HTTP side of one `remote_write` item, over one kept connection; used by one thread."""

    def __init__(
        self,
        settings: RemoteWrite,
        where: str,
        *,
        version: str,
        adds_org_id: bool,
        headers_of: Callable[[str], Mapping[str, str]],
        now: Callable[[], float],
    ) -> None:
        """Raises ConfigError for TLS settings that cannot be used; nothing is sent yet.

        where        the section that the settings come from, for messages
        adds_org_id  whether requests carry their tenant in X-Scope-OrgID, unless a configured header does
        headers_of   more headers for a tenant, which win over those of the endpoint
        now          Unix time in seconds, for dates in Retry-After
        """
        self.name = endpoint_name(settings)
        self.url = bare_url(settings.url)
        self._settings = settings
        self._version = version
        self._adds_org_id = adds_org_id
        self._headers_of = headers_of
        self._now = now
        is_tls = urlsplit(self.url).scheme == "https"
        verify: ssl.SSLContext | bool = client_context(settings.tls_config, f"{where}.tls_config") if is_tls else False
        server_name = settings.tls_config.server_name
        self._extensions: dict[str, Any] = {"sni_hostname": server_name} if is_tls and server_name else {}
        self._client = httpx.Client(
            verify=verify,
            timeout=settings.remote_timeout.total_seconds(),
            limits=httpx.Limits(max_connections=1, keepalive_expiry=_KEEP_ALIVE_SECONDS),
            trust_env=False,  # as Prometheus: proxies of the environment only when asked for
        )

    def close(self) -> None:
        self._client.close()

    def send(self, body: bytes, tenant: str, attempt: int) -> Answer:
        """Send a snappy-compressed request; `attempt` counts from 0. Blocks for remote_timeout at each step of the way."""
        try:
            headers = self._headers(tenant, attempt)
            with self._client.stream(
                "POST", self.url, content=body, headers=headers, extensions=self._extensions
            ) as response:
                return self._answer(response, _beginning(response))
        except httpx.LocalProtocolError:  # its text quotes the header, which may be the login
            return Answer(
                "again", kind="headers", reason="found a header that HTTP does not allow, check headers and logins"
            )
        except httpx.HTTPError as error:
            return Answer("again", kind=type(error).__name__, reason=f"{type(error).__name__} {error}".rstrip())
        except (OSError, UnicodeError) as error:
            reason = f"cannot read the login or headers: {error.__class__.__name__} {_path_of(error)}".rstrip()
            return Answer("again", kind="login", reason=reason)

    def _headers(self, tenant: str, attempt: int) -> httpx.Headers:
        headers = httpx.Headers(dict(self._settings.headers))
        headers.update(self._headers_of(tenant))
        if self._adds_org_id:
            headers.setdefault("X-Scope-OrgID", tenant)
        headers.update(login_headers(self._settings))
        headers.update(
            {
                "Content-Encoding": "snappy",
                "Content-Type": "application/x-protobuf",
                "User-Agent": f"Vivace/{self._version}",
                "X-Prometheus-Remote-Write-Version": "0.1.0",
            }
        )
        if attempt:
            headers["Retry-Attempt"] = str(attempt)
        return headers

    def _answer(self, response: httpx.Response, text: str) -> Answer:
        status = response.status_code
        if response.is_success:
            return Answer("taken", status)
        reason = f"status {status} {text}".rstrip()
        if status == 429 or status >= 500:
            wait = _retry_after(response.headers.get("Retry-After", ""), self._now())
            return Answer("again", status, f"status {status}", reason, wait)
        return Answer("refused", status, f"status {status}", reason)


def _beginning(response: httpx.Response) -> str:
    """The first line of the body, as far as it is read; an answer that is not read to its end costs the connection."""
    data = b""
    for chunk in response.iter_raw():
        data += chunk
        if len(data) > ANSWER_BYTES_MAX:
            break
    return data.decode(errors="replace").strip().partition("\n")[0][:_REASON_CHARACTERS_MAX]


def _retry_after(text: str, now: float) -> float | None:
    """Seconds to wait, from seconds or from a date; None when the header says neither."""
    if text.isdecimal():
        seconds = float(text)
    else:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - now
        except ValueError:
            return None
    return min(max(0.0, seconds), RETRY_AFTER_SECONDS_MAX)


def _path_of(error: Exception) -> str:
    """The file that could not be read; never the error's own text, which may quote what was in it."""
    return str(error.filename or "") if isinstance(error, OSError) else ""
