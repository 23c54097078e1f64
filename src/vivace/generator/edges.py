"""Edges of a service graph: which two spans are the two sides of one request. Pure functions of arrays.

An event is one span that is a side: a client (or producer) under its own id, a server (or consumer) under its parent's.
Events of one key, in the order of their arrival, make edges:

Rule 1  a first event waits for one of the other side; together they are an edge, and the key begins anew.
Rule 2  an event of the side that waits takes its place (with its time of arrival): so of several consumers of one message
        the first one that comes after the producer is its other side.
Rule 3  a call to a database is an edge by itself; it takes with it whatever waits.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vivace.model.attributes import I32, I64, U64

F64 = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Events:
    """Events as columns, in the order of their arrival. Names and dimensions are numbers of Texts.

    arrived     seconds of the clock       moment      when a client ended or a server began, in nanoseconds
    seconds     duration of the span       dimensions  (events, dimensions)
    """

    key: U64
    arrived: F64
    trace_high: U64
    trace_low: U64
    moment: U64
    seconds: F64
    weight: F64
    service: I32
    peer: I32
    database_name: I32
    dimensions: NDArray[np.int32]
    is_client: Bools
    is_database: Bools
    is_messaging: Bools
    is_root: Bools
    failed: Bools

    def __len__(self) -> int:
        return len(self.key)

    @classmethod
    def none(cls, dimension_count: int) -> Events:
        u64, f64, i32, no = np.empty(0, np.uint64), np.empty(0), np.empty(0, np.int32), np.empty(0, bool)
        no_dimensions = np.empty((0, dimension_count), np.int32)
        return cls(u64, f64, u64, u64, u64, f64, f64, i32, i32, i32, no_dimensions, no, no, no, no, no)

    def rows(self, index: NDArray[Any]) -> Events:
        """These events: by their numbers, or by a mask."""
        return Events(*(getattr(self, name)[index] for name in _COLUMNS))

    def followed_by(self, other: Events) -> Events:
        """Both, one after the other."""
        return Events(*(np.concatenate([getattr(self, name), getattr(other, name)]) for name in _COLUMNS))


_COLUMNS = tuple(field.name for field in fields(Events))


def keys(trace_high: U64, trace_low: U64, span_id: U64, seeds: U64) -> U64:
    """64 bits mixed of the ids; `seeds` are three random odd numbers, so that no sender can make two keys meet."""
    mixed: U64 = trace_high * seeds[0]
    mixed ^= mixed >> np.uint64(32)
    mixed = (mixed ^ trace_low) * seeds[1]
    mixed ^= mixed >> np.uint64(32)
    mixed = (mixed ^ span_id) * seeds[2]
    mixed ^= mixed >> np.uint64(32)
    return mixed


@dataclass(frozen=True, slots=True)
class Matches:
    """Indexes of events. `client` and `server` are the sides of each edge, -1 for a side that is not there; `last` and
    `first` the same two by arrival. `waiting` are the events that are left, in the order of their arrival."""

    client: I64
    server: I64
    first: I64
    last: I64
    waiting: I64


def match(events: Events) -> Matches:
    """Find the edges. Sets `arrived` of an event that takes the place of another. Cost: a sort of the keys."""
    order = np.argsort(events.key)
    key = events.key[order]
    is_start = np.ones(len(key), bool)
    is_start[1:] = key[1:] != key[:-1]
    starts = np.flatnonzero(is_start)
    sizes = np.diff(starts, append=len(key))
    is_client, is_database = events.is_client, events.is_database

    alone = order[starts[sizes == 1]]
    is_done = is_database[alone]
    done = alone[is_done]

    pairs = starts[sizes == 2]
    one, other = order[pairs], order[pairs + 1]
    first, last = np.minimum(one, other), np.maximum(one, other)
    plain = (is_client[first] != is_client[last]) & ~is_database[first] & ~is_database[last]

    odd = np.concatenate([pairs[~plain], starts[sizes > 2]])
    edges, waiting = _match_one_by_one(events, order, odd, np.append(starts, len(key)))
    first = np.concatenate([first[plain], np.full(len(done), -1), edges[:, 0]])
    last = np.concatenate([last[plain], done, edges[:, 1]])
    client = np.where(is_client[last], last, first)
    server = np.where(is_client[last], first, last)
    return Matches(client, server, first, last, np.sort(np.concatenate([alone[~is_done], waiting])))


def _match_one_by_one(events: Events, order: I64, groups: I64, starts: I64) -> tuple[I64, I64]:
    """Edges (first, last) and waiting events of the keys that begin at these places of `order`: those that are not simply
    two sides. They are few, or all of a message that many consume: a third of a microsecond an event."""
    is_client, is_database = events.is_client, events.is_database
    ends = starts[np.searchsorted(starts, groups) + 1]
    edges: list[tuple[int, int]] = []
    waiting: list[int] = []
    for begin, end in zip(groups.tolist(), ends.tolist(), strict=True):
        held = -1
        for event in sorted(order[begin:end].tolist()):
            if is_database[event]:
                edges.append((held if held >= 0 and not is_client[held] else -1, event))
                held = -1
            elif held >= 0 and is_client[held] != is_client[event]:
                edges.append((held, event))
                held = -1
            else:
                if held >= 0:
                    events.arrived[event] = events.arrived[held]
                held = event
        if held >= 0:
            waiting.append(held)
    return np.array(edges, np.int64).reshape(-1, 2), np.array(waiting, np.int64)


def take(column: NDArray[Any], index: I64, missing: Any) -> NDArray[Any]:
    """`column[index]`, and `missing` where the index is -1."""
    if not len(column):
        return np.full(len(index), missing, column.dtype)
    return np.where(index >= 0, column[index], missing)
