"""The process's own log: one line for each record on one stream, as logfmt or JSON.

Fields of a line: ts (UTC, RFC 3339), level (debug, info, warn, error), logger, msg, then what the caller passed as `extra`, then
`error` with the traceback in one line. Nothing here knows of settings; cli.py hands over level and form.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Literal, TextIO

import orjson

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
# Attributes that every record has; others came in through `extra`. The two last are set by formatters.
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
# logfmt needs quotes for anything that would end the word early or is not printable.
_BARE = re.compile(r'[^\s="\\\x00-\x1f\x7f]+')


def configure(
    level: Literal["debug", "info", "warn", "error"], form: Literal["logfmt", "json"], stream: TextIO
) -> None:
    """Send every record of `level` and above to `stream`; replaces what was configured before."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if form == "json" else LogfmtFormatter())
    logging.captureWarnings(True)
    logging.basicConfig(level=_LEVELS[level], handlers=[handler], force=True)


def _fields(record: logging.LogRecord, formatter: logging.Formatter) -> Iterator[tuple[str, object]]:
    yield "ts", datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    yield "level", {"WARNING": "warn", "CRITICAL": "error"}.get(record.levelname, record.levelname.lower())
    yield "logger", record.name
    yield "msg", record.getMessage()
    for name, value in vars(record).items():
        if name not in _OWN:
            yield name, value
    if record.exc_info:
        yield "error", formatter.formatException(record.exc_info)


class LogfmtFormatter(logging.Formatter):
    """`ts=... level=info logger=vivace msg="ready"`; line breaks become \\n, so a record is one line."""

    def format(self, record: logging.LogRecord) -> str:
        return " ".join(f"{name}={_word(value)}" for name, value in _fields(record, self))


class JsonFormatter(logging.Formatter):
    """One JSON object a line; values that JSON does not know become text."""

    def format(self, record: logging.LogRecord) -> str:
        return orjson.dumps(dict(_fields(record, self)), default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def _word(value: object) -> str:
    text = str(value)
    return text if _BARE.fullmatch(text) else orjson.dumps(text.encode("utf-8", "replace").decode()).decode()
