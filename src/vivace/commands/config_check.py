"""`vivace config check`: for each key of a file, what it does here.

It asks what the server asks: the models, unused.yaml, PENDING, the old names. So it cannot say anything else than a start
would; it says it for every key, and about keys that a start passes over in silence.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

import orjson
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from yaml.nodes import MappingNode, Node, SequenceNode

from vivace.commands.text import add_config_flags, config_text, counted, table
from vivace.config.document import Document, Problem
from vivace.config.known import KeyPath, KnownKeys
from vivace.config.reading import At, Reader, describe, dotted
from vivace.config.section import Section, item_type, section_type, yaml_fields
from vivace.config.settings import Settings
from vivace.config.tenants import read_tenants
from vivace.config.unfinished import PENDING, unfinished
from vivace.errors import ConfigError


class Verdict(StrEnum):
    """What a key does here; the last two keep the server from starting."""

    EFFECT = "has effect"
    OLD_NAME = "old name"
    NOT_YET = "not yet"
    NONE = "no effect"
    UNKNOWN = "unknown"
    WRONG = "wrong"

    @property
    def is_fatal(self) -> bool:
        return self in (Verdict.UNKNOWN, Verdict.WRONG)


@dataclass(frozen=True, slots=True)
class Finding:
    """One key of the file. `line` counts from 1, 0: the key does not stand in the file; `text` says more."""

    line: int
    key: str
    verdict: Verdict
    text: str


def field_at(path: KeyPath) -> FieldInfo | None:
    """The setting with this path, list positions left out; None when there is none."""
    section: type[Section] | None = Settings
    field = None
    for name in path:
        field = yaml_fields(section).get(name) if section is not None else None
        if field is None:
            return None
        section = inner_section(field)
    return field


def inner_section(field: FieldInfo) -> type[Section] | None:
    """The keys below a setting, of itself or of its items; None when it is a plain value."""
    return section_type(field.annotation) or section_type(item_type(field.annotation))


def pending_text(path: KeyPath) -> str | None:
    """What is missing before the setting has an effect; None when nothing is."""
    return next((pending.missing for pending in PENDING if pending.covers(path)), None)


def unused_verdict(reason: str) -> tuple[Verdict, str]:
    """Verdict and text of a key in unused.yaml, whose reasons begin with "not yet" where a key may come to mean something."""
    if reason.startswith("not yet: "):
        return Verdict.NOT_YET, reason.removeprefix("not yet: ")
    return Verdict.NONE, reason


@dataclass(frozen=True, slots=True)
class Checked:
    """All keys of a file in its order, then what is wrong elsewhere. `settings` are None when a start would fail."""

    findings: list[Finding]
    settings: Settings | None


def check(text: str, name: str) -> Checked:
    """Judge every key of a file; `name` stands for it in messages. Raises ConfigError when the text is not YAML."""
    document = Document(text, name)
    known = KnownKeys.of(Settings)
    reader = Reader(document, known)
    data = reader.read_root(Settings)
    problems: list[Problem] = list(reader.problems)
    settings = None
    unmet: dict[str, str] = {}
    try:
        settings = Settings.model_validate(data)
        unmet = dict(_split(line) for line in unfinished(settings))
    except ValidationError as error:
        problems += describe(error, reader.places, {})
    wrong: dict[str, str] = {}
    for problem in problems:  # the first of a key: a model's complaint would repeat what the reader found
        wrong.setdefault(problem.key, problem.text)
    walk = _Walk(document, known, wrong, unmet)
    found = list(walk.below(document.root, At((), ()))) if document.root is not None else []
    told = {one.key for one in found if one.verdict.is_fatal}
    found += [Finding(0, key, Verdict.WRONG, text) for key, text in wrong.items() if key not in told]
    return Checked(found, None if wrong else settings)


def _split(line: str) -> tuple[str, str]:
    key, _, rest = line.partition(": ")
    return key, rest.removeprefix("not yet, ")


@dataclass(frozen=True, slots=True)
class _Walk:
    """Goes through a document along the settings.

    wrong  by key: what keeps the server from starting;  unmet: what it says at a start that it does not do yet
    """

    document: Document
    known: KnownKeys
    wrong: Mapping[str, str]
    unmet: Mapping[str, str]

    def below(self, node: Node, at: At) -> Iterator[Finding]:
        """The keys below a node: maps and lists of maps are gone into, all else is one key's value."""
        if isinstance(node, MappingNode):
            for name, key_node, value in self.document.pairs(node):
                yield from self._key(key_node.start_mark.line + 1, value, at.child(name))
        elif isinstance(node, SequenceNode):
            for index, item in enumerate(node.value):
                yield from self.below(item, at.item(index))

    def _key(self, line: int, value: Node, at: At) -> Iterator[Finding]:
        key = dotted(at.location)
        field = field_at(at.known)
        wrong = self.wrong.get(key)
        if wrong is not None and wrong.startswith("unknown key "):
            yield Finding(line, key, Verdict.UNKNOWN, wrong.partition("; ")[2])
            return
        if wrong is not None:
            yield Finding(line, key, Verdict.WRONG, wrong)
        if _holds_keys(field, value):
            yield from self.below(value, at)
        elif wrong is None:
            missing = self.unmet.get(key)
            verdict = (Verdict.NOT_YET, missing) if missing is not None else self._verdict(at.known, field)
            yield Finding(line, key, *verdict)

    def _verdict(self, path: KeyPath, field: FieldInfo | None) -> tuple[Verdict, str]:
        target = self.known.moved_to(path)
        if target is not None:
            verdict, text = self._verdict(target, field_at(target))
            return Verdict.OLD_NAME, f"of {'.'.join(target)}; {verdict.value}: {text}"
        reason = self.known.reason(path)
        if reason is not None:
            return unused_verdict(reason)
        missing = pending_text(path)
        if missing is not None:
            return Verdict.NOT_YET, missing
        return Verdict.EFFECT, (field.description or "") if field is not None else ""


