"""What a receiver needs of the rest: hand over raw OTLP bytes, get back what became of them.

Receivers (otlp_grpc, otlp_http) know nothing of decoding or storage; group commit (commit.py) implements Committer.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Accepted:
    """The fate of one request that was kept: all of it, or all but `rejected` spans.

    `message` names which spans were rejected and why; empty when rejected is 0. Maps to OTLP `partial_success`.
    """

    spans: int
    rejected: int = 0
    message: str = ""


class Committer(Protocol):
    """Takes raw `ExportTraceServiceRequest` bytes to durable storage."""

    async def submit(self, tenant: str, body: bytes) -> Accepted:
        """Return only when every accepted span of `body` is durable and answered by the next query.

        Raises  DecodeError (nothing of this request is kept), LimitError (over the tenant's rate),
                DiskFullError, UnavailableError (starting, stopping, queue full): all three retryable.
        Never affects another request; safe to call concurrently; cancelling the caller does not undo the commit.
        """
        ...

    def enqueue(self, tenant: str, body: bytes) -> asyncio.Future[Accepted]:
        """The same for callers on the event loop that do without a task of their own: what is refused at once is raised
        here, the rest comes by the future."""
        ...
