"""The commands beside the server: what they print, and how they exit."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from builders import NOON, SECOND, batch, flip_byte, request, span, write_block
from server import Server, eventually

from vivace import cli
from vivace.commands import blocks as blocks_command
from vivace.commands import config_check, key_table
from vivace.commands.text import byte_text, duration_text, time_text
from vivace.commands.trace_text import SpanLine, in_tree_order, value_text
from vivace.config.settings import Settings
from vivace.config.unfinished import Pending
from vivace.storage import catalog

Capture = pytest.CaptureFixture[str]

# -- the command line -------------------------------------------------------------------------------------------------

COMMAND_LINES = [  # arguments, exit code, what standard error says
    (["blocks"], 2, "required: action"),
    (["blocks", "list"], 2, "required: -config.file"),
    (["blocks", "sho", "-config.file=x"], 2, "invalid choice: 'sho'"),
    (["blocks", "list", "-config.file=missing.yaml"], 1, "cannot read missing.yaml: No such file or directory"),
    (["config", "check", "-config.file=x", "-config.expand-env=maybe"], 2, "found 'maybe', expected true or false"),
    (["query", "trace"], 2, "required: id"),
    (["query", "search", "{ }", "--since", "5"], 2, "expected a duration such as 30m, 6h or 2d"),
    (["query", "search", "{ }", "--start", "5"], 1, "found one of --start and --end, expected both"),
    (["query", "trace", "1", "--url", "localhost:3200"], 2, "expected an address such as http://127.0.0.1:3200"),
    (["query", "trace", "1", "--url", "http://127.0.0.1:1"], 1, "cannot reach http://127.0.0.1:1"),
    (["query", "--help"], 0, ""),
    # as before there were commands: words are no flags of the server
    (["block"], 2, "unexpected argument 'block'"),
    (["-target=all", "blocks"], 2, "unexpected argument 'blocks'"),
]


@pytest.mark.parametrize(("arguments", "code", "message"), COMMAND_LINES)
def test_command_lines(arguments: list[str], code: int, message: str, capsys: Capture) -> None:
    assert cli.main(arguments) == code
    assert message in capsys.readouterr().err


def test_the_servers_help_names_the_commands(capsys: Capture) -> None:
    assert cli.main(["-help"]) == 0
    assert "vivace blocks list|show|verify" in capsys.readouterr().out


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    """As `| head -1`. Enough keys to fill a pipe, so that the command is still writing."""
    file = tmp_path / "t.yaml"
    file.write_text(
        "metrics_generator: {registry: {external_labels: {a: b}}, storage: {remote_write: [%s]}}" % ("{url: u}," * 600)
    )
    command = [sys.executable, "-m", "vivace.cli", "config", "check", f"-config.file={file}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(20) == 0
        assert process.stderr.read() == b""


# -- config check -----------------------------------------------------------------------------------------------------

FILE = """\
server:
  http_listen_port: 3200
  http_tls_config: {cert: c, key: k, client_auth_type: Nonsense}
  log_levle: warn
ingester:
  max_block_bytes: 5
  trace_idle_period: 5
usage_report: {reporting_enabled: false}
backend_worker: {compaction: {block_retention: 48h}}
overrides:
  ingestion_rate_limit_bytes: 9
metrics_generator:
  registry: {external_labels: {source: tempo}}
  storage: {remote_write: [{url: "http://p/w", basic_auth: {password: secret}}]}
