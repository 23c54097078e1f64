"""Vivace where no C compiler is: it installs, says so in one line, and keeps spans with the plain twins."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
KEEP_A_REQUEST = """
import sys
from pathlib import Path
import vivace
from vivace.ingest.decode import decoder, is_native, native_notice
from vivace.model.arrange import arrange
from vivace.model.dictionary import Dictionary
from vivace.model.encode import encode
from vivace.model.pool import PlainPool
from vivace.model.proto.otlp_pb2 import ExportTraceServiceRequest
from vivace.model.schema import AttributeScope
from vivace.storage.block_reader import Block
from vivace.storage.block_writer import BlockWriter, count_keys
from vivace.storage.layout import choose_columns

directory = Path(sys.argv[1])
request = ExportTraceServiceRequest()
resource_spans = request.resource_spans.add()
pair = resource_spans.resource.attributes.add()
pair.key, pair.value.string_value = "service.name", "shop"
for i in range(1, 4):
    span = resource_spans.scope_spans.add().spans.add(trace_id=b"t" * 16, span_id=bytes(7) + bytes([i]), name=f"span {i}")
    span.parent_span_id = bytes(7) + bytes([i - 1]) if i > 1 else b""
    span.start_time_unix_nano, span.end_time_unix_nano = i, i + 5
    span.attributes.add(key="n").value.int_value = -i
    span.events.add(name="event").attributes.add(key="flag").value.bool_value = True
    span.links.add(trace_id=b"o" * 16, span_id=b"p" * 8)
dictionary = Dictionary()
assert isinstance(dictionary.strings, PlainPool) and not is_native()
batch, (outcome,) = decoder(dictionary, 2048).decode([request.SerializeToString()])
assert (outcome.rows, outcome.error) == (3, None)
plan = choose_columns(count_keys(batch), {s: len(batch) for s in AttributeScope})
writer = BlockWriter(directory, "block", plan)
writer.append(arrange(batch))
path, meta = writer.finish(tenant="t", wal_until=0, level=0, created_unix_nano=0)
kept = ExportTraceServiceRequest.FromString(encode(Block(path, meta).rows(0, 3)))
spans = [s for r in kept.resource_spans for p in r.scope_spans for s in p.spans]
assert [(s.name, s.attributes[0].value.int_value) for s in spans] == [(f"span {i}", -i) for i in (1, 2, 3)]
assert kept.resource_spans[0].resource.attributes[0].value.string_value == "shop"
print(Path(vivace.__file__).parent.parent)
print(native_notice())
"""

NOTICE = (
    "native modules are not built: decoding with the protobuf library, about 40 times slower; "
    "install a C compiler and reinstall to change that"
)


def run(*arguments: str | Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_installs_and_keeps_spans_without_a_compiler(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "site"
    # a copy without what was compiled here; the C sources spare Cython's time where they are there already
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("*.so", "*.egg-info", "__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, source)
    pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-build-isolation", "--no-deps")
    run(*pip, "--target", target, source, CC="/bin/false", CXX="/bin/false")
    assert not list(target.rglob("*.so"))
    where, notice = run("-c", KEEP_A_REQUEST, tmp_path / "blocks", PYTHONPATH=str(target)).splitlines()
    assert Path(where) == target
    assert notice == NOTICE
