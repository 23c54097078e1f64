"""Who may send and who may ask: users with passwords and bearer tokens, checked in each request's Authorization header.

Rule 1  without any credentials everyone may: that is the default, and right behind a proxy that checks.
Rule 2  secrets are compared as SHA-256 and in constant time, each given one with all that are known; none of them gets into a
        log, a reply or a status page.
Rule 3  a secret's file is followed while we run; a secret whose file is missing or empty lets nobody in until it is back.

Only the sender is judged here, not whose spans it names: that is model/tenant.py.
Source: RFC 9110 section 11 (401, WWW-Authenticate), RFC 7617 (Basic), RFC 6750 (Bearer).
"""

from __future__ import annotations

import base64
import binascii
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path

from vivace.errors import AccessError, ConfigError

FILE_SECONDS = 1.0
"""How often files are looked at, at most: a look takes some microseconds of the event loop."""

LOG_SECONDS = 60.0
"""Refused requests are logged at most this often: a sender without credentials tries several times a second."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Secret:
    """A password or token: exactly one of its text, a file with it, and its SHA-256 in 64 hex digits.

    where  the setting that it comes from, for messages
    """

    where: str
    text: str = field(default="", repr=False)
    file: Path | None = None
    sha256_hex: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Credentials:
    """All who may use a port: users by name, which several passwords may share, and tokens.

    where  the section that they come from, for the log
    """

    users: tuple[tuple[str, Secret], ...] = ()
    tokens: tuple[Secret, ...] = ()
    where: str = "access"


class Guard:
    """Lets requests with known credentials pass. For one thread, the event loop's."""

    def __init__(
        self, credentials: Credentials = Credentials(), *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """clock: seconds. Raises ConfigError for a file that cannot be read or is empty."""
        self._users = [(_digest(name.encode()), _Known(secret)) for name, secret in credentials.users]
        self._tokens = [_Known(secret) for secret in credentials.tokens]
        self._where = credentials.where
        self._clock = clock
        self._looked = clock()
        self._refused = 0
        self._logged = -LOG_SECONDS
        schemes = ["Basic"] * bool(self._users) + ["Bearer"] * bool(self._tokens)
        self._schemes = " or ".join(schemes)
        self._challenge = ", ".join(f'{scheme} realm="vivace"' for scheme in schemes)

    @property
    def lets_everyone_in(self) -> bool:
        return not self._users and not self._tokens

    def check(self, authorization: str | None) -> None:
        """Judge the value of an Authorization header, None where there is none.

        Raises  AccessError (401), which does not say what was wrong with it.
        """
        if self.lets_everyone_in:
            return
        self._follow_files()
        scheme, _, given = (authorization or "").partition(" ")
        if scheme.lower() == "basic" and self._is_user(given.strip()):
            return
        if scheme.lower() == "bearer" and _is_any(self._tokens, given.strip().encode()):
            return
        self._note_refusal()
        found = "no credentials" if authorization is None else "credentials that are not known here"
        raise AccessError(
            f"found {found}, expected {self._schemes} in the Authorization header", challenge=self._challenge
        )

    def _is_user(self, given: str) -> bool:
        try:
            name, _, password = base64.b64decode(given, validate=True).partition(b":")
        except (binascii.Error, ValueError):
            return False
        of_name = _digest(name)
        return _is_any([known for digest, known in self._users if compare_digest(digest, of_name)], password)

    def _follow_files(self) -> None:
        now = self._clock()
        if now - self._looked < FILE_SECONDS:
            return
        self._looked = now
        for known in (*self._tokens, *(known for _, known in self._users)):
            known.follow()

    def _note_refusal(self) -> None:
        self._refused += 1
        now = self._clock()
        if now - self._logged >= LOG_SECONDS:
            _log.warning(
                "%s: refused %d requests without known credentials since this was last said", self._where, self._refused
            )
            self._refused, self._logged = 0, now


OPEN = Guard()
"""Lets everyone in; it has nothing to follow or to count."""


class _Known:
    """The SHA-256 of one secret as it is now; empty, which no digest equals, while its file cannot be used."""

    def __init__(self, secret: Secret) -> None:
        self._secret = secret
        self._state: tuple[int, ...] = ()
        self.digest = bytes.fromhex(secret.sha256_hex) if secret.sha256_hex else _digest(secret.text.encode())
        if secret.file is not None:
            self._state = _state(secret.file)
            try:
                self.digest = _digest_of_file(secret.file)
            except (OSError, ValueError) as error:
                raise ConfigError(
                    f"cannot use {secret.file}: {_reason(error)}; {secret.where} names it", key=secret.where
                ) from error

    def follow(self) -> None:
        """Read the file again if it is another than at the last look."""
        file = self._secret.file
        if file is None or (state := _state(file)) == self._state:
            return
        self._state = state
        try:
            self.digest = _digest_of_file(file)
            _log.info("%s: read %s again", self._secret.where, file)
        except (OSError, ValueError) as error:
            self.digest = b""
            _log.error(
                "%s: cannot use %s: %s; nobody gets in with it until it is back",
                self._secret.where,
                file,
                _reason(error),
            )


def _is_any(several: Sequence[_Known], given: bytes) -> bool:
    """Whether a secret is one of some; takes as long whichever it is."""
    digest = _digest(given)
    found = False
    for known in several:
        found |= compare_digest(known.digest, digest)
    return found


def _digest(text: bytes) -> bytes:
    return sha256(text).digest()


def _digest_of_file(file: Path) -> bytes:
    """Of its text without line ends behind it. Raises OSError, ValueError when nothing is left."""
    text = file.read_bytes().rstrip(b"\r\n")
    if not text:
        raise ValueError("it is empty")
    return _digest(text)


def _state(file: Path) -> tuple[int, ...]:
    """Changes when the file does; empty when there is none."""
    try:
        found = os.stat(file)
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino


def _reason(error: Exception) -> str:
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error)
