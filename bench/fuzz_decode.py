"""Damaged requests into the native decoder: it must answer each with spans or a DecodeError, and never crash.

Usage: python bench/fuzz_decode.py [--count N] [--seed S] [--compare-every K]
Every K-th request also goes to the protobuf library's decoder, which must make the same of it (0 = none). The mutations
are those of tests/ingest/otlp_cases.py; the test suite runs 20,000 of them. Exits with 1 at the first difference.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "tests" / "ingest"))

from otlp_cases import attribute, decode, f64, msg, mutated, num, request, span
from test_decode_fuzz import compare, corpus

from vivace.errors import DecodeError

GROUP = 256
KEYS = (b"http.request.method", b"http.route", b"server.address", b"url.path", b"db.statement", b"thread.id", b"peer")


def realistic(rng: random.Random) -> bytes:
    """A request as an SDK sends it: 1 to 8 spans with some attributes, events, links."""
    spans = []
    for _ in range(rng.randint(1, 8)):
        ids = msg(1, rng.randbytes(16)) + msg(2, rng.randbytes(8)) + msg(4, rng.randbytes(rng.choice((0, 8, 8))))
        pairs = [attribute(value(rng), rng.choice(KEYS)) for _ in range(rng.randint(0, 9))]
        events = [msg(11, f64(1, rng.getrandbits(62)), msg(2, b"exception"), attribute(value(rng), field=3))]
        links = [msg(13, msg(1, rng.randbytes(16)), msg(2, rng.randbytes(8)), attribute(value(rng), field=4))]
        times = f64(7, rng.getrandbits(62)) + f64(8, rng.getrandbits(62))
        status = msg(15, msg(2, b"deadline exceeded"), num(3, 2))
        rest = [*pairs, *events[: rng.randint(0, 1)], *links[: rng.randint(0, 1)], status][: rng.randint(0, 12)]
        spans.append(span(msg(5, b"GET /cart"), num(6, rng.randint(0, 5)), times, *rest, ids=ids))
    resource = msg(1, *(attribute(msg(1, rng.randbytes(4).hex().encode()), key, 1) for key in KEYS[:4]))
    return request(*spans, resource=resource, scope=msg(1, msg(1, b"io.opentelemetry.jdbc"), msg(2, b"2.1.0")))


def value(rng: random.Random, depth: int = 0) -> bytes:
    """An AnyValue."""
    match rng.randrange(6 if depth < 3 else 4):
        case 0:
            return msg(1, rng.choice((b"GET", b"/api/cart/list", "größe".encode(), b"x" * 200)))
        case 1:
            return num(3, rng.getrandbits(64))
        case 2:
            return num(2, rng.getrandbits(1))
        case 3:
            return f64(4, rng.getrandbits(64))
        case 4:
            return msg(5, *(msg(1, value(rng, depth + 1)) for _ in range(rng.randrange(4))))
        case _:
            return msg(6, *(attribute(value(rng, depth + 1), b"key", 1) for _ in range(rng.randrange(4))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--compare-every", type=int, default=50)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    bodies = [*corpus(), *(realistic(rng) for _ in range(200))]
    reasons: Counter[str] = Counter()
    done = compared = spans = 0
    started = time.perf_counter()
    while done < arguments.count:
        group = [mutated(rng.choice(bodies), bodies, rng) for _ in range(min(GROUP, arguments.count - done))]
        batch, outcomes = decode("native", *group)
        for outcome in outcomes:
            if outcome.error is not None and type(outcome.error) is not DecodeError:
                raise SystemExit(f"not one of our errors: {outcome.error!r}")
            reasons[outcome.error.reason if outcome.error else "decoded"] += 1
        spans += len(batch)
        if arguments.compare_every:
            for place in range(-done % arguments.compare_every, len(group), arguments.compare_every):
                compare(group[place])
                compared += 1
        done += len(group)
    seconds = time.perf_counter() - started
    print(
        f"{done} damaged requests, {spans} spans of them, {compared} compared, seed {arguments.seed}: {seconds:.0f} s"
    )
    for reason, count in reasons.most_common():
        print(f"{count:>9}  {reason}")


if __name__ == "__main__":
    main()
