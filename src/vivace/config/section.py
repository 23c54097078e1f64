"""What every group of keys has in common: frozen models, and marks that load.py, dump.py and overrides.py read.

A field's YAML name is its alias, or else its own name. Defaults are Tempo's unless the description says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo


class Section(BaseModel):
    """A group of keys. Unknown keys are found by load.py, which knows the line; `extra` is the last line of defence."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


@dataclass(frozen=True, slots=True)
class PresentWhenNull:
    """A key that is there without a value (`grpc:`) means "with defaults"; elsewhere it means "not given"."""


@dataclass(frozen=True, slots=True)
class Whole:
    """The section's default holds only while the file does not name the section at all; mode "diff" prints all or nothing."""


@dataclass(frozen=True, slots=True)
class KeepsDefault:
    """A limit that keeps its default in a tenant's entry that does not name it; the others become zero."""


def has_mark(field: FieldInfo, mark: type) -> bool:
    return any(isinstance(item, mark) for item in field.metadata)


def yaml_fields(section: type[Section]) -> dict[str, FieldInfo]:
    """The section's keys by YAML name, in the order of the source; fields that are no keys (`exclude`) are left out."""
    return {field.alias or name: field for name, field in section.model_fields.items() if not field.exclude}


def plain_type(annotation: Any) -> Any:
    """The annotation without `| None`; other unions come back as they are."""
    if get_origin(annotation) in (Union, UnionType):
        rest = [item for item in get_args(annotation) if item is not type(None)]
        if len(rest) == 1:
            return plain_type(rest[0])
    if hasattr(annotation, "__metadata__"):
        return plain_type(get_args(annotation)[0])
    return annotation


def section_type(annotation: Any) -> type[Section] | None:
    """The Section that an annotation stands for, through `| None`; None for anything else."""
    plain = plain_type(annotation)
    return plain if isinstance(plain, type) and issubclass(plain, Section) else None


def item_type(annotation: Any) -> Any:
    """The element type of `tuple[X, ...]`, the value type of `Mapping[str, X]`, None for anything else."""
    plain = plain_type(annotation)
    arguments = get_args(plain)
    if get_origin(plain) is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return arguments[0]
    if len(arguments) == 2 and arguments[0] is str:
        return arguments[1]
    return None
