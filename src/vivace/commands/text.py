"""Figures and tables as the commands print them, and the flags that they share."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from vivace.config.expand import expand
from vivace.config.flags import parse_truth
from vivace.config.load import read_text

_NANOSECONDS = 1_000_000_000


def byte_text(count: int) -> str:
    """Bytes for people: `512 B`, `34.8 MB`; powers of 1000, as in docs and on disks' labels."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def duration_text(nanoseconds: int) -> str:
    """A span's duration for people: `0s`, `12.3µs`, `250ms`, `1.5s`, `2m5s`."""
    if abs(nanoseconds) >= 60 * _NANOSECONDS:
        minutes, seconds = divmod(round(nanoseconds / _NANOSECONDS), 60)
        return f"{minutes}m{seconds}s"
    for unit, size in (("s", _NANOSECONDS), ("ms", 1_000_000), ("µs", 1000)):
        if abs(nanoseconds) >= size:
            return (
                f"{nanoseconds / size:.3g}{unit}"
                if abs(nanoseconds) < 100 * size
                else f"{nanoseconds / size:.0f}{unit}"
            )
    return f"{nanoseconds}ns" if nanoseconds else "0s"


def time_text(unix_nano: int) -> str:
    """A time in UTC, to the millisecond."""
    seconds, rest = divmod(unix_nano, _NANOSECONDS)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest // 1_000_000:03d}Z"


def counted(count: int, one: str, many: str = "") -> str:
    """`1 block`, `1,200 blocks`; `many` where the plural is not just an s more."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Columns side by side, two blanks between them; the columns numbered in `right` are flush right."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = []
    for row in (head, *rows):
        cells = [
            cell.rjust(w) if i in right else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def add_config_flags(parser: argparse.ArgumentParser) -> None:
    """The server's own flags, with one dash or two, so that they can be copied from its command line."""
    parser.add_argument(
        "-config.file", "--config.file", dest="config_file", required=True, metavar="FILE", help="the server's file"
    )
    parser.add_argument(
        "-config.expand-env",
        "--config.expand-env",
        dest="expand_env",
        default=False,
        type=_truth,
        metavar="true|false",
        help="replace ${NAME} in the file by the environment's value",
    )


def config_text(arguments: argparse.Namespace) -> tuple[str, str]:
    """Text and name of the file that the flags name. Raises ConfigError when it cannot be read or expanded."""
    name: str = arguments.config_file
    text = read_text(Path(name))
    return (expand(text, os.environ, name) if arguments.expand_env else text), name


def _truth(text: str) -> bool:
    truth = parse_truth(text)
    if truth is None:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected true or false")
    return truth