def _holds_keys(field: FieldInfo | None, value: Node) -> bool:
    """Whether the value holds keys, and is not one setting's own map or list."""
    if not isinstance(value, MappingNode | SequenceNode) or not value.value:
        return False
    if field is None:
        return isinstance(value, MappingNode)
    return inner_section(field) is not None


# -- the command ------------------------------------------------------------------------------------------------------


def main(argv: Sequence[str]) -> int:
    """Run with the arguments behind `vivace config`; returns the exit code."""
    arguments = _parser().parse_args(argv)
    checked = check(*config_text(arguments))
    usable = checked.settings is not None
    if checked.settings is not None:
        usable = _tenants_are_usable(checked.settings)
    if arguments.json:
        print(orjson.dumps([asdict(one) for one in checked.findings], option=orjson.OPT_INDENT_2).decode())
    else:
        _print(checked.findings)
        print("this configuration can be used" if usable else "this configuration cannot be used")
    return 0 if usable else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vivace config", description="Look at a configuration.", allow_abbrev=False)
    actions = parser.add_subparsers(dest="action", required=True)
    summary = "for each key of a file, what it does here"
    made = actions.add_parser("check", help=summary, description=summary, allow_abbrev=False)
    add_config_flags(made)
    made.add_argument("--json", action="store_true", help="as JSON")
    return parser


def _print(found: Sequence[Finding]) -> None:
    """Values are not printed: some are secrets, and the file has them."""
    rows = [(str(one.line or "–"), one.key, one.verdict.value, one.text) for one in found]
    if rows:
        print(table(("line", "key", "here", ""), rows, right=(0,)))
    counts = Counter(one.verdict for one in found)
    parts = [f"{verdict.value}: {counts[verdict]}" for verdict in Verdict if counts[verdict]]
    print(f"{counted(len(found), 'key')} ({', '.join(parts)})" if parts else "no keys: all defaults")


def _tenants_are_usable(settings: Settings) -> bool:
    """Look at the file of tenants that the settings name, and say what is wrong with it or has no effect."""
    path = settings.overrides.per_tenant_override_config
    if path is None:
        return True
    try:
        notices = read_tenants(path).notices
    except ConfigError as error:
        print(error, file=sys.stderr)
        return False
    for notice in notices:
        print(f"{path}: {notice}", file=sys.stderr)
    return True
