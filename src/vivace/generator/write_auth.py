"""How remote write shows who it is: headers of the login, the TLS of the connection.

Rule 1  files with secrets are read for every request, so that a rotated token works without a restart; certificates at the start.
Rule 2  no secret stands in a URL, a log line or an error's text: a user and password in the URL become a header.
Rule 3  what cannot be used is refused at the start, with the key to blame; a file that goes missing later fails the request.
"""

from __future__ import annotations

import base64
import ssl
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit, urlunsplit

from ..config.remote_write import ClientTls, RemoteWrite
from ..errors import ConfigError
from ..tls import as_file

_VERSIONS: Final = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}


def bare_url(url: str) -> str:
    """The URL without user and password, as it is called and logged."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def login_headers(settings: RemoteWrite) -> dict[str, str]:
    """The Authorization header as it has to be now; empty without a login.

    Raises  OSError when a file with a secret cannot be read, UnicodeError when it is no text.
    """
    if settings.basic_auth is not None:
        basic = settings.basic_auth
        password = basic.password.get_secret_value() if basic.password is not None else ""
        return _basic(_or_file(basic.username, basic.username_file), _or_file(password, basic.password_file))
    if settings.authorization is not None:
        own = settings.authorization
        credentials = own.credentials.get_secret_value() if own.credentials is not None else ""
        return {"Authorization": f"{own.type} {_or_file(credentials, own.credentials_file)}"}
    if settings.bearer_token is not None or settings.bearer_token_file is not None:
        token = settings.bearer_token.get_secret_value() if settings.bearer_token is not None else ""
        return {"Authorization": f"Bearer {_or_file(token, settings.bearer_token_file)}"}
    parts = urlsplit(settings.url)
    if parts.username is not None:
        return _basic(unquote(parts.username), unquote(parts.password or ""))
    return {}


def client_context(settings: ClientTls, where: str) -> ssl.SSLContext:
    """TLS towards an endpoint; `where` is the section that the settings come from, for messages.

    Raises  ConfigError, naming the key, when a part is missing, unreadable or not what it should be.
    """
    try:
        context = ssl.create_default_context(
            cafile=str(settings.ca_file) if settings.ca_file else None, cadata=settings.ca or None
        )
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"cannot use the authorities of {where}: {error}", key=f"{where}.ca_file") from error
    # OpenSSL 3 has the versions before 1.2 switched off; asking for an older minimum asks for 1.2
    context.minimum_version = _VERSIONS.get(settings.min_version, ssl.TLSVersion.TLSv1_2)
    if settings.max_version:
        if settings.max_version not in _VERSIONS:
            raise ConfigError(
                f"found {settings.max_version}, expected TLS12 or TLS13: older versions are switched off in OpenSSL",
                key=f"{where}.max_version",
            )
        context.maximum_version = _VERSIONS[settings.max_version]
    if settings.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    key = settings.key.get_secret_value() if settings.key is not None else ""
    if settings.cert or settings.cert_file or key or settings.key_file:
        cert_file, key_file = (str(path or "") for path in (settings.cert_file, settings.key_file))
        with as_file(cert_file, settings.cert) as cert_path, as_file(key_file, key) as key_path:
            try:
                context.load_cert_chain(cert_path, key_path)
            except (OSError, ssl.SSLError) as error:
                raise ConfigError(
                    f"cannot use the certificate and key of {where}: {error}", key=f"{where}.cert_file"
                ) from error
    return context


def _basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def _or_file(text: str, path: Path | None) -> str:
    return path.read_text().strip() if path is not None else text
