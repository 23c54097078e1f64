"""Limits of single tenants: the file of `overrides.per_tenant_override_config`.

    overrides:
      team-a: {ingestion: {rate_limit_bytes: 1000000}}
      "*": {...}        # tenants without an entry

An entry replaces `overrides.defaults` as a whole (overrides.py). The file may be read again at any time: read_tenants is a plain
function of its text, and a file that became wrong raises, so that the caller can keep what it had.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from pydantic import ValidationError
from yaml.nodes import MappingNode

from vivace.errors import ConfigError

from .document import Document, Problem, config_error, is_null
from .known import LIMITS_PATH, KnownKeys
from .overrides import Limits
from .reading import At, Reader, describe
from .settings import Settings
from .unfinished import unfinished_limits

_EVERYONE = "*"


@dataclass(frozen=True, slots=True)
class Tenants:
    """Entries by tenant; `notices` are lines to log, for keys without effect and for those without effect yet."""

    entries: Mapping[str, Limits]
    notices: tuple[str, ...]

    def limits(self, tenant: str, defaults: Limits) -> Limits:
        """The tenant's entry, else that of `*`, else the defaults."""
        return self.entries.get(tenant) or self.entries.get(_EVERYONE) or defaults


def read_tenants(path: Path) -> Tenants:
    """Read the file. Raises ConfigError when it cannot be read or used."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        key = "overrides.per_tenant_override_config"
        raise ConfigError(f"cannot read {path}: {reason}; {key} names it", key=key, place=str(path)) from error
    return parse_tenants(text, str(path))


def parse_tenants(text: str, name: str = "text") -> Tenants:
    """Entries from YAML text; `name` stands for the file in messages. Raises ConfigError with every problem."""
    document = Document(text, name)
    reader = Reader(document, KnownKeys.of(Settings, flat_parent=LIMITS_PATH))
    problems: list[Problem] = []
    entries: dict[str, Limits] = {}
    for key, key_node, value in document.pairs(document.root) if isinstance(document.root, MappingNode) else ():
        if key != "overrides":
            place = document.place(key_node)
            problems.append(Problem(f"unknown key {key} at {place}; expected overrides, then tenants", key, place))
        elif isinstance(value, MappingNode):
            for tenant, _, entry in document.pairs(value):
                at = At(LIMITS_PATH, ("overrides", tenant))
                data = reader.read(None if is_null(entry) else entry, Limits, at)
                try:
                    entries[tenant] = Limits.of_tenant(data)
                except ValidationError as error:
                    problems.extend(describe(error, reader.places, {}, at.location))
        elif not is_null(value):
            place = document.place(value)
            problems.append(Problem(f"overrides at {place}: expected a map of tenants", "overrides", place))
    if document.root is not None and not isinstance(document.root, MappingNode) and not is_null(document.root):
        place = document.place(document.root)
        problems.append(Problem(f"the file at {place}: expected overrides, then tenants", "", place))
    if reader.problems or problems:
        raise config_error([*reader.problems, *problems])
    notices = [
        *reader.notices,
        *(line for tenant, limits in entries.items() for line in unfinished_limits(tenant, limits)),
    ]
    return Tenants(MappingProxyType(entries), tuple(notices))
