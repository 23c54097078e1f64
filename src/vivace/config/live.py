"""The limits in force: the defaults, and those of the per-tenant file, which may change while we run.

Rule 1  a file that cannot be used changes nothing: the limits that were in force stay so.
Rule 2  each state of the file is told once: it is read as often as one likes, and logged only when it is another.
Rule 3  a new set of limits takes the place of the old one in a single assignment, so any thread may ask at any time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from vivace.errors import ConfigError

from .load import read_text
from .overrides import Limits
from .tenants import Tenants, parse_tenants

_log = logging.getLogger(__name__)


class LiveLimits:
    """Limits by tenant. `file` is None where there are only defaults; `on_reload` hears whether a changed file is usable."""

    def __init__(self, defaults: Limits, file: Path | None, on_reload: Callable[[bool], None] = lambda _: None) -> None:
        """Read the file. Raises ConfigError when it cannot be read or used."""
        self.defaults = defaults
        self.tenants: Tenants | None = None
        self._file = file
        self._on_reload = on_reload
        self._told = ""
        if file is not None:
            self._told = read_text(file)
            self.tenants = parse_tenants(self._told, str(file))
        on_reload(True)

    def of(self, tenant: str) -> Limits:
        return self.tenants.limits(tenant, self.defaults) if self.tenants else self.defaults

    def reload(self) -> None:
        """Read the file again. Blocks for the disk; not to be called by two threads at once."""
        if self._file is None:
            return
        try:
            text = read_text(self._file)
        except ConfigError as error:
            self._keep(str(error), error)
            return
        if text == self._told:
            return
        try:
            tenants = parse_tenants(text, str(self._file))
        except ConfigError as error:
            self._keep(text, error)
            return
        self.tenants = tenants
        self._told = text
        for notice in tenants.notices:
            _log.warning(notice)
        _log.info("read new limits of tenants from %s", self._file)
        self._on_reload(True)

    def _keep(self, state: str, error: ConfigError) -> None:
        """Go on with the limits in force; `state` is the file's text, or why there is none."""
        if state != self._told:
            self._told = state
            _log.error("the limits of tenants stay as they were: %s", error)
            self._on_reload(False)
