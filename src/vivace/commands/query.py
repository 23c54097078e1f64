"""`vivace query`: asks a running server over its HTTP API and prints the answer as text, or as it came with `--json`.

It knows the API's JSON (docs/http-api.md) and nothing else of the server, so it works with every version, and with Tempo.
"""

from __future__ import annotations

import argparse
import base64
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import orjson

from vivace.commands.text import duration_text, table, time_text
from vivace.commands.trace_text import trace_text
from vivace.errors import NotFoundError, RequestError, UnavailableError

DEFAULT_URL = "http://127.0.0.1:3200"
ERROR_CHARACTERS_MAX = 1000
"""Of a refusal: one line is the rule, but a proxy in between may send a page."""

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}

Answer = dict[str, Any]


def main(argv: Sequence[str]) -> int:
    """Run with the arguments behind `vivace query`; returns the exit code."""
    arguments = _parser().parse_args(argv)
    ask: Callable[[argparse.Namespace], tuple[str, Callable[[Answer], str]]] = arguments.ask
    path, render = ask(arguments)
    body = _get(arguments, path)
    try:
        answer = orjson.loads(body)
        text = render(answer)
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise RequestError(
            f"{arguments.url}{path} did not answer in Tempo's form: {error!r}; is it the query API?"
        ) from error
    print(body.decode() if arguments.json else text)
    return 0


# -- the command line -------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vivace query", description="Ask a running server.", allow_abbrev=False)
    actions = parser.add_subparsers(dest="action", required=True)

    trace = _action(actions, "trace", "one trace by its id", _trace)
    trace.add_argument("id", help="trace id, hexadecimal")
    trace.add_argument("--attributes", action="store_true", help="print the attributes of spans, too")

    search = _action(actions, "search", "traces that a TraceQL query finds", _search)
    search.add_argument("query", help="TraceQL, such as '{ status = error }'")
    search.add_argument("--limit", type=int, help="most traces, 20 if not said")
    _add_range(search)

    tags = _action(actions, "tags", "attribute names, or the values of one", _tags)
    tags.add_argument("tag", nargs="?", help="name with its scope, such as resource.service.name: print its values")
    tags.add_argument("--query", help="only of spans that this TraceQL filter finds")
    _add_range(tags)

    metrics = _action(actions, "metrics", "series of a TraceQL metrics query", _metrics)
    metrics.add_argument("query", help="TraceQL, such as '{ } | rate() by (resource.service.name)'")
    metrics.add_argument("--step", help="time between samples, such as 30s; chosen by the server if not said")
    metrics.add_argument("--points", action="store_true", help="print every sample, not only a summary of each series")
    _add_range(metrics)
    return parser


def _action(actions: Any, name: str, summary: str, ask: Callable[..., object]) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = actions.add_parser(name, help=summary, description=summary, allow_abbrev=False)
    made.set_defaults(ask=ask)
    made.add_argument("--url", type=_url, default=DEFAULT_URL, help=f"the server, {DEFAULT_URL} if not said")
    made.add_argument("--tenant", help="sent as X-Scope-OrgID; several: 'a|b'")
    # secrets come from files: other users of the machine can read a command line
    made.add_argument("--token-file", type=Path, metavar="FILE", help="file with a bearer token")
    made.add_argument("--user", metavar="NAME", help="log in as NAME, with --password-file")
    made.add_argument("--password-file", type=Path, metavar="FILE", help="file with the password of --user")
    made.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS", help="longest wait, 60 if not said")
    made.add_argument("--json", action="store_true", help="the answer as it came")
    return made


def _add_range(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--since", type=_seconds, default=3600, help="look back so far from now: 30m, 6h, 2d; 1h if not said"
    )
    parser.add_argument("--start", type=int, metavar="UNIX", help="beginning in Unix seconds, with --end")
    parser.add_argument("--end", type=int, metavar="UNIX", help="end in Unix seconds, with --start")


def _url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected an address such as {DEFAULT_URL}")
    return text.rstrip("/")


