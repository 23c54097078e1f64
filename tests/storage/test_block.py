"""A block gives back what was written, to us and to anyone who reads Parquet: whole, by trace, merged, merged again."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import builders as b
import duckdb
import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from vivace.errors import CorruptionError, InvariantError
from vivace.model.arrange import arrange
from vivace.model.batch import SpanBatch
from vivace.storage import layout
from vivace.storage.block_reader import TRACE_ROWS_MAX, Block
from vivace.storage.block_writer import BlockWriter
from vivace.storage.compaction import compact

MANY_KEYS = {f"key.{i:03}": i for i in range(200)}

# what: attributes of one span
VALUES: dict[str, b.Pairs] = {
    "none": {},
    "string": {"k": "v", "empty": "", "unicode": "grüße 🎷", "nul": "a\0b", "long": "x" * 100_000},
    "int": {"zero": 0, "one": 1, "minus": -1, "max": 2**63 - 1, "min": -(2**63)},
    "double": {"pi": 3.14, "-0": -0.0, "inf": math.inf, "-inf": -math.inf, "nan": math.nan, "tiny": 5e-324},
    "bool": {"yes": True, "no": False},
    "bytes": {"some": b"\xff\x00", "none": b""},
    "array": {"a": [1, "x", 2.5, True, b"\0", None, [1, [2]], {"k": 1}], "empty": []},
    "kvlist": {"m": {"a": 1, "b": {"c": ["d"]}}, "empty": {}},
    "not set": {"nothing": None},
    "same key, same value": [("k", "v"), ("k", "v")],
    "same key, other values": [("k", "a"), ("k", "b"), ("k", "c")],
    "same key, two types": [("k", "a"), ("k", 1)],
    "same key, all types": [("k", v) for v in ("a", 1, 1.5, True, b"b", ["l"], {"m": 1}, None)],
    "keys that look like second types": [("x", "s"), ("x", 1), ("x:int", "s"), ("x:int", 2), ("x:int:string", "s")],
    "keys that look like columns": {"attributes": 1, "name": "n", "span.name": "s", "trace_id": "t"},
    "strange keys": {"": "empty", "ключ": 1, " ": 2, 'quo"te': 3, "nul\0nul": 4, "dot.": 5, "a" * 1000: 6},
    "more keys than columns": MANY_KEYS,
}

# what: one request
REQUESTS = {
    "bare": b.request(b.span()),
    "all fields": b.request(
        b.span(
            name="GET /",
            kind=2,
            status=(2, "broken"),
            trace_state="vendor=1",
            flags=0x301,
            dropped_attributes_count=1,
            dropped_events_count=2,
            dropped_links_count=2**32 - 1,
        )
    ),
    "numbers that OTLP has no name for": b.request(b.span(kind=77, status=(9, "")), b.span(id=2, kind=-1)),
    "ids at their limits": b.request(b.span(trace=2**128 - 1, id=2**64 - 1, parent=2**64 - 2)),
    "times at their limits": b.request(
        b.span(id=1, start=0, duration=0),
        b.span(id=2, start=2**64 - 1, duration=0),
        b.span(id=3, start=5, duration=-5),
        b.span(id=4, start=0, duration=2**64 - 1),
    ),
    "events": b.request(
        b.span(events=[b.event("a", 1, VALUES["array"]), b.event("", 2**64 - 1, dropped_attributes_count=3)]),
        b.span(id=2),
        b.span(id=3, parent=1, events=[b.event("a", 0, MANY_KEYS), b.event("a", 0, {"k": 1})]),
    ),
    "links": b.request(
        b.span(id=2),
        b.span(
            links=[
                b.link(b"\1" * 16, b"\2" * 8, {"k": "v"}, trace_state="t=1", flags=7, dropped_attributes_count=2),
                b.link(),
                b.link(b"odd", b"x" * 33, MANY_KEYS),
            ]
        ),
    ),
    "resource and scope": b.request(
        b.span(),
        resource={"service.name": "shop", **MANY_KEYS, "list": [1], "bytes": b"\0"},
        resource_url="https://r",
        scope="lib",
        version="1.2",
        scope_attributes=[("k", 1), ("k", "one")],
        scope_url="https://s",
        dropped=3,
    ),
}
REQUESTS |= {f"values: {name}": b.request(b.span(attributes=pairs)) for name, pairs in VALUES.items()}
REQUESTS |= {
    f"values: {name}, in resource and scope": b.request(b.span(), resource=pairs, scope_attributes=pairs)
    for name, pairs in VALUES.items()
}


def merged(directory: Path, *blocks: Block, id: str = "merged") -> Block:
    done = compact(blocks, directory=directory, block_id=id, memory_bytes=64 << 20, now_unix_nano=b.NOON)
    return Block(done.directory, done.meta)


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS.keys())
def test_written_is_read(tmp_path: Path, request_: Any) -> None:
    block = b.write_block(tmp_path, b.batch(request_))
    assert b.contents(b.all_rows(block)) == b.contents(request_)


@pytest.fixture(scope="module")
def everything() -> SpanBatch:
    """All requests above as one batch, every span with a trace of its own and some together."""
    requests = []
    for number, original in enumerate(REQUESTS.values()):
        for trace in (7, 1000 + number):
            copy = type(original).FromString(original.SerializeToString())
            for group in copy.resource_spans:
                for span in group.scope_spans[0].spans:
                    span.trace_id = b.trace_id(trace)
                    span.start_time_unix_nano = (span.start_time_unix_nano + number) % 2**64
            requests.append(copy)
    return b.batch(*requests)


def test_everything_at_once_merged_and_merged_again(tmp_path: Path, everything: SpanBatch) -> None:
    expected = b.contents(everything)
    half = len(everything) // 2
    first = b.write_block(tmp_path, everything.slice(0, half), "first")
    second = b.write_block(tmp_path, everything.slice(half, len(everything)), "second")
    third = b.write_block(tmp_path, b.batch(b.request(b.span(trace=9, name="third"))), "third")
    assert b.contents(b.all_rows(first), b.all_rows(second)) == expected
    once = merged(tmp_path, first, second, id="once")
    assert b.contents(b.all_rows(once)) == expected
    twice = merged(tmp_path, once, third, id="twice")
    assert b.contents(b.all_rows(twice)) == sorted(expected + b.contents(b.all_rows(third)))
    assert twice.meta.level == 2


def test_a_trace_is_read_alone(tmp_path: Path, everything: SpanBatch) -> None:
    block = b.write_block(tmp_path, everything)
    ids = set(zip(everything.trace_id_high.tolist(), everything.trace_id_low.tolist(), strict=True))
    parts = [block.trace(high, low) for high, low in sorted(ids)]
    assert b.contents(*(p for p in parts if p is not None)) == b.contents(everything)
    assert all(p is not None and len(set(p.trace_id_low.tolist())) == 1 for p in parts)
    assert block.trace(123, 456) is None


def test_the_first_of_several_values_stays_first(tmp_path: Path) -> None:
    pairs: list[tuple[str, b.Value]] = [("k", "first"), ("k", "second"), ("k", "third")]
    spans = [b.span(id=1, attributes=pairs)] + [b.span(id=i) for i in range(2, 1000)]  # rare: it has no column
    for name, request in {"list": b.request(*spans), "column": b.request(spans[0])}.items():
        block = b.write_block(tmp_path, b.batch(request), name)
        for _ in range(2):
            rows = block.rows(0, 1)
            found = [rows.dictionary.strings.get(int(v)) for v in rows.attributes.value]
            assert found == [b"first", b"second", b"third"], name
            block = merged(tmp_path, block, id=f"{name} again {_}")


@pytest.mark.parametrize("whole_rows_max", [20_000, 0])
def test_row_groups_and_long_ranges(whole_rows_max: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All ways to read rows, over row group bounds; traces are never split, one may be larger than a row group."""
    monkeypatch.setattr(layout, "ROW_GROUP_SPANS", 50)
    monkeypatch.setattr("vivace.storage.row_ranges.WHOLE_ROWS_MAX", whole_rows_max)
    sizes = [1, 30, 30, 120, 2, 49, 50, 51]
    requests = [
        b.request(
            *(b.span(t, i + 1, parent=min(i, 1), start=b.NOON + t, name=f"{t}/{i}",
                     attributes={"i": i, "t": str(t)} | ({f"rare {i}": [t]} if i % 40 == 2 else {}),
                     events=[b.event(str(i), attributes={f"rare {i}": [i]} if i % 40 == 2 else {})] * (i % 3),
                     links=[b.link(bytes([t] * 16), bytes([i] * 8))] * (i % 7 == 3)) for i in range(size)),
            resource={"service.name": f"s{t % 3}"},
        )
        for t, size in enumerate(sizes, 1)
    ]  # fmt: skip
    batch = b.batch(*requests)
    block = b.write_block(tmp_path, batch)
    assert block.meta.row_groups == (31, 30, 120, 2, 49, 50, 51)
    assert len(batch) < TRACE_ROWS_MAX
    assert block.meta.overflow["span"]
    assert block.meta.overflow["event"]
    by_row = b.all_rows(block)
    monkeypatch.setattr("vivace.storage.block_reader.TRACE_ROWS_MAX", 0)
    assert b.contents(b.all_rows(block)) == b.contents(by_row) == b.contents(batch)
    for first, count in ((0, 1), (30, 2), (31, 30), (60, 122), (331, 2), (0, 333)):
        assert b.contents(block.rows(first, count)) == b.contents(by_row.slice(first, first + count))


