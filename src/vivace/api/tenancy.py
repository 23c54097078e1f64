"""Whose spans a request asks for: those of one tenant for all, or of those that X-Scope-OrgID names.

Which names there are: model/tenant.py. Who may ask: access.py.
"""

from __future__ import annotations

from starlette.requests import Request

from vivace.errors import RequestError
from vivace.model import tenant as tenants
from vivace.model.tenant import SEPARATOR, SINGLE_TENANT, TENANT_HEADER

UNSUPPORTED = "multi-tenant query unsupported"


def single_tenant(request: Request) -> str:
    """Multi-tenancy off: the header is ignored."""
    return SINGLE_TENANT


def tenant_from_header(request: Request) -> str:
    """The header's tenant. Raises RequestError: 401 without one, 400 for a bad or a joined ("a|b") one."""
    header = request.headers.get(TENANT_HEADER)
    return tenants.one(refuse_several(header or ""))


def tenants_from_header(request: Request) -> str:
    """The header's tenants, joined. Raises RequestError: 401 without one, 400 for a bad one."""
    return tenants.several(request.headers.get(TENANT_HEADER))


def refuse_several(tenant: str) -> str:
    """`tenant`, if it is one. Raises RequestError where a query cannot be of several."""
    if SEPARATOR in tenant:
        raise RequestError(UNSUPPORTED)
    return tenant
