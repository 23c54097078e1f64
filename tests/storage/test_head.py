"""The head: what arrived is found at once, in parts and over dictionaries; a cut takes whole traces and loses none."""

from __future__ import annotations

from collections import Counter

import builders as b
import pytest

from vivace.model.batch import SpanBatch
from vivace.storage.head import MERGE_WAYS, PART_SPANS_MAX, CutRule, Head, Sealed, divide, find_trace

NEVER = float("inf")


def fill(head: Head, *arrivals: tuple[float, list[int]], first_sequence: int = 0) -> None:
    """One batch an arrival: (when, trace numbers); each span has an id of its own and an attribute that says when."""
    for place, (when, traces) in enumerate(arrivals):
        spans = [b.span(t, id=1 + int(when * 1000) + i, attributes={"at": str(when)}) for i, t in enumerate(traces)]
        head.append(b.batch(b.request(*spans), dictionary=head.dictionary), first_sequence + place, when)


def traces(batch: SpanBatch) -> Counter[int]:
    return Counter(batch.trace_id_low.tolist())


def held(head: Head) -> list[bytes]:
    return b.contents(*(p.batch for p in head.parts()))


def test_empty_head() -> None:
    head = Head()
    assert (head.parts(), head.span_count, head.trace_count(), head.first_sequence, head.first_arrival) == (
        [],
        0,
        0,
        None,
        None,
    )
    assert head.seal(0) is None
    head.append(b.batch(b.request(), dictionary=head.dictionary), 0, 1.0)
    assert head.parts() == []
    assert head.nbytes == 0


def test_a_trace_is_found_over_parts_and_dictionaries() -> None:
    head = Head()
    fill(head, (1, [1, 2, 1]), (2, [3]), (3, [1]))
    assert head.seal(3) is not None
    fill(head, (4, [1, 4]), (5, [2]))
    assert head.is_cutting
    found = {t: find_trace(head.parts(), 0, t) for t in (1, 2, 3, 4, 5)}
    assert {t: len(f) if f else 0 for t, f in found.items()} == {1: 4, 2: 2, 3: 1, 4: 1, 5: 0}
    assert found[1] is not None
    assert found[1].span_id.tolist() == [1001, 1003, 3001, 4001], "order of arrival"
    assert (head.span_count, head.trace_count()) == (8, 4)
    assert find_trace(head.parts(), 1, 1) is None


def test_small_parts_are_joined_in_order() -> None:
    head = Head()
    count = MERGE_WAYS**2 + MERGE_WAYS + 3
    fill(head, *((i, [i + 1]) for i in range(count)), first_sequence=100)
    parts = head.parts()
    assert len(parts) == 1 + 1 + 3
    assert [t for p in parts for t in p.batch.trace_id_low.tolist()] == list(range(1, count + 1))
    assert [p.first_sequence for p in parts] == [100, 356, 372, 373, 374]
    assert [(p.first_arrival, p.last_arrival) for p in parts[:2]] == [(0, 255), (256, 271)]
    assert head.first_sequence == 100
    expected = [b.span(i + 1, id=1 + i * 1000, attributes={"at": str(i)}) for i in range(count)]
    assert held(head) == b.contents(b.request(*expected))


