"""write_relabel_configs: one rule after another on one label set, as Prometheus documents them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vivace.config.remote_write import Relabel
from vivace.errors import ConfigError
from vivace.generator import relabel
from vivace.generator.relabel import Relabeller
from vivace.generator.write_request import decode_labels, encode_labels, series_head, series_of, write_requests

GIVEN = {"__name__": "calls_total", "service": "shop", "span_name": "GET /a", "zone": "EU-1"}

CASES: dict[str, tuple[list[dict[str, Any]], dict[str, str]]] = {  # rules -> what is new, "" for what is gone
    "keep that matches": ([{"source_labels": ["service"], "regex": "shop|cart", "action": "keep"}], {}),
    "drop that does not match": ([{"source_labels": ["service"], "regex": "hop", "action": "drop"}], {}),
    "replace the target": ([{"target_label": "env", "replacement": "prod"}], {"env": "prod"}),
    "replace with groups": (
        [{"source_labels": ["service", "zone"], "regex": "(.*);(?P<area>..).*", "target_label": "at", "replacement": "$1/${area}"}],
        {"at": "shop/EU"},
    ),
    "a reference takes every word character": (
        [{"source_labels": ["service"], "target_label": "x", "replacement": "$1_x${1}_x$$1$9"}],
        {"x": "shop_x$1"},
    ),
    "replace that does not match": ([{"source_labels": ["service"], "regex": "x", "target_label": "env", "replacement": "y"}], {}),
    "an absent label is empty": ([{"source_labels": ["nope"], "regex": "", "target_label": "env", "replacement": "y"}], {"env": "y"}),
    "an empty value drops the label": ([{"target_label": "service", "replacement": ""}], {"service": ""}),
    "another separator": ([{"source_labels": ["service", "zone"], "separator": "", "target_label": "x"}], {"x": "shopEU-1"}),
    "a target made of groups": (
        [{"source_labels": ["zone"], "regex": "(..)-.*", "target_label": "area_$1", "replacement": "1"}],
        {"area_EU": "1"},
    ),
    "a target that is no label name": ([{"source_labels": ["zone"], "target_label": "$1", "replacement": "1"}], {}),
    "labeldrop": ([{"regex": "span_.*|zone", "action": "labeldrop"}], {"span_name": "", "zone": ""}),
    "labelkeep": ([{"regex": "__name__|service", "action": "labelkeep"}], {"span_name": "", "zone": ""}),
    "labelmap": ([{"regex": "span_(.*)", "replacement": "s_$1", "action": "labelmap"}], {"s_name": "GET /a"}),
    "lowercase": ([{"source_labels": ["zone"], "target_label": "zone", "action": "lowercase"}], {"zone": "eu-1"}),
    "uppercase": ([{"source_labels": ["service"], "target_label": "up", "action": "uppercase"}], {"up": "SHOP"}),
    # the MD5 of "shop" ends in 01bb16e8e92d968d
    "hashmod": ([{"source_labels": ["service"], "target_label": "shard", "modulus": 1000, "action": "hashmod"}], {"shard": "341"}),
    "keepequal": ([{"source_labels": ["service"], "target_label": "service", "action": "keepequal"}], {}),
    "dropequal that differs": ([{"source_labels": ["service"], "target_label": "zone", "action": "dropequal"}], {}),
    "one after another": (
        [{"target_label": "env", "replacement": "prod"}, {"source_labels": ["env"], "regex": "prod", "target_label": "e2", "replacement": "$0"}],
        {"env": "prod", "e2": "prod"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_rules(case: str) -> None:
    rules, changed = CASES[case]
    found = Relabeller([Relabel.model_validate(rule) for rule in rules], "x").labels(dict(GIVEN))
    assert found == {name: value for name, value in (GIVEN | changed).items() if value}


DROPPING: list[dict[str, Any]] = [
    {"source_labels": ["service"], "regex": "hop", "action": "keep"},
    {"source_labels": ["service"], "regex": "sh.p", "action": "drop"},
    {"source_labels": ["service"], "target_label": "zone", "action": "keepequal"},
    {"source_labels": ["zone"], "target_label": "zone", "action": "dropequal"},
    {"regex": ".*", "action": "labeldrop"},
]


@pytest.mark.parametrize("rule", DROPPING, ids=lambda rule: rule["action"])
def test_rules_that_drop_the_series(rule: dict[str, Any]) -> None:
    rules = [Relabel.model_validate(rule), Relabel.model_validate({"target_label": "a", "replacement": ""})]
    assert Relabeller(rules, "x").labels(dict(GIVEN)) == {}


def test_a_dropped_series_stays_dropped() -> None:
    rules = [{"regex": "x", "source_labels": ["service"], "action": "keep"}, {"target_label": "a", "replacement": "1"}]
    assert Relabeller([Relabel.model_validate(rule) for rule in rules], "x").labels(dict(GIVEN)) == {}


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"regex": "("}, "cannot use regex"),
    ({"regex": "x"}, "needs target_label"),
    ({"action": "hashmod", "target_label": "x"}, "modulus above 0"),
    ({"action": "lowercase"}, "needs target_label"),
]


@pytest.mark.parametrize(("rule", "message"), WRONG)
def test_rules_that_cannot_be_used(rule: dict[str, Any], message: str) -> None:
    base = {} if message == "needs target_label" else {"target_label": "y"}
    with pytest.raises(ConfigError, match=message) as caught:
        Relabeller([Relabel.model_validate(base | rule)], "remote_write[2].write_relabel_configs")
    assert caught.value.key.startswith("remote_write[2].write_relabel_configs[0].")


def test_requests_keep_their_samples_and_lose_what_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relabel, "CACHE_SERIES", 2)
    rules = [
        Relabel.model_validate({"source_labels": ["n"], "regex": "[12]", "action": "drop"}),
        Relabel.model_validate({"target_label": "env", "replacement": "prod"}),
    ]
    heads = [series_head(encode_labels([("n", str(number))])) for number in range(5)]
    relabeller = Relabeller(rules, "x")
    for value in (0.5, 7.0):  # the second time much of it is known
        (request,) = write_requests(heads, np.full(5, value), 1_800_000_000_000)
        made, dropped = relabeller.request(request)
        assert dropped == 2
        assert [decode_labels(labels) for labels, _ in series_of(made)] == [
            [("env", "prod"), ("n", str(number))] for number in (0, 3, 4)
        ]
        assert len(relabeller._known) <= 2
        assert {rest for _, rest in series_of(made)} == {next(series_of(request))[1]}
