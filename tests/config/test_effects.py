"""No setting is accepted silently without effect: the service reads it, or a line says that it does nothing (yet)."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from vivace.config import unfinished
from vivace.config.known import LIMITS_PATH, KeyPath
from vivace.config.load import parse
from vivace.config.section import Section, item_type, section_type
from vivace.config.settings import Settings
from vivace.config.tenants import parse_tenants
from vivace.config.unfinished import PENDING, Pending

SOURCE = Path(__file__).parents[2] / "src" / "vivace"

READERS = (
    "service.py",
    "process.py",
    "wiring.py",
    "limits.py",
    "status.py",
    "cli.py",
    "ingest/admission.py",
    "config/unfinished.py",
    "generation.py",
    "generator/configure.py",
    "generator/relabel.py",
    "generator/remote_write.py",
    "generator/write_auth.py",
    "generator/write_endpoint.py",
    "generator/write_sender.py",
)
"""Who acts on settings: all else gets values from them. admission.py takes a tenant's limits as a protocol."""

EXPLAINERS = {"commands"}
"""Rooms that know settings only to explain them: what they read has no effect on the server."""

ONE_VALUE = {
    ("target",),
    ("storage", "trace", "backend"),
    ("metrics_generator", "storage", "remote_write", "send_exemplars"),
}
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
    paths = {p.relative_to(SOURCE) for p in SOURCE.rglob("*.py")} - {Path(name) for name in READERS}
    others = [p for p in paths if p.parts[0] not in {"config", *EXPLAINERS}]
    assert [p for p in others if knows_settings((SOURCE / p).read_text())] == []


def knows_settings(text: str) -> bool:
    """Whether a module imports the room of settings, by its name or relatively."""
    imports = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = [node.module or "" for node in imports if isinstance(node, ast.ImportFrom)]
    names += [alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names]
    return any(name.removeprefix("vivace.").partition(".")[0] == "config" for name in names)


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


ROWS = (
    Pending(("query_frontend",), "there is one tenant", ("multi_tenant_queries_enabled",)),
    Pending(("metrics_generator",), "no series are made of spans"),
    Pending((*LIMITS_PATH, "metrics_generator"), "no series are made of spans"),
    Pending((*LIMITS_PATH, "read"), "ids are short", ("left_pad_trace_ids",)),
)
"""What could be pending: a section, and single keys of one."""

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
        "overrides: {defaults: {read: {left_pad_trace_ids: true}, metrics_generator: {processor: {host_info: {metric_name: a}}}}}",
        [
            "overrides.defaults.metrics_generator: not yet, no series are made of spans (processor.host_info.metric_name)",
            "overrides.defaults.read: not yet, ids are short (left_pad_trace_ids)",
        ],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "lines"), CASES)
def test_what_is_not_done_yet_is_said_once_a_section(
    monkeypatch: pytest.MonkeyPatch, text: str, lines: list[str]
) -> None:
    monkeypatch.setattr(unfinished, "PENDING", ROWS)
    assert unfinished.unfinished(parse(text)) == lines


def test_the_same_for_a_tenants_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unfinished, "PENDING", ROWS)
    tenants = parse_tenants("overrides: {a: {read: {left_pad_trace_ids: true}}, b: {ingestion: {rate_limit_bytes: 1}}}")
    assert tenants.notices == ("overrides.a.read: not yet, ids are short (left_pad_trace_ids)",)


NEVER = [  # text, keys
    (
        "metrics_generator: {storage: {path: x, remote_write: [{url: 'http://a/', queue_config: "
        "{capacity: 1, min_shards: 1, max_shards: 2, batch_send_deadline: 5s, max_backoff: 1s}}]}}",
        [
            f"metrics_generator.storage.remote_write[0].queue_config.{key}"
            for key in ("capacity", "min_shards", "max_shards", "batch_send_deadline")
        ],
    ),
    ("overrides: {defaults: {read: {unsafe_query_hints: true}}}", ["overrides.defaults.read.unsafe_query_hints"]),
    ("overrides: {unsafe_query_hints: true}", ["overrides.unsafe_query_hints"]),
]


@pytest.mark.parametrize(("text", "keys"), NEVER)
def test_a_key_that_never_has_an_effect_is_accepted_with_a_line(text: str, keys: list[str]) -> None:
    notices = parse(text).notices
    assert [notice.partition(": accepted, has no effect (")[0] for notice in notices] == keys