def test_large_parts_are_left_alone() -> None:
    head = Head()
    many = b.batch(
        b.request(*(b.span(t) for t in range(1, PART_SPANS_MAX // MERGE_WAYS + 2))), dictionary=head.dictionary
    )
    for i in range(MERGE_WAYS + 1):
        head.append(many, i, float(i))
    assert len(head.parts()) == MERGE_WAYS + 1


def test_a_cut_released_or_taken_back() -> None:
    head = Head()
    fill(head, (1, [1, 2]), (2, [2, 3]), first_sequence=10)
    before, memory = held(head), head.nbytes
    sealed = head.seal(12)
    assert sealed is not None
    assert head.seal(12) is None, "one cut at a time"
    assert (head.nbytes, head.active_bytes, held(head)) == (memory, 0, before)
    fill(head, (3, [3, 4]), first_sequence=12)
    after = held(head)
    head.unseal()
    assert held(head) == after, "a cut that failed changes nothing"
    assert (head.first_sequence, head.is_cutting, len(head.parts())) == (10, False, 3)
    assert {id(p.batch.dictionary) for p in head.parts()} == {id(head.dictionary)}, "so that they can be joined"
    head.unseal()
    assert held(head) == after

    again = head.seal(13)
    assert again is not None
    fill(head, (4, [9]), first_sequence=13)
    stays = [again.parts[1]]
    head.release(head.adopt(stays))
    assert [traces(p.batch) for p in head.parts()] == [Counter([2, 3]), Counter([9])], "what stays is the oldest"
    assert (head.first_sequence, head.is_cutting, head.first_arrival) == (11, False, 2)
    assert head.active_bytes == head.nbytes > 0
    assert {id(p.batch.dictionary) for p in head.parts()} == {id(head.dictionary)}


# what: arrivals, rule (idle before, live before, share), spans of each trace that are cut
DIVISIONS: dict[str, tuple[list[tuple[float, list[int]]], CutRule, dict[int, int]]] = {
    "everything": ([(1, [1]), (9, [1, 2])], CutRule(NEVER, NEVER, 1.0), {1: 2, 2: 1}),
    "all idle": ([(1, [1]), (2, [2])], CutRule(3, 0, 0), {1: 1, 2: 1}),
    "none idle": ([(1, [1]), (2, [2])], CutRule(1, 0, 0), {}),
    "an idle one and an active one": ([(1, [1, 2]), (5, [2])], CutRule(4, 0, 0), {1: 1}),
    "arrived exactly at the edge: active": ([(1, [1]), (4, [2])], CutRule(4, 0, 0), {1: 1}),
    "active too long": ([(1, [1, 2]), (3, [3]), (5, [2, 3])], CutRule(4, 2, 0), {1: 1, 2: 2}),
    "its older spans go with the active one": ([(1, [7, 7, 1]), (2, [7]), (6, [7])], CutRule(5, 0, 0), {1: 1}),
    "for memory: the oldest, active or not": ([(9, [1] * 8), (9, [2] * 2)], CutRule(0, 0, 0.8), {1: 8}),
    "for memory: one that goes on at the edge stays": ([(9, [1] * 8 + [2]), (9, [2])], CutRule(0, 0, 0.8), {1: 8}),
    "for memory: endless traces go too": ([(9, [1, 2] * 4), (9, [1, 2])], CutRule(0, 0, 0.8), {1: 5, 2: 5}),
    "for memory: new ones stay beside endless ones": ([(9, [1] * 8), (9, [1, 3])], CutRule(0, 0, 0.8), {1: 9}),
}  # fmt: skip


@pytest.mark.parametrize(("arrivals", "rule", "expected"), DIVISIONS.values(), ids=DIVISIONS.keys())
def test_divide(arrivals: list[tuple[float, list[int]]], rule: CutRule, expected: dict[int, int]) -> None:
    head = Head()
    fill(head, *arrivals, first_sequence=5)
    sealed = head.seal(50)
    assert sealed is not None
    cut, stays = divide(sealed, rule)
    assert traces(cut) == expected
    all_spans = Counter(t for _, some in arrivals for t in some)
    assert sum((traces(p.batch) for p in stays), traces(cut)) == all_spans
    assert not any(traces(p.batch).keys() & traces(cut).keys() for p in stays), "traces stay whole"
    assert b.contents(cut, *(p.batch for p in stays)) == b.contents(*(p.batch for p in sealed.parts))
    kept_from = {p.first_sequence: (p.first_arrival, p.last_arrival) for p in sealed.parts}
    assert all(kept_from[p.first_sequence] == (p.first_arrival, p.last_arrival) for p in stays)


def test_divide_tells_traces_apart_by_both_words() -> None:
    one, two = (2**64 | 5, 2**65 | 5)
    head = Head()
    fill(head, (1, [one, two]), (9, [two]))
    sealed = head.seal(1)
    assert isinstance(sealed, Sealed)
    cut, stays = divide(sealed, CutRule(5, 0, 0))
    assert (cut.trace_id_high.tolist(), sum(len(p.batch) for p in stays)) == ([1], 2)
