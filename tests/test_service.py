"""What the service makes of settings: listeners, and the limits of single tenants while their file changes."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from server import Server, eventually, merged, settings

from vivace.config.load import parse
from vivace.service import Service
from vivace.tls import TlsOptions

GAUGE = "tempo_runtime_config_last_reload_successful"


def service(data: Path, changes: str = "") -> Service:
    """A service that was not started."""
    return Service(parse(yaml.safe_dump(merged(settings(data), yaml.safe_load(changes) or {}))))


TLS_OPTIONS = [  # http_tls_config, tls_min_version, what the listener is told
    ("{}", "''", None),
    ("{cert_file: c, key_file: k}", "''", TlsOptions(cert_file="c", key_file="k")),
    ("{cert: c, key: k}", "VersionTLS13", TlsOptions(cert_pem="c", key_pem="k", min_version="1.3")),
    (
        "{cert: c, key: k, client_ca: a, client_auth_type: RequireAndVerifyClientCert}",
        "VersionTLS12",
        TlsOptions(cert_pem="c", key_pem="k", client_ca_pem="a"),
    ),
    (
        "{cert: c, key: k, client_ca_file: a, client_auth_type: VerifyClientCertIfGiven}",
        "''",
        TlsOptions(cert_pem="c", key_pem="k", client_ca_file="a", client_optional=True),
    ),
]


@pytest.mark.parametrize(("block", "oldest", "options"), TLS_OPTIONS)
def test_tls_of_the_http_server(tmp_path: Path, block: str, oldest: str, options: TlsOptions | None) -> None:
    made = service(tmp_path, f"server: {{http_tls_config: {block}, tls_min_version: {oldest}}}")
    found = made._http._tls
    assert made._grpc._tls is None
    assert (found and found.where) == (options and "server.http_tls_config")
    assert repr(found).replace("server.http_tls_config", "tls") == repr(options)


def test_tls_of_the_grpc_server(tmp_path: Path) -> None:
    made = service(tmp_path, "server: {grpc_tls_config: {cert: c, key: k}}")
    assert made._grpc._tls == TlsOptions(cert_pem="c", key_pem="k", where="server.grpc_tls_config")
    assert made._http._tls is None


def test_compaction_and_retention_of_tenants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tenants.yaml").write_text(
        "overrides: {off: {compaction: {compaction_disabled: true, block_retention: 1h}},"
        " own: {compaction: {compaction_window: 5m, block_retention: 2h}}}"
    )
    made = service(tmp_path, f"overrides: {{per_tenant_override_config: {tmp_path / 'tenants.yaml'}}}")
    monkeypatch.setattr(made._catalog, "tenants", lambda: ["off", "own", "other"])
    windows = {t: s and s.window for t in ("off", "own", "other") for s in [made._upkeep._settings.of(t)]}
    assert windows == {"off": None, "own": timedelta(minutes=5), "other": timedelta(hours=1)}
    retention = made._retention()
    kept = {"off": timedelta.max, "own": timedelta(hours=2), "other": timedelta(hours=87600)}
    assert {t: retention.of(t) for t in kept} == kept


def test_the_file_of_tenants_is_followed(tmp_path: Path) -> None:
    file = tmp_path / "tenants.yaml"

    def write(entry: str) -> None:
        """In one step: a file that is half written is another state."""
        (tmp_path / "new").write_text(f"overrides: {{single-tenant: {entry}}}")
        (tmp_path / "new").replace(file)

    write("{ingestion: {rate_limit_bytes: 1}}")
    follow = {"overrides": {"per_tenant_override_config": str(file), "per_tenant_override_period": "50ms"}}
    with Server(tmp_path / "server", follow) as server:

        def limits() -> bytes:
            return server.get("/status/runtime_config")[1]

        assert b"rate_limit_bytes: 1\n" in limits()
        assert server.metric(GAUGE) == 1
        write("{ingestion: {rate_limit_bytes: 2}}")
        eventually(lambda: b"rate_limit_bytes: 2\n" in limits(), "new limits")
        write("3")
        eventually(lambda: server.metric(GAUGE) == 0, "the gauge says no")
        assert b"rate_limit_bytes: 2\n" in limits()
        write("{ingestion: {rate_limit_bytes: 4}}")
        eventually(lambda: b"rate_limit_bytes: 4\n" in limits(), "limits again")
        assert server.metric(GAUGE) == 1
        assert server.log().count("the limits of tenants stay as they were") == 1
        assert server.stop() == 0
