"""Tenants: whose spans these are. Everything that is stored, limited or counted belongs to one.

Rule 1  spans are sent for one tenant; a query may ask for several, joined by `|`, which no name contains.
Rule 2  a tenant's name is that of its directory, so a name that the block directory uses for itself is refused.
Rule 3  wherever a query says `tenant` it may be such a joined name; only split() takes it apart, and what is stored is of one.

Without multi-tenancy all is SINGLE_TENANT's, whatever the header says. Who may send or ask at all: access.py.
"""

from __future__ import annotations

import re

from vivace.errors import RequestError

SINGLE_TENANT = "single-tenant"
TENANT_HEADER = "X-Scope-OrgID"
"""The header, and in lower case the gRPC metadata, that names the tenant."""

SEPARATOR = "|"

_NAME = re.compile(r"[A-Za-z0-9!\-_.*'()]{1,150}")  # 150 characters and this set: Tempo 2.10's rule
_RESERVED = re.compile(r"\.|\.\.|\.quarantine|.*\.(tmp|deleted)")  # the last three: storage/catalog.py


def one(header: str | None) -> str:
    """The tenant that a header names. Raises RequestError: 401 without one, 400 for a name that cannot be one."""
    name = header or ""
    if not name:
        raise RequestError("no org id", status=401)
    if not _NAME.fullmatch(name) or _RESERVED.fullmatch(name):
        raise RequestError(
            f"invalid tenant {name[:200]!r}: use up to 150 letters, digits and !-_.*'(), "
            "other than . and .., .quarantine, and names that end in .tmp or .deleted"
        )
    return name


def several(header: str | None) -> str:
    """The tenants that a header names, in order and each once, joined again. Raises RequestError as one() does."""
    return SEPARATOR.join(sorted({one(name) for name in (header or "").split(SEPARATOR)}))


def split(tenant: str) -> tuple[str, ...]:
    """The tenants of a query."""
    return tuple(tenant.split(SEPARATOR))
