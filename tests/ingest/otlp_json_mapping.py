"""Protobuf to OTLP/JSON, for tests: the protobuf library's own mapping, with ids turned from base64 into hex."""

from __future__ import annotations

import base64
import json
from typing import Any

from google.protobuf.json_format import MessageToDict

from vivace.model.proto.otlp_pb2 import ExportTraceServiceRequest

ID_KEYS = ("traceId", "spanId", "parentSpanId")


def to_json(request: ExportTraceServiceRequest, **options: Any) -> bytes:
    """`options` go to MessageToDict: use_integers_for_enums, preserving_proto_field_name."""
    return json.dumps(_with_hex_ids(MessageToDict(request, **options))).encode()


def _with_hex_ids(value: Any) -> Any:
    """Ids stand in spans and links only, so their keys tell them from attributes, whose keys are `key` and `value`."""
    if isinstance(value, list):
        return [_with_hex_ids(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {key: base64.b64decode(item).hex() if _is_id(key) else _with_hex_ids(item) for key, item in value.items()}


def _is_id(key: str) -> bool:
    return key in ID_KEYS or key in ("trace_id", "span_id", "parent_span_id")
