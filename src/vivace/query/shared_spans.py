"""Zipkin's shared spans: a client and a server span with one id, told apart for viewers that need unique ids.

The server span gets a small fresh id (1, 2, ...), the shared id becomes its parent, and its children follow it.
Only answers are changed, never what is stored. Source: the HTTP API reference, trace by id.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vivace.model.arrange import Arranged
from vivace.model.batch import SpanBatch
from vivace.model.trees import CLIENT, SERVER


def separate(trace: Arranged) -> SpanBatch:
    """The spans of one arranged trace, every server span with an id of its own."""
    batch = trace.batch
    ids, firsts = np.unique(batch.span_id, return_index=True)
    if len(ids) == len(batch):
        return batch
    span_id, parent_id = batch.span_id.copy(), batch.parent_span_id.copy()
    shared = set(batch.span_id[np.setdiff1d(np.arange(len(batch)), firsts)].tolist())
    clients = {int(i) for i in batch.span_id[batch.kind == CLIENT]}
    used, fresh = set(ids.tolist()), 0
    for row in np.flatnonzero(batch.kind == SERVER).tolist():
        old = int(batch.span_id[row])
        if old not in shared or old not in clients:
            continue
        fresh += 1
        while fresh in used:
            fresh += 1
        span_id[row], parent_id[row] = fresh, old
        children = (trace.parent == trace.left[row]) & (batch.parent_span_id == old)
        parent_id[children] = fresh
    return replace(batch, span_id=span_id, parent_span_id=parent_id)
