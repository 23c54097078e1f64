"""Commands beside the server: `vivace blocks …`, `vivace config …`, `vivace query …`.

Rule 1  a command begins with a word, the server's flags begin with a dash: neither can be taken for the other.
Rule 2  commands only read. `blocks` and `config` look at files, also while a server works on them; `query` asks a server.
Rule 3  results go to standard output, what is wrong with the question to standard error.
Rule 4  exit codes: 0 done, 1 it failed or found something that is wrong, 2 the command line cannot be understood.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from vivace.errors import VivaceError

COMMANDS = ("blocks", "config", "query")
SUMMARY = """\
   or: vivace blocks list|show|verify   look at the stored blocks
   or: vivace config check              what each key of a file does here
   or: vivace query trace|search|tags|metrics   ask a running server"""


def run(argv: Sequence[str]) -> int:
    """Run the command that `argv` begins with, one of COMMANDS; returns the exit code."""
    name, *arguments = argv
    try:
        return _main(name, arguments)
    except VivaceError as error:
        print(error, file=sys.stderr)
        return 1
    except SystemExit as stop:  # argparse: 2 after a usage message, 0 after the help
        return stop.code if isinstance(stop.code, int) else 2
    except BrokenPipeError:
        # the reader (`| head`) has seen enough; what is still buffered must not fail again when Python exits
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _main(name: str, arguments: Sequence[str]) -> int:
    """Imported here: each command needs little, and nothing of the others'."""
    match name:
        case "blocks":
            from vivace.commands import blocks

            return blocks.main(arguments)
        case "config":
            from vivace.commands import config_check

            return config_check.main(arguments)
        case _:
            from vivace.commands import query

            return query.main(arguments)
