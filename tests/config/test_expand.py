"""Environment variables in the text of a file."""

from __future__ import annotations

import pytest

from vivace.config.expand import expand
from vivace.errors import ConfigError

ENV = {"HOST": "db", "EMPTY": "", "my-var": "m"}
CASES = [
    ("plain", "plain"),
    ("a: ${HOST}", "a: db"),
    ("${HOST}${HOST}", "dbdb"),
    ("${my-var}", "m"),
    ("${UNSET}", ""),
    ("${UNSET:-fallback}", "fallback"),
    ("${EMPTY:-fallback}", "fallback"),
    ("${HOST:-fallback}", "db"),
    ("${UNSET:=x}${UNSET=y}", "xy"),
    ("${UNSET:-}", ""),
    ("${UNSET:-http://${HOST}:80/a-b}", "http://db:80/a-b"),
    ("$HOST $ 5$", "$HOST $ 5$"),
    ("$${HOST}", "${HOST}"),
    ("$$", "$"),
    (r"a\\b\/c\d", r"a\b/c\d"),
]
BAD = ["${", "${}", "${HOST", "${HOST:-x", "${HOST^^}", "${HOST:?no}", "${#HOST}", "${a b}", "${A:-" * 20 + "}" * 20]


@pytest.mark.parametrize(("text", "expanded"), CASES)
def test_forms(text: str, expanded: str) -> None:
    assert expand(text, ENV, "f.yaml") == expanded


@pytest.mark.parametrize("text", BAD)
def test_other_forms_are_refused_with_their_line(text: str) -> None:
    with pytest.raises(ConfigError, match="cannot expand") as error:
        expand(f"one\ntwo: {text}", ENV, "f.yaml")
    assert error.value.place == "f.yaml:2"
