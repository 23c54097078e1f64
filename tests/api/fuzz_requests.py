"""Requests to the query API as nobody in their senses sends them: from a little wrong to random bytes.

Everything is drawn from one `random.Random`, so a seed is a case; `st.randoms(use_true_random=False)` makes hypothesis shrink it.
Parameters are mostly those of their route, values mostly of a kind that some parameter takes, for what is refused at the door
tests the door alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from urllib.parse import quote_from_bytes

import random_queries
import random_traces
from google.protobuf.message import Message

from vivace.model.proto import tempopb_pb2 as pb
from vivace.traceql import canonical

TENANT = "fuzzed"
START = random_traces.START // random_traces.SECOND

# fmt: off
NUMBERS = (
    "0", "1", "-1", "+5", "20", "100", "101", "1000000", "5", " 5", "5 ", "1_000", "0x10", "1e5", "1.5", ".5", "5.", "-0", "٣", "½",
    "2147483647", "2147483648", "4294967295", "4294967296", "9223372036854775807", "9223372036854775808", "18446744073709551616",
    "-9223372036854775808", "-9223372036854775809", "9" * 400, "NaN", "Infinity", "-Inf", "null", "true",
)
TIMES = (
    str(START), str(START + 300), f"{START}.5", f"{START}000000000", f"{START + 600}000000000", "2025-11-22T12:00:00Z",
    "2025-11-22t12:05:00.123456789+01:00", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999-23:59", "2025-02-30T00:00:00Z",
    "2025-11-22T24:00:00Z", "2025-11-22 12:00:00", "now", "now-1h", "0000-00-00T00:00:00Z", "99999999999", "1763812800.99999999999",
)
DURATIONS = (
    "1h", "30s", "5m", "1ms", "1ns", "1us", "1µs", "0s", "-5s", "1d", "2w", "1y", "1h1h", "1.5h", "1e9s", "100000h", "s", "1", "0.001",
    "9223372036854775807ns", "9223372036854775808ns", "99999999999999999999h", "." + "1" * 50 + "s", "1m" * 50,
)
TAGS = (
    "service.name=web", 'name="GET /"', "http.status_code=200", "status.code=error", 'a="b" a="c"', 'a="', "a", "=", "==", 'a=b"c',
    "http.status_code=x", "root.name=query", "i=7 s=a", 'x="\\', 'x="\\u12"', "error=true", "k8s.pod.name=", "s=" + "a" * 3000,
)
NAMES = (
    "span.s", "resource.service.name", ".mixed", "span.http.status_code", "event.s", "link.i", "instrumentation.s", "parent.s",
    "name", "status", "kind", "duration", "rootName", "trace:id", "span:id", "event:name", "traceDuration", "nestedSetLeft",
    "parent", "nestedSetParent", "span:childCount", "link:spanID", "span:parentID", "event:timeSinceStart", "trace:rootService",
    "span.many", "service.name", "s", 'span."with space"', 'span."', "span.", ".", "span..", "span.a{b}", "{ }", "trace:", ":",
    "x" * 5000, "span.naïve 漢", "span.\0", "span.a/b", "%73pan.s", "span%2Es", "values", "tag", "/", "//", "..", "status.code", "error",
)
IDS = (
    "1", "80000000000000000000000000000001", "ab", "AB000000000000001", "0" * 32, "f" * 32, "1" * 33, "g", "0x1", "-1", "", "١", "1 ",
    "0" * 5000, "1/2", "1%", "é",
)
SCOPES = ("span", "resource", "event", "link", "instrumentation", "intrinsic", "none", "Span", "all", "parent", "trace")
MODES = ("all", "ingesters", "blocks", "external", "diff", "defaults", "recent", "ALL")
JUNK = (
    "", " ", "\0", "\r\n", "\r\nX: y", "é", "漢字", "🚀", "\ufeff", "\u202e", "\ud800", "'", '"', "`", "\\", "{", "}", "{}", "%", "%00",
    "%zz", "%25", "%2500", "+", "&", "=", ";", "#", "?", "/", "../../etc/passwd", "${jndi:x}", "<script>", "a" * 5000, "\x7f", "[]", "(",
)
PATTERNS = ("{ name =~ `%s` }", "{ .s !~ `%s` }", "{ resource.service.name =~ `%s` }")
REGEXES = (
    "(a+)+$", "(a|a)*b", "[", "(?P<x>a)", "\\pL", "(?i)A", "x{1000}", "x{1001}", "(x{100}){100}", ".*" * 50, "\\1", "(?=a)",
    "[[:alpha:]]", "\\Q.\\E",
)
TYPED = (*"{}()|&!=<>~.,:\"`\\-+*/^% 0a\n\0é🚀", ">>", "!>", "=~", "by(", "nil", "9" * 30)
# fmt: on

Values = Callable[[Random], str]


def one_of(*pools: Sequence[str], usual: Sequence[str] = ()) -> Values:
    """A value of one of the pools; more often than not a usual one, if there are such."""
    return lambda random: random.choice(usual if usual and random.random() < 0.7 else random.choice(pools))


def query(random: Random) -> str:
    """TraceQL, mostly right, then perhaps damaged."""
    kind = random.randrange(10)
    if kind == 0:
        return random.choice(JUNK)
    if kind == 1:
        return random.choice(PATTERNS) % random.choice(REGEXES)
    make = random_queries.metrics_query if kind < 6 else random_queries.search_query
    text = (
        canonical(make(random))
        if kind != 2
        else "{ } | rate()" + random.choice((" by (name)", " with (exemplars=9)", "|"))
    )
    return mutated(random, text) if random.random() < 0.3 else text


def mutated(random: Random, text: str) -> str:
    """With some characters deleted, inserted, doubled or swapped."""
    for _ in range(random.choice((1, 1, 1, 2, 5))):
        at = random.randrange(len(text) + 1)
        until = min(len(text), at + random.choice((1, 1, 2, 10)))
        match random.randrange(4):
            case 0:
                text = text[:at] + text[until:]
            case 1:
                text = text[:at] + random.choice(TYPED) + text[at:]
            case 2:
                text = text[:until] + text[at:until] * random.choice((1, 1, 30)) + text[until:]
            case _:
                text = text[:at] + text[until : until + 1] + text[at:until] + text[until + 1 :]
    return text


starts = one_of(TIMES, TIMES, NUMBERS, JUNK, usual=(str(START - 60), str(START), ""))
ends = one_of(TIMES, TIMES, NUMBERS, JUNK, usual=(str(START + 600), str(START + 200), ""))
numbers = one_of(NUMBERS, NUMBERS, JUNK, usual=("1", "5", "100"))
durations = one_of(DURATIONS, DURATIONS, NUMBERS, JUNK, usual=("1ms", "10s", "5m"))
anything = one_of(NUMBERS, TIMES, DURATIONS, TAGS, NAMES, IDS, SCOPES, MODES, JUNK)
RANGE: dict[str, Values] = {"start": starts, "end": ends, "since": durations}
SEARCH = RANGE | {
    "q": query,
    "tags": one_of(TAGS, JUNK),
    "minDuration": durations,
    "maxDuration": durations,
    "limit": numbers,
    "spss": numbers,
    "rf1After": starts,
    "explain": one_of(("1", "true", "0", "x")),
}
TAG_NAMES = RANGE | {
    "scope": one_of(SCOPES, JUNK, usual=SCOPES[:7]),
    "limit": numbers,
    "maxStaleValues": numbers,
    "q": query,
}
SERIES = RANGE | {
    "q": query,
    "query": query,
    "step": durations,
    "exemplars": numbers,
    "maxSeries": numbers,
    "instant": numbers,
}
BY_ID = {
    "start": starts,
    "end": ends,
    "mode": one_of(MODES, JUNK, usual=MODES[:4]),
    "blockStart": anything,
    "rf1After": starts,
}
STATUS = {"mode": one_of(MODES, JUNK, usual=MODES[:4]), "top": numbers}

ROUTES: tuple[tuple[str, dict[str, Values]], ...] = (
    *(("/api/search", SEARCH),) * 4,
    ("/api/search/tags", TAG_NAMES),
    ("/api/v2/search/tags", TAG_NAMES),
    *(("/api/search/tag/{tag}/values", TAG_NAMES),) * 2,
    *(("/api/v2/search/tag/{tag}/values", TAG_NAMES),) * 2,
    ("/api/traces/{id}", BY_ID),
    *(("/api/v2/traces/{id}", BY_ID),) * 2,
    *(("/api/metrics/query_range", SERIES),) * 4,
    *(("/api/metrics/query", SERIES),) * 2,
    *(
        (
            "/api/metrics/summary",
            SEARCH | {"groupBy": one_of(NAMES, ("name,span.s", ",", "name,"), usual=NAMES[:25]), "query": query},
        ),
    )
    * 2,
    ("/status/{page}", STATUS),
    ("/status/overrides/{tag}", STATUS),
    ("/{page}", STATUS),
)
# fmt: off
PAGES = (
    "status", "version", "services", "endpoints", "config", "runtime_config", "overrides", "usage-stats", "cardinality", "ready",
    "metrics", "memberlist", "api/echo", "api/status/buildinfo", "api", "", "nowhere", "favicon.ico",
)
# fmt: on
FILLED: dict[str, Values] = {
    "{tag}": one_of(NAMES, JUNK, usual=NAMES[:25]),
    "{id}": one_of(IDS, JUNK, usual=IDS[:4]),
    "{page}": one_of(PAGES, JUNK, usual=PAGES),
}

# fmt: off
METHODS = (*("GET",) * 40, "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "BREW")
ACCEPTS = (
    "application/json", "application/protobuf", "application/vnd.grafana.llm", "*/*", "application/protobuf;q=0, application/json",
    "text/html", "", "é", "application/openmetrics-text;version=1.0.0;q=0.9", "a" * 5000, ",,,;;;", "application/PROTOBUF",
)
ENCODINGS = ("gzip", "*", "gzip;q=0", "gzip;q=x", "br, zstd, gzip", "identity", "", ";", "gzip;" * 100, "GZIP", "é")
TENANTS = (
    *(TENANT,) * 100, "", "other", f"{TENANT}|other", f"{TENANT}|{TENANT}", "a|", "|", ".", "..", "a/b", "x" * 151, "é", "a b", "a,b",
)
# fmt: on
HEADERS: tuple[tuple[str, Sequence[str]], ...] = (
    ("Accept", ACCEPTS),
    ("Accept", ACCEPTS),
    ("Accept-Encoding", ENCODINGS),
    ("Accept-Encoding", ENCODINGS),
    ("Authorization", ("Basic eDp5", "Basic", "Bearer x", "Basic ====", "é", "")),
    ("Content-Type", ("application/grpc", "application/json", "application/x-www-form-urlencoded", "é")),
    ("Range", ("bytes=0-1", "x")),
    ("If-None-Match", ("*",)),
    ("Host", ("localhost", "a:b:c", "é", "")),
    ("Cookie", ("a" * 5000,)),
)


@dataclass(frozen=True)
class HttpRequest:
    """As it is sent: target and headers are bytes."""

    method: str
    target: bytes
    headers: tuple[tuple[str, bytes], ...]
    body: bytes = b""

    def __str__(self) -> str:
        return f"{self.method} {self.target!r} {dict(self.headers)} {self.body!r}"


def http_request(random: Random) -> HttpRequest:
    """A request to a random route."""
    path, parameters = random.choice(ROUTES)
    for place, values in FILLED.items():
        if place in path:
            path = path.replace(place, _quoted(random, values(random), 0.2))
    asked = []
    for name in random.sample(sorted(parameters), min(random.choice((0, 1, 1, 2, 2, 4)), len(parameters))):
        asked.append((name, parameters[name](random)))
        if random.random() < 0.05:
            asked.append((name, anything(random)))
    if "q" in parameters and "q" not in dict(asked) and random.random() < 0.7:
        asked.append(("q", query(random)))
    if "groupBy" in parameters and "groupBy" not in dict(asked) and random.random() < 0.9:
        asked.append(("groupBy", random.choice(NAMES[:25])))
    if random.random() < 0.1:
        asked.append((anything(random), anything(random)))
    target = path + "?" * (random.random() < 0.98)
    target += "&".join(f"{_quoted(random, name, 0.02)}={_quoted(random, value, 0.1)}" for name, value in asked)
    return _sent(random, target.encode(errors="surrogatepass"))


def query_request(random: Random, text: str) -> HttpRequest:
    """A request that asks `text`, and is else as it should be."""
    path = random.choice(
        (
            "search",
            "search",
            "metrics/query_range",
            "metrics/query",
            "metrics/summary",
            "v2/search/tags",
            "v2/search/tag/span.s/values",
        )
    )
    target = f"/api/{path}?q={quote_from_bytes(text.encode(errors='surrogatepass'), safe='')}"
    target += f"&start={START - 60}&end={START + 600}" * (random.random() < 0.8) + "&groupBy=name" * path.endswith(
        "summary"
    )
    accept = random.choice((b"application/json", b"application/protobuf"))
    return HttpRequest("GET", target.encode(), (("X-Scope-OrgID", TENANT.encode()), ("Accept", accept)))


def _sent(random: Random, target: bytes) -> HttpRequest:
    """With a method and headers; once in a while damaged as a whole."""
    if random.random() < 0.05:
        at = random.randrange(1, len(target) + 1)
        target = (
            target[:at]
            + bytes(random.choice(_TARGET_BYTES) for _ in range(random.randint(1, 4)))
            + target[at + random.randrange(3) :]
        )
    headers = [("X-Scope-OrgID", random.choice(TENANTS).encode())]
    for name, values in HEADERS:
        if random.random() < 0.2:
            headers.append((name, random.choice(values).encode()))
    body = b"q=%7B%7D&limit=1" if random.random() < 0.05 else b""
    return HttpRequest(random.choice(METHODS), target, tuple(headers), body)


_TARGET_BYTES = bytes(b for b in range(1, 256) if b not in b" \r\n")
"""Others end the request line, and with it the request that they are in."""


def _quoted(random: Random, text: str, wrong: float) -> str:
    """As a client sends it, or, in a share of `wrong`, one that encodes too little, too much, or other bytes than UTF-8."""
    data = text.encode(errors="surrogatepass")
    if random.random() >= wrong:
        return random.choice((quote_from_bytes(data, safe="/"), "".join(f"%{byte:02x}" for byte in data)))
    match random.randrange(4):
        case 0:
            return "".join(c for c in text if c not in "\r\n \ud800")
        case 1:
            return quote_from_bytes(quote_from_bytes(data, safe="").encode(), safe="")
        case 2:
            return quote_from_bytes(text.encode("utf-16", errors="surrogatepass"), safe="")
        case _:
            return quote_from_bytes(data, safe="") + random.choice(("%", "%f", "%FF", "%C3%28", "%00", "%ED%A0%80"))


# -- gRPC -------------------------------------------------------------------------------------------------------------

SERVICE = "/tempopb.StreamingQuerier/"
REQUESTS: dict[str, type[Message]] = {
    "Search": pb.SearchRequest,
    "SearchTags": pb.SearchTagsRequest,
    "SearchTagsV2": pb.SearchTagsRequest,
    "SearchTagValues": pb.SearchTagValuesRequest,
    "SearchTagValuesV2": pb.SearchTagValuesRequest,
    "MetricsQueryRange": pb.QueryRangeRequest,
    "MetricsQueryInstant": pb.QueryInstantRequest,
}
TEXTS: dict[str, Values] = {
    "query": query,
    "Query": query,
    "scope": one_of(SCOPES, JUNK, usual=SCOPES[:7]),
    "tagName": one_of(NAMES, JUNK, usual=NAMES[:25]),
}
INTEGERS = (0, 1, 20, 100, 101, START, START + 300, START - 60, 2**31 - 1, 2**31, 2**32 - 1)
LONG_INTEGERS = (*INTEGERS, START * 10**9, (START + 600) * 10**9, 10**9, 2**63 - 1, 2**63, 2**64 - 1)


def message(random: Random, rpc: str) -> bytes:
    """A request of `rpc`, mostly right, then perhaps damaged."""
    if random.random() < 0.05:
        return random.randbytes(random.randrange(200))
    made = REQUESTS[rpc]()
    for field in made.DESCRIPTOR.fields:
        if random.random() < (0.2 if field.name not in TEXTS else 0.1):
            continue
        if field.type == field.TYPE_STRING:
            text = TEXTS.get(field.name, anything)(random)
            setattr(made, field.name, text.encode(errors="replace").decode())
        elif field.type in (field.TYPE_UINT32, field.TYPE_UINT64) and random.random() < 0.6:
            is_long = field.type == field.TYPE_UINT64
            usual = {"start": START - 60, "end": START + 600, "step": 1, "MinDurationMs": 1}.get(
                field.name, 20
            ) * 10 ** (9 * is_long)
            odd = random.choice(LONG_INTEGERS if is_long else INTEGERS)
            setattr(made, field.name, usual if random.random() < 0.8 else odd)
    if isinstance(made, pb.SearchRequest) and random.random() < 0.2:
        made.Query = made.Query * (random.random() < 0.1)
        for _ in range(random.randint(1, 3)):
            made.Tags[random.choice(NAMES[-20:])] = random.choice(("a", "7", "200", "", "é"))
    data = made.SerializeToString()
    return damaged(random, data) if random.random() < 0.3 else data


def damaged(random: Random, data: bytes) -> bytes:
    for _ in range(random.choice((1, 1, 2, 5))):
        at = random.randrange(len(data) + 1)
        match random.randrange(4):
            case 0:
                data = data[:at]
            case 1:
                data = data[:at] + random.randbytes(random.randint(1, 4)) + data[at:]
            case 2:
                data = data[:at] + data[at + random.randint(1, 4) :]
            case _:
                data = data[:at] + random.randbytes(1) + data[at + 1 :]
    return data
