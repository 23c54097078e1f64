"""One record, one line, in both forms."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest

from vivace import logs


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    logging.captureWarnings(False)
    root.setLevel(level)
    root.handlers[:] = handlers


def record(message: str, **extra: object) -> logging.LogRecord:
    made = logging.makeLogRecord({"name": "vivace.x", "levelname": "WARNING", "msg": message, **extra})
    made.created = 1_700_000_000.25
    return made


def test_logfmt() -> None:
    line = logs.LogfmtFormatter().format(record('two "words"\nand more', tenant="a b", spans=3, empty=""))
    assert line == (
        "ts=2023-11-14T22:13:20.250000Z level=warn logger=vivace.x "
        r'msg="two \"words\"\nand more" tenant="a b" spans=3 empty=""'
    )


def test_json() -> None:
    line = logs.JsonFormatter().format(record("hello", tenant="a", odd={1}))
    assert json.loads(line) == {
        "ts": "2023-11-14T22:13:20.250000Z",
        "level": "warn",
        "logger": "vivace.x",
        "msg": "hello",
        "tenant": "a",
        "odd": "{1}",
    }


def test_a_traceback_stays_in_the_line() -> None:
    try:
        raise ValueError("broken")
    except ValueError:
        line = logs.LogfmtFormatter().format(record("failed", exc_info=sys.exc_info()))
    assert "\n" not in line
    assert r"ValueError: broken" in line


def test_configure_sets_level_and_stream() -> None:
    stream = io.StringIO()
    logs.configure("warn", "logfmt", stream)
    logging.getLogger("a").info("no")
    logging.getLogger("a").error("yes %d", 1)
    (line,) = stream.getvalue().splitlines()
    assert line.endswith('level=error logger=a msg="yes 1"')
