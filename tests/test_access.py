"""Credentials: who passes, who does not, and what becomes of a secret's file."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path

import pytest

from vivace.access import FILE_SECONDS, LOG_SECONDS, OPEN, Credentials, Guard, Secret
from vivace.errors import AccessError, ConfigError


class Clock:
    """Seconds, moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def basic(text: str | bytes) -> str:
    return "Basic " + base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def passes(guard: Guard, authorization: str | None) -> bool:
    try:
        guard.check(authorization)
    except AccessError:
        return False
    return True


USERS = Credentials(
    users=(
        ("ann", Secret("one", text="pass:word")),
        ("ann", Secret("two", sha256_hex=hashlib.sha256(b"other").hexdigest().upper())),
        ("bob", Secret("three", text="pässword")),
    )
)
TOKENS = Credentials(tokens=(Secret("one", text="t0"), Secret("two", sha256_hex=hashlib.sha256(b"t1").hexdigest())))
BOTH = Credentials(USERS.users, TOKENS.tokens)

CASES: list[tuple[Credentials, str | None, bool]] = [
    (USERS, basic("ann:pass:word"), True),
    (USERS, basic("ann:other"), True),
    (USERS, basic("bob:pässword"), True),
    (USERS, basic("ann:pass:word").replace("Basic ", "bAsIc   "), True),
    (USERS, basic("bob:other"), False),
    (USERS, basic("ann:pass"), False),
    (USERS, basic("ann:"), False),
    (USERS, basic("ann"), False),
    (USERS, basic("Ann:other"), False),
    (USERS, basic(b"\xff:\xff"), False),
    (USERS, "Basic", False),
    (USERS, "Basic ann:other", False),
    (USERS, "Basic \u00fc", False),
    (USERS, "Bearer other", False),
    (USERS, "", False),
    (USERS, None, False),
    (TOKENS, "Bearer t0", True),
    (TOKENS, "bearer t1", True),
    (TOKENS, "Bearer t2", False),
    (TOKENS, "Bearer ", False),
    (TOKENS, "Bearer " + hashlib.sha256(b"t1").hexdigest(), False),
    (TOKENS, basic("t0:"), False),
    (BOTH, "Bearer t0", True),
    (BOTH, basic("ann:other"), True),
    (BOTH, basic("ann:t0"), False),
    (BOTH, "Digest t0", False),
    (Credentials(), None, True),
    (Credentials(), "Bearer whatever", True),
]


@pytest.mark.parametrize(("credentials", "authorization", "expected"), CASES)
def test_who_passes(credentials: Credentials, authorization: str | None, expected: bool) -> None:
    assert passes(Guard(credentials), authorization) is expected


CHALLENGES = [(USERS, 'Basic realm="vivace"'), (TOKENS, 'Bearer realm="vivace"')]
CHALLENGES.append((BOTH, 'Basic realm="vivace", Bearer realm="vivace"'))


@pytest.mark.parametrize(("credentials", "challenge"), CHALLENGES)
def test_a_refusal_says_what_is_expected_and_no_secret(credentials: Credentials, challenge: str) -> None:
    for given, found in [(None, "no credentials"), (basic("ann:guess"), "credentials that are not known here")]:
        with pytest.raises(AccessError) as refused:
            Guard(credentials).check(given)
        assert (refused.value.status, refused.value.challenge) == (401, challenge)
        schemes = challenge.replace(' realm="vivace"', "").replace(",", " or")
        assert str(refused.value) == f"found {found}, expected {schemes} in the Authorization header"


def test_open_lets_everyone_in() -> None:
    assert OPEN.lets_everyone_in
    assert passes(OPEN, None)


def test_refusals_are_logged_now_and_then_without_secrets(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    guard = Guard(BOTH, clock=clock)
    for _ in range(3):
        passes(guard, basic("ann:guess"))
    clock.now += LOG_SECONDS
    passes(guard, "Bearer guess")
    assert [record.message for record in caplog.records] == [
        "access: refused 1 requests without known credentials since this was last said",
        "access: refused 3 requests without known credentials since this was last said",
    ]


def test_a_secret_is_not_shown() -> None:
    text = repr(USERS) + repr(TOKENS)
    assert "pass:word" not in text
    assert "t0" not in text
    assert hashlib.sha256(b"t1").hexdigest() not in text


def test_a_file_is_followed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file, clock = tmp_path / "token", Clock()
    file.write_text("first\n")
    guard = Guard(Credentials(tokens=(Secret("access.query.tokens[0].token_file", file=file),)), clock=clock)
    assert passes(guard, "Bearer first")

    replacement = tmp_path / "new"
    replacement.write_text("second")
    os.replace(replacement, file)
    assert passes(guard, "Bearer first"), "files are not looked at on each request"
    clock.now += FILE_SECONDS
    assert [passes(guard, f"Bearer {token}") for token in ("first", "second")] == [False, True]

    caplog.clear()
    for unusable in ("", None):
        file.unlink()
        if unusable is not None:
            file.write_text(unusable)
        for _ in range(3):
            clock.now += FILE_SECONDS
            assert [passes(guard, f"Bearer {token}") for token in ("second", "")] == [False, False]
        file.write_text("again")
        clock.now += FILE_SECONDS
        assert passes(guard, "Bearer again")
        file.write_text("second")
        clock.now += FILE_SECONDS
        assert passes(guard, "Bearer second")
    told = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert told == [
        f"access.query.tokens[0].token_file: cannot use {file}: {why}; nobody gets in with it until it is back"
        for why in ("it is empty", "No such file or directory")
    ]


@pytest.mark.parametrize(("text", "why"), [(None, "No such file or directory"), ("\n", "it is empty")])
def test_a_file_must_be_usable_at_the_start(tmp_path: Path, text: str | None, why: str) -> None:
    file = tmp_path / "secret"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigError, match=f"cannot use {file}: {why}; the.key names it") as refused:
        Guard(Credentials(users=(("a", Secret("the.key", file=file)),)))
    assert refused.value.key == "the.key"
