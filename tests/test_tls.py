"""What a listener's options become: versions, client certificates, and the parts as bytes."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from vivace.errors import ConfigError
from vivace.tls import Pem, TlsOptions

AUTHORITY = trustme.CA()
CA = AUTHORITY.cert_pem.bytes().decode()
SERVER = AUTHORITY.issue_cert("localhost")
CERT, KEY = SERVER.cert_chain_pems[0].bytes().decode(), SERVER.private_key_pem.bytes().decode()
V12, V13, NEWEST = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.MAXIMUM_SUPPORTED


CONTEXTS = [  # options beside the certificate, oldest version, newest version, what clients show
    ({}, V12, NEWEST, ssl.CERT_NONE),
    ({"min_version": "1.3"}, V13, NEWEST, ssl.CERT_NONE),
    ({"max_version": "1.2"}, V12, V12, ssl.CERT_NONE),
    ({"client_ca_pem": CA}, V12, NEWEST, ssl.CERT_REQUIRED),
    ({"client_ca_pem": CA, "client_optional": True}, V12, NEWEST, ssl.CERT_OPTIONAL),
]


@pytest.mark.parametrize(("options", "oldest", "newest", "mode"), CONTEXTS)
def test_contexts(
    options: dict[str, str], oldest: ssl.TLSVersion, newest: ssl.TLSVersion, mode: ssl.VerifyMode
) -> None:
    context = TlsOptions(cert_pem=CERT, key_pem=KEY, **options).server_context(["h2"])  # type: ignore[arg-type]
    assert (context.minimum_version, context.maximum_version, context.verify_mode) == (oldest, newest, mode)


def test_parts_as_bytes(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text(CERT)
    (tmp_path / "ca.pem").write_text(CA)
    cert_file, ca_file = str(tmp_path / "cert.pem"), str(tmp_path / "ca.pem")
    options = TlsOptions(cert_file=cert_file, key_pem=KEY, client_ca_file=ca_file)
    assert options.pem() == Pem(CERT.encode(), KEY.encode(), CA.encode())
    assert TlsOptions(cert_pem=CERT, key_pem=KEY).pem().client_ca is None


REFUSED = [  # options, message, key
    (TlsOptions(cert_pem=CERT, where="x"), "neither of x.key_file and x.key_pem set", "x.key_file"),
    (TlsOptions(cert_pem=CERT, key_pem=CERT, where="x"), "cannot use the certificate", "x.cert_file"),
    (TlsOptions(cert_pem=CERT, key_pem=KEY, client_ca_pem="-", where="x"), "authorities", "x.client_ca_file"),
    (
        TlsOptions(cert_pem=CERT, key_pem=KEY, max_version="2"),
        "tls.max_version is '2', expected 1.2",
        "tls.max_version",
    ),
]


@pytest.mark.parametrize(("options", "message", "key"), REFUSED)
def test_what_cannot_be_used_is_refused_with_its_key(options: TlsOptions, message: str, key: str) -> None:
    for use in (lambda: options.server_context(["h2"]), options.pem):
        with pytest.raises(ConfigError, match=message) as refused:
            use()
        assert refused.value.key == key
