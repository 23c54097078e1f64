"""No setting is accepted silently without effect: the service reads it, or a line says that it does nothing (yet)."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from vivace.config.known import KeyPath
from vivace.config.load import parse
from vivace.config.section import Section, item_type, section_type
from vivace.config.settings import Settings
from vivace.config.tenants import parse_tenants
from vivace.config.unfinished import PENDING, unfinished

SOURCE = Path(__file__).parents[2] / "src" / "vivace"

READERS = (
    "service.py",
    "process.py",
    "wiring.py",
    "status.py",
    "cli.py",
    "ingest/admission.py",
    "config/unfinished.py",
    "generator/configure.py",
)
"""Who knows settings: all else gets values from the service. admission.py takes a tenant's limits as a protocol."""

ONE_VALUE = {("target",), ("storage", "trace", "backend")}
"""All values that pass mean the same; the others are refused."""


def leaves(section: type[Section], path: KeyPath = ()) -> Iterator[tuple[KeyPath, type[Section], str]]:
    """Key path, section and attribute of every key that has a value of its own."""
    for attribute, field in section.model_fields.items():
        if field.exclude:
            continue
        key = (*path, field.alias or attribute)
        child = section_type(field.annotation) or section_type(item_type(field.annotation))
        if child is None:
            yield key, section, attribute
        else:
            yield from leaves(child, key)


def reads() -> dict[str, set[tuple[str, str]]]:
    """Attribute -> the functions of READERS that read it, and the expressions that they read it of."""
    found = defaultdict(set)
    for name in READERS:
        for function, node in attributes(ast.parse((SOURCE / name).read_text()), name):
            found[node.attr].add((function, ast.unparse(node.value)))
    return found


def attributes(node: ast.AST, function: str) -> Iterator[tuple[str, ast.Attribute]]:
    """Every attribute below a node, with the innermost function around it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Attribute):
            yield function, child
        inner = child.name if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) else function
        yield from attributes(child, inner)


def test_nobody_else_knows_settings() -> None:
    """Otherwise the next test would not see what they read."""
    others = (p for p in SOURCE.rglob("*.py") if not p.is_relative_to(SOURCE / "config"))
    known = {SOURCE / name for name in READERS}
    assert [p.name for p in others if "vivace.config" in p.read_text() and p not in known] == []


def is_pending(path: KeyPath) -> bool:
    return any(pending.covers(path) for pending in PENDING)


def test_every_setting_is_read() -> None:
    """A name that several sections share must be read as often: of another expression, or in another function."""
    places = reads()
    sections = defaultdict(set)
    wanted = [leaf for leaf in leaves(Settings) if leaf[0] not in ONE_VALUE and not is_pending(leaf[0])]
    assert len(wanted) > 70
    for _, section, attribute in wanted:
        sections[attribute].add(section)
    unread = [".".join(path) for path, _, name in wanted if len(places.get(name, ())) < len(sections[name])]
    assert unread == []


def test_rows_of_what_is_pending_cover_something() -> None:
    paths = [path for path, _, _ in leaves(Settings)]
    for pending in PENDING:
        names = [(*pending.section, key) for key in pending.keys] or [pending.section]
        for name in names:
            assert any(path[: len(name)] == name for path in paths), name


CASES = [  # text, lines
    ("", []),
    ("query_frontend: {search: {default_result_limit: 20}}", []),
    ("query_frontend: {api_timeout: 5s, search: {max_result_limit: 5}, metrics: {max_exemplars: 1}}", []),
    (
        "query_frontend: {multi_tenant_queries_enabled: false}",
        ["query_frontend: not yet, there is one tenant (multi_tenant_queries_enabled)"],
    ),
    ("querier: {max_concurrent_queries: 3, trace_by_id: {query_timeout: 1s}, search: {query_timeout: 1s}}", []),
    (
        "metrics_generator: {registry: {external_labels: {a: b}}, storage: {path: x, remote_write: [{url: 'http://a/'}]}}",
        ["metrics_generator: not yet, no series are made of spans (registry.external_labels, storage.path, storage.remote_write)"],
    ),
    (
        "overrides: {defaults: {read: {unsafe_query_hints: true}, metrics_generator: {processor: {host_info: {metric_name: a}}}}}",
        [
            "overrides.defaults.metrics_generator: not yet, no series are made of spans (processor.host_info.metric_name)",
            "overrides.defaults.read: not yet, no hint is unsafe here (unsafe_query_hints)",
        ],
    ),
    (
        "stream_over_http_enabled: true",
        ["stream_over_http_enabled: not yet, gRPC is answered on the gRPC port only"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "lines"), CASES)
def test_what_is_not_done_yet_is_said_once_a_section(text: str, lines: list[str]) -> None:
    assert unfinished(parse(text)) == lines


def test_the_same_for_a_tenants_entry() -> None:
    tenants = parse_tenants("overrides: {a: {read: {unsafe_query_hints: true}}, b: {ingestion: {rate_limit_bytes: 1}}}")
    assert tenants.notices == ("overrides.a.read: not yet, no hint is unsafe here (unsafe_query_hints)",)
