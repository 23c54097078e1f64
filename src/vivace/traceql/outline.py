"""AST → indented text, one node a line: for people, for `explain`, and for the stage goldens of the tests."""

from __future__ import annotations

from dataclasses import fields
from enum import Enum

from vivace.traceql.ast import Attribute, Intrinsic, Node, Static, children
from vivace.traceql.printer import canonical


def outline(node: Node, indent: int = 0) -> str:
    """Each node with its own values; what is below it is indented below it. Leaves are printed as in a query."""
    lines = [f"{'  ' * indent}{_line(node)}"]
    if not isinstance(node, Attribute | Intrinsic | Static):
        lines += [outline(child, indent + 1) for child in children(node)]
    return "\n".join(lines)


def _line(node: Node) -> str:
    name = type(node).__name__
    if isinstance(node, Static):
        return f"{name} {node.kind.value} {canonical(node)}"
    if isinstance(node, Attribute | Intrinsic):
        return f"{name} {canonical(node)}"
    below = set(map(id, children(node)))
    values = {f.name: getattr(node, f.name) for f in fields(node) if f.compare}
    shown = [
        str(value.value) if isinstance(value, Enum) else f"{key}={value}"
        for key, value in values.items()
        if value not in (None, ()) and id(value) not in below and not _holds(value, below)
    ]
    return " ".join([name, *shown])


def _holds(value: object, nodes: set[int]) -> bool:
    return isinstance(value, tuple) and any(id(item) in nodes for item in value)
