"""The label plan of a processor: which columns a span is counted by, and what labels distinct combinations of them make.

Rule 1  a plan reads columns of its source (numbers, one a span or an edge); labels are made of texts, once for each distinct combination.
Rule 2  two entries of one label name are one label: the later one, where it has a value.
Rule 3  a label whose name is given by the registry (external labels) is left out, so no two rows are one series.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence, Sized
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from vivace.generator.table import LE, NAME, LabelSet
from vivace.generator.texts import Texts
from vivace.model.attributes import I32

T = TypeVar("T", bound=Sized)


@dataclass(frozen=True, slots=True)
class Label(Generic[T]):
    """A label made of the texts of some columns, not empty ones joined by `join`."""

    name: str
    reads: tuple[Callable[[T], I32], ...]
    join: str = ""


class LabelPlan(Generic[T]):
    """Labels in order."""

    def __init__(self, labels: Sequence[Label[T]], taken: Container[str]) -> None:
        """`taken`: names that external labels have."""
        self._labels = [x for x in labels if x.name not in taken and x.name not in (NAME, LE)]
        self.names = tuple(dict.fromkeys(x.name for x in self._labels))

    def columns(self, source: T) -> list[I32]:
        """What is counted by, in the order of the labels; never none."""
        made = [read(source) for label in self._labels for read in label.reads]
        return made or [np.zeros(len(source), np.int32)]

    def label_sets(self, columns: list[I32], texts: Texts) -> Iterator[LabelSet]:
        """The label sets of combinations given as columns."""
        remaining = iter([texts.texts(c) for c in columns])
        made: dict[str, list[str]] = {}
        for label in self._labels:
            parts = [next(remaining) for _ in label.reads]
            if len(parts) == 1:
                values = parts[0]
            else:
                values = [label.join.join(filter(None, each)) for each in zip(*parts, strict=True)]
            earlier = made.get(label.name)
            made[label.name] = (
                values if earlier is None else [new or old for new, old in zip(values, earlier, strict=True)]
            )
        if not made:
            return iter([()] * len(columns[0]))
        return zip(*made.values(), strict=True)
