"""The id index: every id that was written is found with its rows, no other is, damage is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vivace.errors import CorruptionError
from vivace.storage.id_index import ENTRY_BYTES, HEADER, IdIndex, write_index

TOP = 2**64 - 1
Id = tuple[int, int]

# what: ids in the index, ids that are not
CASES: dict[str, tuple[list[Id], list[Id]]] = {
    "empty": ([], [(0, 0), (0, 1), (TOP, TOP)]),
    "one": ([(5, 6)], [(5, 5), (5, 7), (4, 6), (6, 6), (6, 5), (0, 0), (TOP, TOP)]),
    "limits": ([(0, 0), (TOP, TOP), (0, TOP), (TOP, 0)], [(0, 1), (1, 0), (TOP, 1), (2**63, 2**63)]),
    "ids of 64 bits": ([(0, i) for i in range(1, 2000, 2)], [(0, i) for i in range(0, 2002, 2)] + [(1, 1)]),
    "some share a high word": (
        [(h, low) for h in (3, 5, 9) for low in (10, 20, 30)],
        [(h, low) for h in (2, 3, 4, 5, 9, 10) for low in (9, 15, 31)] + [(4, 10), (10, 10)],
    ),
    "signed and unsigned order differ": ([(2**63, 1), (2**63 - 1, 2), (1, 2**63)], [(2**63, 2), (1, 2**63 - 1)]),
}


def index_of(path: Path, ids: list[Id]) -> IdIndex:
    """The i-th id has rows [10 i, 10 i + i + 1); the index gets them in two parts and no order."""
    numbers = np.random.default_rng(7).permutation(len(ids))
    parts = []
    for some in (numbers[: len(ids) // 2], numbers[len(ids) // 2 :]):
        high, low = (np.array([ids[i][word] for i in some], np.uint64) for word in (0, 1))
        parts.append((high, low, some.astype(np.int64) * 10, some.astype(np.int64) + 1))
    write_index(path, parts)
    return IdIndex(path)


@pytest.mark.parametrize(("ids", "missing"), CASES.values(), ids=CASES.keys())
def test_find_and_contains(tmp_path: Path, ids: list[Id], missing: list[Id]) -> None:
    index = index_of(tmp_path / "ids.index", ids)
    assert index.count == len(ids)
    assert [index.find(*i) for i in ids] == [(10 * n, n + 1) for n in range(len(ids))]
    assert [i for i in missing if index.find(*i) is not None] == []
    asked = [*ids, *missing, *ids]
    high, low = (np.array([i[word] for i in asked], np.uint64) for word in (0, 1))
    assert index.contains(high, low).tolist() == [True] * len(ids) + [False] * len(missing) + [True] * len(ids)
    assert index.contains(high[:0], low[:0]).tolist() == []


def test_bytes_are_as_documented(tmp_path: Path) -> None:
    """docs/formats/block.md, "ids.index"."""
    path = tmp_path / "ids.index"
    index_of(path, [(2, 1), (1, 2)])
    expected = (b"VIVIDX01", 2, *(1, 2), *(2, 1), *(10, 0), *(2, 1))
    sizes = (8, 8, 8, 8, 8, 8, 4, 4, 4, 4)
    words = [v if isinstance(v, bytes) else v.to_bytes(n, "little") for v, n in zip(expected, sizes, strict=True)]
    assert path.read_bytes() == b"".join(words)


def test_damage_is_said(tmp_path: Path) -> None:
    path = tmp_path / "ids.index"
    index_of(path, [(1, 1), (2, 2), (3, 3)])
    good = path.read_bytes()
    assert len(good) == HEADER.size + 3 * ENTRY_BYTES
    damaged = {
        "empty": b"", "header only in part": good[:10], "cut": good[:-1], "longer": good + b"\0",
        "another magic": b"X" + good[1:], "another count": good[:8] + b"\xff" * 8 + good[16:],
    }  # fmt: skip
    for what, data in damaged.items():
        path.write_bytes(data)
        with pytest.raises(CorruptionError) as error:
            IdIndex(path)
        assert error.value.path == path, what
