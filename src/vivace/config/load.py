"""From a command line, a file and the environment to Settings.

Precedence: defaults < file < flags. All that is wrong is reported in one ConfigError, a line for each problem.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from vivace.errors import ConfigError

from .document import Document, Problem, config_error
from .expand import expand
from .flags import COMMAND_LINE, Override, parse_flags, parse_truth
from .known import KnownKeys
from .reading import Location, Reader, describe
from .section import plain_type, section_type, yaml_fields
from .settings import Settings
from .tenants import read_tenants
from .unfinished import unfinished


@dataclass(frozen=True, slots=True)
class Invocation:
    """What the command line asks for; `settings` are all defaults for "version" and "help"."""

    action: Literal["run", "verify", "version", "help"]
    settings: Settings


def load(argv: Sequence[str], env: Mapping[str, str] = os.environ) -> Invocation:
    """Read the arguments behind the program name and the file that they name.

    Raises ConfigError; its place is flags.COMMAND_LINE when the command line itself cannot be understood.
    """
    known = KnownKeys.of(Settings)
    line = parse_flags(argv, known)
    if line.action in ("version", "help"):
        return Invocation(line.action, Settings())
    text = read_text(line.file) if line.file else ""
    if line.expand_env:
        text = expand(text, env, line.file)
    settings = parse(text, line.file or "no file", line.overrides, line.notices)
    notices = [*settings.notices, *unfinished(settings)]
    if settings.overrides.per_tenant_override_config is not None:
        notices += read_tenants(settings.overrides.per_tenant_override_config).notices
    return Invocation(line.action, settings.model_copy(update={"notices": tuple(notices)}))


def parse(text: str, name: str = "text", overrides: Sequence[Override] = (), notices: Sequence[str] = ()) -> Settings:
    """Settings from YAML text; `name` stands for the file in messages. Flags in `overrides` win. Raises ConfigError."""
    reader = Reader(Document(text, name), KnownKeys.of(Settings))
    data = reader.read_root(Settings)
    flags = _apply(overrides, data)
    problems = reader.problems
    settings = Settings()
    try:
        settings = Settings.model_validate(data)
    except ValidationError as error:
        # Where the walk found something wrong already, the model's complaint about this key or one above would repeat it.
        reported = [problem.key for problem in problems]
        refused = describe(error, reader.places, flags)
        problems = problems + [one for one in refused if not _is_told(one.key, reported)]
    if problems:
        raise config_error(sorted(problems, key=_position))
    found = [*reader.notices, *notices]
    if settings.distributor.receivers.otlp is None:
        found.append("distributor.receivers: no otlp among them, so Vivace takes no spans")
    return settings.model_copy(update={"notices": tuple(found)})


def read_text(path: str | Path) -> str:
    """The file's text. Raises ConfigError naming the file when it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"cannot read {path}: {reason}; name a readable YAML file", place=str(path)) from error


def _apply(overrides: Sequence[Override], data: dict[str, Any]) -> dict[Location, str]:
    """Write flags over the file's data; returns the flag of each location, for messages."""
    flags: dict[Location, str] = {}
    for override in overrides:
        parent: dict[str, Any] = data
        section: Any = Settings
        for name in override.key[:-1]:
            section = section_type(yaml_fields(section)[name].annotation)
            parent = parent.setdefault(name, {})
        name = override.key[-1]
        parent[name] = _scalar(override.text, plain_type(yaml_fields(section)[name].annotation))
        flags[override.key] = override.flag
    return flags


def _scalar(text: str, plain: Any) -> object:
    """The text as the field's type where that is plain; what does not fit stays text, for the model to refuse."""
    if plain is bool:
        truth = parse_truth(text)
        return text if truth is None else truth
    try:
        return plain(text) if plain in (int, float) else text
    except ValueError:
        return text


def _is_told(key: str, reported: Sequence[str]) -> bool:
    """Whether a problem with this key, or with one inside it, is in the list already."""
    return any(told == key or told.startswith((f"{key}.", f"{key}[")) for told in reported)


def _position(problem: Problem) -> tuple[bool, str, int, int]:
    """Order of problems: the command line first, then as they stand in the file."""
    name, _, position = problem.place.partition(":")
    line, _, column = position.partition(":")
    numbers = [int(part) if part.isdecimal() else 0 for part in (line, column)]
    return problem.place != COMMAND_LINE, name, numbers[0], numbers[1]
