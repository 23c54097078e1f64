"""Attribute values, keys and paths as text of labels."""

from __future__ import annotations

import pytest
from builders import Value, batch, request, span

from vivace.generator.values import cut_bytes, double_text, free_label_name, label_name, path_template, value_text

VALUES: list[tuple[Value, str]] = [
    ("GET", "GET"),
    ("", ""),
    (200, "200"),
    (-7, "-7"),
    (2**63 - 1, "9223372036854775807"),
    (-(2**63), "-9223372036854775808"),
    (True, "true"),
    (False, "false"),
    (0.5, "0.5"),
    (3.0, "3"),
    (1e21, "1000000000000000000000"),
    (1.5e-7, "0.00000015"),
    (float("nan"), "NaN"),
    (float("-inf"), "-Inf"),
    ([1, "a", [True]], "[1a[true]]"),
    ({"k": "v", "n": 2.5}, "{k:vn:2.5}"),
    (b"raw", ""),
    (None, ""),
]


@pytest.mark.parametrize(("value", "text"), VALUES, ids=str)
def test_values(value: Value, text: str) -> None:
    spans = batch(request(span(attributes={"key": value})))
    pairs = spans.attributes
    assert value_text(int(pairs.type[0]), int(pairs.value[0]), spans.dictionary) == text


def test_doubles_of_buckets() -> None:
    assert [double_text(x) for x in (0.002, 1.024, 1.0, 16.384, 100)] == ["0.002", "1.024", "1", "16.384", "100"]


def test_names() -> None:
    assert label_name("http.status_code") == "http_status_code"
    assert label_name("0-ä b") == "0___b"
    assert free_label_name("span.kind", ("span_kind",)) == "__span_kind"
    assert free_label_name("service.name", ("service",)) == "service_name"


PATHS = [
    ("/users/123", "/users/{id}"),
    ("/users/123/", "/users/{id}/"),
    ("/users/1/orders/2?tab=3", "/users/{id}/orders/{id}"),
    ("/a/550e8400-e29b-41d4-a716-446655440000/b", "/a/{id}/b"),
    ("/objects/507f1f77bcf86cd799439011", "/objects/{id}"),
    ("/v1/users", "/v1/users"),
    ("/defacedfacadedbadface", "/defacedfacadedbadface"),  # a word, not a number, in hexadecimal digits
    ("/deadbeef", "/deadbeef"),
    ("/a//b?", "/a//b"),
    ("/", "/"),
    ("", ""),
    ("no path", "no path"),
]


@pytest.mark.parametrize(("path", "template"), PATHS)
def test_paths(path: str, template: str) -> None:
    assert path_template(path) == template


def test_cuts_keep_characters_whole() -> None:
    assert cut_bytes("äää", 5) == "ää"
    assert cut_bytes("abc", 0) == "abc"
    assert cut_bytes("abc", 3) == "abc"
