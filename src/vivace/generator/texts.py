"""Texts: label values as small numbers, so that spans are counted by numbers and only distinct values are ever text.

Rule 1  ABSENT and EMPTY stand for "no such attribute" and for ""; in a label both are nothing.
Rule 2  numbers outlive the dictionary that a value came from: what a processor keeps from one second to the next it keeps
        as numbers of Texts.
Rule 3  it only grows. Its owner starts a new one when it is_full(), and everything that holds numbers with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vivace.generator.values import cut_bytes, path_template, value_text
from vivace.model.attributes import I32, U8, U32, U64
from vivace.model.dictionary import Dictionary
from vivace.model.schema import ValueType

ABSENT, EMPTY = 0, 1
"""Every other number is greater, and stands for a text that says something."""

TEXTS_MAX = 200_000
"""Some 40 MB. A label with more values than this in use at once has made its series useless long before."""


class Texts:
    """Distinct texts, numbered in order of arrival; longer ones are cut to `bytes_max` bytes first."""

    def __init__(self, bytes_max: int = 0) -> None:
        self._bytes_max = bytes_max
        self._texts = ["", ""]
        self._numbers = {"": EMPTY}

    def __len__(self) -> int:
        return len(self._texts)

    def is_full(self) -> bool:
        return len(self._texts) >= TEXTS_MAX

    def number(self, text: str) -> int:
        """The number of a text, given now if it has none."""
        found = self._numbers.get(text)
        if found is None:
            text = cut_bytes(text, self._bytes_max)
            found = self._numbers.setdefault(text, len(self._texts))
            if found == len(self._texts):
                self._texts.append(text)
        return found

    def numbers(self, texts: Iterable[str]) -> list[int]:
        """The numbers of many texts."""
        known = self._numbers
        return [known.get(text) or self.number(text) for text in texts]

    def text(self, number: int) -> str:
        return self._texts[number]

    def texts(self, numbers: I32) -> list[str]:
        """The texts of many numbers, "" for ABSENT."""
        texts = self._texts
        return [texts[n] for n in numbers.tolist()]


class Translation:
    """Values of one dictionary as numbers of one Texts; each distinct value is made text once. With `template` they are
    numbers of path templates (values.py)."""

    def __init__(self, dictionary: Dictionary, texts: Texts, *, template: bool = False) -> None:
        self.dictionary = dictionary
        self.texts = texts
        self._template = template
        self._of_code: I32 = np.zeros(0, np.int32)  # ABSENT: not asked for yet
        self._others: dict[tuple[int, int], int] = {}

    def strings(self, codes: NDArray[np.integer]) -> I32:
        """Numbers of strings given by their codes."""
        if len(self._of_code) < len(self.dictionary.strings):
            wider = np.zeros(len(self.dictionary.strings) * 5 // 4, np.int32)
            wider[: len(self._of_code)] = self._of_code
            self._of_code = wider
        numbers: I32 = self._of_code[codes]
        if not numbers.all():
            new = np.unique(codes[numbers == ABSENT]).astype(np.uint32)
            self._of_code[new] = self._number_strings(new)
            numbers = self._of_code[codes]
        return numbers

    def values(self, types: U8, values: U64) -> I32:
        """Numbers of attribute values of any type."""
        is_string = types == ValueType.STRING
        if is_string.all():
            return self.strings(values.astype(np.int64))
        numbers = np.zeros(len(values), np.int32)
        numbers[is_string] = self.strings(values[is_string].astype(np.int64))
        for kind in np.unique(types[~is_string]).tolist():
            here = types == kind
            distinct, place = np.unique(values[here], return_inverse=True)
            numbers[here] = np.array([self._number(kind, v) for v in distinct.tolist()], np.int32)[place]
        return numbers

    def _number(self, kind: int, value: int) -> int:
        found = self._others.get((kind, value))
        if found is None:
            (found,) = self._intern([value_text(kind, value, self.dictionary)])
            self._others[kind, value] = found
        return found

    def _number_strings(self, codes: U32) -> list[int]:
        offsets, data = self.dictionary.strings.select(codes)
        raw, ends = data.tobytes(), pairwise(offsets.tolist())
        if raw.isascii():
            whole = raw.decode()
            return self._intern([whole[a:b] for a, b in ends])
        return self._intern([raw[a:b].decode() for a, b in ends])

    def _intern(self, texts: list[str]) -> list[int]:
        if not self._template:
            return self.texts.numbers(texts)
        paths = [text.partition("?")[0] for text in texts]
        templates = {path: path_template(path) for path in set(paths)}
        return self.texts.numbers(templates[path] for path in paths)


def enum_numbers(values: I32, names: Sequence[str], texts: Texts) -> I32:
    """Numbers of enum values: the text of 0, 1, … is in `names`, that of any other value is its decimal number."""
    known = np.array([texts.number(name) for name in names], np.int32)
    unsigned = values.view(np.uint32) if values.flags.c_contiguous else values.astype(np.uint32)
    numbers = known[np.minimum(unsigned, len(names) - 1)]
    strange = unsigned >= len(names)
    if strange.any():
        distinct, place = np.unique(values[strange], return_inverse=True)
        numbers[strange] = np.array([texts.number(str(v)) for v in distinct.tolist()], np.int32)[place]
    return numbers
