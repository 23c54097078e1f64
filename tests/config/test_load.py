"""Real files load; wrong ones are refused with key, place and cure; keys without effect are named."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from vivace.config.load import load, parse
from vivace.config.settings import Settings
from vivace.config.units import BytesOrPercent
from vivace.errors import ConfigError

DATA = Path(__file__).parent / "data"
DEPLOY = Path(__file__).parents[2] / "deploy"


def load_file(path: Path) -> Settings:
    return load([f"-config.file={path}"], {}).settings


def refuse(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as error:
        parse(text, "tempo.yaml")
    return error.value


def test_a_users_file_loads_unchanged() -> None:
    settings = load_file(DATA / "user.yaml")
    assert settings.server.http_listen_port == 3200
    assert settings.storage.trace.wal.path == Path("/var/tempo/wal")
    assert settings.compactor.compaction.block_retention == timedelta(days=7)
    assert settings.overrides.defaults.ingestion.rate_limit_bytes == 15_000_000
    assert settings.overrides.defaults.metrics_generator.processors == (
        "span-metrics",
        "service-graphs",
        "local-blocks",
    )
    generator = settings.metrics_generator
    assert generator.registry.external_labels == {"source": "tempo"}
    assert generator.storage.remote_write[0].url.startswith("http://prometheus.monitoring")
    assert generator.processor.span_metrics.dimensions[0] == "service.name"
    grpc = settings.distributor.receivers.otlp.protocols.grpc
    assert grpc is not None
    assert grpc.endpoint == "0.0.0.0:4317"
    assert [notice.partition(":")[0] for notice in settings.notices] == [
        "metrics_generator.traces_storage.path",
        "metrics_generator.processor.local_blocks.flush_to_storage",
    ]


def test_the_conformance_file_loads_unchanged() -> None:
    settings = load_file(DATA / "conformance.yaml")
    assert settings.server.http_listen_address == "127.0.0.1"
    assert settings.overrides.defaults.global_.max_bytes_per_trace == 0
    assert settings.query_frontend.search.max_duration == timedelta(0)
    assert settings.metrics_generator.processor.service_graphs.wait == timedelta(seconds=3)


def test_a_file_of_tempo_3_loads() -> None:
    settings = load_file(DATA / "tempo3.yaml")
    compaction = settings.compactor.compaction
    assert compaction.block_retention == timedelta(hours=72)  # the worker's before the scheduler's
    assert compaction.max_block_bytes == 10**9
    local = settings.storage.trace.local
    assert local.max_bytes == BytesOrPercent(size_bytes=10 * 2**30)
    assert local.min_free_bytes == BytesOrPercent(percent=5.0)
    otlp = settings.distributor.receivers.otlp
    assert otlp is not None
    assert otlp.protocols.grpc is not None
    assert otlp.protocols.http is not None
    assert otlp.protocols.grpc.endpoint == "localhost:4317"
    named = {notice.partition(":")[0] for notice in settings.notices}
    assert named == {
        "distributor.receivers.jaeger.protocols.grpc",
        "live_store.max_block_duration",
        "live_store.fail_on_high_lag",
        "backend_scheduler.provider.retention.interval",
        "backend_scheduler.provider.compaction.compactor.block_retention",
        "backend_worker.backend_scheduler_addr",
        "memory.automemlimit_enabled",
        "query_frontend.mcp_server.enabled",
        "overrides.defaults.metrics_generator.span_name_sanitization",
    }


def test_the_file_of_make_run_asks_for_nothing_in_vain() -> None:
    settings = load_file(DEPLOY / "local.yaml")
    assert [notice for notice in settings.notices if ": not yet, " not in notice] == []
    assert settings.metrics_generator.storage.path == Path("data/generator")


@pytest.mark.parametrize("text", ["", "# nothing", "server:", "server: {}\ndistributor: {receivers: {}}", "storage: ~"])
def test_what_is_not_given_is_default(text: str) -> None:
    assert parse(text) == Settings()
    otlp = Settings().distributor.receivers.otlp
    assert otlp is not None
    assert (otlp.protocols.grpc, otlp.protocols.http) != (None, None)


RECEIVERS = [  # receivers block, gRPC endpoint, HTTP endpoint
    ("{otlp: {protocols: {grpc: }}}", "localhost:4317", None),
    ("{otlp: {protocols: {http: {}}}}", None, "localhost:4318"),
    ("{otlp: {protocols: {grpc: {endpoint: ':1'}, http: {endpoint: '[::]:2'}}}}", ":1", "[::]:2"),
]


@pytest.mark.parametrize(("block", "grpc_endpoint", "http_endpoint"), RECEIVERS)
def test_receivers(block: str, grpc_endpoint: str | None, http_endpoint: str | None) -> None:
    otlp = parse(f"distributor: {{receivers: {block}}}").distributor.receivers.otlp
    assert otlp is not None
    grpc, http = otlp.protocols.grpc, otlp.protocols.http
    assert (grpc and grpc.endpoint, http and http.endpoint) == (grpc_endpoint, http_endpoint)


def test_other_receivers_are_accepted_with_a_notice() -> None:
    settings = parse("distributor: {receivers: {zipkin: }}")
    assert settings.distributor.receivers.otlp is None
    assert len(settings.notices) == 2
    assert "OTLP only" in settings.notices[0]
    assert "takes no spans" in settings.notices[1]


UNKNOWN = [  # text, key, place, hint
    ("storage:\n  trace:\n    locl: {path: x}", "storage.trace.locl", "3:5", "did you mean storage.trace.local?"),
    ("servr: {}", "servr", "1:1", "did you mean server?"),
    ("block_retention: 1h", "block_retention", "1:1", "did you mean compactor.compaction.block_retention?"),
    ("http_lisen_port: 1", "http_lisen_port", "1:1", "did you mean server.http_listen_port?"),
    ("http_listen_port: 1", "http_listen_port", "1:1", "did you mean server.http_listen_port?"),
    (
        "metrics_generator: {storage: {path: x, remote_write: [{url: 'http://a/', qeue_config: {}}]}}",
        "metrics_generator.storage.remote_write[0].qeue_config",
        "1:74",
        "did you mean metrics_generator.storage.remote_write.queue_config?",
    ),
    ("storage: {trace: {qqqq: 1}}", "storage.trace.qqqq", "1:19", "expected keys such as backend, local, wal"),
    ("query_frontend: {mcp: {}}", "query_frontend.mcp", "1:18", "expected keys such as"),
    ("overrides: {defaults: {max_bytes_per_trace: 1}}", "overrides.defaults.max_bytes_per_trace", "1:24", "global.max"),
]


@pytest.mark.parametrize(("text", "key", "place", "hint"), UNKNOWN)
def test_an_unknown_key_is_an_error_with_the_nearest_real_one(text: str, key: str, place: str, hint: str) -> None:
    error = refuse(text)
    assert str(error).startswith(f"unknown key {key} at tempo.yaml:{place}; ")
    assert hint in str(error)
    assert (error.key, error.place) == (key, f"tempo.yaml:{place}")


# Each list holds the one before it ten times: a million nodes in seven lines.
DOUBLING = "a0: &a0 [x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 7)
)

WRONG = [  # text, what the message says after the place
    ("server: {http_listen_port: x}", "server.http_listen_port at tempo.yaml:1:28: found 'x', expected a whole number"),
    ("server: {http_listen_port: 70000}", "found 70000, expected 65535 or less"),
    ("server: {http_listen_port: yes}", "found true, expected a whole number"),
    ("server: {log_level: loud}", "found 'loud', expected 'debug', 'info', 'warn' or 'error'"),
    ("server: 5", "server at tempo.yaml:1:9: found 5, expected keys such as http_listen_address"),
    ("stream_over_http_enabled: 1", "found 1, expected true or false"),
    ("compactor: {compaction: {block_retention: 7d}}", "found '7d', expected a duration such as 1h30m, 1.5s or 100ms"),
    ("compactor: {compaction: {block_retention: 7d}}", "write 168h0m0s"),
    ("ingester: {trace_idle_period: -5s}", "found '-5s', expected 0s or more"),
    ("ingester: {head_max_bytes: 5 apples}", "found '5 apples', expected a size in bytes"),
    ("ingester: {head_max_bytes: true}", "found True, expected a number with a unit"),
    ("storage: {trace: {backend: s3}}", "storage.trace.backend at tempo.yaml:1:28: found 's3', not yet: only local"),
    ("target: ingester", "found 'ingester', not yet: Vivace runs as one process; use target: all"),
    ("distributor: {receivers: {otlp: {protocols: {}}}}", "found no protocol, expected protocols with grpc, http"),
    ("distributor: {receivers: {otlp: }}", "found no protocol"),
    ("distributor: {receivers: {otlp: {protocols: {grpc: {endpoint: here}}}}}", "found 'here', expected host:port"),
    (
        "overrides: {defaults: {metrics_generator: {processors: [nope]}}}",
        "processors[0] at tempo.yaml:1:57: found 'nope'",
    ),
    ("overrides: {defaults: {metrics_generator: {processors: x}}}", "found 'x', expected a list"),
    ("metrics_generator: {storage: {remote_write: [{url: 'http://a/'}]}}", "found remote_write without path"),
    (
        "metrics_generator: {storage: {path: x, remote_write: [{}]}}",
        "remote_write[0].url at tempo.yaml:1:55: found nothing",
    ),
    ("metrics_generator: {storage: {path: x, remote_write: [{url: 'ftp://u:pw@a/'}]}}", "'ftp://u:<secret>@a/'"),
    ("server: {http_tls_config: {cert_file: a}}", "found a certificate without its key"),
    (
        "server: {http_tls_config: {cert_file: a, key_file: b, client_auth_type: RequireAnyClientCert}}",
        "found 'RequireAnyClientCert', expected '', 'NoClientCert', 'VerifyClientCertIfGiven' or",
    ),
    (
        "server: {http_tls_config: {cert_file: a, key_file: b, client_auth_type: VerifyClientCertIfGiven}}",
        "found client_auth_type VerifyClientCertIfGiven without a client CA, expected both",
    ),
    (
        "server: {http_tls_config: {cert_file: a, key_file: b, client_ca_file: c}}",
        "found a client CA that checks nobody, add client_auth_type: RequireAndVerifyClientCert",
    ),
    (
        "server: {http_tls_config: {client_ca: c, client_auth_type: RequireAndVerifyClientCert}}",
        "found a client CA without a certificate of the server",
    ),
    (
        "server: {grpc_tls_config: {cert: a, key: b, client_ca: c, client_auth_type: VerifyClientCertIfGiven}}",
        "found VerifyClientCertIfGiven in grpc_tls_config, expected NoClientCert or RequireAndVerifyClientCert",
    ),
    (
        "server: {grpc_tls_config: {cert: a, key: b}, tls_min_version: VersionTLS13}",
        "but the gRPC port also takes TLS 1.2",
    ),
    ("server: {tls_min_version: VersionTLS10}", "found 'VersionTLS10', expected '', 'VersionTLS12' or 'VersionTLS13'"),
    (
        "distributor: {receivers: {otlp: {protocols: {grpc: {tls: "
        "{cert_pem: a, key_pem: b, min_version: '1.3', max_version: '1.2'}}}}}}",
        "found min_version 1.3 above max_version 1.2",
    ),
    (
        "distributor: {receivers: {otlp: {protocols: {http: {compression_algorithms: [gzip, br]}}}}}",
        "found 'br', expected some of gzip, zstd",
    ),
    ("a: 1\na: 2", "duplicate key a at tempo.yaml:2:1, already set in line 1"),
    ("a: [", "cannot read tempo.yaml:1:5 as YAML: while parsing a flow node"),
    ("a: &a {b: *a}", "aliases without end"),
    (DOUBLING, "aliases without end"),
    ("- 1", "the file at tempo.yaml:1:1: found a list, expected keys such as target"),
    ("a: 1\n---\nb: 2", "expected a single document"),
    ("? [x]\n: 1", "found a list or map as a key at tempo.yaml:1:3"),
    ("multitenancy_enabled: true\nauth_enabled: true", "found beside multitenancy_enabled, expected one of them"),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_a_wrong_value_is_an_error_with_place_and_cure(text: str, message: str) -> None:
    assert message in str(refuse(text))


def test_all_problems_are_reported_at_once_in_order() -> None:
    error = refuse(
        "server:\n  http_listen_port: x\n  grpc_port: 1\nbogus: 1\ncompactor: {compaction: {block_retention: 1d}}"
    )
    assert [line.split(" at tempo.yaml")[0] for line in str(error).splitlines()] == [
        "server.http_listen_port",
        "unknown key server.grpc_port",
        "unknown key bogus",
        "compactor.compaction.block_retention",
    ]


def test_a_problem_is_reported_once() -> None:
    error = refuse("distributor: {receivers: {otlp: {protocol: {}}}}")
    assert str(error).splitlines() == [
        "unknown key distributor.receivers.otlp.protocol at tempo.yaml:1:34; did you mean distributor.receivers.otlp.protocols?"
    ]


def test_secrets_do_not_appear_in_errors() -> None:
    text = "metrics_generator: {storage: {path: x, remote_write: [{url: u, basic_auth: {password: [hunter2]}}]}}"
    assert "hunter2" not in str(refuse(text))


NOTICES = [  # text, the notices
    (
        "memberlist: {join_members: [a:7946], bind_port: 1}",
        [
            "memberlist.join_members: accepted, has no effect (Vivace runs as one process)",
            "memberlist.bind_port: accepted, has no effect (Vivace runs as one process)",
        ],
    ),
    ("memberlist:", ["memberlist: accepted, has no effect (Vivace runs as one process)"]),
    (
        "storage: {trace: {s3: {bucket: b}}}",
        ["storage.trace.s3.bucket: accepted, has no effect (not yet: only the local backend)"],
    ),
    ("ingester: {lifecycler: {ring: {kvstore: {store: inmemory}}}}", ["ingester.lifecycler.ring.kvstore.store: "]),
    (
        "metrics_generator: {storage: {path: x, remote_write: [{url: 'http://a/', proxy_url: p}]}}",
        ["metrics_generator.storage.remote_write[0].proxy_url: accepted, has no effect (not yet"],
    ),
    ("auth_enabled: true", ["auth_enabled: deprecated name, write multitenancy_enabled"]),
    ("overrides: {max_traces_per_user: 5}", ["overrides.max_traces_per_user: accepted, has no effect (recent spans"]),
    (
        "distributor: {receivers: {otlp/2: {protocols: {grpc: }}, otlp: {protocols: {grpc: }}}}",
        ["distributor.receivers.otlp/2."],
    ),
    ("internal_server: {enable: true}", ["internal_server.enable: accepted"]),
    (
        "distributor: {retry_after_on_resource_exhausted: 0s}",
        ["distributor.retry_after_on_resource_exhausted: accepted, has no effect (a refusal always says when"],
    ),
    (
        "overrides: {ingestion_rate_strategy: global, defaults: {ingestion: {retry_info_enabled: false}}}",
        [
            "overrides.defaults.ingestion.retry_info_enabled: accepted, has no effect (a refusal always says when",
            "overrides.ingestion_rate_strategy: accepted, has no effect (Vivace runs as one process)",
        ],
    ),
    (
        "storage: {trace: {blocklist_poll: 5m}}",
        ["storage.trace.blocklist_poll: accepted, has no effect (new blocks are"],
    ),
    ("ingester: {max_block_bytes: 5}", ["ingester.max_block_bytes: accepted, has no effect (a block holds what fits"]),
    (
        "distributor: {receivers: {otlp: {protocols: {grpc: {keepalive: {enforcement_policy: {min_time: 5s}}}}}}}",
        ["distributor.receivers.otlp.protocols.grpc.keepalive.enforcement_policy.min_time: accepted, has no effect"],
    ),
]


@pytest.mark.parametrize(("text", "notices"), NOTICES)
def test_keys_without_effect_give_one_line_each(text: str, notices: list[str]) -> None:
    found = parse(text).notices
    assert len(found) == len(notices)
    for line, start in zip(found, notices, strict=True):
        assert line.startswith(start)


FLAT = """
overrides:
  ingestion_rate_limit_bytes: 5
  max_bytes_per_trace: 6
  block_retention: 1d
  metrics_generator_processors: [span-metrics]
  metrics_generator_processor_service_graphs_histogram_buckets: [1, 2.5]
  metrics_generator_remote_write_headers: {X-A: b}
  metrics_generator_processor_local_blocks_max_block_bytes: 1
  forwarders: [a]
