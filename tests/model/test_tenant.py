"""Which names a tenant may have, and what several joined names mean."""

from __future__ import annotations

import pytest

from vivace.errors import RequestError
from vivace.model.tenant import one, several, split
from vivace.storage.catalog import DELETED, QUARANTINE, TEMPORARY

GOOD = ["a", "Team-1", "x" * 150, "!-_.*'()", "...", ".hidden", "tmp", "a.tmp.b", "single-tenant"]
BAD = [".", "..", "a/b", "a|b", "a b", "ä", "a\n", "x" * 151, QUARANTINE, f"a{TEMPORARY}", f"a{DELETED}", TEMPORARY]


@pytest.mark.parametrize("name", GOOD)
def test_good_names(name: str) -> None:
    assert one(name) == several(name) == name


@pytest.mark.parametrize("name", BAD)
def test_bad_names(name: str) -> None:
    with pytest.raises(RequestError, match="invalid tenant") as refused:
        one(name)
    assert refused.value.status == 400


@pytest.mark.parametrize("name", [name for name in BAD if "|" not in name])
def test_a_bad_name_among_several(name: str) -> None:
    with pytest.raises(RequestError, match="invalid tenant"):
        several(f"a|{name}")


@pytest.mark.parametrize("header", [None, "", "|", "a|", "|a", "a||b"])
def test_no_name(header: str | None) -> None:
    with pytest.raises(RequestError, match="no org id") as refused:
        several(header)
    assert refused.value.status == 401


def test_several_are_in_order_and_each_once() -> None:
    assert several("h|g|f|e|d|c|b|a|h|a") == "a|b|c|d|e|f|g|h"
    assert split("a|b|c") == ("a", "b", "c")
    assert split("a") == ("a",)
