"""Settings that this version reads and does not act on yet: a line for each section that a file changes.

A part that comes to be takes its row out of PENDING; a test then demands that the part reads each of its keys. Keys that
will never have an effect are in unused.yaml.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .known import LIMITS_PATH, KeyPath
from .overrides import Limits
from .section import Section
from .settings import Settings


@dataclass(frozen=True, slots=True)
class Pending:
    """A section without effect yet, or only these `keys` of it (all when empty), and what is missing."""

    section: KeyPath
    missing: str
    keys: tuple[str, ...] = ()

    def covers(self, path: KeyPath) -> bool:
        depth = len(self.section)
        return path[:depth] == self.section and len(path) > depth and (not self.keys or path[depth] in self.keys)


PENDING: tuple[Pending, ...] = ()
"""Nothing at present."""


def unfinished(settings: Settings) -> list[str]:
    """What the configuration asks for and this version does not do yet, one line for each section."""
    return _lines(_changed(settings, Settings(), ()))


def unfinished_limits(tenant: str, limits: Limits) -> list[str]:
    """The same for the entry of one tenant in the per-tenant file."""
    lines = _lines(_changed(limits, Limits.of_tenant({}), LIMITS_PATH))
    return [f"overrides.{tenant}{line.removeprefix('.'.join(LIMITS_PATH))}" for line in lines]


def _lines(changed: Iterable[KeyPath]) -> list[str]:
    """A line for each row of PENDING that covers some of the keys."""
    keys = list(changed)
    lines = []
    for pending in PENDING:
        names = [".".join(key[len(pending.section) :]) for key in keys if pending.covers(key)]
        if names:
            lines.append(f"{'.'.join(pending.section)}: not yet, {pending.missing} ({', '.join(names)})")
    return lines


def _changed(section: Section, base: Section, path: KeyPath) -> Iterator[KeyPath]:
    """The keys whose values differ between two sections of one type; a section that only one of them has counts as one."""
    for attribute, field in type(section).model_fields.items():
        value, usual = getattr(section, attribute), getattr(base, attribute)
        if field.exclude or value == usual:
            continue
        key = (*path, field.alias or attribute)
        if isinstance(value, Section) and isinstance(usual, Section):
            yield from _changed(value, usual, key)
        else:
            yield key
