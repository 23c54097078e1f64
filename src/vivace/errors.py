"""Everything that can go wrong, as one tree.

VivaceError
├─ ClientError         the sender can fix it
│  ├─ DecodeError      bytes that are not an OTLP request: offset, field
│  ├─ RequestError     a parameter, header or media type that we cannot use
│  │  └─ AccessError   credentials are missing or not known: challenge
│  ├─ TraceQLError     a query that the language does not allow: text, line, column, found, expected, hint
│  └─ LimitError       over a configured limit: limit, allowed, seen, retry_after_seconds
├─ ConfigError         the configuration is wrong: key, place, cure
├─ StorageError        our disk or bucket
│  ├─ CorruptionError  bytes on disk are not what was written: path, offset, expected, found
│  ├─ DiskFullError    no room left, or below the free-space floor; retryable
│  └─ NotFoundError    the thing that was asked for is not stored
├─ UnavailableError    try again later: starting, stopping, overloaded
└─ InvariantError      our bug: fail this request, log loudly, never continue

Messages say what was found, what was expected and what to do; lower case, no full stop. Values are kept as fields.
"""

from __future__ import annotations

from pathlib import Path


class VivaceError(Exception):
    """Root of every error that Vivace raises on purpose."""


class ClientError(VivaceError):
    """The sender can fix it; answered with 4xx or the matching gRPC status."""


class DecodeError(ClientError):
    """Bytes that are not the message they claim to be. `offset` counts bytes from the start of the request."""

    def __init__(self, message: str, *, offset: int, field: str) -> None:
        super().__init__(f"cannot decode {field} at byte {offset}: {message}")
        self.offset = offset
        self.field = field
        self.reason = message


class RequestError(ClientError):
    """A parameter, header or media type that we cannot use; `status` is the HTTP status to answer with."""

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class AccessError(RequestError):
    """Credentials are missing or not known here; `challenge` is the value of WWW-Authenticate for the reply."""

    def __init__(self, message: str, *, challenge: str) -> None:
        super().__init__(message, status=401)
        self.challenge = challenge


class TraceQLError(ClientError):
    """A query that TraceQL does not allow. `str()` is one line, fit for a reply; a note (PEP 678) shows the place, for logs.

    `reason` is `str()` without its opening words, for replies that open otherwise ("compiling query: …").
    `line` and `column` count from 1, in characters of `text`; `found` and `expected` are empty where nothing was read or asked for.
    """

    REASON_CHARACTERS_MAX = 2000
    """A reason quotes the query, which may be as long as a request."""

    def __init__(
        self, reason: str, *, text: str, line: int, column: int, found: str = "", expected: str = "", hint: str = ""
    ) -> None:
        if len(reason) > self.REASON_CHARACTERS_MAX:
            reason = f"{reason[: self.REASON_CHARACTERS_MAX]}…"
        super().__init__(f"invalid TraceQL query: {reason}")
        self.reason = reason
        self.text = text
        self.line = line
        self.column = column
        self.found = found
        self.expected = expected
        self.hint = hint
        self.add_note(self.rendering())

    def rendering(self) -> str:
        """The line of the query with a caret below the place, and the hint; at most about 120 columns of a long line."""
        line = self.text.split("\n")[self.line - 1].replace("\t", " ")
        start = max(0, self.column - 80)
        shown = line[start : start + 120]
        hint = f"\nhint: {self.hint}" if self.hint else ""
        return f"  {shown}\n  {' ' * (self.column - 1 - start)}^ {self.reason}{hint}"


class LimitError(ClientError):
    """Over a configured limit. `retry_after_seconds` is None where waiting cannot help (a message that is too large)."""

    def __init__(
        self, message: str, *, limit: str, allowed: float, seen: float, retry_after_seconds: float | None
    ) -> None:
        super().__init__(message)
        self.limit = limit
        self.allowed = allowed
        self.seen = seen
        self.retry_after_seconds = retry_after_seconds


class ConfigError(VivaceError):
    """The configuration cannot be used; `key` is the dotted path, `place` is file:line where known."""

    def __init__(self, message: str, *, key: str = "", place: str = "") -> None:
        super().__init__(message)
        self.key = key
        self.place = place


class StorageError(VivaceError):
    """Our disk or bucket failed us."""


class CorruptionError(StorageError):
    """Bytes on disk are not what was written there."""

    def __init__(self, path: Path | str, *, offset: int, expected: str, found: str) -> None:
        super().__init__(f"{path} is damaged at byte {offset}: expected {expected}, found {found}")
        self.path = Path(path)
        self.offset = offset
        self.expected = expected
        self.found = found


class DiskFullError(StorageError):
    """No room left on the device, or below the configured floor. The sender should try again later."""

    def __init__(self, message: str, *, retry_after_seconds: float = 5.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class NotFoundError(StorageError):
    """The thing that was asked for is not stored."""


class UnavailableError(VivaceError):
    """Try again later: starting, stopping or overloaded."""

    def __init__(self, message: str, *, retry_after_seconds: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class InvariantError(VivaceError):
    """Our bug. Fail this request, log loudly, never continue on it."""
