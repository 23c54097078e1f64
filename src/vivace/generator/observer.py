"""What the generator reports of itself: each call names the tenant first. Nothing is reported unless somebody listens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GeneratorObserver:
    """Numbers of spans, bytes, series or edges, as they come; `vivace.observers` makes metrics of them."""

    received: Callable[[str, int, int], None] = lambda tenant, spans, size: None
    discarded: Callable[[str, str, str, int], None] = lambda tenant, reason, processor, spans: None
    update_failed: Callable[[str], None] = lambda tenant: None
    series_added: Callable[[str, int], None] = lambda tenant, n: None
    series_removed: Callable[[str, int], None] = lambda tenant, n: None
    series_limited: Callable[[str, int], None] = lambda tenant, n: None
    collected: Callable[[str], None] = lambda tenant: None
    collection_failed: Callable[[str, str], None] = lambda tenant, error: None
    edges: Callable[[str, int], None] = lambda tenant, n: None
    edges_expired: Callable[[str, int], None] = lambda tenant, n: None
    edges_dropped: Callable[[str, int], None] = lambda tenant, n: None
