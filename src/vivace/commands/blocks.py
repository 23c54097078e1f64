"""`vivace blocks`: what is in the directory of blocks, and whether it is still what was written.

Reads only, takes no lock, and loads neither polars nor pyarrow: it may run beside the server, in its container. A block
that the server merges or deletes meanwhile is no error; it is left out, or reported as gone.

Names and life of a block: docs/formats/block.md.  What is damage: storage/verify.py.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from vivace.commands.text import add_config_flags, byte_text, config_text, counted, table, time_text
from vivace.config.load import parse
from vivace.errors import ConfigError, CorruptionError, NotFoundError, StorageError
from vivace.storage import layout
from vivace.storage.layout import BlockMeta, read_meta
from vivace.storage.verify import verify

# As in storage/catalog.py, which would bring pyarrow with it.
QUARANTINE = ".quarantine"
REMNANTS = (".deleted", ".tmp")

KEYS_SHOWN = 20
"""Keys of a block that `show` prints unless asked for more; a block may have thousands."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One block on disk: `meta`, or why there is none in `damage`."""

    path: Path
    meta: BlockMeta | None
    damage: str = ""

    @property
    def name(self) -> str:
        return f"{self.path.parent.name}/{self.path.name}"


@dataclass(frozen=True, slots=True)
class Survey:
    """All directories below the blocks' directory, by what they are; blocks by tenant and age."""

    blocks: list[Stored]
    remnants: list[Path]
    foreign: list[Path]
    quarantined: list[Path]


def survey(directory: Path) -> Survey:
    """Look through the directory of blocks. Raises StorageError when it cannot be listed."""
    found = Survey([], [], [], [])
    try:
        tenants = sorted(p for p in directory.iterdir() if p.is_dir())
    except OSError as error:
        raise StorageError(f"cannot list {directory}: {error.strerror}; storage.trace.local.path names it") from error
    for tenant in tenants:
        for path in _directories(tenant):
            if tenant.name == QUARANTINE:
                found.quarantined.append(path)
            elif path.suffix in REMNANTS:
                found.remnants.append(path)
            elif any((path / name).exists() for name in (layout.SPANS, layout.INDEX)):
                found.blocks.extend(_read(path))
            else:
                found.foreign.append(path)
    return found


def _directories(parent: Path) -> list[Path]:
    try:
        return sorted(p for p in parent.iterdir() if p.is_dir())
    except OSError:  # gone meanwhile, or not ours to see: lost+found of a mounted volume
        return []


def _read(path: Path) -> Iterator[Stored]:
    """The block, unless it goes away while it is read."""
    try:
        yield Stored(path, read_meta(path))
    except (CorruptionError, OSError) as error:
        if path.exists():
            yield Stored(path, None, str(error))


# -- the command ------------------------------------------------------------------------------------------------------


