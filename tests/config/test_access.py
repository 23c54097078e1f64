"""Credentials in a configuration: what is refused, and that no page shows a secret."""

from __future__ import annotations

import pytest

from vivace.config.load import parse
from vivace.errors import ConfigError

DIGEST = "ab" * 32

GOOD = [
    "access: {ingest: {users: [{name: a, password: b}], tokens: [{token: c}, {token_file: d}]}}",
    f"access: {{query: {{users: [{{name: a, password_sha256: {DIGEST}}}, {{name: a, password_file: f}}]}}}}",
    "access: {query: {open_paths: []}}",
]

WRONG = [  # text, key, message
    ("ingest: {users: [{password: b}]}", "ingest.users[0]", "name"),
    ("ingest: {users: [{name: 'a:b', password: c}]}", "ingest.users[0].name", "expected a name without a colon"),
    ("ingest: {users: [{name: '', password: c}]}", "ingest.users[0].name", "expected a name without a colon"),
    ("query: {users: [{name: a}]}", "query.users[0]", "found none of them, expected one of password, password_file"),
    (
        "query: {users: [{name: a, password: hidden, password_file: c}]}",
        "query.users[0]",
        "found password and password_file, expected one of",
    ),
    ("query: {tokens: [{token: ''}]}", "query.tokens[0]", "found an empty token"),
    ("query: {tokens: [{token_sha256: hidden}]}", "query.tokens[0]", "expected 64 hexadecimal digits"),
    ("query: {open_paths: [metrics]}", "query.open_paths", "found 'metrics', expected a path such as /metrics"),
    ("ingest: {open_paths: [/x]}", "ingest.open_paths", "unknown key"),
]


@pytest.mark.parametrize("text", GOOD)
def test_what_is_taken(text: str) -> None:
    assert parse(text).notices == ()


@pytest.mark.parametrize(("text", "key", "message"), WRONG)
def test_what_is_refused(text: str, key: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(f"access: {{{text}}}")
    assert f"access.{key}" in str(error.value)
    assert message in str(error.value)
    assert "hidden" not in str(error.value)


def test_no_page_shows_a_secret() -> None:
    users = f"[{{name: ann, password: hidden}}, {{name: bob, password_sha256: {DIGEST}}}]"
    settings = parse(f"access: {{query: {{users: {users}, tokens: [{{token: hidden}}]}}}}")
    shown = settings.to_yaml() + settings.to_yaml("diff") + repr(settings)
    assert "ann" in shown
    assert "hidden" not in shown
    assert DIGEST not in shown
