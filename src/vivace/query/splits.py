"""Which traces lie in more than one place: in two blocks, in two parts of the head, in both. They are queried as one.

Rule 1  what is known of two immutable things (blocks, parts of the head) stays known while both are there.
Rule 2  a merged block says which blocks it replaces, so what was known of those is known of it without reading anything.

Cost: a block that is new is looked up in each other one, about 20 ms for 100,000 traces; a part of the head likewise.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from vivace.model.attributes import U64
from vivace.model.batch import SpanBatch
from vivace.model.frame import Mask
from vivace.storage.block_reader import Block
from vivace.storage.head import ID_MIX, Part
from vivace.storage.id_index import locate

BULK_BLOCKS = 3
"""More new blocks than this at once (a start) are compared by one sort of all their ids instead of pair by pair."""

PAIRS_MAX = 20_000
"""Comparisons of a part with a block or a part that are remembered; 100 parts and 100 blocks are 15,000."""


@dataclass(frozen=True, slots=True)
class TraceIds:
    """Trace ids, ascending, each once."""

    high: U64
    low: U64

    def __len__(self) -> int:
        return len(self.high)

    @classmethod
    def of(cls, high: U64, low: U64) -> TraceIds:
        """Of ids in any order, with repetitions."""
        order = np.lexsort((low, high))
        high, low = high[order], low[order]
        new = np.ones(len(high), bool)
        new[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
        return cls(high[new], low[new])

    @classmethod
    def none(cls) -> TraceIds:
        empty = np.empty(0, np.uint64)
        return cls(empty, empty)

    def contains(self, high: U64, low: U64) -> Mask:
        """Which of many ids are here."""
        return locate((self.high, self.low), high, low)[1]


def union(several: Iterable[TraceIds]) -> TraceIds:
    parts = [ids for ids in several if len(ids)]
    if not parts:
        return TraceIds.none()
    return TraceIds.of(np.concatenate([p.high for p in parts]), np.concatenate([p.low for p in parts]))


class Splits:
    """Remembers which traces are split, for one tenant. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: frozenset[str] = frozenset()
        self._between: dict[int, set[str]] = {}
        """Ids of blocks by trace (128 bits), of traces in more than one."""
        self._parts: dict[int, tuple[SpanBatch, TraceIds]] = {}
        self._pairs: dict[tuple[int, int | str], TraceIds] = {}

    def find(self, parts: Sequence[Part], blocks: Sequence[Block]) -> TraceIds:
        """Traces that lie in more than one of these."""
        with self._lock:
            self._learn(blocks)
            here = {block.meta.id for block in blocks}
            split = [trace for trace, places in self._between.items() if len(places & here) > 1]
            found = [_ids(split)]
            ids = self._ids_of(parts)
            if len(ids) > 1:
                found.append(_repeated(ids))
            for part, own in zip(parts, ids, strict=True):
                found += [self._shared(part, own, block) for block in blocks]
            return union(found)

    # -- blocks -------------------------------------------------------------------------------------------------------

    def _learn(self, blocks: Sequence[Block]) -> None:
        now = {block.meta.id: block for block in blocks}
        new = [block for block in blocks if block.meta.id not in self._known]
        known = self._known
        for block in sorted(new, key=lambda b: b.meta.level):
            if block.meta.replaces and set(block.meta.replaces) <= known:
                self._replace(block)
                known |= {block.meta.id}
        fresh = [block for block in new if block.meta.id not in known]
        old = [block for block in blocks if block.meta.id in known]
        if len(fresh) > BULK_BLOCKS:
            self._compare_all(list(blocks))
        else:
            for place, block in enumerate(fresh):
                for other in (*old, *fresh[:place]):
                    self._compare(block, other)
        self._known = frozenset(now)
        self._between = {
            trace: places & now.keys() for trace, places in self._between.items() if len(places & now.keys()) > 1
        }

    def _replace(self, block: Block) -> None:
        gone = set(block.meta.replaces)
        for places in self._between.values():
            if places & gone:
                places -= gone
                places.add(block.meta.id)

    def _compare(self, a: Block, b: Block) -> None:
        small, large = sorted((a, b), key=lambda block: block.ids.count)
        shared = small.ids.contained_in(large.ids)
        for high, low in zip(shared[0].tolist(), shared[1].tolist(), strict=True):
            self._between.setdefault(high << 64 | low, set()).update((a.meta.id, b.meta.id))

    def _compare_all(self, blocks: list[Block]) -> None:
        high, low = (np.concatenate([getattr(b.ids, w) for b in blocks]) for w in ("high", "low"))
        owner = np.repeat(np.arange(len(blocks)), [b.ids.count for b in blocks])
        order = np.lexsort((low, high))
        high, low, owner = high[order], low[order], owner[order]
        twin = (high[1:] == high[:-1]) & (low[1:] == low[:-1])
        for place in np.flatnonzero(twin).tolist():
            trace = int(high[place]) << 64 | int(low[place])
            places = {blocks[int(owner[place])].meta.id, blocks[int(owner[place + 1])].meta.id}
            self._between.setdefault(trace, set()).update(places)

    # -- the head -----------------------------------------------------------------------------------------------------

    def _ids_of(self, parts: Sequence[Part]) -> list[TraceIds]:
        kept = {}
        for part in parts:
            known = self._parts.get(id(part.batch))
            batch = part.batch
            kept[id(batch)] = known or (batch, TraceIds.of(batch.trace_id_high, batch.trace_id_low))
        gone = self._parts.keys() - kept.keys()
        if gone or len(self._pairs) > PAIRS_MAX:
            self._pairs = {pair: ids for pair, ids in self._pairs.items() if pair[0] not in gone}
        if len(self._pairs) > PAIRS_MAX:
            self._pairs.clear()
        self._parts = kept
        return [kept[id(part.batch)][1] for part in parts]

    def _shared(self, part: Part, own: TraceIds, block: Block) -> TraceIds:
        pair = (id(part.batch), block.meta.id)
        shared = self._pairs.get(pair)
        if shared is None:
            inside = block.ids.contains(own.high, own.low)
            shared = self._pairs[pair] = TraceIds(own.high[inside], own.low[inside])
        return shared


def _ids(traces: list[int]) -> TraceIds:
    traces = sorted(traces)
    mask = 0xFFFF_FFFF_FFFF_FFFF
    return TraceIds(np.array([t >> 64 for t in traces], np.uint64), np.array([t & mask for t in traces], np.uint64))


def _repeated(several: Sequence[TraceIds]) -> TraceIds:
    """Ids that more than one of these has; each has it once."""
    high, low = np.concatenate([i.high for i in several]), np.concatenate([i.low for i in several])
    mixed = high * ID_MIX + low  # one word sorts several times faster; should two ids share it, they are queried as one
    order = np.argsort(mixed)
    twin = np.flatnonzero(mixed[order][1:] == mixed[order][:-1])
    both = np.concatenate([order[twin], order[twin + 1]])
    return TraceIds.of(high[both], low[both])