def main(argv: Sequence[str]) -> int:
    """Run with the arguments behind `vivace blocks`; returns the exit code."""
    arguments = _parser().parse_args(argv)
    text, name = config_text(arguments)
    found = survey(parse(text, name).storage.trace.local.path)
    match arguments.action:
        case "list":
            return _list(found, arguments)
        case "show":
            return _show(found, arguments)
        case _:
            return _verify(found, arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vivace blocks", description="Look at the stored blocks.", allow_abbrev=False)
    actions = parser.add_subparsers(dest="action", required=True)
    for action, summary in (
        ("list", "one line for each block"),
        ("show", "what is known of one block"),
        ("verify", "read blocks back and compare them with their checksums"),
    ):
        made = actions.add_parser(action, help=summary, description=summary, allow_abbrev=False)
        add_config_flags(made)
        if action == "show":
            made.add_argument("block", help="id of the block, or its beginning")
            made.add_argument(
                "--keys", type=int, default=KEYS_SHOWN, help=f"attribute keys to print, {KEYS_SHOWN} if not said"
            )
        else:
            made.add_argument("--tenant", help="blocks of this tenant only")
        if action == "verify":
            made.add_argument("block", nargs="*", help="ids, or their beginnings; all if none is named")
        else:
            made.add_argument("--json", action="store_true", help="as JSON")
    return parser


def _list(found: Survey, arguments: argparse.Namespace) -> int:
    blocks = [b for b in found.blocks if arguments.tenant in (None, b.path.parent.name)]
    if arguments.json:
        print(orjson.dumps([_as_json(b) for b in blocks], option=orjson.OPT_INDENT_2).decode())
    else:
        _print_list(blocks)
        _print_rest(found)
    return 1 if any(b.damage for b in blocks) else 0


def _print_list(blocks: Sequence[Stored]) -> None:
    metas = [b.meta for b in blocks if b.meta is not None]
    rows = [
        (
            m.tenant, m.id, str(m.level), f"{m.span_count:,}", f"{m.trace_count:,}", byte_text(m.data_bytes),
            time_text(m.start_time_unix_nano), time_text(m.end_time_unix_nano),
        )
        for m in metas
    ]  # fmt: skip
    if rows:
        head = ("tenant", "block", "level", "spans", "traces", "size", "first span", "last span")
        print(table(head, rows, right=(2, 3, 4, 5)))
    spans, size = sum(m.span_count for m in metas), sum(m.data_bytes for m in metas)
    each = f", {size / spans:.1f} bytes a span" if spans else ""
    print(f"{counted(len(metas), 'block')}, {counted(spans, 'span')}, {byte_text(size)}{each}")
    for block in blocks:
        if block.damage:
            print(f"damaged: {block.name}: {block.damage}")


def _print_rest(found: Survey) -> None:
    """What lies beside the blocks and counts as disk use."""
    for paths, what in (
        (found.remnants, "being written or deleted"),
        (found.quarantined, "damaged and set aside, in .quarantine"),
        (found.foreign, "not Vivace's (Tempo's, perhaps): never searched, never deleted, counted against the disk cap"),
    ):
        if paths:
            print(f"{counted(len(paths), 'directory', 'directories')}, {byte_text(sum(map(_size, paths)))}: {what}")


def _size(directory: Path) -> int:
    """Bytes of the files below; what vanishes meanwhile counts nothing."""
    total = 0
    for path in directory.rglob("*"):
        try:
            total += path.lstat().st_size if path.is_file() else 0
        except OSError:
            continue
    return total


def _show(found: Survey, arguments: argparse.Namespace) -> int:
    block = _one(found, arguments.block)
    if block.meta is None:
        print(f"damaged: {block.name}: {block.damage}")
        return 1
    if arguments.json:
        print(block.meta.to_json().decode())
        return 0
    meta = block.meta
    print(f"block    {meta.id}, tenant {meta.tenant}, {block.path}")
    print(f"time     {time_text(meta.start_time_unix_nano)} to {time_text(meta.end_time_unix_nano)}")
    merged = f"merged {counted(meta.level, 'time')}, last from {counted(len(meta.replaces), 'block')}"
    origin = merged if meta.level else "cut from the head"
    print(f"written  {time_text(meta.created_unix_nano)}, {origin}")
    spans = f"{counted(meta.span_count, 'span')} in {counted(len(meta.row_groups), 'row group')}"
    rest = ((meta.trace_count, "trace"), (meta.event_count, "event"), (meta.link_count, "link"))
    print(f"rows     {', '.join((spans, *(counted(count, name) for count, name in rest)))}")
    print(f"size     {byte_text(meta.data_bytes)}, {meta.data_bytes / max(1, meta.span_count):.1f} bytes a span\n")
    files = sorted(meta.files.items(), key=lambda item: -item[1])
    print(table(("file", "size"), [(name, byte_text(size)) for name, size in files], right=(1,)))
    keys = sorted(meta.keys, key=lambda k: (-k.rows, k.key.scope, k.key.name))
    shown = [
        (f"{k.key.scope}.{k.key.name}", k.key.type.name.lower(), f"{k.rows:,}", k.column or layout.ATTRIBUTES)
        for k in keys[: arguments.keys]
    ]
    print("\n" + table(("attribute", "type", "rows", "column"), shown, right=(2,)))
    if len(keys) > len(shown):
        print(f"and {len(keys) - len(shown)} more; --keys {len(keys)} prints them all")
    return 0


def _verify(found: Survey, arguments: argparse.Namespace) -> int:
    blocks = [_one(found, name) for name in arguments.block] or found.blocks
    damaged = 0
    for block in blocks:
        if arguments.tenant not in (None, block.path.parent.name):
            continue
        damage = block.damage or _damage_of(block)
        if damage and not block.path.exists():
            print(f"gone     {block.name}: merged or deleted meanwhile", flush=True)
        elif damage:
            damaged += 1
            print(f"damaged  {block.name}: {damage}", flush=True)
        else:
            print(f"ok       {block.name}", flush=True)
    print(f"{counted(len(blocks), 'block')}, {damaged} damaged")
    return 1 if damaged else 0


def _damage_of(block: Stored) -> str:
    """What differs from the checksums; empty when nothing does. Costs a read of all files, about a second a gigabyte."""
    assert block.meta is not None
    try:
        verify(block.path, block.meta)
    except StorageError as error:
        return str(error)
    return ""


def _one(found: Survey, beginning: str) -> Stored:
    """The block whose id begins so. Raises NotFoundError for none, ConfigError for several."""
    matching = [b for b in found.blocks if b.path.name.startswith(beginning)]
    if not matching:
        raise NotFoundError(f"no block begins with {beginning}; `vivace blocks list` names them")
    if len(matching) > 1:
        names = ", ".join(b.path.name for b in matching[:5])
        raise ConfigError(f"{len(matching)} blocks begin with {beginning}: {names}; name more of the one that you mean")
    return matching[0]


def _as_json(block: Stored) -> dict[str, Any]:
    """A block as one object of `list --json`: meta.json without the long parts."""
    if block.meta is None:
        return {"path": str(block.path), "damage": block.damage}
    document = asdict(block.meta)
    for long in ("keys", "checksums", "row_groups"):
        del document[long]
    return {"path": str(block.path), "data_bytes": block.meta.data_bytes, **document}
