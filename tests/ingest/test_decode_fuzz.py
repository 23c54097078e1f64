"""The native decoder against the protobuf library, on drawn and on damaged requests.

Of damaged bytes: the same spans, or one of our own errors. Never does the native decoder take what the library refuses;
so there is no list of exceptions. It refuses more in one case: a message field that stands twice (the library merges).
"""

from __future__ import annotations

import random

from hypothesis import example, given, settings
from hypothesis import strategies as st
from otlp_cases import IDS, decode, flat, msg, mutated, num, request, requests, span

from vivace.errors import DecodeError
from vivace.ingest.outcome import Outcome

SLOW = settings(deadline=None, derandomize=True, database=None)
TWICE = "a field that may stand once stands twice"


def without_error(outcome: Outcome) -> tuple[object, ...]:
    return outcome.first_row, outcome.rows, outcome.rejected, outcome.rejections, outcome.truncated


def compare(body: bytes, limit: int = 2048) -> None:
    """Raises AssertionError unless both decoders make the same of `body`."""
    batch, (native,) = decode("native", body, limit=limit)
    if isinstance(native.error, DecodeError) and native.error.reason == TWICE:
        return
    expected, (plain,) = decode("protobuf", body, limit=limit)
    assert (native.error is None) == (plain.error is None), (body.hex(), native.error, plain.error)
    assert without_error(native) == without_error(plain), body.hex()
    assert flat(batch) == flat(expected), body.hex()


@settings(SLOW, max_examples=100)
@given(st.lists(requests, min_size=1, max_size=3), st.sampled_from([0, 1, 3, 2048]))
def test_both_decoders_give_the_same_rows_in_the_same_order(bodies: list[bytes], limit: int) -> None:
    batch, outcomes = decode("native", *bodies, limit=limit)
    expected, plain_outcomes = decode("protobuf", *bodies, limit=limit)
    assert outcomes == plain_outcomes
    assert flat(batch, sizes=True) == flat(expected, sizes=True)


@settings(SLOW, max_examples=80)
@given(requests, requests, st.integers(0, 2**32))
@example(request(span(b"\x0b")), b"", 0)
def test_damaged_requests_give_the_same_spans_or_an_error(body: bytes, other: bytes, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(4):
        compare(mutated(body, [other], rng))


@settings(SLOW, max_examples=150)
@given(st.binary(max_size=40))
def test_any_bytes_as_a_span(data: bytes) -> None:
    compare(data)
    compare(msg(1, msg(2, msg(2, data))))
    compare(request(span(data)))
    compare(
        request(span(msg(9, data), msg(9, msg(2, data)), msg(9, msg(2, msg(5, data)), msg(9, msg(2, msg(6, data))))))
    )


@settings(SLOW, max_examples=150)
@given(st.binary(max_size=24))
def test_strings_are_repaired_as_python_repairs_them(text: bytes) -> None:
    batch, _ = decode("native", request(span(msg(5, text))))
    assert flat(batch)[0]["name"] == text.decode("utf-8", "replace").encode()


def test_twenty_thousand_damaged_requests() -> None:
    rng = random.Random(20_000)
    bodies = corpus()
    for i in range(200):
        group = [mutated(rng.choice(bodies), bodies, rng) for _ in range(100)]
        batch, outcomes = decode("native", *group)
        assert sum(o.rows for o in outcomes) == len(batch)
        assert all(o.error is None or type(o.error) is DecodeError for o in outcomes)
        compare(group[i % 100])


def corpus() -> list[bytes]:
    """Small requests with everything in them."""
    value = msg(5, msg(1, msg(1, b"a")), msg(1, num(3, 7))) + msg(6, msg(1, msg(1, b"k"), msg(2, num(2, 1))))
    pairs = b"".join(msg(9, msg(1, b"key"), msg(2, v)) for v in (b"", msg(1, b"text"), num(3, -5), value, msg(7, b"b")))
    event = msg(11, msg(2, b"event"), msg(3, msg(1, b"k"), msg(2, msg(1, b"v"))), num(4, 3))
    link = msg(13, IDS, msg(3, b"state"), msg(4, msg(1, b"k")), num(5, 1), b"\x35\1\0\0\0")
    full = span(msg(5, b"name"), num(6, 2), b"\x39" + b"\1" * 8, pairs, event, link, msg(15, msg(2, b"bad"), num(3, 2)))
    resource = msg(1, msg(1, msg(1, b"service.name"), msg(2, msg(1, b"shop"))), num(2, 1))
    scope = msg(1, msg(1, b"scope"), msg(2, b"1.0"), msg(3, msg(1, b"k"), msg(2, num(2, 1))))
    return [
        request(full, span(msg(5, b"other")), resource=resource, scope=scope),
        request(span(b"", ids=b""), full) + request(span(pairs), resource=resource),
        msg(1, msg(2, msg(2, IDS, event, link), msg(3, b"url"), scope), resource, msg(3, b"url")),
    ]
