"""The layout of a block: which attributes become columns, meta.json, and that docs/formats/block.md tells the truth."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import builders as b
import duckdb
import orjson
import polars as pl
import pyarrow.parquet as pq
import pytest

from vivace.errors import CorruptionError
from vivace.model.schema import AttributeScope, ValueType
from vivace.storage import layout
from vivace.storage.block_reader import Block
from vivace.storage.layout import COLUMNS_MAX, Key, choose_columns, read_meta

DOCUMENT = Path(__file__).parents[2] / "docs" / "formats" / "block.md"

SPAN, EVENT = AttributeScope.SPAN, AttributeScope.EVENT
STRING, INT, DOUBLE, ARRAY = ValueType.STRING, ValueType.INT, ValueType.DOUBLE, ValueType.ARRAY

# what: rows of each (scope, key, type) in 1000 spans and 10 events, columns in order of frequency
CHOICES: dict[str, tuple[dict[tuple[AttributeScope, str, ValueType], int], list[str]]] = {
    "none": ({}, []),
    "the frequent": ({(SPAN, "a", STRING): 2, (SPAN, "b", INT): 900}, ["span.b", "span.a"]),
    "not the rare": ({(SPAN, "a", STRING): 1}, [""]),
    "rare among spans, not among events": ({(EVENT, "a", STRING): 1}, ["event.a"]),
    "scalars only": ({(SPAN, "a", ARRAY): 1000, (SPAN, "e", ValueType.EMPTY): 500}, ["", ""]),
    "two types": ({(SPAN, "a", STRING): 9, (SPAN, "a", INT): 8, (SPAN, "a", DOUBLE): 7}, ["span.a", "span.a:int", "span.a:double"]),
    "equally often: by name, then type": ({(SPAN, "b", STRING): 9, (SPAN, "a", INT): 9, (SPAN, "a", STRING): 9},
                                          ["span.a", "span.a:int", "span.b"]),
    "a key that looks like a second type": (
        {(SPAN, "a:int", STRING): 9, (SPAN, "a", STRING): 8, (SPAN, "a", INT): 7}, ["span.a:int", "span.a", "span.a:int:int"]
    ),
    "scopes do not meet": ({(SPAN, "a", STRING): 9, (EVENT, "a", STRING): 8}, ["span.a", "event.a"]),
    "no name with a NUL": ({(SPAN, "a\0b", STRING): 1000}, [""]),
    "so many": (
        {(SPAN, f"{i:03}", INT): 1000 - i for i in range(COLUMNS_MAX + 2)} | {(EVENT, "e", INT): 2},
        [*(f"span.{i:03}" for i in range(COLUMNS_MAX)), "", "", "event.e"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("counts", "columns"), CHOICES.values(), ids=CHOICES.keys())
def test_choice_of_columns(counts: dict[tuple[AttributeScope, str, ValueType], int], columns: list[str]) -> None:
    chosen = choose_columns({Key(*key): rows for key, rows in counts.items()}, {SPAN: 1000, EVENT: 10})
    assert [c.column for c in chosen] == columns
    assert {(c.key.scope, c.key.name, c.key.type): c.rows for c in chosen} == counts


@pytest.fixture
def block(tmp_path: Path) -> Block:
    """A block with something in every file."""
    spans: list[Any] = [
        b.span(1, i + 1, min(i, 1), name=("checkout", "pay", "ship")[i % 3], start=b.NOON + i, duration=1000 - i,
               status=(2 * (i == 5), ""), attributes={"http.status_code": 500 if i == 5 else 200},
               events=[b.event("exception", attributes={"exception.type": "TimeoutError"})] * (i == 5),
               links=[b.link(b"1", b"2")] * (i == 7))
        for i in range(999)
    ]  # fmt: skip
    spans.append(b.span(2, 4711, start=b.NOON + 1, attributes={"app.rare": "found"}))
    return b.write_block(
        tmp_path / "t", b.batch(b.request(*spans, resource={"service.name": "shop"}, scope="lib")), "0001"
    )


def test_meta_is_read_as_written(block: Block) -> None:
    assert read_meta(block.directory) == block.meta
    assert set(block.meta.files) == set(block.meta.checksums) == set(layout.DATA_FILES)
    assert block.meta.data_bytes == sum((block.directory / n).stat().st_size for n in layout.DATA_FILES)


def test_any_altered_figure_of_meta_is_noticed(block: Block) -> None:
    path = block.directory / layout.META
    good = json.loads(path.read_bytes())
    for key, value in good.items():
        for other in (None, [], 17):
            if other == value:
                continue
            path.write_bytes(orjson.dumps(good | {key: other}))
            with pytest.raises(CorruptionError):
                read_meta(block.directory)
        path.write_bytes(orjson.dumps({k: v for k, v in good.items() if k != key}))
        with pytest.raises(CorruptionError):
            read_meta(block.directory)
    path.write_bytes(json.dumps(good).encode())  # other white space, another order
    assert read_meta(block.directory) == block.meta


def test_meta_that_does_not_fit_is_refused(block: Block) -> None:
    """With a good checksum, as a later version of ours might write it by mistake."""
    for wrong in (replace(block.meta, format_version=2), replace(block.meta, files={layout.SPANS: 1})):
        (block.directory / layout.META).write_bytes(wrong.to_json())
        with pytest.raises(CorruptionError):
            read_meta(block.directory)


def test_every_column_and_key_is_documented(block: Block) -> None:
    text = DOCUMENT.read_text()
    names = {*layout.DATA_FILES, layout.META, *json.loads(block.meta.to_json())}
    for name in (n for n in layout.DATA_FILES if n.endswith(".parquet")):
        names |= {n for n in pq.read_schema(block.directory / name).names if "." not in n}
    assert sorted(n for n in names if f"`{n}`" not in text) == []


def examples(language: str, block: Block) -> list[str]:
    found = re.findall(rf"```{language}\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    return [
        text.replace("BLOCK", str(block.directory)).replace("TENANT", str(block.directory.parent)) for text in found
    ]


def test_the_documented_sql_works(block: Block) -> None:
    slow, failed, rare, errors = (duckdb.sql(text).fetchall() for text in examples("sql", block))
    assert slow == [(b.trace_id(1).hex().upper(), "shop", "ship", 995 / 1e6)]
    assert failed == [("ship", "exception", "TimeoutError", 1)]
    assert rare == [((4711).to_bytes(8).hex().upper(), "found")]
    assert errors == [("shop", 1000, 1)]


def test_the_documented_python_works(block: Block) -> None:
    nested, one_trace = examples("python", block)
    found: dict[str, Any] = {}
    exec(nested, found)  # noqa: S102
    assert isinstance(found["below"], pl.DataFrame)
    assert len(found["below"]) == 998
    exec(one_trace, found)  # noqa: S102
    assert len(found["spans"]) == 999
