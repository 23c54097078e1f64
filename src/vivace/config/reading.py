"""From a YAML tree to plain data that the models take: every key looked up, every value with its line.

The tree is read along the models. A key is used (goes into the data), accepted without effect (one notice), an old name of
another (moved there) or unknown (a problem with the nearest real key). Nothing is raised here: problems are collected, so
that the user sees them all at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo
from yaml.nodes import MappingNode, Node, SequenceNode

from .document import Document, Problem, is_null
from .flags import COMMAND_LINE
from .known import KeyPath, KnownKeys
from .section import PresentWhenNull, Section, Whole, has_mark, item_type, plain_type, section_type, yaml_fields
from .units import BytesOrPercent

# Where a value stands in the data, as pydantic names it in its errors: ("storage", "remote_write", 0, "url").
Location = tuple[str | int, ...]

_EXPECTED = {
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "path_type": "a path",
    "tuple_type": "a list",
    "mapping_type": "a map",
    "dict_type": "a map",
    "model_type": "a map",
}


class _NotGiven(Enum):
    """A key without a value: the default holds."""

    NOT_GIVEN = 0


@dataclass(frozen=True, slots=True)
class At:
    """A key on the way down: its path for look-ups (`known`) and its place in the data (`location`)."""

    known: KeyPath
    location: Location

    def child(self, name: str) -> At:
        return At((*self.known, name), (*self.location, name))

    def item(self, index: int) -> At:
        return At(self.known, (*self.location, index))


def dotted(location: Location) -> str:
    """The location as users write it: `metrics_generator.storage.remote_write[0].url`."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


class Reader:
    """Reads one document. Afterwards `problems` and `notices` hold what was found, `places` where each value stood."""

    def __init__(self, document: Document, known: KnownKeys) -> None:
        self.problems: list[Problem] = []
        self.notices: list[str] = []
        self.places: dict[Location, str] = {}
        self._document = document
        self._known = known
        self._moved: list[tuple[KeyPath, Node, At]] = []

    def read_root(self, root: type[Section]) -> dict[str, Any]:
        """The data of the whole document."""
        return self.read(self._document.root, root, At((), ()))

    def read(self, node: Node | None, root: type[Section], at: At) -> dict[str, Any]:
        """The data of a section at `at`, keys with old names moved to where they belong."""
        self._moved = []
        data = {} if node is None or is_null(node) else self._section(node, root, at)
        # Backwards, so that backend_worker comes before backend_scheduler: it is the one that deletes blocks in 3.0.
        for target, value_node, origin in sorted(self._moved, key=lambda item: item[2].known, reverse=True):
            self._move(data, root, at, target, value_node, origin)
        return data

    def _section(self, node: Node, section: type[Section], at: At) -> dict[str, Any]:
        if not isinstance(node, MappingNode):
            self._problem(at, node, f"found {_found(self._document.value(node))}, {self._expected_keys(at.known)}")
            return {}
        fields = yaml_fields(section)
        data: dict[str, Any] = {}
        for name, key_node, value_node in self._document.pairs(node):
            here = at.child(name)
            if name in fields:
                value = self._field(value_node, fields[name], here)
                if value is not _NotGiven.NOT_GIVEN:
                    data[name] = value
            else:
                self._foreign(here, key_node, value_node)
        return data

    def _field(self, node: Node, field: FieldInfo, at: At) -> Any:
        empty = isinstance(node, MappingNode) and not node.value
        if is_null(node) or (empty and has_mark(field, Whole)):
            return {} if has_mark(field, PresentWhenNull) else _NotGiven.NOT_GIVEN
        return self._value(node, field.annotation, at)

    def _value(self, node: Node, annotation: Any, at: At) -> Any:
        """Plain data for a value of this type; what does not fit is left for the model to refuse."""
        self.places[at.location] = self._document.place(node)
        section = section_type(annotation)
        if section is not None:
            return self._section(node, section, at)
        plain, item = plain_type(annotation), item_type(annotation)
        if item is not None and isinstance(node, SequenceNode) and get_origin(plain) is tuple:
            return tuple(self._value(child, item, at.item(index)) for index, child in enumerate(node.value))
        if item is not None and isinstance(node, MappingNode) and get_origin(plain) is not tuple:
            return {
                name: self._value(child, item, at.child(name))
                for name, _, child in self._document.pairs(node)
                if not is_null(child)
            }
        return self._document.text(node) if _takes_text(plain) else self._document.value(node)

    def _foreign(self, at: At, key_node: Node, value_node: Node) -> None:
        """A key that is no field: moved, accepted without effect, a mere way to such keys, or unknown."""
        target = self._known.moved_to(at.known)
        reason = self._known.reason(at.known)
        if target is not None:
            self._moved.append((target, value_node, at))
        elif reason is not None:
            self._unused(at, value_node, reason)
        elif self._known.leads_on(at.known) and (isinstance(value_node, MappingNode) or is_null(value_node)):
            if isinstance(value_node, MappingNode):
                self._section(value_node, Section, at)
        else:
            place = self._document.place(key_node)
            nearest = self._known.nearest(at.known)
            hint = f"did you mean {'.'.join(nearest)}?" if nearest else self._expected_keys(at.known[:-1])
            key = dotted(at.location)
            self.problems.append(Problem(f"unknown key {key} at {place}; {hint}", key, place))

    def _unused(self, at: At, node: Node, reason: str) -> None:
        """One notice for each key without effect; a free-form subtree counts each key in it."""
        for leaf, leaf_node in self._leaves(at, node):
            target = self._known.moved_to(leaf.known)
            if target is not None:
                self._moved.append((target, leaf_node, leaf))
            else:
                self.notices.append(f"{dotted(leaf.location)}: accepted, has no effect ({reason})")

    def _leaves(self, at: At, node: Node) -> Iterator[tuple[At, Node]]:
        if isinstance(node, MappingNode) and node.value:
            for name, _, child in self._document.pairs(node):
                yield from self._leaves(at.child(name), child)
        else:
            yield at, node

    def _move(
        self, data: dict[str, Any], root: type[Section], base: At, target: KeyPath, node: Node, origin: At
    ) -> None:
        """Put the value of an old name where the present name belongs, unless that is set already."""
        below = target[len(base.known) :]
        old, new = dotted(origin.location), dotted((*base.location, *below))
        reason = self._known.reason(target)
        if reason is not None:
            self.notices.append(f"{old}: accepted, has no effect ({reason})")
            return
        if is_null(node):
            return
        section, at, parent = root, base, data
        for name in below[:-1]:
            child = section_type(yaml_fields(section)[name].annotation)
            if child is None:
                raise AssertionError(f"{'.'.join(target)} leads through {name}, which has no keys")
            section, at, parent = child, at.child(name), parent.setdefault(name, {})
        name = below[-1]
        deprecated = target[0] != "compactor"
        if name in parent:
            if deprecated:
                self._problem(origin, node, f"found beside {new}, expected one of them; remove {old}")
            else:
                self.notices.append(f"{old}: accepted, has no effect ({new} is set too and holds)")
            return
        value = self._field(node, yaml_fields(section)[name], at.child(name))
        if value is not _NotGiven.NOT_GIVEN:
            parent[name] = value
        if deprecated:
            self.notices.append(f"{old}: deprecated name, write {new}")

    def _problem(self, at: At, node: Node, text: str) -> None:
        place = self._document.place(node)
        key = dotted(at.location)
        self.problems.append(Problem(f"{key or 'the file'} at {place}: {text}", key, place))

    def _expected_keys(self, parent: KeyPath) -> str:
        names = self._known.below(parent)
        shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        return f"expected keys such as {shown}" if names else "expected no key here"


