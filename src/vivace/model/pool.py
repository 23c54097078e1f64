"""Pool: interned byte strings, each distinct value once, named by a dense code. Code 0 is the empty string.

The native one (_pool.pyx) when the package was built with a C compiler, else this plain-Python twin; same methods.
"""

from __future__ import annotations

import threading
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from vivace.model.attributes import I64, U8, U32


class PlainPool:
    """Append-only set of byte strings on a dict. A pool only grows; codes never change."""

    def __init__(self) -> None:
        self._codes: dict[bytes, int] = {b"": 0}
        self._values: list[bytes] = [b""]
        self._bytes = 0
        self.lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._values)

    @property
    def nbytes(self) -> int:
        """Bytes of memory held, about: 140 of overhead an entry, measured on CPython 3.11."""
        return self._bytes + 140 * len(self._values)

    def add(self, value: bytes) -> int:
        """The code of `value`, added if it is new."""
        with self.lock:
            return self._add(value)

    def _add(self, value: bytes) -> int:
        code = self._codes.setdefault(value, len(self._values))
        if code == len(self._values):
            self._values.append(value)
            self._bytes += len(value)
        return code

    def code_of(self, value: bytes) -> int | None:
        """The code of `value`, or None when it is not here; nothing is added."""
        return self._codes.get(value)

    def get(self, code: int) -> bytes:
        """The bytes of one code; IndexError when there is none."""
        if not 0 <= code < len(self._values):
            raise IndexError(f"code {code} of {len(self._values)}")
        return self._values[code]

    def export(self, start: int, stop: int) -> tuple[I64, U8]:
        """Copies of codes [start, stop): (offsets int64 of stop - start + 1 from 0, data uint8)."""
        if not 0 <= start <= stop <= len(self._values):
            raise IndexError(f"codes {start}..{stop} of {len(self._values)}")
        return _arrow(self._values[start:stop])

    def select(self, codes: U32) -> tuple[I64, U8]:
        """Copies of the given codes, in their order: (offsets int64, data uint8)."""
        return _arrow([self._values[c] for c in codes.tolist()])

    def add_many(self, offsets: I64, data: U8) -> U32:
        """Codes (uint32) of many strings given Arrow-style; added where new."""
        if not len(offsets) or offsets[0] < 0 or offsets[-1] > len(data):
            raise ValueError("offsets lie outside data")
        if (np.diff(offsets) < 0).any():
            raise ValueError("offsets fall")
        raw, ends = data.tobytes(), offsets.tolist()
        with self.lock:
            return np.array([self._add(raw[a:b]) for a, b in pairwise(ends)], np.uint32)


def _arrow(values: list[bytes]) -> tuple[I64, U8]:
    offsets = np.zeros(len(values) + 1, np.int64)
    np.cumsum([len(v) for v in values], out=offsets[1:])
    return offsets, np.frombuffer(b"".join(values), np.uint8)


if TYPE_CHECKING:
    Pool = PlainPool
else:
    try:
        from vivace.model._pool import Pool
    except ImportError:
        Pool = PlainPool
