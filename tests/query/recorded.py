"""What Grafana Tempo 2.10 was asked and answered, where its recorded answers lie beside this repository."""

from __future__ import annotations

import gzip
import importlib.util
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from vivace.model.proto import otlp_pb2

CONFORMANCE = Path(__file__).parents[3] / "shared" / "conformance"
ANSWERS = CONFORMANCE / "answers.jsonl.gz"
ABSENT = not ANSWERS.exists()

OWN_DIVERGENCES: dict[str, dict[str, Any]] = {
    "metrics-024": {"why": "Tempo loses the sum as soon as a span has no value"},
    "search-174": {"why": "one event has both attributes; Tempo finds no event by two of its attributes", "matched": 1},
    "search-265": {
        "why": "Tempo names one of the ancestors of each descendant only, whichever comes first",
        "matched": 282,
    },
    "search-267": {
        "why": "Tempo names one of the ancestors of each descendant only, whichever comes first",
        "matched": 201,
    },
    "search-275": {
        "why": "Tempo names one of the descendants of each ancestor only, whichever comes first",
        "matched": 213,
    },
}
"""Beyond those of divergences.json: answers that no rule of the language gives."""


def requests() -> list[otlp_pb2.ExportTraceServiceRequest]:
    """The spans that the recorded server held."""
    found = []
    data = memoryview((CONFORMANCE / "dataset.bin").read_bytes())
    while data:
        size, _ = struct.unpack("<II", data[:8])
        found.append(otlp_pb2.ExportTraceServiceRequest.FromString(bytes(data[8 : 8 + size])))
        data = data[8 + size :]
    return found


def answers(*groups: str, with_query: bool = True) -> Iterator[dict[str, Any]]:
    """Answers with status 200, each with its `divergence` or None; those that no rule settles are left out.

    with_query  only those to a TraceQL query
    """
    divergences = json.loads((CONFORMANCE / "divergences.json").read_text()) | OWN_DIVERGENCES
    with gzip.open(ANSWERS, "rt") as lines:
        for line in lines:
            answer = json.loads(line)
            divergence = divergences.get(answer["id"])
            if divergence is not None and "matched" not in divergence:
                continue
            asked = not with_query or answer["params"].get("q")
            if answer["group"] in groups and answer["status"] == 200 and asked:
                yield answer | {"divergence": divergence}


SECOND = 1_000_000_000

STEPS_SECONDS = {"5m": 300, "1m": 60, "30s": 30, "1h": 3600, "7m": 420, "60": 60, None: 10}
"""None: what the range of the one query without a step comes to."""


def asked_series(answer: dict[str, Any]) -> tuple[str, int, int, int, bool]:
    """(query, start, end, step, whether it is instant) of an answer with series; nanoseconds."""
    asked = answer["params"]
    start, end = (int(t) * (1 if len(t) > 10 else SECOND) for t in (asked["start"], asked["end"]))
    return asked["q"], start, end, STEPS_SECONDS[asked.get("step")] * SECOND, answer["group"] == "instant"


def judge() -> ModuleType:
    """conformance.py, which lies beside the answers: its judge() and instead() compare two of them."""
    spec = importlib.util.spec_from_file_location("conformance", CONFORMANCE / "conformance.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def any_value(message: dict[str, Any] | None) -> Any:
    """A value of OTLP JSON; None where it has none."""
    if not message:
        return None
    kind, value = next(iter(message.items()))
    match kind:
        case "intValue":
            return int(value)
        case "doubleValue":
            return float(value)
        case "arrayValue":
            return tuple(any_value(v) for v in value.get("values", []))
        case _:
            return value


def pairs(attributes: list[dict[str, Any]] | None) -> list[tuple[str, Any]]:
    return [(a["key"], any_value(a.get("value"))) for a in attributes or []]
