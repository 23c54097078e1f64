"""The walls of the house: who imports whom, no rings, small files. The table is that of docs/architecture.md."""

from __future__ import annotations

import ast
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "vivace"

GROUND = {"access", "config", "errors", "gauges", "telemetry", "tls"}
"""Everyone may import these; of ours they import nothing but each other's and their own files."""

MAY_IMPORT: dict[str, set[str]] = {
    "config": {"errors"},
    "errors": set(),
    "telemetry": {"gauges"},
    "gauges": set(),
    "tls": {"errors"},
    "access": {"errors"},
    "logs": set(),
    "model": set(),
    "ingest": {"model"},
    "storage": {"model"},
    "traceql": {"model"},
    "generator": {"model"},
    "query": {"traceql", "storage", "model"},
    "api": {"query", "traceql", "model"},
    "commands": {"storage"},
    "ui": set(),
}

TOP = {
    "service",
    "generation",
    "limits",
    "process",
    "wiring",
    "status",
    "memory",
    "cli",
    "observers",
    "__init__",
    "__main__",
}
"""These connect the rooms, so they see all of them; no room imports them. `vivace` itself is the version."""

LINES_MAX = 450
LONGER: dict[str, str] = {}
"""Files that are longer, and why."""


def module_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(p for p in parts if p != "__init__")


MODULES = {module_of(p): p for p in SOURCE.rglob("*.py") if not p.name.endswith(("_pb2.py", "_pb2_grpc.py"))}


def imports_of(path: Path, *, at_import: bool = False) -> set[str]:
    """Modules of ours that a file imports, without the leading `vivace.`; only at the top level if `at_import`."""
    tree = ast.parse(path.read_text())
    found = set()
    for node in top_level(tree) if at_import else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {a.name.removeprefix("vivace.") for a in node.names if a.name.startswith("vivace.")}
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                here = path.relative_to(SOURCE).parts[: -node.level]
                base = ".".join([*here, *([node.module] if node.module else [])])
                found |= {f"{base}.{a.name}" if f"{base}.{a.name}" in MODULES else base for a in node.names}
            elif node.module == "vivace":
                found |= {
                    a.name for a in node.names if (SOURCE / a.name).exists() or (SOURCE / f"{a.name}.py").exists()
                }
            elif node.module and node.module.startswith("vivace."):
                base = node.module.removeprefix("vivace.")
                found |= {f"{base}.{a.name}" if f"{base}.{a.name}" in MODULES else base for a in node.names}
    return found


def top_level(tree: ast.Module) -> list[ast.stmt]:
    """Statements that run when the module is imported: not those in functions, nor those for type checkers only."""
    pending, found = list(tree.body), []
    while pending:
        node = pending.pop()
        found.append(node)
        if isinstance(node, ast.Try):
            pending += [*node.body, *node.orelse, *node.finalbody, *(s for h in node.handlers for s in h.body)]
        elif isinstance(node, ast.If):
            types_only = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
            pending += node.orelse if types_only else [*node.body, *node.orelse]
    return found


def room_of(module: str) -> str:
    return module.partition(".")[0]


def test_every_room_is_in_the_table() -> None:
    rooms = {room_of(m) for m in MODULES if m} - TOP
    assert rooms <= MAY_IMPORT.keys()


def test_rooms_import_what_they_may() -> None:
    wrong = []
    for module, path in MODULES.items():
        room = room_of(module) or "__init__"
        if room in TOP:
            continue
        allowed = {room} | MAY_IMPORT[room] | (set() if room in GROUND else GROUND)
        wrong += [f"{module} imports {i}" for i in imports_of(path) if room_of(i) not in allowed]
    assert wrong == []


def test_logs_import_nothing_of_ours() -> None:
    assert imports_of(MODULES["logs"]) == set()
    assert imports_of(MODULES["errors"]) == set()


def test_no_rings() -> None:
    """No module needs itself to be imported."""
    graph = {m: imports_of(p, at_import=True) & MODULES.keys() - {m} for m, p in MODULES.items()}
    while free := [m for m, needs in graph.items() if not needs & graph.keys()]:
        for module in free:
            del graph[module]
    assert graph == {}


def test_files_stay_small() -> None:
    lines = {str(p.relative_to(SOURCE)): len(p.read_text().splitlines()) for p in MODULES.values()}
    assert {name: n for name, n in lines.items() if n > LINES_MAX and name not in LONGER} == {}
