"""Moving batches between dictionaries: the same spans, coded anew.

Cost is that of the distinct strings in use, not of the spans.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vivace.model.attributes import U32, Attributes
from vivace.model.batch import Events, Links, SpanBatch, concat
from vivace.model.dictionary import Dictionary, Resources, Scopes
from vivace.model.pool import Pool
from vivace.model.rows import take_attributes
from vivace.model.schema import ValueType


def join(batches: Sequence[SpanBatch]) -> SpanBatch:
    """One batch of all rows, whatever dictionaries they come from; a new dictionary if they differ."""
    if all(b.dictionary is batches[0].dictionary for b in batches):
        return concat(batches)
    dictionary = Dictionary()
    return concat([adopt(b, dictionary) for b in batches])


def adopt(batch: SpanBatch, dictionary: Dictionary) -> SpanBatch:
    """The same rows on `dictionary`, which gains what it lacks."""
    if batch.dictionary is dictionary:
        return batch
    source = batch.dictionary
    strings, blobs = Recode(source.strings, dictionary.strings), Recode(source.blobs, dictionary.blobs)
    return replace(
        batch,
        dictionary=dictionary,
        name=strings(batch.name),
        status_message=strings(batch.status_message),
        trace_state=strings(batch.trace_state),
        resource=adopt_resources(batch.resource, source, dictionary),
        scope=adopt_scopes(batch.scope, source, dictionary),
        attributes=_attributes(batch.attributes, strings, blobs),
        events=_events(batch.events, strings, blobs),
        links=_links(batch.links, strings, blobs),
    )


class Recode:
    """Codes of one pool as codes of another; each distinct code is moved once."""

    def __init__(self, source: Pool, target: Pool) -> None:
        self._source = source
        self._target = target

    def __call__(self, codes: U32) -> U32:
        if not len(codes):
            return codes
        if codes.strides == (0,) and codes[0] == 0:
            return codes
        used = np.flatnonzero(np.bincount(codes)).astype(np.uint32)
        table = np.zeros(int(used[-1]) + 1, np.uint32)
        table[used] = self._target.add_many(*self._source.select(used))
        moved: U32 = table[codes]
        return moved


def adopt_resources(codes: U32, source: Dictionary, target: Dictionary) -> U32:
    """Resource codes of `source` as codes of `target`."""
    used, places = _used(codes)
    strings, blobs = Recode(source.strings, target.strings), Recode(source.blobs, target.blobs)
    table = source.resources
    rows = Resources(
        strings(table.schema_url[used]),
        table.dropped_attributes_count[used],
        _attributes(take_attributes(table.attributes, len(table), used), strings, blobs),
    )
    known = _known(target.resource_keys, [rows.schema_url, rows.dropped_attributes_count], rows.attributes, len(used))
    fresh = np.flatnonzero(known.new)
    target.add_resources(
        Resources(
            rows.schema_url[fresh],
            rows.dropped_attributes_count[fresh],
            take_attributes(rows.attributes, len(used), fresh),
        )
    )
    return known.code[places]


def adopt_scopes(codes: U32, source: Dictionary, target: Dictionary) -> U32:
    """Scope codes of `source` as codes of `target`."""
    used, places = _used(codes)
    strings, blobs = Recode(source.strings, target.strings), Recode(source.blobs, target.blobs)
    table = source.scopes
    names, versions, urls = (strings(c[used]) for c in (table.name, table.version, table.schema_url))
    dropped = table.dropped_attributes_count[used]
    attributes = _attributes(take_attributes(table.attributes, len(table), used), strings, blobs)
    known = _known(target.scope_keys, [names, versions, urls, dropped], attributes, len(used))
    fresh = np.flatnonzero(known.new)
    pairs = take_attributes(attributes, len(used), fresh)
    target.add_scopes(Scopes(names[fresh], versions[fresh], urls[fresh], dropped[fresh], pairs))
    return known.code[places]


CODED = b"\xff\xff\xff\xff"
"""End mark of table keys that hold codes, where keys that hold wire bytes have a 32-bit length."""


class _Known:
    def __init__(self, count: int) -> None:
        self.code = np.empty(count, np.uint32)
        self.new = np.zeros(count, bool)


def _known(keys: Pool, columns: list[U32], attributes: Attributes, count: int) -> _Known:
    """Codes of rows in a table told apart by `keys`; `new` where the row must be appended, in order.

    The key of a row is the bytes of its coded fields and an end mark; a key made from wire bytes ends in the length of a
    schema URL, which is never that large. So the two kinds never meet; at worst one resource stands twice.
    """
    known = _Known(count)
    bounds = np.searchsorted(attributes.row, np.arange(count + 1)).tolist()
    for i in range(count):
        pairs = slice(bounds[i], bounds[i + 1])
        coded = [c[pairs].tobytes() for c in (attributes.key, attributes.type, attributes.value)]
        fields = b"".join(int(c[i]).to_bytes(4, "little") for c in columns)
        empty = not any(fields) and bounds[i] == bounds[i + 1]
        size = len(keys)
        known.code[i] = 0 if empty else keys.add(fields + b"".join(coded) + CODED)
        known.new[i] = len(keys) > size
    return known


def _used(codes: U32) -> tuple[U32, NDArray[np.int64]]:
    if not len(codes):
        return np.empty(0, np.uint32), np.empty(0, np.int64)
    used = np.flatnonzero(np.bincount(codes)).astype(np.uint32)
    place = np.zeros(int(used[-1]) + 1, np.int64)
    place[used] = np.arange(len(used))
    return used, place[codes]


def _attributes(attributes: Attributes, strings: Recode, blobs: Recode) -> Attributes:
    value = attributes.value
    if len(value):
        value = value.copy()
        for recode, chosen in (
            (strings, attributes.type == ValueType.STRING),
            (blobs, attributes.type >= ValueType.ARRAY),
        ):
            value[chosen] = recode(value[chosen].astype(np.uint32))
    return Attributes(attributes.row, strings(attributes.key), attributes.type, value)


def _events(events: Events, strings: Recode, blobs: Recode) -> Events:
    return replace(events, name=strings(events.name), attributes=_attributes(events.attributes, strings, blobs))


def _links(links: Links, strings: Recode, blobs: Recode) -> Links:
    return replace(
        links,
        trace_id=blobs(links.trace_id),
        span_id=blobs(links.span_id),
        trace_state=strings(links.trace_state),
        attributes=_attributes(links.attributes, strings, blobs),
    )
