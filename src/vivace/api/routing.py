"""Paths to handlers, by the rules of Tempo's router.

Rule 1  a path is matched decoded, so %2F in a parameter is a slash before routing.
Rule 2  a path with empty, "." or ".." segments is answered 301 to its clean form, query kept.
Rule 3  any method goes to a route that names none; parameters come from the URL's query only.
Rule 4  the first route that matches answers; {name} is one segment, {name:.*} may hold slashes.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

Handler = Callable[[Request], Awaitable[Response]]

_PARAMETER = re.compile(r"\{(\w+)(?::([^}]*))?\}")


@dataclass(frozen=True, slots=True)
class Route:
    """One route. `name` is its label in metrics; `methods` None means any; `is_api` routes have the api timeout and Vary."""

    path: str
    regex: re.Pattern[str]
    name: str
    handler: Handler
    methods: frozenset[str] | None
    is_api: bool

    @classmethod
    def of(
        cls,
        path: str,
        handler: Handler,
        *,
        methods: Sequence[str] | None = None,
        prefix: str = "",
        is_api: bool = False,
    ) -> Self:
        """A route at prefix + path. The name leaves the prefix out: /api/traces/{traceID} is api_traces_traceid."""
        return cls(
            path=prefix + path,
            regex=re.compile(_regex_text(prefix + path)),
            name=_PARAMETER.sub(r"\1", path).strip("/").replace("/", "_").lower(),
            handler=handler,
            methods=None if methods is None else frozenset(methods),
            is_api=is_api,
        )


@dataclass(frozen=True, slots=True)
class Match:
    """A route and the parameters that its path held."""

    route: Route
    parameters: dict[str, str]


def find_route(routes: Sequence[Route], path: str) -> Match | None:
    for route in routes:
        if found := route.regex.fullmatch(path):
            return Match(route, found.groupdict())
    return None


def clean_path(path: str) -> str:
    """`path` absolute, without empty, "." and ".." segments; a trailing slash stays."""
    cleaned = posixpath.normpath("/" + path.lstrip("/"))
    return cleaned + "/" if path.endswith("/") and cleaned != "/" else cleaned


def redirect_to(path: str, query: bytes) -> Response:
    """301 to `path` (decoded), with the request's query."""
    location = quote(path, safe="/:@!$&'()*+,;=~-._") + (f"?{query.decode('latin-1')}" if query else "")
    return Response(status_code=301, headers={"Location": location})


def _regex_text(path: str) -> str:
    text, at = "", 0
    for parameter in _PARAMETER.finditer(path):
        text += re.escape(path[at : parameter.start()]) + f"(?P<{parameter[1]}>{parameter[2] or '[^/]+'})"
        at = parameter.end()
    return text + re.escape(path[at:])
