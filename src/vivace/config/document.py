"""A YAML file as a tree that still knows its lines.

Go's YAML and PyYAML differ where it matters little: here a timestamp stays text, and text fields take the scalar as it was
written (`version: 1.10` stays `1.10`). Duplicate keys are errors, as in Tempo. Merge keys (`<<`) and aliases work.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from vivace.errors import ConfigError

# Tempo's deepest key has 9 levels; a tree beyond this is an alias inside itself.
DEPTH_MAX = 64
# A large real file has some hundred nodes; more than this is an alias that doubles itself (the "billion laughs").
NODES_MAX = 100_000


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: a line for the user, the dotted key ("" where there is none), and file:line:column."""

    text: str
    key: str
    place: str


def config_error(problems: list[Problem]) -> ConfigError:
    """All problems as one error, a line each; key and place are those of the first. The list must not be empty."""
    return ConfigError("\n".join(problem.text for problem in problems), key=problems[0].key, place=problems[0].place)


class _Constructor(yaml.SafeLoader):
    """SafeLoader without timestamps: Tempo has no date among its settings."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own class attribute, copied without one resolver
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


class Document:
    """One parsed file. `root` is None when the file is empty; node positions become text through `place`."""

    def __init__(self, text: str, name: str) -> None:
        """Parse. Raises ConfigError when the text is not YAML, has duplicate keys, several documents or endless aliases."""
        self.name = name
        self._constructor = _Constructor("")
        try:
            self.root = yaml.compose(text, Loader=_Constructor)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
            reason = ", ".join(part for part in (error.context, error.problem) if part)
            raise ConfigError(f"cannot read {place} as YAML: {reason}", place=place) from error
        except yaml.YAMLError as error:
            raise ConfigError(f"cannot read {name} as YAML: {error}", place=name) from error
        if self.root is not None:
            self._check(self.root)

    def place(self, node: Node) -> str:
        """Where the node begins, as file:line:column, both counted from 1."""
        return f"{self.name}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"

    def pairs(self, node: MappingNode) -> Iterator[tuple[str, Node, Node]]:
        """Key, key node and value node of a mapping, own keys in place of merged ones of the same name."""
        latest: dict[str, tuple[Node, Node]] = {}
        for key_node, value_node in node.value:
            latest[str(key_node.value)] = (key_node, value_node)
        for key, (key_node, value_node) in latest.items():
            yield key, key_node, value_node

    def value(self, node: Node) -> object:
        """The node as plain Python data, of the type that YAML gives it."""
        return self._constructor.construct_object(node, deep=True)

    def text(self, node: Node) -> object:
        """A scalar as it was written; anything else as plain data, for the type check to refuse."""
        return node.value if isinstance(node, ScalarNode) else self.value(node)

    def _check(self, root: Node) -> None:
        """Find duplicate keys and endless aliases, and resolve merge keys. Raises ConfigError."""
        problems: list[Problem] = []
        count = 0
        waiting: list[tuple[Node, int]] = [(root, 1)]
        flattened: set[int] = set()
        while waiting:
            node, depth = waiting.pop()
            count += 1
            if depth > DEPTH_MAX or count > NODES_MAX:
                raise ConfigError(f"{self.place(node)}: found aliases without end, expected a plain tree of keys")
            if isinstance(node, SequenceNode):
                waiting.extend((item, depth + 1) for item in node.value)
            elif isinstance(node, MappingNode):
                if id(node) not in flattened:  # flattening is not idempotent: merged keys would look like duplicates
                    flattened.add(id(node))
                    problems.extend(self._duplicates(node))
                    self._constructor.flatten_mapping(node)
                waiting.extend((value, depth + 1) for _, value in node.value)
        if problems:
            raise config_error(sorted(problems, key=lambda problem: problem.place))

    def _duplicates(self, node: MappingNode) -> Iterator[Problem]:
        first: dict[str, Node] = {}
        for key_node, _ in node.value:
            place = self.place(key_node)
            if not isinstance(key_node, ScalarNode):
                yield Problem(f"found a list or map as a key at {place}, expected a name", "", place)
            elif key_node.value in first:
                line = first[key_node.value].start_mark.line + 1
                text = f"duplicate key {key_node.value} at {place}, already set in line {line}; keep one of them"
                yield Problem(text, key_node.value, place)
            else:
                first[key_node.value] = key_node


def is_null(node: Node) -> bool:
    """A key without a value, or with `null` or `~`."""
    return isinstance(node, ScalarNode) and node.tag == "tag:yaml.org,2002:null"
