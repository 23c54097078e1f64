"""The program: reads the command line, sets up the log, then runs, verifies or says its version.

A first argument without a dash names one of the commands beside the server: commands/.

Exit codes: 0 done, 1 the configuration cannot be used, 2 the command line cannot be understood; else what the service returns.
"""

from __future__ import annotations

import logging
import os
import platform
import sys
from collections.abc import Sequence

from vivace import __version__, commands, logs
from vivace.config.flags import COMMAND_LINE, flag_names
from vivace.config.load import load
from vivace.config.settings import Settings
from vivace.errors import ConfigError

_log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run with the arguments behind the program name (those of the process when None); returns the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments and arguments[0] in commands.COMMANDS:
        return commands.run(arguments)
    try:
        invocation = load(arguments)
    except ConfigError as error:
        if error.place == COMMAND_LINE:
            print(error, file=sys.stderr)
            return 2
        print(f"cannot use this configuration:\n{error}", file=sys.stderr)
        return 1
    match invocation.action:
        case "help":
            print(
                f"usage: vivace [-flag=value ...]\n{commands.SUMMARY}\n"
                + "\n".join(f"  -{name}" for name in flag_names())
            )
            return 0
        case "version":
            print(f"vivace, version {__version__} (python {platform.python_version()}, {platform.platform()})")
            return 0
        case "verify":
            for notice in invocation.settings.notices:
                print(notice)
            print("this configuration can be used")
            return 0
        case "run":
            return _run(invocation.settings)


def _run(settings: Settings) -> int:
    # numpy's BLAS would start a thread a core and spin; nothing here multiplies matrices. Read at import.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # a query reads one block at a time; a thread a core of a large machine would only hold memory
    os.environ.setdefault("POLARS_MAX_THREADS", str(min(4, os.cpu_count() or 1)))
    # Imported here: -version and -config.verify need none of the libraries behind the service.
    from vivace.process import run

    logs.configure(settings.server.log_level, settings.server.log_format, sys.stderr)
    for notice in settings.notices:
        _log.warning(notice)
    return run(settings)


if __name__ == "__main__":
    sys.exit(main())
