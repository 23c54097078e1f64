"""What became of one request of a group, as the decoders report it."""

from __future__ import annotations

from dataclasses import dataclass

from vivace.errors import DecodeError

REJECTIONS_NAMED_MAX = 3
"""Rejected spans named in a reply; the rest are only counted, a reply must stay small."""

WANTED = {
    1: "a trace id of 16 bytes that are not all zero",
    2: "a span id of 8 bytes that are not all zero",
    3: "a parent span id of 8 bytes or none",
}


@dataclass(frozen=True, slots=True)
class Rejection:
    """A span that was refused: its place in the request, why (a key of WANTED), the length of the bad id in bytes."""

    ordinal: int
    reason: int
    length: int

    def __str__(self) -> str:
        return f"span {self.ordinal}: {self.length} bytes where {WANTED[self.reason]} should be"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Rows [first_row, first_row + rows) of the batch came from this request, or none of it did, for `error`.

    rejected    spans refused for a bad id, the first of them in `rejections`
    truncated   attribute keys and values that were cut to the limit
    """

    first_row: int
    rows: int
    rejected: int
    rejections: tuple[Rejection, ...]
    truncated: int
    error: DecodeError | None

    def message(self) -> str:
        """For `partial_success.error_message`; empty when nothing was rejected."""
        if not self.rejected:
            return ""
        named = "; ".join(map(str, self.rejections))
        more = self.rejected - len(self.rejections)
        return f"{self.rejected} spans rejected: {named}" + (f"; and {more} more" if more else "")
