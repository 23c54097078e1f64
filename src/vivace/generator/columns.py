"""Columns: what the processors ask of one batch of spans, as numbers of Texts, one for each span or each resource.

Rule 1  each column is made once, when it is first asked for, and shared: nobody writes into it.
Rule 2  a span or resource that carries a key twice shows its first value.
Rule 3  what depends on the dictionary alone (resources, translated strings) lives on in DictionaryView from batch to batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vivace.generator.texts import ABSENT, Texts, Translation, enum_numbers
from vivace.model.attributes import I32, U8, U32, U64, Attributes
from vivace.model.batch import SpanBatch
from vivace.model.dictionary import Dictionary
from vivace.model.schema import KINDS, STATUSES

KIND_NAMES = tuple(f"SPAN_KIND_{kind.upper()}" for kind in KINDS)
STATUS_NAMES = tuple(f"STATUS_CODE_{status.upper()}" for status in STATUSES)

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Lane:
    """The pairs of one key: the rows that carry it, ascending, each once, and their values."""

    row: U32
    type: U8
    value: U64

    def spread(self, row_count: int, numbers: I32) -> I32:
        """`numbers`, one for each pair, as a column of all rows; ABSENT where a row does not carry the key."""
        column = np.zeros(row_count, np.int32)
        column[self.row] = numbers
        return column


def find_lane(attributes: Attributes, dictionary: Dictionary, key: str) -> Lane:
    """The pairs of a key. Cost: one pass over the keys."""
    code = dictionary.strings.code_of(key.encode())
    pairs = np.flatnonzero(attributes.key == code) if code is not None else np.empty(0, np.int64)
    row = attributes.row[pairs]
    if len(row) and (row[1:] == row[:-1]).any():
        first = np.ones(len(row), bool)
        first[1:] = row[1:] != row[:-1]
        pairs, row = pairs[first], row[first]
    return Lane(row, attributes.type[pairs], attributes.value[pairs])


class DictionaryView:
    """One dictionary read in numbers of one Texts, for as long as batches of it come."""

    def __init__(self, dictionary: Dictionary, texts: Texts) -> None:
        self.dictionary = dictionary
        self.texts = texts
        self.plain = Translation(dictionary, texts)
        self._templates = Translation(dictionary, texts, template=True)
        self._resources = dictionary.resources
        self._columns: dict[tuple[str, bool], I32] = {}

    def refresh(self) -> None:
        """Take note of resources that came since."""
        if len(self._resources) != self.dictionary.resource_count:
            self._resources = self.dictionary.resources
            self._columns.clear()

    @property
    def resources(self) -> Attributes:
        return self._resources.attributes

    @property
    def resource_count(self) -> int:
        return len(self._resources)

    def translation(self, template: bool) -> Translation:
        return self._templates if template else self.plain

    def resource_lane(self, key: str) -> Lane:
        return find_lane(self.resources, self.dictionary, key)

    def resource_column(self, key: str, template: bool = False) -> I32:
        """The attribute of every resource."""
        found = self._columns.get((key, template))
        if found is None:
            lane = self.resource_lane(key)
            numbers = self.translation(template).values(lane.type, lane.value)
            found = self._columns[key, template] = lane.spread(self.resource_count, numbers)
        return found


class Columns:
    """One batch, read through the view of its dictionary."""

    def __init__(self, batch: SpanBatch, view: DictionaryView) -> None:
        self.batch = batch
        self.view = view
        self.texts = view.texts
        self._lanes: dict[str, Lane] = {}
        self._columns: dict[tuple[str, bool], I32] = {}

    def __len__(self) -> int:
        return len(self.batch)

    @cached_property
    def service(self) -> I32:
        """`service.name` of the resource."""
        return self.of_resource(self.view.resource_column("service.name"))

    @cached_property
    def name(self) -> I32:
        return self.view.plain.strings(self.batch.name)

    @cached_property
    def status_message(self) -> I32:
        return self.view.plain.strings(self.batch.status_message)

    @cached_property
    def kind(self) -> I32:
        return enum_numbers(self.batch.kind, KIND_NAMES, self.texts)

    @cached_property
    def status(self) -> I32:
        return enum_numbers(self.batch.status_code, STATUS_NAMES, self.texts)

    @cached_property
    def duration_nano(self) -> NDArray[np.int64]:
        """End minus start; negative ones count as 0."""
        duration = (self.batch.end_time_unix_nano - self.batch.start_time_unix_nano).view(np.int64)
        return np.maximum(duration, 0)

    def of_resource(self, column: I32) -> I32:
        """A column of resources as one of spans."""
        return column[self.batch.resource]

    @cached_property
    def _pairs_of_key(self) -> NDArray[np.int64]:
        """How many pairs each key has, by code: most keys that settings name are not there, and need no search."""
        return np.bincount(self.batch.attributes.key)

    def span_lane(self, key: str) -> Lane:
        found = self._lanes.get(key)
        if found is None:
            dictionary = self.view.dictionary
            code = dictionary.strings.code_of(key.encode())
            is_there = code is not None and code < len(self._pairs_of_key) and self._pairs_of_key[code]
            attributes = self.batch.attributes if is_there else Attributes.empty()
            found = self._lanes[key] = find_lane(attributes, dictionary, key)
        return found

    def span_attribute(self, key: str, template: bool = False) -> I32:
        """The attribute of every span, its resource not asked."""
        lane = self.span_lane(key)
        return lane.spread(len(self), self.view.translation(template).values(lane.type, lane.value))

    def attribute(self, key: str, template: bool = False) -> I32:
        """The attribute of every span's resource, or else of the span."""
        found = self._columns.get((key, template))
        if found is None:
            found = self._columns[key, template] = self._attribute(key, template)
        return found

    def _attribute(self, key: str, template: bool) -> I32:
        of_resources = self.view.resource_column(key, template)
        if not of_resources.any():
            return self.span_attribute(key, template)
        column = self.of_resource(of_resources)
        if column.all():
            return column
        return np.where(column == ABSENT, self.span_attribute(key, template), column)

    def first_of(self, keys: Sequence[str], read: Callable[[str], I32] | None = None) -> I32:
        """The first attribute of several that a span (or its resource) has; `read` says where to look for one."""
        column = np.zeros(len(self), np.int32)
        for key in keys:
            candidate = (read or self.attribute)(key)
            column = np.where(column == ABSENT, candidate, column)
        return column