def test_more_rows_than_there_are_is_an_error(tmp_path: Path) -> None:
    block = b.write_block(tmp_path, b.batch(b.request(b.span())))
    for first, count in ((0, 2), (1, 1)):
        with pytest.raises(CorruptionError):
            block.rows(first, count)


def test_block_order(tmp_path: Path) -> None:
    """Traces by start, parents before their children; nested sets, roots and services as documented."""
    block = b.write_block(
        tmp_path,
        b.batch(
            b.request(
                b.span(2, 21, start=b.NOON + 50, duration=10, name="late"),
                b.span(1, 13, 12, start=b.NOON + 1, name="grandchild", status=(2, "")),
                b.span(1, 12, 11, start=b.NOON + 2, name="child"),
                b.span(1, 14, 99, start=b.NOON + 3, name="orphan"),
                resource={"service.name": "a"},
            ),
            b.request(b.span(1, 11, start=b.NOON, duration=500, name="root"), resource={"service.name": "b"}),
            b.request(b.span(3, 31, 98, start=b.NOON + 60, name="no root")),
        ),
    )
    spans = pl.read_parquet(block.directory / layout.SPANS)
    columns = ("name", "nested_set_left", "nested_set_right", "nested_set_parent")
    assert spans.select(columns).rows() == [
        ("root", 1, 6, -1),
        ("child", 2, 5, 1),
        ("grandchild", 3, 4, 2),
        ("orphan", 7, 8, 0),
        ("late", 1, 2, -1),
        ("no root", 1, 2, 0),
    ]
    traces = pl.read_parquet(block.directory / layout.TRACES)
    assert traces.drop("services", "trace_id").rows() == [
        (0, 4, b.NOON, 1003, "b", "root"),
        (4, 1, b.NOON + 50, 10, "a", "late"),
        (5, 1, b.NOON + 60, 1000, None, None),
    ]
    services = [{(s["service_name"], s["span_count"], s["error_count"]) for s in row} for row in traces["services"]]
    assert services == [{("a", 3, 1), ("b", 1, 0)}, {("a", 1, 0)}, {("", 1, 0)}]