def describe(
    error: ValidationError, places: Mapping[Location, str], flags: Mapping[Location, str], base: Location = ()
) -> list[Problem]:
    """A model's refusals as problems, each with its key, its place, what was found and what would fit.

    `places` and `flags` tell where values came from: the file's line, or else the flag's name.
    """
    problems = []
    for detail in error.errors(include_url=False):
        location = base + tuple(detail["loc"])
        if location in flags:
            problems.append(Problem(f"-{flags[location]}: {_reason(detail)}", dotted(location), COMMAND_LINE))
            continue
        place = _place_of(location, places)
        key = dotted(location)
        where = f" at {place}" if place else ""
        problems.append(Problem(f"{key}{where}: {_reason(detail)}", key, place))
    return problems


def _place_of(location: Location, places: Mapping[Location, str]) -> str:
    """The place of a value, or of the nearest key above it that stands in the file."""
    for length in range(len(location), 0, -1):
        if location[:length] in places:
            return places[location[:length]]
    return ""


def _reason(detail: Any) -> str:
    kind, found = detail["type"], _found(detail["input"])
    context = detail.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind == "missing":
        return "found nothing, expected a value"
    if kind == "literal_error":
        return f"found {found}, expected {context['expected']}"
    if kind == "greater_than_equal":
        return f"found {found}, expected {context['ge']} or more"
    if kind == "less_than_equal":
        return f"found {found}, expected {context['le']} or less"
    if kind in _EXPECTED:
        return f"found {found}, expected {_EXPECTED[kind]}"
    return f"found {found}; {detail['msg'][:1].lower()}{detail['msg'][1:]}"


def _found(value: object) -> str:
    """A value as the user wrote it; lists and maps are only named, they may hold secrets."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, dict):
        return "a map"
    return "nothing" if value is None else repr(value)


def _takes_text(plain: Any) -> bool:
    """Whether a scalar goes to the model as it was written, whatever type YAML would give it."""
    if get_origin(plain) is Literal:
        return all(isinstance(value, str) for value in get_args(plain))
    return plain in (str, SecretStr, Path, timedelta, BytesOrPercent)