def _seconds(text: str) -> int:
    parts = re.findall(r"(\d+)([smhdw])", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a duration such as 30m, 6h or 2d")
    return sum(int(number) * _SECONDS[unit] for number, unit in parts)


def _range(arguments: argparse.Namespace) -> dict[str, int]:
    """`start` and `end` of the request, in Unix seconds."""
    if arguments.start is not None and arguments.end is not None:
        return {"start": arguments.start, "end": arguments.end}
    if arguments.start is not None or arguments.end is not None:
        raise RequestError("found one of --start and --end, expected both; or --since alone")
    now = int(time.time())
    return {"start": now - arguments.since, "end": now + 1}


# -- the four questions: each gives the path to ask for, and how its answer reads --------------------------------------


def _trace(arguments: argparse.Namespace) -> tuple[str, Callable[[Answer], str]]:
    def render(answer: Answer) -> str:
        if not answer.get("trace"):
            raise NotFoundError(f"trace {arguments.id} is not stored at {arguments.url}")
        return trace_text(answer, with_attributes=arguments.attributes)

    return f"/api/v2/traces/{quote(arguments.id, safe='')}", render


def _search(arguments: argparse.Namespace) -> tuple[str, Callable[[Answer], str]]:
    limit = {} if arguments.limit is None else {"limit": arguments.limit}
    return _path("/api/search", {"q": arguments.query, **limit, **_range(arguments)}), _search_text


def _search_text(answer: Answer) -> str:
    rows = []
    for trace in answer["traces"]:
        matched = sum(int(s.get("matched", 0)) for s in trace.get("spanSets", ()))
        rows.append(
            (
                trace["traceID"].rjust(32, "0"),
                time_text(int(trace.get("startTimeUnixNano", 0))),
                duration_text(trace.get("durationMs", 0) * 1_000_000),
                str(matched),
                trace.get("rootServiceName", ""),
                trace.get("rootTraceName", ""),
            )
        )
    if not rows:
        return "no traces"
    return table(("trace", "start", "duration", "spans found", "root service", "root span"), rows, right=(2, 3))


def _tags(arguments: argparse.Namespace) -> tuple[str, Callable[[Answer], str]]:
    parameters = _range(arguments) | ({} if arguments.query is None else {"q": arguments.query})
    if arguments.tag is None:
        return _path("/api/v2/search/tags", parameters), _names_text
    return _path(f"/api/v2/search/tag/{quote(arguments.tag, safe='')}/values", parameters), _values_text


def _names_text(answer: Answer) -> str:
    """Names as TraceQL writes them: intrinsics bare, the others behind their scope."""
    lines = []
    for scope in answer.get("scopes", ()):
        prefix = "" if scope["name"] == "intrinsic" else f"{scope['name']}."
        lines += [f"{prefix}{tag}" for tag in scope.get("tags", ())]
    return "\n".join(lines) or "no tags"


def _values_text(answer: Answer) -> str:
    rows = sorted((value["type"], str(value.get("value", ""))) for value in answer.get("tagValues", ()))
    return table(("type", "value"), rows) if rows else "no values"


def _metrics(arguments: argparse.Namespace) -> tuple[str, Callable[[Answer], str]]:
    step = {} if arguments.step is None else {"step": arguments.step}
    path = _path("/api/metrics/query_range", {"q": arguments.query, **step, **_range(arguments)})
    return path, _points_text if arguments.points else _series_text


def _series_text(answer: Answer) -> str:
    rows = []
    for series in answer.get("series", ()):
        values = [float(sample.get("value", 0)) for sample in series.get("samples", ())]
        if values:
            figures = (min(values), sum(values) / len(values), max(values), values[-1])
            rows.append((_labels(series), str(len(values)), *(f"{figure:.6g}" for figure in figures)))
    if not rows:
        return "no series"
    return table(("series", "samples", "min", "mean", "max", "last"), rows, right=(1, 2, 3, 4, 5))


def _points_text(answer: Answer) -> str:
    lines = []
    for series in answer.get("series", ()):
        lines.append(_labels(series))
        for sample in series.get("samples", ()):
            at = time_text(int(sample["timestampMs"]) * 1_000_000)
            lines.append(f"  {at}  {float(sample.get('value', 0)):.6g}")
    return "\n".join(lines) or "no series"


def _labels(series: Mapping[str, Any]) -> str:
    pairs = []
    for label in series.get("labels", ()):
        values = [str(value) for value in label.get("value", {}).values()]
        pairs.append(f"{label['key']}={values[0] if values else ''}")
    return "{" + ", ".join(pairs) + "}"


# -- HTTP -------------------------------------------------------------------------------------------------------------


def _path(path: str, parameters: Mapping[str, object]) -> str:
    return f"{path}?{urlencode(parameters)}"


def _login(arguments: argparse.Namespace) -> dict[str, str]:
    """The Authorization header, if there is to be one. Raises RequestError for options that do not fit together."""
    given = (arguments.user is not None, arguments.password_file is not None, arguments.token_file is not None)
    match given:
        case (False, False, False):
            return {}
        case (True, True, False):
            pair = f"{arguments.user}:{_secret(arguments.password_file)}"
            return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
        case (False, False, True):
            return {"Authorization": f"Bearer {_secret(arguments.token_file)}"}
        case _:
            raise RequestError(
                "found some of --user, --password-file and --token-file, expected the first two or the last"
            )


def _secret(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise RequestError(f"cannot read {file}: {reason}; it should hold a password or token") from error


def _get(arguments: argparse.Namespace, path: str) -> bytes:
    """The body of the answer. Raises RequestError when the server refuses, UnavailableError when it cannot be reached."""
    headers = {"Accept": "application/json"} | ({"X-Scope-OrgID": arguments.tenant} if arguments.tenant else {})
    request = urllib.request.Request(arguments.url + path, headers=headers | _login(arguments))
    try:
        with urllib.request.urlopen(request, timeout=arguments.timeout) as reply:
            body: bytes = reply.read()
            return body
    except urllib.error.HTTPError as error:
        with error:
            text = error.read().decode(errors="replace").strip()[:ERROR_CHARACTERS_MAX]
        raise RequestError(
            f"{arguments.url} answered {error.code}: {text or error.reason}", status=error.code
        ) from error
    except (OSError, HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise UnavailableError(
            f"cannot reach {arguments.url}: {reason}; is the server up? --url names another"
        ) from error