def test_columns_are_what_meta_says(tmp_path: Path, everything: SpanBatch) -> None:
    block = b.write_block(tmp_path, everything)
    files = {
        "span": layout.SPANS, "event": layout.EVENTS, "link": layout.LINKS, "resource": layout.RESOURCES,
        "instrumentation": layout.SCOPES,
    }  # fmt: skip
    for scope, file in files.items():
        in_meta = {k.column: k.rows for k in block.meta.keys if k.key.scope == scope and k.column}
        table = pq.read_table(block.directory / file)
        in_file = {n: len(table) - table[n].null_count for n in table.column_names if n.startswith(f"{scope}.")}
        assert in_file == in_meta
        assert len(in_meta) <= layout.COLUMNS_MAX
        pairs = pq.read_table(block.directory / layout.ATTRIBUTES, filters=[("scope", "=", scope)])
        listed = set(zip(pairs["key"].to_pylist(), pairs["type"].to_pylist(), strict=True))
        keys = {(k.key.name, k.key.type.value): k.column for k in block.meta.keys if k.key.scope == scope}
        assert {k for k, column in keys.items() if not column} <= listed <= keys.keys()
        assert len(pairs) == block.meta.overflow[scope]


def test_other_readers_agree(tmp_path: Path, everything: SpanBatch) -> None:
    block = b.write_block(tmp_path, everything)
    rows = b.all_rows(block)
    ids = [
        h.to_bytes(8) + low.to_bytes(8)
        for h, low in zip(rows.trace_id_high.tolist(), rows.trace_id_low.tolist(), strict=True)
    ]
    names = [rows.dictionary.strings.get(n).decode() for n in rows.name.tolist()]
    for name in (n for n in layout.DATA_FILES if n.endswith(".parquet")):
        path = block.directory / name
        arrow, polars = pq.read_table(path), pl.read_parquet(path, glob=False)
        duck = duckdb.execute("select count(*) from read_parquet(?)", [str(path)]).fetchone()
        assert duck == (len(arrow),) == (len(polars),)
    path = block.directory / layout.SPANS
    wanted = ["trace_id", "name", "start_time_unix_nano", "span.k", "span.k:int", "span.-inf"]
    quoted = ", ".join(f'"{c}"' for c in wanted)
    duck_rows = duckdb.execute(f"select {quoted} from read_parquet(?) order by file_row_number", [str(path)]).fetchall()
    arrow_rows = [tuple(r.values()) for r in pq.read_table(path, columns=wanted).to_pylist()]
    polars_rows = pl.read_parquet(path, columns=wanted, glob=False).select(wanted).rows()
    assert repr(duck_rows) == repr(arrow_rows) == repr(polars_rows)
    assert [r[0] for r in duck_rows] == ids
    assert [r[1] for r in duck_rows] == names


