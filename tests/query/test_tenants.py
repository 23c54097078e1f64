"""A query of several tenants answers as if their spans were one tenant's, wherever they lie; one tenant sees its own alone."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import builders as b
import pytest
import random_traces
from builders import SECOND
from engine import checked, found, series

from vivace.model.proto import otlp_pb2
from vivace.query.answers import MetricsRequest, SearchRequest, TagsRequest, TagValuesRequest
from vivace.query.engines import EngineLimits, Engines
from vivace.query.lookup import TraceLookup
from vivace.query.pool import QueryPool

TENANTS = ("a", "b", "c")
JOINED, ALONE = "a|b|c", "alone"
DAY = 86_400 * SECOND


@dataclass(frozen=True)
class Asked:
    """A store's engines, asked as one tenant or several."""

    engines: Engines
    lookup: TraceLookup

    def every_answer(self, tenant: str) -> dict[str, Any]:
        """What is found of a tenant, in a form that can be compared."""
        e = self.engines
        start = b.NOON - DAY
        over_time = MetricsRequest(checked("{ } | rate() by (name)"), start, start + 2 * DAY, 3600 * SECOND)
        at_once = MetricsRequest(
            checked("{ } | quantile_over_time(duration, .5)"), start, start + 2 * DAY, 2 * DAY, instant=True
        )
        searches = ["{ }", "{ status = error }", "{ kind = client } >> { }", "{ } | count() > 2"]
        return {
            **{q: found(run(e.search(tenant, SearchRequest(checked(q), limit=1000, spans_max=0)))) for q in searches},
            "newest": found(run(e.search(tenant, SearchRequest(checked("{ }"), limit=2, spans_max=1)))),
            "rate": series(run(e.series(tenant, over_time))),
            "quantile": series(run(e.series(tenant, at_once))),
            "tags": run(e.tags(tenant, TagsRequest("", "", None, None, 0))).scopes,
            "tags of some": run(e.tags(tenant, TagsRequest("", "{ status = error }", None, None, 0))).scopes,
            "values": sorted(map(str, run(e.values(tenant, TagValuesRequest("name", "", None, None, 0))).values)),
            "values of v1": run(e.values_v1(tenant, TagValuesRequest("service.name", "", None, None, 0))),
        }


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


@contextmanager
def asked(house: b.House) -> Iterator[Asked]:
    pool = QueryPool(10, 1)
    limits = EngineLimits(0, lambda tenant: 0, lambda tenant: 0)
    yield Asked(Engines(house.store, pool, limits), TraceLookup(house.store, pool, lambda tenant: 0))
    pool.close()


def spread(house: b.House, requests: Sequence[otlp_pb2.ExportTraceServiceRequest], *, tenants: Sequence[str]) -> None:
    """Requests in turn to each tenant; the first half in blocks. Each tenth is sent to two."""
    half = len(requests) // 2
    for place, request in enumerate(requests):
        if place == half:
            for tenant in tenants:
                house.store.cut(tenant, everything=True)
        house.send(request, tenant=tenants[place % len(tenants)])
        if place % 10 == 0:
            house.send(request, tenant=tenants[(place + 1) % len(tenants)])


def trace_ids(requests: Sequence[otlp_pb2.ExportTraceServiceRequest]) -> set[bytes]:
    groups = [scoped for request in requests for resource in request.resource_spans for scoped in resource.scope_spans]
    return {span.trace_id for group in groups for span in group.spans}


@pytest.mark.parametrize("seed", range(6))
def test_several_tenants_are_asked_as_one(tmp_path: Path, seed: int) -> None:
    requests = random_traces.requests(Random(seed), settled=True)
    with b.house(tmp_path) as house, asked(house) as ask:
        spread(house, requests, tenants=TENANTS)
        spread(house, requests, tenants=[ALONE])
        expected = ask.every_answer(ALONE)
        assert expected["{ }"]
        assert ask.every_answer(JOINED) == expected
        assert ask.every_answer(JOINED) == expected, "from what is remembered"
        for trace in trace_ids(requests):
            alone, joined = (run(ask.lookup.trace(tenant, trace, None, None, "all")) for tenant in (ALONE, JOINED))
            assert b.contents(alone.otlp) == b.contents(joined.otlp)


def test_what_is_made_of_the_head_is_made_once_and_forgotten_with_it(tmp_path: Path) -> None:
    with b.house(tmp_path) as house, asked(house) as ask:
        for tenant in ("a", "b"):
            house.send(b.request(b.span(1), b.span(2)), tenant=tenant)
        made = ask.engines._sources._head
        search = SearchRequest(checked("{ }"), limit=10, spans_max=0)
        for tenant in ("a", "b", "a|b", "a|b|c"):
            run(ask.engines.search(tenant, search))
        assert len(made) == 2
        house.store.cut("a", everything=True)
        run(ask.engines.search("a", search))
        assert len(made) == 1
        house.store.cut("b", everything=True)
        run(ask.engines.search("a|b", search))
        assert not made


def test_a_tenant_sees_its_own_spans_alone(tmp_path: Path) -> None:
    with b.house(tmp_path) as house, asked(house) as ask:
        for number, tenant in enumerate(TENANTS):
            house.send(b.request(b.span(1, name=f"of {tenant}")), tenant=tenant)
            if number == 1:
                house.store.cut(tenant, everything=True)
        names = {t: ask.every_answer(t)["values"] for t in (*TENANTS, "a|c", "nobody", "b|nobody")}
    assert [len(found) for found in names.values()] == [1, 1, 1, 2, 0, 1]
    for tenant in TENANTS:
        assert f"of {tenant}" in names[tenant][0]
