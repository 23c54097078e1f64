"""How many request bytes a receiver holds at one time, over all its connections.

A request is charged as its bytes arrive and let go when it was answered. What does not fit is refused as UNAVAILABLE
at once rather than made to wait: waiting half-read requests could fill the budget with none able to finish.
"""

from __future__ import annotations

from vivace.errors import UnavailableError


class Budget:
    """A count of bytes with a ceiling. Lives on the event loop; not safe across threads."""

    def __init__(self, size_bytes_max: int) -> None:
        self.size_bytes_max = size_bytes_max
        self.held_bytes = 0

    def take(self, size_bytes: int) -> None:
        """Raises  UnavailableError, charging nothing, when the bytes do not fit."""
        if self.held_bytes + size_bytes > self.size_bytes_max:
            raise UnavailableError(
                f"the receiver already holds {self.held_bytes} of at most {self.size_bytes_max} bytes of requests, "
                "send again shortly"
            )
        self.held_bytes += size_bytes

    def give_back(self, size_bytes: int) -> None:
        self.held_bytes -= size_bytes