def test_a_block_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    writer = BlockWriter(tmp_path, "x", [])
    assert [p.name for p in tmp_path.iterdir()] == ["x.tmp"]
    writer.append(arrange(b.batch(b.request(b.span()))))
    writer.abort()
    assert list(tmp_path.iterdir()) == []
    empty = BlockWriter(tmp_path, "y", [])
    with pytest.raises(InvariantError):
        empty.finish(tenant="t", wal_until=0, level=0, created_unix_nano=0)
    empty.abort()
    assert list(tmp_path.iterdir()) == []


def test_an_error_after_the_rename_takes_the_block_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the spans would be in the head and, after the next start, in two blocks."""
    from vivace.storage import block_writer

    fsync = block_writer.fsync_path

    def fail_for_parent(path: Path) -> None:
        if path == tmp_path:
            raise OSError(5, "Input/output error")
        fsync(path)

    monkeypatch.setattr(block_writer, "fsync_path", fail_for_parent)
    writer = BlockWriter(tmp_path, "x", [])
    writer.append(arrange(b.batch(b.request(b.span()))))
    with pytest.raises(OSError, match="Input/output"):
        writer.finish(tenant="t", wal_until=0, level=0, created_unix_nano=0)
    writer.abort()
    assert list(tmp_path.iterdir()) == []


def test_equal_input_gives_equal_bytes(tmp_path: Path, everything: SpanBatch) -> None:
    one, two = b.write_block(tmp_path / "1", everything), b.write_block(tmp_path / "2", everything)
    assert one.meta == two.meta
    assert (one.directory / layout.META).read_bytes() == (two.directory / layout.META).read_bytes()


def test_damage_is_an_error_of_ours_or_is_not_noticed(tmp_path: Path, everything: SpanBatch) -> None:
    """Without looking at checksums: flipped bytes give CorruptionError or other values, never another exception."""
    block = b.write_block(tmp_path, everything.slice(0, 20))
    random = np.random.default_rng(1)
    for name in layout.DATA_FILES:
        path = block.directory / name
        if not path.exists():
            continue
        good = path.read_bytes()
        for offset in random.integers(0, len(good), 5).tolist():
            b.flip_byte(path, offset)
            try:
                damaged = Block(block.directory, block.meta)
                b.all_rows(damaged)
                damaged.trace(0, 7)
            except CorruptionError:
                pass
            path.write_bytes(good)
