"""The URL's query as what was asked: text to values, nothing yet compared with limits (requests.py does that).

Rule 1  of a parameter given twice the first value counts; an empty value is as good as none, and so is start=0 or end=0.
Rule 2  what cannot be read is refused with 400 in Tempo's words where it has some, never replaced by a default.
Rule 3  a parameter that no endpoint knows is ignored, except by a search that says nothing else: there it is a tag.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeAlias
from urllib.parse import unquote

from starlette.requests import Request

from vivace.api.logfmt import parse_tags
from vivace.api.requests import AskedRange, AskedSearch, AskedSeries, AskedSummary
from vivace.api.times import MILLISECOND, SECOND, parse_duration, parse_instant, parse_step
from vivace.errors import RequestError
from vivace.query.answers import LegacyTags
from vivace.traceql.literals import parse_duration as parse_since

Parameters: TypeAlias = Mapping[str, str]
"""By name; none is empty."""

TAG_SCOPES = frozenset({"", "none", "span", "resource", "event", "link", "instrumentation", "intrinsic"})

SINCE_DEFAULT = 3600 * SECOND
"""How far metrics queries go back when they do not say."""

_NO_TAGS = frozenset({"minDuration", "maxDuration", "limit", "spss", "since", "rf1After", "explain"})
"""Parameters of a search that are no tag filters and stand beside them."""

_INTEGER = re.compile(r"[+-]?[0-9]+")
_SECONDS_END = 2**32  # the gRPC form of these is uint32
_COUNT_MAX = 2**31 - 1


def parameters_of(request: Request) -> Parameters:
    first: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if value:
            first.setdefault(name, value)
    return first


def asked_search(parameters: Parameters, now: int) -> AskedSearch:
    """What /api/search is asked. `now` in unix nanoseconds. Raises RequestError."""
    q = parameters.get("q", "")
    tags = parse_tags(parameters.get("tags", ""))
    if q and tags:
        raise RequestError("invalid request: can't specify tags and q in the same query")
    if not parameters.keys() & {"q", "tags", "start", "end"}:
        tags = {name: value for name, value in parameters.items() if name not in _NO_TAGS}
    return AskedSearch(
        query=q,
        tags=_legacy_tags(parameters, tags),
        limit=_count(parameters, "limit", positive=True),
        spans=_count(parameters, "spss"),
        range=asked_range(parameters, now),
        explain=parameters.get("explain", "").lower() in ("1", "true"),
    )


def asked_range(parameters: Parameters, now: int) -> AskedRange:
    """Unix seconds of start and end; without either, `since` says how far to go back. Raises RequestError."""
    start, end = _seconds(parameters, "start"), _seconds(parameters, "end")
    if start >= end and start:
        raise RequestError(f"http parameter start must be before end. received start={start} end={end}")
    if not start and not end and "since" in parameters:
        start = max(1, (now - _since(parameters, 0)) // SECOND)
    return AskedRange(start or None, end or None)


def tag_scope(parameters: Parameters) -> str:
    scope = parameters.get("scope", "")
    if scope not in TAG_SCOPES:
        raise RequestError(f"invalid scope: {scope[:64]}")
    return scope


def tag_limit(parameters: Parameters) -> int:
    """Names or values wanted; 0 is all."""
    return _count(parameters, "limit") or 0


def tag_name(segment: str) -> str:
    """The tag that a path names. Some Grafana versions encode it twice, so what is still encoded is decoded again."""
    return unquote(segment)


def asked_series(parameters: Parameters, now: int, *, instant: bool) -> AskedSeries:
    """What /api/metrics/query_range is asked, or /api/metrics/query if `instant`. Raises RequestError."""
    end = _instant(parameters, "end") or now
    start = _instant(parameters, "start") or end - _since(parameters, SINCE_DEFAULT)
    step = None
    if "step" in parameters and not instant:
        try:
            step = parse_step(parameters["step"])
        except ValueError as error:
            raise RequestError(str(error)) from None
    return AskedSeries(
        query=parameters.get("q") or parameters.get("query", ""),
        start=start,
        end=end,
        step=step,
        exemplars=0 if instant else _count(parameters, "exemplars") or 0,
        series=_count(parameters, "maxSeries") or 0,
        instant=instant,
    )


def asked_summary(parameters: Parameters, now: int) -> AskedSummary:
    """What /api/metrics/summary is asked. Raises RequestError."""
    if "groupBy" not in parameters:
        raise RequestError("missing groupBy: name the attributes to group by, such as groupBy=resource.service.name")
    return AskedSummary(
        query=parameters.get("q") or parameters.get("query", ""),
        group_by=tuple(name.strip() for name in parameters["groupBy"].split(",")),
        range=asked_range(parameters, now),
        limit=_count(parameters, "limit", positive=True),
    )


def _legacy_tags(parameters: Parameters, tags: Mapping[str, str]) -> LegacyTags | None:
    shortest = _duration(parameters, "minDuration")
    longest = _duration(parameters, "maxDuration")
    if longest is not None and longest <= (shortest or 0):
        raise RequestError("invalid maxDuration: must be greater than minDuration")
    if not tags and shortest is None and longest is None:
        return None
    return LegacyTags(tags, shortest, longest)


def _duration(parameters: Parameters, name: str) -> int | None:
    """Nanoseconds, cut to whole milliseconds; None when not given or nothing is left."""
    nano = _read(parameters, name, parse_duration) or 0
    return nano - nano % MILLISECOND or None


def _since(parameters: Parameters, default: int) -> int:
    return _read(parameters, "since", parse_since) or default


def _instant(parameters: Parameters, name: str) -> int | None:
    return _read(parameters, name, parse_instant)


def _read(parameters: Parameters, name: str, parse: Callable[[str], int]) -> int | None:
    if name not in parameters:
        return None
    try:
        return parse(parameters[name])
    except ValueError as error:
        raise RequestError(f"invalid {name}: {error}") from None


def _seconds(parameters: Parameters, name: str) -> int:
    """Unix seconds, 0 when not given."""
    text = parameters.get(name, "0")
    number = _integer(name, text, "ParseInt")
    if not 0 <= number < _SECONDS_END:
        raise RequestError(f'invalid {name}: strconv.ParseInt: parsing "{text[:64]}": value out of range')
    return number


def _count(parameters: Parameters, name: str, *, positive: bool = False) -> int | None:
    """None when not given; larger numbers than fit are as good as the largest."""
    if name not in parameters:
        return None
    number = _integer(name, parameters[name], "Atoi")
    if number < 0 or (positive and number == 0):
        raise RequestError(f"invalid {name}: must be a {'positive' if positive else 'non-negative'} number")
    return min(number, _COUNT_MAX)


def _integer(name: str, text: str, function: str) -> int:
    if not _INTEGER.fullmatch(text) or not text.isascii():
        raise RequestError(f'invalid {name}: strconv.{function}: parsing "{text[:64]}": invalid syntax')
    if len(text) > 19:  # asked before int(), which takes quadratic time
        raise RequestError(f'invalid {name}: strconv.{function}: parsing "{text[:64]}": value out of range')
    return int(text)