"""
FINDINGS = [  # line, key, verdict, what the text holds
    (2, "server.http_listen_port", "has effect", "Port of the HTTP API"),
    (3, "server.http_tls_config.cert", "has effect", "PEM"),
    (3, "server.http_tls_config.key", "has effect", "PEM"),
    (3, "server.http_tls_config.client_auth_type", "wrong", "found 'Nonsense'"),
    (4, "server.log_levle", "unknown", "did you mean server.log_level?"),
    (6, "ingester.max_block_bytes", "no effect", "ingester.head_max_bytes"),
    (7, "ingester.trace_idle_period", "wrong", "write 5s for seconds"),
    (8, "usage_report.reporting_enabled", "no effect", "no usage reports"),
    (9, "backend_worker.compaction.block_retention", "old name", "of compactor.compaction.block_retention; has effect"),
    (11, "overrides.ingestion_rate_limit_bytes", "old name", "of overrides.defaults.ingestion.rate_limit_bytes"),
    (13, "metrics_generator.registry.external_labels", None, ""),
    (14, "metrics_generator.storage", "wrong", "found remote_write without path"),
    (14, "metrics_generator.storage.remote_write[0].url", None, ""),
    (14, "metrics_generator.storage.remote_write[0].basic_auth.password", None, ""),
]


def test_every_key_is_judged() -> None:
    checked = config_check.check(FILE, "tempo.yaml")
    assert checked.settings is None
    assert [(one.line, one.key) for one in checked.findings] == [(line, key) for line, key, _, _ in FINDINGS]
    for one, (_, _, verdict, text) in zip(checked.findings, FINDINGS, strict=True):
        assert verdict in (None, one.verdict), one
        assert text in one.text


def test_what_is_not_done_yet_is_told_by_the_servers_own_list(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = Pending(("ingester",), "there are no heads", ("head_max_bytes",))
    monkeypatch.setattr(config_check, "PENDING", (missing,))
    (one,) = config_check.check("ingester: {head_max_bytes: 128MiB}", "x").findings
    assert (one.verdict, one.text) == ("not yet", "there are no heads")


def test_config_check_says_whether_a_start_would_work(tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "tempo.yaml"
    command = ["config", "check", f"-config.file={file}"]
    file.write_text(FILE)
    assert cli.main(command) == 1
    out = capsys.readouterr().out
    assert "this configuration cannot be used" in out
    assert "secret" not in out.replace("<secret>", "")

    file.write_text(
        "server: {log_level: '${LEVEL:-warn}'}\noverrides: {per_tenant_override_config: %s}" % (tmp_path / "t")
    )
    assert cli.main([*command, "-config.expand-env=true"]) == 1
    assert f"cannot read {tmp_path / 't'}" in capsys.readouterr().err
    (tmp_path / "t").write_text("overrides: {a: {ingestion: {tenant_shard_size: 3}}}")
    assert cli.main([*command, "-config.expand-env=true"]) == 0
    captured = capsys.readouterr()
    assert "this configuration can be used" in captured.out
    assert "overrides.a.ingestion.tenant_shard_size: accepted, has no effect" in captured.err
    assert cli.main([*command, "-config.expand-env=true", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["key"] == "server.log_level"


def test_an_empty_file(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "t.yaml").write_text("")
    assert cli.main(["config", "check", f"-config.file={tmp_path / 't.yaml'}"]) == 0
    assert capsys.readouterr().out == "no keys: all defaults\nthis configuration can be used\n"


# -- blocks -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """Two blocks of tenant t, and what else may lie beside them; returns the directory of blocks."""
    directory = tmp_path / "blocks"
    for tenant, id in (("t", "0001"), ("t", "0002")):
        spans = (span(trace=n, id=n, attributes={"http.status_code": 200}) for n in range(1, 4))
        write_block(directory / tenant, batch(request(*spans, resource={"service.name": "shop"})), id)
    (directory / "t" / "0003.tmp").mkdir()
    (directory / ".quarantine" / "t-0000").mkdir(parents=True)
    tempo = directory / "single-tenant" / "b6b3c7a0-0000-4000-8000-000000000000"
    tempo.mkdir(parents=True)
    (tempo / "data.parquet").write_bytes(bytes(1_500_000))
    (tmp_path / "tempo.yaml").write_text(f"storage: {{trace: {{local: {{path: {directory}}}}}}}")
    return directory


def run_blocks(directory: Path, *arguments: str) -> int:
    action, *rest = arguments
    return cli.main(["blocks", action, f"-config.file={directory.parent / 'tempo.yaml'}", *rest])


def test_list(stored: Path, capsys: Capture) -> None:
    assert run_blocks(stored, "list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:5] for line in lines[1:3]] == [["t", "0001", "0", "3", "3"], ["t", "0002", "0", "3", "3"]]
    assert lines[1].endswith("2025-11-22T12:00:00.000Z  2025-11-22T12:00:00.000Z")
    assert lines[3].startswith("2 blocks, 6 spans, ")
    assert lines[4:] == [
        "1 directory, 0 B: being written or deleted",
        "1 directory, 0 B: damaged and set aside, in .quarantine",
        "1 directory, 1.5 MB: not Vivace's (Tempo's, perhaps): never searched, never deleted, counted against the disk cap",
    ]
    assert run_blocks(stored, "list", "--json") == 0
    assert [b["span_count"] for b in json.loads(capsys.readouterr().out)] == [3, 3]
    assert run_blocks(stored, "list", "--tenant", "nobody") == 0
    assert capsys.readouterr().out.startswith("0 blocks, 0 spans")


def test_show(stored: Path, capsys: Capture) -> None:
    assert run_blocks(stored, "show", "0002", "--keys", "1") == 0
    out = capsys.readouterr().out
    assert "block    0002, tenant t" in out
    assert "3 spans in 1 row group, 3 traces, 0 events, 0 links" in out
    assert "spans.parquet" in out
    assert "and 1 more; --keys 2 prints them all" in out
    assert run_blocks(stored, "show", "0002", "--json") == 0
    assert json.loads(capsys.readouterr().out)["id"] == "0002"
    assert run_blocks(stored, "show", "000") == 1
    assert "2 blocks begin with 000: 0001, 0002" in capsys.readouterr().err
    assert run_blocks(stored, "show", "9") == 1
    assert "no block begins with 9" in capsys.readouterr().err


def test_verify_names_the_damaged_block(stored: Path, capsys: Capture) -> None:
    assert run_blocks(stored, "verify") == 0
    assert capsys.readouterr().out == "ok       t/0001\nok       t/0002\n2 blocks, 0 damaged\n"
    flip_byte(stored / "t" / "0002" / "spans.parquet", 100)
    assert run_blocks(stored, "verify") == 1
    out = capsys.readouterr().out
    assert out.startswith("ok       t/0001\ndamaged  t/0002: ")
    assert "spans.parquet is damaged" in out
    assert run_blocks(stored, "verify", "0001") == 0
    (stored / "t" / "0001" / "meta.json").write_text("{}")
    assert run_blocks(stored, "list") == 1
    assert "damaged: t/0001: " in capsys.readouterr().out
    assert run_blocks(stored, "show", "0001") == 1


def test_a_block_that_goes_away_meanwhile(stored: Path, capsys: Capture) -> None:
    found = blocks_command.survey(stored)
    shutil.rmtree(stored / "t" / "0001")
    arguments = blocks_command._parser().parse_args(["verify", "-config.file=x"])
    assert blocks_command._verify(found, arguments) == 0
    assert "gone     t/0001: merged or deleted meanwhile" in capsys.readouterr().out


def test_names_are_those_of_the_catalog() -> None:
    assert blocks_command.QUARANTINE == catalog.QUARANTINE
    assert set(blocks_command.REMNANTS) == {catalog.DELETED, catalog.TEMPORARY}


def test_blocks_loads_no_engine() -> None:
    """It may run beside the server in a container with little memory."""
    script = "import sys, vivace.commands.blocks; print({'polars', 'pyarrow', 'numpy'} & sys.modules.keys())"
    assert (
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "set()\n"
    )


# -- query: a real server ---------------------------------------------------------------------------------------------


def test_beside_a_running_server(tmp_path: Path, capsys: Capture) -> None:
    spans = (
        span(1, 1, name="GET /cart", kind=2, duration=250_000_000, status=(2, "boom")),
        span(
            1, 2, 1, name="SELECT", kind=3, start=NOON + 1_000_000, duration=20_000_000, attributes={"db.system": "pg"}
        ),
    )
    body = request(*spans, resource={"service.name": "shop"}).SerializeToString()
    with Server(tmp_path) as server:
        headers = {"Content-Type": "application/x-protobuf"}
        with urllib.request.urlopen(urllib.request.Request(f"{server.otlp_http}/v1/traces", body, headers)) as reply:
            assert reply.status == 200
        query = ["query", "trace", f"{1:032x}", "--url", server.http]
        assert cli.main([*query, "--attributes"]) == 0
        assert capsys.readouterr().out.splitlines() == [
            f"trace {1:032x}: 2025-11-22T12:00:00.000Z, 250ms, 2 spans, 1 service",
            "offset  duration  span                  kind    status",
            "   +0s     250ms  shop: GET /cart       server  error: boom",
            "  +1ms      20ms    shop: SELECT        client",
            "                        db.system = pg",
        ]
        assert cli.main([*query, "--json"]) == 0
        assert "resourceSpans" in json.loads(capsys.readouterr().out)["trace"]
        assert cli.main(["query", "trace", "2", "--url", server.http]) == 1
        assert "trace 2 is not stored" in capsys.readouterr().err
        assert cli.main(["query", "trace", "xyz", "--url", server.http]) == 1
        assert "answered 400: trace IDs can only contain hex characters" in capsys.readouterr().err

        eventually(server.blocks, "a block")
        assert cli.main(["blocks", "verify", f"-config.file={server.config}"]) == 0
        assert cli.main(["config", "check", f"-config.file={server.config}"]) == 0


# -- query: recorded forms --------------------------------------------------------------------------------------------

ANSWERS = {
    "/api/search": {
        "traces": [
            {
                "traceID": "123456789abcdef",
                "rootServiceName": "frontend",
                "rootTraceName": "root-op",
                "startTimeUnixNano": str(NOON),
                "durationMs": 1738,
                "spanSets": [{"spans": [], "matched": 5}, {"spans": [], "matched": 2}],
            },
            {"traceID": "f" * 32, "rootServiceName": "<root span not yet received>", "startTimeUnixNano": str(NOON)},
        ],
        "metrics": {},
    },
    "/api/v2/search/tags": {
        "scopes": [{"name": "resource", "tags": ["service.name"]}, {"name": "intrinsic", "tags": ["duration"]}]
    },
    "/api/v2/search/tag/span.http.method/values": {
        "tagValues": [{"type": "string", "value": "GET"}, {"type": "string"}]
    },
    "/api/metrics/query_range": {
        "series": [
            {
                "labels": [{"key": "resource.service.name", "value": {"stringValue": "shop"}}],
                "samples": [
                    {"timestampMs": str(NOON // 1_000_000)},
                    {"timestampMs": str(NOON // 1_000_000 + 60_000), "value": 3},
                ],
            }
        ]
    },
    "/api/v2/traces/5": {"something": "else"},
}
QUESTIONS = [  # arguments, parameters that reach the server, what is printed
    (
        ["search", "{ status = error }", "--limit", "2", "--start", "10", "--end", "20"],
        {"q": "{ status = error }", "limit": "2", "start": "10", "end": "20"},
        "trace                             start                     duration  spans found  root service                  root span\n"
        "00000000000000000123456789abcdef  2025-11-22T12:00:00.000Z     1.74s            7  frontend                      root-op\n"
        "ffffffffffffffffffffffffffffffff  2025-11-22T12:00:00.000Z        0s            0  <root span not yet received>\n",
    ),
    (["tags", "--query", "{ }"], {"q": "{ }"}, "resource.service.name\nduration\n"),
    (["tags", "span.http.method"], {}, "type    value\nstring\nstring  GET\n"),
    (
        ["metrics", "{ } | rate()", "--step", "60s"],
        {"q": "{ } | rate()", "step": "60s"},
        "series                        samples  min  mean  max  last\n"
        "{resource.service.name=shop}        2    0   1.5    3     3\n",
    ),
    (
        ["metrics", "{ } | rate()", "--points"],
        {},
        "{resource.service.name=shop}\n  2025-11-22T12:00:00.000Z  0\n  2025-11-22T12:01:00.000Z  3\n",
    ),
]


class Recorded(BaseHTTPRequestHandler):
    """Answers with ANSWERS, 404 elsewhere, and remembers the parameters, the tenant and the login."""

    seen: dict[str, str]

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        type(self).seen = {k: v[0] for k, v in parse_qs(parts.query).items()} | {
            "tenant": self.headers.get("X-Scope-OrgID", ""),
            "authorization": self.headers.get("Authorization", ""),
        }
        body = json.dumps(ANSWERS[parts.path]).encode() if parts.path in ANSWERS else b"404 page not found\n"
        self.send_response(200 if parts.path in ANSWERS else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def recorded() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Recorded) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("arguments", "parameters", "printed"), QUESTIONS)
def test_questions(
    recorded: str, arguments: list[str], parameters: dict[str, str], printed: str, capsys: Capture
) -> None:
    assert cli.main(["query", *arguments, "--url", recorded + "/", "--tenant", "a"]) == 0
    assert capsys.readouterr().out == printed
    assert parameters.items() <= Recorded.seen.items()
    assert Recorded.seen["tenant"] == "a"
    assert int(Recorded.seen["end"]) > int(Recorded.seen["start"])


LOGINS = [  # options, the Authorization header
    ([], ""),
    (["--user", "ann", "--password-file", "secret"], "Basic YW5uOm9wZW4="),
    (["--token-file", "secret"], "Bearer open"),
]


@pytest.mark.parametrize(("options", "header"), LOGINS)
def test_logins(
    recorded: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], header: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").write_text("open\n")
    assert cli.main(["query", "search", "{ }", "--url", recorded, *options]) == 0
    assert Recorded.seen["authorization"] == header


NO_LOGINS = [  # options, what is said
    (["--user", "ann"], "expected the first two or the last"),
    (["--user", "ann", "--password-file", "x", "--token-file", "x"], "expected the first two or the last"),
    (["--token-file", "/nowhere/x"], "cannot read /nowhere/x: No such file or directory; it should hold a password"),
]


@pytest.mark.parametrize(("options", "message"), NO_LOGINS)
def test_logins_that_cannot_be(recorded: str, options: list[str], message: str, capsys: Capture) -> None:
    assert cli.main(["query", "search", "{ }", "--url", recorded, *options]) == 1
    assert message in capsys.readouterr().err


def test_answers_that_are_none(recorded: str, capsys: Capture) -> None:
    assert cli.main(["query", "tags", "nothing", "--url", recorded]) == 1
    assert f"{recorded} answered 404: 404 page not found" in capsys.readouterr().err
    assert cli.main(["query", "trace", "5", "--url", recorded]) == 1
    assert cli.main(["query", "search", "{ }", "--json", "--url", recorded]) == 0


# -- figures ----------------------------------------------------------------------------------------------------------

FIGURES = [
    (byte_text(0), "0 B"),
    (byte_text(999), "999 B"),
    (byte_text(1000), "1.0 kB"),
    (byte_text(34_800_000), "34.8 MB"),
    (byte_text(5 * 10**15), "5000.0 TB"),
    (duration_text(0), "0s"),
    (duration_text(999), "999ns"),
    (duration_text(12_345), "12.3µs"),
    (duration_text(250_000_000), "250ms"),
    (duration_text(1_738_110_000), "1.74s"),
    (duration_text(59 * SECOND), "59s"),
    (duration_text(125 * SECOND), "2m5s"),
    (duration_text(-5_000_000), "-5ms"),
    (time_text(NOON + 5_999_999), "2025-11-22T12:00:00.005Z"),
    (time_text(2**64 - 1), "2554-07-21T23:34:33.709Z"),
    (value_text({"boolValue": True}), "true"),
    (value_text({"arrayValue": {"values": [{"intValue": "1"}, {}]}}), "[1, ]"),
    (value_text({"kvlistValue": {"values": [{"key": "a", "value": {"doubleValue": 0.5}}]}}), "{a = 0.5}"),
]


@pytest.mark.parametrize(("found", "expected"), FIGURES)
def test_figures(found: str, expected: str) -> None:
    assert found == expected


TREES = [  # (id, parent) in order of start -> (id, depth) as printed
    ([("a", ""), ("b", "a"), ("c", "b"), ("d", "a")], [("a", 0), ("b", 1), ("c", 2), ("d", 1)]),
    ([("b", "lost"), ("c", "b")], [("b", 0), ("c", 1)]),
    ([("a", "b"), ("b", "a"), ("c", "c")], [("a", 0), ("b", 1), ("c", 0)]),
    ([("a", ""), ("a", ""), ("b", "a")], [("a", 0), ("b", 1), ("a", 0)]),
]


@pytest.mark.parametrize(("spans", "printed"), TREES)
def test_every_span_is_printed_once(spans: list[tuple[str, str]], printed: list[tuple[str, int]]) -> None:
    lines = [SpanLine(id, parent, "t", "s", "n", "", "", 0, 0, ()) for id, parent in spans]
    assert [(line.id, depth) for line, depth in in_tree_order(lines)] == printed


# -- the page made of the same data -----------------------------------------------------------------------------------


def test_the_table_of_keys_is_current() -> None:
    page = (Path(__file__).parents[1] / "docs/migrating-from-tempo.md").read_text()
    assert key_table.updated(page) == page, "run python -m vivace.commands.key_table"


def test_the_table_names_every_key() -> None:
    """Each used key stands in the table, itself or by what it lies below."""
    patterns: dict[str, list[str]] = {}
    section = ""
    for line in key_table.render().splitlines()[2:]:
        label, _, keys = line.split(" | ")
        section = label.strip("| `") or section
        patterns.setdefault(section, []).extend(keys.strip("| ").replace("`", "").split())
    for path, _ in key_table._used((), Settings):
        name, shown = (path[0], ".".join(path[1:])) if len(path) > 1 else ("top level", path[0])
        assert any(fnmatch(shown, pattern) for pattern in patterns[name]), path
