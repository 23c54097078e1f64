"""Token buckets, with a clock that the test turns."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from vivace.errors import LimitError
from vivace.ingest import admission
from vivace.ingest.admission import Admission


@dataclass
class Limits:
    rate_limit_bytes: float = 100
    burst_size_bytes: float = 1000


class Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


# (limits, [(seconds since the last request, bytes, None when it fits or else the seconds to wait)])
SCRIPTS = {
    "a new bucket is full": (Limits(), [(0, 1000, None), (0, 1, 0.01)]),
    "it fills at the rate": (Limits(), [(0, 1000, None), (2, 200, None), (0, 1, 0.01)]),
    "never over the burst": (Limits(), [(0, 400, None), (3600, 1000, None), (0, 1, 0.01)]),
    "a refused request costs nothing": (Limits(), [(0, 900, None), (0, 200, 1.0), (0, 200, 1.0), (1, 200, None)]),
    "waiting as told is enough": (Limits(), [(0, 1000, None), (0, 731, 7.31), (7.31, 731, None)]),
    "empty requests always fit": (Limits(), [(0, 1000, None), (0, 0, None)]),
    "the wait is bounded": (Limits(rate_limit_bytes=1), [(0, 1000, None), (0, 1000, 60.0)]),
    "a rate of zero": (Limits(rate_limit_bytes=0), [(0, 1000, None), (9999, 1, 60.0)]),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_script(name: str) -> None:
    limits, steps = SCRIPTS[name]
    clock = Clock()
    bucket = Admission(lambda _tenant: limits, clock)
    for seconds, size, wait in steps:
        clock.now += seconds
        if wait is None:
            bucket.check("single-tenant", size)
            continue
        with pytest.raises(LimitError) as refused:
            bucket.check("single-tenant", size)
        assert refused.value.retry_after_seconds == pytest.approx(wait)


def test_words_of_a_passing_refusal() -> None:
    limits = Limits(rate_limit_bytes=15_000_000, burst_size_bytes=20_000_000)
    bucket = Admission(lambda _tenant: limits, Clock())
    bucket.check("single-tenant", 20_000_000)
    with pytest.raises(LimitError) as refused:
        bucket.check("single-tenant", 4506)
    assert str(refused.value) == (
        "RATE_LIMITED: ingestion rate limit (local: 15000000 bytes, global: 0 bytes) exceeded while adding 4506 bytes "
        "for user single-tenant, consider increasing ingestion.rate_limit_bytes"
    )
    assert (refused.value.limit, refused.value.allowed, refused.value.seen) == (
        "ingestion.rate_limit_bytes",
        15_000_000,
        4506,
    )


def test_more_than_the_burst_never_fits_and_says_so() -> None:
    bucket = Admission(lambda _tenant: Limits(), Clock())
    with pytest.raises(
        LimitError, match=r"more than the burst of 1000 bytes.*increase ingestion\.burst_size_bytes"
    ) as e:
        bucket.check("a", 1001)
    assert e.value.retry_after_seconds is None
    bucket.check("a", 1000)


def test_tenants_do_not_share() -> None:
    bucket = Admission(lambda tenant: Limits(burst_size_bytes=10 if tenant == "small" else 1000), Clock())
    bucket.check("small", 10)
    bucket.check("large", 1000)
    with pytest.raises(LimitError):
        bucket.check("small", 1)


def test_a_changed_limit_holds_at_once() -> None:
    limits = Limits()
    bucket = Admission(lambda _tenant: limits, Clock())
    bucket.check("a", 1)
    limits.burst_size_bytes = 10
    with pytest.raises(LimitError):
        bucket.check("a", 11)
    bucket.check("a", 10)


def test_the_number_of_tenants_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "TENANTS_MAX", 2)
    bucket = Admission(lambda _tenant: Limits(), Clock())
    for tenant in ("first", "second"):
        bucket.check(tenant, 1000)
    bucket.check("first", 0)  # now "second" is the one that was used longest ago
    bucket.check("third", 1000)
    with pytest.raises(LimitError):
        bucket.check("first", 1)
    bucket.check("second", 1000)  # forgotten, so full again
