"""Whose request it is: one tenant for all, or the one that X-Scope-OrgID names. No authentication; that is the proxy's task."""

from __future__ import annotations

import re

from starlette.requests import Request

from vivace.errors import RequestError

SINGLE_TENANT = "single-tenant"
TENANT_HEADER = "X-Scope-OrgID"

_TENANT = re.compile(
    r"[A-Za-z0-9!\-_.*'()]{1,150}"
)  # 150 characters and this set: Tempo 2.10's rule; a tenant is a directory


def single_tenant(request: Request) -> str:
    """Multi-tenancy off: the header is ignored."""
    return SINGLE_TENANT


def tenant_from_header(request: Request) -> str:
    """Multi-tenancy on: the header's tenant. Raises RequestError: 401 without one, 400 for a bad or a joined ("a|b") one."""
    tenant = request.headers.get(TENANT_HEADER, "")
    if not tenant:
        raise RequestError("no org id", status=401)
    if "|" in tenant:
        raise RequestError("multi-tenant query unsupported")
    if not _TENANT.fullmatch(tenant) or tenant in (".", ".."):
        raise RequestError(
            f"invalid tenant {tenant!r}: use up to 150 letters, digits and !-_.*'(), other than . and .."
        )
    return tenant
