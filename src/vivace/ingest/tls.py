"""TLS of a receiver, the Collector's `tls` block: naming a client CA makes client certificates mandatory (mTLS)."""

from __future__ import annotations

from vivace.tls import TlsOptions

__all__ = ["TlsOptions"]
