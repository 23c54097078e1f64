"""Replay: WAL records back into the heads at start, in groups, so that memory stays that of one group and the head."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vivace.ingest.decode import Decoder, decoder
from vivace.model.batch import SpanBatch
from vivace.model.dictionary import Dictionary
from vivace.model.rows import take

GROUP_BYTES_MAX = 4 << 20


class Record(Protocol):
    """One request in the WAL."""

    @property
    def sequence(self) -> int: ...

    @property
    def tenant(self) -> str: ...

    @property
    def body(self) -> bytes: ...


class ReplayTarget(Protocol):
    """Where replayed spans go."""

    def dictionary(self, tenant: str) -> Dictionary: ...

    def already_stored(self, tenant: str, batch: SpanBatch, sequences: NDArray[np.int64]) -> NDArray[np.bool_]: ...

    def publish(self, tenant: str, batch: SpanBatch, first_sequence: int) -> None: ...

    def replayed(self, until: int) -> None:
        """All records before the sequence `until` are published: a block cut now may claim those, and no more."""
        ...


def replay(
    records: Iterable[Record],
    target: ReplayTarget,
    *,
    attribute_bytes_max: Callable[[str], int],
    after_group: Callable[[], None],
) -> int:
    """Decode and publish all records; returns the spans published.

    Spans that a block holds already are left out. `after_group` may cut the head when it is full.
    """
    published = 0
    for tenant, group in _groups(records):
        dictionary = target.dictionary(tenant)
        batch, sequences = _decode(group, decoder(dictionary, attribute_bytes_max(tenant)))
        stored = target.already_stored(tenant, batch, sequences)
        if stored.any():
            rows = np.flatnonzero(~stored)
            batch, sequences = take(batch, rows), sequences[rows]
        if len(batch):
            target.publish(tenant, batch, int(sequences.min()))
            published += len(batch)
        target.replayed(group[-1].sequence + 1)
        after_group()
    return published


def _decode(group: list[Record], with_decoder: Decoder) -> tuple[SpanBatch, NDArray[np.int64]]:
    batch, outcomes = with_decoder.decode([r.body for r in group])
    sequences = np.array([r.sequence for r in group], np.int64)
    return batch, np.repeat(sequences, [o.rows for o in outcomes])


def _groups(records: Iterable[Record]) -> Iterator[tuple[str, list[Record]]]:
    """Runs of one tenant's records, of bounded size, in order."""
    group: list[Record] = []
    size = 0
    for record in records:
        if group and (record.tenant != group[0].tenant or size + len(record.body) > GROUP_BYTES_MAX):
            yield group[0].tenant, group
            group, size = [], 0
        group.append(record)
        size += len(record.body)
    if group:
        yield group[0].tenant, group