"""


def test_unscoped_overrides_are_read() -> None:
    settings = parse(FLAT)
    limits = settings.overrides.defaults
    assert limits.ingestion.rate_limit_bytes == 5
    assert limits.ingestion.burst_size_bytes == 20_000_000
    assert limits.global_.max_bytes_per_trace == 6
    assert limits.compaction.block_retention == timedelta(days=1)
    assert limits.metrics_generator.processors == ("span-metrics",)
    assert limits.metrics_generator.processor.service_graphs.histogram_buckets == (1.0, 2.5)
    assert limits.metrics_generator.remote_write_headers == {"X-A": "b"}
    assert len(settings.notices) == 8
    assert "overrides.max_bytes_per_trace: deprecated name, write overrides.defaults.global.max_bytes_per_trace" in (
        settings.notices
    )


def test_yaml_conveniences() -> None:
    text = """
    metrics_generator:
      registry: {external_labels: {version: 1.10, on: yes, day: 2024-01-01}}
      processor:
        span_metrics: &shared {dimensions: [a], histogram_buckets: [1, 2]}
        service_graphs: {<<: *shared, dimensions: [b]}
    """
    generator = parse(text).metrics_generator
    assert generator.registry.external_labels == {"version": "1.10", "on": "yes", "day": "2024-01-01"}
    assert generator.processor.service_graphs.histogram_buckets == (1.0, 2.0)
    assert generator.processor.service_graphs.dimensions == ("b",)


def test_policy_values_keep_their_yaml_type_and_dates_are_text() -> None:
    policy = "{include: {match_type: strict, attributes: [%s]}}"
    values = ["1", "1.5", "true", "a", "2024-01-01"]
    attributes = ", ".join(f"{{key: span.x, value: {value}}}" for value in values)
    settings = parse(
        f"metrics_generator: {{processor: {{span_metrics: {{filter_policies: [{policy % attributes}]}}}}}}"
    )
    include = settings.metrics_generator.processor.span_metrics.filter_policies[0].include
    assert include is not None
    assert [repr(attribute.value) for attribute in include.attributes] == ["1", "1.5", "True", "'a'", "'2024-01-01'"]


def test_compactor_holds_over_the_places_of_tempo_3() -> None:
    settings = parse(
        "compactor: {compaction: {block_retention: 1h}}\nbackend_worker: {compaction: {block_retention: 2h}}"
    )
    assert settings.compactor.compaction.block_retention == timedelta(hours=1)
    assert settings.notices == (
        "backend_worker.compaction.block_retention: accepted, has no effect "
        "(compactor.compaction.block_retention is set too and holds)",
    )


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"cannot read /no/such\.yaml: No such file"):
        load(["-config.file=/no/such.yaml"], {})


def test_variables_are_expanded_when_asked(tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    file.write_text("server: {http_listen_port: ${PORT:-3201}}\nhttp_api_prefix: ${PREFIX}")
    arguments = [f"-config.file={file}", "-config.expand-env=true"]
    assert load(arguments, {}).settings.server.http_listen_port == 3201
    settings = load(arguments, {"PORT": "4000", "PREFIX": "/tempo"}).settings
    assert (settings.server.http_listen_port, settings.http_api_prefix) == (4000, "/tempo")
