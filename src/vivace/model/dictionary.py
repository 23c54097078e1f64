"""Dictionary: what the batches of one head generation share, so that they can be joined without touching a string.

Rule 1  everything here only grows; a code or a table row, once given out, stays what it is.
Rule 2  resources and scopes are told apart by their bytes on the wire: the same bytes are one row, however often sent.
Rule 3  row 0 of both tables is the empty resource / scope, code 0 of both pools the empty string.

Pools are native where the package was built with a C compiler (see pool.py).
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np

from vivace.model.attributes import PAIR_BYTES, U32, Attributes, concat_attributes
from vivace.model.pool import Pool


@dataclass(frozen=True, slots=True)
class Resources:
    """One row a resource; `attributes` count resources."""

    schema_url: U32
    dropped_attributes_count: U32
    attributes: Attributes

    def __len__(self) -> int:
        return len(self.schema_url)


@dataclass(frozen=True, slots=True)
class Scopes:
    """One row an instrumentation scope, with the schema URL of the ScopeSpans that it came in."""

    name: U32
    version: U32
    schema_url: U32
    dropped_attributes_count: U32
    attributes: Attributes

    def __len__(self) -> int:
        return len(self.name)


class Dictionary:
    """Strings, blobs, resources and scopes of many batches. One writer at a time; readers see whole rows only."""

    def __init__(self) -> None:
        self.strings = Pool()
        self.blobs = Pool()
        self.resource_keys = Pool()
        self.scope_keys = Pool()
        self._lock = threading.Lock()
        self._resources: list[Resources] = [_empty_resource()]
        self._scopes: list[Scopes] = [_empty_scope()]
        # asked for at every commit, and rows come in many small parts:
        self.resource_count = 1
        self.scope_count = 1
        self._table_bytes = 0

    @property
    def nbytes(self) -> int:
        """Bytes of memory held by pools and tables."""
        pools = self.strings.nbytes + self.blobs.nbytes + self.resource_keys.nbytes + self.scope_keys.nbytes
        return pools + self._table_bytes

    @property
    def resources(self) -> Resources:
        """The table as it stands; joined on first use after a growth."""
        with self._lock:
            if len(self._resources) > 1:
                self._resources = [_join_resources(self._resources)]
            return self._resources[0]

    @property
    def scopes(self) -> Scopes:
        """The table as it stands; joined on first use after a growth."""
        with self._lock:
            if len(self._scopes) > 1:
                self._scopes = [_join_scopes(self._scopes)]
            return self._scopes[0]

    def add_resources(self, rows: Resources) -> None:
        """Append rows; the caller has given each its code in `resource_keys`."""
        if len(rows):
            with self._lock:
                self._resources.append(rows)
                self.resource_count += len(rows)
                self._table_bytes += 8 * len(rows) + PAIR_BYTES * len(rows.attributes)

    def add_scopes(self, rows: Scopes) -> None:
        """Append rows; the caller has given each its code in `scope_keys`."""
        if len(rows):
            with self._lock:
                self._scopes.append(rows)
                self.scope_count += len(rows)
                self._table_bytes += 16 * len(rows) + PAIR_BYTES * len(rows.attributes)


def _zero() -> U32:
    return np.zeros(1, np.uint32)


def _empty_resource() -> Resources:
    return Resources(_zero(), _zero(), Attributes.empty())


def _empty_scope() -> Scopes:
    return Scopes(_zero(), _zero(), _zero(), _zero(), Attributes.empty())


def _join_resources(parts: list[Resources]) -> Resources:
    return Resources(
        np.concatenate([p.schema_url for p in parts]),
        np.concatenate([p.dropped_attributes_count for p in parts]),
        concat_attributes([p.attributes for p in parts], [len(p) for p in parts]),
    )


def _join_scopes(parts: list[Scopes]) -> Scopes:
    return Scopes(
        np.concatenate([p.name for p in parts]),
        np.concatenate([p.version for p in parts]),
        np.concatenate([p.schema_url for p in parts]),
        np.concatenate([p.dropped_attributes_count for p in parts]),
        concat_attributes([p.attributes for p in parts], [len(p) for p in parts]),
    )
