"""Spans: a frame with what queries derive of it, each thing once: levels joined, the shape of the traces.

Rows of a trace stand in the order of their nested sets, so a span's descendants are the rows behind it, up to some end.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vivace.model.frame import Fixed, Frame, Level, Mask, Numbers, Rows
from vivace.query.values import Values

_GATHERED = (Level.RESOURCE, Level.SCOPE, Level.TRACE)
"""Levels of which each span has one row; of events and links a span has any number."""


class Spans:
    """A frame and what is known of it."""

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        self.count = frame.count(Level.SPAN)

    @cached_property
    def trace(self) -> NDArray[np.integer[Any]]:
        """The trace of each span."""
        return self.frame.owners(Level.TRACE)

    @cached_property
    def first_rows(self) -> Rows:
        """The first span of each trace, and behind the last trace the number of spans."""
        return np.append(self.frame.first_rows(), self.count)

    def numbers(self, column: Fixed) -> NDArray[Any]:
        """A fixed column of numbers. What ended before it began took no time."""
        found = self.frame.fixed(column)
        assert isinstance(found, Numbers)  # by the contract of Frame.fixed
        if column in (Fixed.DURATION, Fixed.TRACE_DURATION):
            positive: NDArray[Any] = np.maximum(found.values, 0)
            return positive
        return found.values

    # -- levels -------------------------------------------------------------------------------------------------------

    def lift(self, values: Values, level: Level) -> Values:
        """Values of a level above, seen from each row of `level`, which is SPAN, EVENT or LINK."""
        if values.level is level:
            return values
        if values.level in _GATHERED:
            values = values.take(self.frame.owners(values.level), Level.SPAN)
        if level is Level.SPAN:
            return values
        return values.take(self.frame.owners(level), level)

    def lift_mask(self, mask: Mask, level: Level) -> Mask:
        """A condition of any level as one of spans; of events and links one that holds is enough."""
        if level is Level.SPAN:
            return mask
        if level in _GATHERED:
            lifted: Mask = mask[self.frame.owners(level)]
            return lifted
        held = np.zeros(self.count, bool)
        held[self.frame.owners(level)[mask]] = True
        return held

    # -- structure ----------------------------------------------------------------------------------------------------

    @cached_property
    def _before(self) -> NDArray[np.int64]:
        """Where each trace's numbers begin when the nested sets of all traces are laid end to end, for each span.

        A trace of n spans uses the numbers 1 to 2n, each once.
        """
        return np.repeat(2 * self.first_rows[:-1], np.diff(self.first_rows))

    @cached_property
    def _opened(self) -> NDArray[np.int64]:
        """At each number how many spans, over all traces, have their left at or before it."""
        opens = np.zeros(2 * self.count + 1, np.int64)
        opens[self._before + self.numbers(Fixed.NESTED_LEFT)] = 1
        return np.cumsum(opens)

    @cached_property
    def parent_rows(self) -> Rows:
        """The row of each span's parent, -1 where it has none that is stored."""
        left = self.numbers(Fixed.NESTED_PARENT)
        has = left > 0
        return np.where(has, self._opened[self._before + np.where(has, left, 0)] - 1, -1)

    @cached_property
    def subtree_ends(self) -> Rows:
        """The row behind the last descendant of each span."""
        ends: Rows = self._opened[self._before + self.numbers(Fixed.NESTED_RIGHT)]
        return ends

    def child_counts(self) -> NDArray[np.int64]:
        parents = self.parent_rows
        counts: NDArray[np.int64] = np.bincount(parents[parents >= 0], minlength=self.count)
        return counts
