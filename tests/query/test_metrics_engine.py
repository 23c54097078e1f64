"""TraceQL metrics: the engine against the oracle on random spans and against what Grafana Tempo answered; partial results; limits.

The laws are the oracle's (oracle_metrics.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import builders as b
import oracle
import oracle_metrics
import pytest
import random_queries
import random_traces
import recorded
from builders import NOON, SECOND
from engine import PLACES, Engine, Place, cut, engine, expected_series, in_one_block, laid, series

from vivace.api.query_json import instant_json, range_json
from vivace.errors import RequestError
from vivace.query import contrasts
from vivace.query.answers import MetricsAnswer
from vivace.query.control import QueryMemory
from vivace.query.measures import Window
from vivace.traceql import canonical
from vivace.traceql.ast import Compare

MINUTE = 60 * SECOND

SEEDS = range(3)
QUERIES = 10
"""Random queries for each of SEEDS and PLACES, asked three times each."""


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
@pytest.mark.parametrize("seed", SEEDS)
def test_random_queries_on_random_spans(tmp_path: Path, place: Place, seed: int) -> None:
    """Asked again, and then for a later range: what is kept of row groups does not depend on the range."""
    random = Random(seed)
    requests = random_traces.requests(random, settled=place.settled)
    traces = oracle.traces_of(requests)
    wrong = []
    with laid(place, tmp_path, requests) as made:
        for _ in range(QUERIES):
            query = random_queries.metrics_query(random)
            step = random.choice((7, 10, 60, 300)) * SECOND
            start = random_traces.START + random.randrange(-60, 300) * SECOND
            end = start + random.choice((1, 30, 300, 400)) * SECOND
            instant = random.random() < 0.3
            for later in (0, 0, step):
                asked = (start + later, end + 2 * later, step)
                want = expected_series(oracle_metrics.metrics(query, traces, *asked, instant))
                got = series(made.metrics(query, *asked, instant=instant))
                if isinstance(query.metrics, Compare):  # which values are the most frequent the oracle does not say
                    got = {labels: samples for labels, samples in got.items() if "_total" in labels}
                if got != want:
                    wrong.append((canonical(query), asked, instant, got, want))
    assert wrong == []


# -- recorded answers -------------------------------------------------------------------------------------------------


@pytest.mark.skipif(recorded.ABSENT, reason=f"no recorded answers in {recorded.CONFORMANCE}")
@pytest.mark.parametrize("in_blocks", [True, False])
def test_recorded_series(tmp_path: Path, in_blocks: bool) -> None:
    judge = recorded.judge()
    wrong, count = [], 0
    with engine(tmp_path) as made:
        made.house.send(*recorded.requests())
        if in_blocks:
            cut(made.house)
        for answer in recorded.answers("metrics", "instant"):
            if answer["id"] in recorded.OWN_DIVERGENCES:
                continue
            q, start, end, step, instant = recorded.asked_series(answer)
            got = made.metrics(q, start, end, step, instant=instant)
            body = json.loads(instant_json(got) if instant else range_json(got))
            count += 1
            why = judge.judge(answer, 200, body)
            if why is not None:
                wrong.append((answer["id"], q, why))
    assert wrong == []
    assert count > 40


# -- compare() --------------------------------------------------------------------------------------------------------


def contrast_spans() -> list[Any]:
    """Ten spans, of which two are slow; colour red, red, blue, …; one value is not set."""
    spans = [
        b.span(
            1,
            i + 1,
            start=NOON + i * SECOND,
            duration=SECOND if i < 2 else 1,
            name="slow" if i < 2 else "fast",
            attributes={"colour": "blue" if i % 3 == 2 else "red", "number": i, **({"unset": None} if i == 5 else {})},
        )
        for i in range(10)
    ]
    return [b.request(*spans, resource={"service.name": "shop", "gone": None})]


@pytest.fixture(params=["head", "block"])
def contrasted(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    with engine(tmp_path) as made:
        made.house.send(*contrast_spans())
        if request.param == "block":
            cut(made.house)
        yield made


def values_of(answer: MetricsAnswer, key: str) -> dict[tuple[object, object], float]:
    """(side, value) → sample, of one attribute in an instant answer."""
    return {
        (dict(s.labels)["__meta_type"], dict(s.labels)[key]): float(s.values[0])
        for s in answer.series
        if s.labels[-1][0] == key
    }


def test_compare(contrasted: Engine) -> None:
    answer = contrasted.instant("{ } | compare({ duration > 1ms }, 2)", NOON - 1, NOON + MINUTE)
    assert values_of(answer, "span.colour") == {
        ("selection", "red"): 2,
        ("selection_total", "nil"): 2,
        ("baseline", "red"): 5,
        ("baseline", "blue"): 3,
        ("baseline_total", "nil"): 8,
    }
    assert values_of(answer, "span.unset") == {("baseline", "nil"): 1, ("baseline_total", "nil"): 1}
    assert values_of(answer, "resource.gone")["baseline", "nil"] == 8
    assert values_of(answer, "span.http.method")["selection", "nil"] == 2, (
        "a well-known attribute counts where it is missing"
    )
    assert len(values_of(answer, "span.number")) == 6, "two values of each side and its total"


def test_compare_within_a_time(contrasted: Engine) -> None:
    text = f"{{ }} | compare({{ duration > 1ms }}, 2, {NOON}, {NOON + SECOND})"
    assert values_of(contrasted.instant(text, NOON - 1, NOON + MINUTE), "name") == {
        ("selection", "slow"): 1,
        ("selection_total", "nil"): 1,
        ("baseline", "slow"): 1,
        ("baseline", "fast"): 8,
        ("baseline_total", "nil"): 9,
    }


def test_compare_with_too_many_values(contrasted: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contrasts, "VALUES_MAX", 4)
    answer = contrasted.instant("{ } | compare({ duration > 1ms })", NOON - 1, NOON + MINUTE)
    failed = [dict(s.labels) for s in answer.series if s.labels[-1][0] == "span.number"]
    assert {"__meta_type": "baseline", "__meta_error": "__too_many_values__", "span.number": "nil"} in failed
    assert values_of(answer, "span.colour")["baseline", "blue"] == 3, "other attributes have theirs"


# -- units ------------------------------------------------------------------------------------------------------------

# function; its value of a span of 2 s in a trace of 3 s with an event after 4 ms, and of 7 and 2.5
UNITS = [
    ("max_over_time(duration)", 2.0),
    ("avg_over_time(traceDuration)", 3.0),
    ("sum_over_time(event:timeSinceStart)", 4_000_000.0),
    ("min_over_time(span.whole)", 7.0),
    ("sum_over_time(span.real)", 2.5),
    ("quantile_over_time(duration, 1)", 2.147483648),
    ("quantile_over_time(traceDuration, 1)", 4.294967296),
    ("quantile_over_time(event:timeSinceStart, 1)", 0.004194304),
    ("quantile_over_time(span.whole, 1)", 8.0),
    ("rate()", 1 / 60),
]


@pytest.mark.parametrize(("function", "value"), UNITS)
def test_units(tmp_path: Path, function: str, value: float) -> None:
    late = b.event(time=NOON + 4_000_000)
    spans = [
        b.span(1, 1, duration=2 * SECOND, name="x", events=[late], attributes={"whole": 7, "real": 2.5}),
        b.span(1, 2, 1, start=NOON + SECOND, duration=2 * SECOND),
    ]
    with engine(tmp_path) as made:
        made.house.send(b.request(*spans))
        (found,) = made.instant(f"{{ name = `x` }} | {function}", NOON - 1, NOON - 1 + MINUTE).series
        assert found.values.tolist() == [pytest.approx(value)]


def test_floats_have_no_bucket(tmp_path: Path) -> None:
    """The whole numbers beside them have."""
    with engine(tmp_path) as made:
        made.house.send(
            b.request(*(b.span(1, i + 1, attributes={"n": n}) for i, n in enumerate((7, 7.5, 1, 2, 2**62 + 1))))
        )
        answer = made.instant("{ } | histogram_over_time(span.n)", NOON - 1, NOON + MINUTE)
        assert {s.labels: s.values.tolist() for s in answer.series} == {
            (("__bucket", 2.0),): [1],
            (("__bucket", 8.0),): [1],
            (("__bucket", 2.0**63),): [1],
        }


# -- time -------------------------------------------------------------------------------------------------------------


def test_steps_end_at_their_samples(tmp_path: Path) -> None:
    """A span that starts right at the end of a step is in it; the first step begins one step before the range."""
    starts = [NOON - MINUTE, NOON - MINUTE + 1, NOON, NOON + 1, NOON + MINUTE]
    with engine(tmp_path) as made:
        made.house.send(b.request(*(b.span(i + 1, 1, start=start) for i, start in enumerate(starts))))
        (counted,) = made.metrics("{ } | count_over_time()", NOON + 5, NOON + MINUTE - 5, MINUTE).series
        assert counted.timestamps_ms.tolist() == [NOON // 10**6, (NOON + MINUTE) // 10**6]
        assert counted.values.tolist() == [2, 2]
        (instant,) = made.instant("{ } | count_over_time()", NOON, NOON + MINUTE).series
        assert instant.values.tolist() == [2], "(start, end]"


def test_spans_of_the_step_before_make_series(tmp_path: Path) -> None:
    """And no samples: so does Tempo, and a panel does not lose a series that has just ended."""
    with engine(tmp_path) as made:
        made.house.send(*(b.request(b.span(i + 1, 1, name=f"{i}", start=NOON + i * MINUTE)) for i in range(4)))
        answer = made.metrics("{ } | count_over_time() by (name)", NOON + 3 * MINUTE, NOON + 3 * MINUTE, MINUTE)
        assert {s.labels[0][1]: s.values.tolist() for s in answer.series} == {"2": [0], "3": [1]}


def test_windows() -> None:
    window = Window.of_range(NOON + 5, NOON + MINUTE - 5, MINUTE)
    assert (window.first * MINUTE, window.last * MINUTE, window.count) == (NOON, NOON + MINUTE, 2)
    assert (window.begin, window.end) == (NOON - 2 * MINUTE, NOON + MINUTE), "one step more, for series without samples"
    instant = Window.instant(NOON + 5, NOON + 65)
    assert (instant.begin, instant.end, instant.count) == (NOON + 5, NOON + 65, 1)


def test_what_is_measured_in_part_is_not_kept(tmp_path: Path) -> None:
    """Of a row group that begins before the range or ends behind it."""
    with engine(tmp_path) as made:
        in_one_block(made.house, contrast_spans())
        text = "{ } | count_over_time()"
        for start, end, count in ((4, 6, 4), (0, 4, 5), (-10, 20, 10)):
            (found,) = made.metrics(text, NOON + start * SECOND, NOON + end * SECOND, 2 * SECOND).series
            assert sum(found.values) == count, (start, end)


def test_a_row_group_is_measured_once(tmp_path: Path) -> None:
    """Asked again, also over another range, it is not read: nothing is inspected."""
    with engine(tmp_path) as made:
        in_one_block(made.house, contrast_spans())
        text = "{ } | rate() by (name)"
        first = made.metrics(text, NOON, NOON + MINUTE, MINUTE)
        again = made.metrics(text, NOON, NOON + MINUTE, MINUTE)
        wider = made.metrics(text, NOON - MINUTE, NOON + 2 * MINUTE, MINUTE)
        other = made.metrics(text, NOON, NOON + MINUTE, 30 * SECOND)
        assert series(again) == series(first)
        assert [a.cost.inspected_bytes > 0 for a in (first, again, wider, other)] == [True, False, False, True]
        assert sum(sum(s.values) for s in wider.series) == pytest.approx(sum(sum(s.values) for s in first.series))


# -- exemplars --------------------------------------------------------------------------------------------------------


def test_exemplars(contrasted: Engine) -> None:
    asked = (NOON - MINUTE, NOON + MINUTE, MINUTE)
    text = "{ } | avg_over_time(duration) by (name)"
    told = {dict(s.labels)["name"]: s.exemplars for s in contrasted.metrics(text, *asked, exemplars_max=100).series}
    assert told["slow"][0].labels == (("name", "slow"), ("trace:id", "1"))
    assert (told["slow"][0].value, told["slow"][0].timestamp_ms) == (1.0, NOON // 10**6)
    assert len(told["fast"]) >= 4

    def count(query: str, most: int) -> int:
        return sum(len(s.exemplars) for s in contrasted.metrics(query, *asked, exemplars_max=most).series)

    assert count(text, 3) == 3
    assert count(text, 0) == 0
    assert count(text + " with(exemplars=false)", 100) == 0
    assert count(text + " with(exemplars=2)", 100) == 2
    assert count(text + " with(exemplars=200)", 3) == 3, "a hint does not raise the limit"
    assert count("{ } | rate() by (name) | topk(1)", 100) > 0


# -- limits -----------------------------------------------------------------------------------------------------------


def test_not_a_metrics_query(contrasted: Engine) -> None:
    with pytest.raises(RequestError, match="not a metrics query"):
        contrasted.metrics("{ }", NOON, NOON + MINUTE, MINUTE)


def test_too_many_series(contrasted: Engine) -> None:
    answer = contrasted.metrics("{ } | rate() by (span.number)", NOON, NOON + MINUTE, MINUTE, series_max=3)
    assert [dict(s.labels)["span.number"] for s in answer.series] == [0, 1, 2]
    assert answer.message == (
        "Response exceeds maximum series limit of 3, a partial response is returned. "
        "Warning: the accuracy of each individual value is not guaranteed."
    )


def test_out_of_time(contrasted: Engine) -> None:
    ticks = iter(range(1000))
    contrasted.clock, contrasted.seconds_max = lambda: float(next(ticks)), 1
    answer = contrasted.metrics("{ } | rate()", NOON, NOON + MINUTE, MINUTE)
    assert answer.message.startswith("the time limit was reached before all data was")
    assert answer.message.endswith(", a partial response is returned")
    assert [s.values.tolist() for s in answer.series] == [[0, 0]]


def test_too_large_for_the_memory(contrasted: Engine) -> None:
    contrasted.memory = QueryMemory(100, 100)
    answer = contrasted.metrics("{ } | rate()", NOON, NOON + MINUTE, MINUTE)
    assert answer.message.endswith("is too large for the memory of a query, a partial response is returned")
