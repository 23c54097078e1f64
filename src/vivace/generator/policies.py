"""Which spans count, and for how many: filter policies and multipliers, as masks and weights of whole batches."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from vivace.errors import ConfigError
from vivace.generator.columns import Columns, Lane
from vivace.generator.settings import Match, Multiplier, Policy, Scalar
from vivace.generator.texts import ABSENT
from vivace.generator.values import double_text
from vivace.model.attributes import I32
from vivace.model.schema import ValueType

Mask = NDArray[np.bool_]
Weights = NDArray[np.float64]
Comparison = Callable[[Columns], Mask]

_SAMPLED_BITS = 56  # of randomness in a trace id; OpenTelemetry, "Probability sampling in trace state"
_THRESHOLD = re.compile(r"(?:^|,)\s*ot=(?:[^,]*;)?th:([0-9a-fA-F]{1,14})(?:[;,]|$)")


class SpanFilter:
    """The policies of one processor, read once. Raises ConfigError for a key or an expression that cannot be used."""

    def __init__(self, policies: Sequence[Policy]) -> None:
        self._include: list[Comparison] = []
        self._exclude: list[Comparison] = []
        for policy in policies:
            if policy.include is not None:
                self._include.append(_all(policy.include))
            if policy.include_any is not None:
                self._include.append(_any(policy.include_any))
            if policy.exclude is not None:
                self._exclude.append(_all(policy.exclude))

    def passing(self, columns: Columns) -> Mask | None:
        """Which spans pass; None when nothing is asked."""
        if not self._include and not self._exclude:
            return None
        mask: Mask = np.ones(len(columns), bool)
        for fits in self._include:
            mask &= fits(columns)
        for fits in self._exclude:
            mask &= ~fits(columns)
        return mask


def _all(match: Match) -> Comparison:
    comparisons = [_comparison(key, value, match.regex) for key, value in match.comparisons]
    return lambda columns: np.logical_and.reduce([np.ones(len(columns), bool), *(c(columns) for c in comparisons)])


def _any(match: Match) -> Comparison:
    comparisons = [_comparison(key, value, match.regex) for key, value in match.comparisons]
    return lambda columns: np.logical_or.reduce([np.zeros(len(columns), bool), *(c(columns) for c in comparisons)])


def _comparison(key: str, value: Scalar, regex: bool) -> Comparison:
    match key.split(".", 1):
        case ["kind"]:
            column: Callable[[Columns], I32] = lambda c: c.kind  # noqa: E731
        case ["status"]:
            column = lambda c: c.status  # noqa: E731
        case ["name"]:
            column = lambda c: c.name  # noqa: E731
        case ["span", attribute]:
            return _attribute(attribute, value, regex, of_resource=False)
        case ["resource", attribute]:
            return _attribute(attribute, value, regex, of_resource=True)
        case _:
            raise ConfigError(
                f"found filter policy key {key}, expected kind, name, status, span.KEY or resource.KEY", key=key
            )
    fits = _text_test(key, value, regex)
    return lambda columns: _of_distinct(columns, column(columns), fits)


def _attribute(key: str, value: Scalar, regex: bool, *, of_resource: bool) -> Comparison:
    fits = _text_test(key, value, regex)
    kind = ValueType.STRING if regex else _type_of(value)

    def of_lane(columns: Columns, lane: Lane, row_count: int) -> Mask:
        numbers = columns.view.plain.values(lane.type, lane.value)
        mask = np.zeros(row_count, bool)
        mask[lane.row] = (lane.type == kind) & _of_distinct(columns, numbers, fits)
        return mask

    def compare(columns: Columns) -> Mask:
        if not of_resource:
            return of_lane(columns, columns.span_lane(key), len(columns))
        view = columns.view
        return of_lane(columns, view.resource_lane(key), view.resource_count)[columns.batch.resource]

    return compare


def _type_of(value: Scalar) -> ValueType:
    match value:
        case bool():
            return ValueType.BOOL
        case int():
            return ValueType.INT
        case float():
            return ValueType.DOUBLE
        case _:
            return ValueType.STRING


def _text_test(key: str, value: Scalar, regex: bool) -> Callable[[str], bool]:
    """Whether a value, as text, is the wanted one. Texts of one type are equal where the values are."""
    if regex:
        try:
            pattern = re.compile(str(value))
        except re.error as e:
            raise ConfigError(
                f"found filter policy {key}: {value}, which is no regular expression: {e}", key=key
            ) from e
        return lambda text: pattern.search(text) is not None
    match value:
        case bool():
            wanted = "true" if value else "false"
        case float():
            wanted = double_text(value)
        case _:
            wanted = str(value)
    return lambda text: text == wanted


def _of_distinct(columns: Columns, numbers: I32, fits: Callable[[str], bool]) -> Mask:
    """`fits` of the text of each number; asked once for each distinct one."""
    distinct, back = np.unique(numbers, return_inverse=True)
    answers = np.array([n != ABSENT and fits(columns.texts.text(n)) for n in distinct.tolist()], bool)
    return answers[back]


class Weigher:
    """How many spans each span stands for."""

    def __init__(self, multiplier: Multiplier) -> None:
        self._multiplier = multiplier

    def weights(self, columns: Columns) -> Weights | None:
        """One weight a span; None when all count once."""
        key, tracestate = self._multiplier.key, self._multiplier.tracestate
        if not key and not tracestate:
            return None
        weights = _tracestate_weights(columns) if tracestate else np.ones(len(columns))
        if key:
            view = columns.view
            of_resources = _ratio(view.resource_lane(key), view.resource_count)[columns.batch.resource]
            of_spans = _ratio(columns.span_lane(key), len(columns))
            ratio = np.where(np.isnan(of_spans), of_resources, of_spans)
            with np.errstate(divide="ignore", invalid="ignore"):
                weights = np.where(ratio > 0, 1 / ratio, weights)
        return weights


def _ratio(lane: Lane, row_count: int) -> Weights:
    """The double value of each row, NaN where there is none: integers do not count."""
    ratio = np.full(row_count, np.nan)
    is_double = lane.type == ValueType.DOUBLE
    ratio[lane.row[is_double]] = lane.value[is_double].view(np.float64)
    return ratio


def _tracestate_weights(columns: Columns) -> Weights:
    codes, back = np.unique(columns.batch.trace_state, return_inverse=True)
    strings = columns.view.dictionary.strings
    return np.array([tracestate_weight(strings.get(code).decode()) for code in codes.tolist()])[back]


def tracestate_weight(state: str) -> float:
    """1 / the sampling probability of a W3C trace state with `ot=th:THRESHOLD`, else 1."""
    found = _THRESHOLD.search(state)
    if found is None:
        return 1.0
    threshold = int(found[1].ljust(_SAMPLED_BITS // 4, "0"), 16)
    return float(1 << _SAMPLED_BITS) / ((1 << _SAMPLED_BITS) - threshold)
