"""How many bytes a tenant may send: one token bucket a tenant, filled at its rate, holding at most its burst.

Rule 1  a request is charged whole or refused whole; a refused request costs nothing.
Rule 2  the answer says when the request would fit; one that is larger than the burst never fits, and is told so.
Rule 3  limits are read at every check, so a changed override holds from the next request on.
Rule 4  at most TENANTS_MAX buckets: the one that was used longest ago is forgotten, which fills it up again. That can
        favour only someone who sends under thousands of names, and a full bucket is what each new name gets anyway.

Pure and synchronous: the clock comes in, nothing waits. Not safe across threads; it lives on the event loop.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from vivace.errors import LimitError

# 10,000 buckets are about 2 MB.
TENANTS_MAX = 10_000

# Past this a sender would rather drop than hold its spans; a bucket so deep in debt only arises when a limit shrinks.
RETRY_AFTER_SECONDS_MAX = 60.0


class IngestionLimits(Protocol):
    """What a tenant may send. A rate of 0 refuses everything; the burst is the largest request that can fit."""

    @property
    def rate_limit_bytes(self) -> float: ...

    @property
    def burst_size_bytes(self) -> float: ...


@dataclass(slots=True)
class _Bucket:
    tokens_bytes: float
    filled_at: float


class Admission:
    """Token buckets by tenant. `clock` counts seconds and never goes back (time.monotonic)."""

    def __init__(self, limits_for: Callable[[str], IngestionLimits], clock: Callable[[], float]) -> None:
        self._limits_for = limits_for
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def check(self, tenant: str, size_bytes: int) -> None:
        """Charge `size_bytes` to the tenant.

        Raises  LimitError when they do not fit now; its retry_after_seconds is None when they never will.
        """
        limits = self._limits_for(tenant)
        rate, burst = float(limits.rate_limit_bytes), float(limits.burst_size_bytes)
        bucket = self._fill(tenant, rate, burst)
        if size_bytes <= bucket.tokens_bytes:
            bucket.tokens_bytes -= size_bytes
            return
        exceeded = (
            f"RATE_LIMITED: ingestion rate limit (local: {rate:.0f} bytes, global: 0 bytes) exceeded while adding "
            f"{size_bytes} bytes for user {tenant}"
        )
        if size_bytes > burst:
            raise LimitError(
                f"{exceeded}, which is more than the burst of {burst:.0f} bytes can ever hold, "
                "send smaller batches or increase ingestion.burst_size_bytes",
                limit="ingestion.burst_size_bytes",
                allowed=burst,
                seen=size_bytes,
                retry_after_seconds=None,
            )
        missing = size_bytes - bucket.tokens_bytes
        raise LimitError(
            f"{exceeded}, consider increasing ingestion.rate_limit_bytes",
            limit="ingestion.rate_limit_bytes",
            allowed=rate,
            seen=size_bytes,
            retry_after_seconds=min(missing / rate, RETRY_AFTER_SECONDS_MAX) if rate > 0 else RETRY_AFTER_SECONDS_MAX,
        )

    def _fill(self, tenant: str, rate: float, burst: float) -> _Bucket:
        """The tenant's bucket as of now; a new one is full."""
        now = self._clock()
        bucket = self._buckets.get(tenant)
        if bucket is None:
            bucket = self._buckets[tenant] = _Bucket(burst, now)
            if len(self._buckets) > TENANTS_MAX:
                self._buckets.popitem(last=False)
            return bucket
        self._buckets.move_to_end(tenant)
        bucket.tokens_bytes = min(burst, bucket.tokens_bytes + (now - bucket.filled_at) * rate)
        bucket.filled_at = now
        return bucket
