"""`prometheus.WriteRequest` for the protobuf library, built here from the numbers of the remote-write specification.

request = WriteRequest.FromString(body)
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

FIELDS = {  # message -> fields as (number, type, name); a type that is a message's name, "*" in front: repeated
    "Label": [(1, "string", "name"), (2, "string", "value")],
    "Sample": [(1, "double", "value"), (2, "int64", "timestamp")],
    "Exemplar": [(1, "*Label", "labels"), (2, "double", "value"), (3, "int64", "timestamp")],
    "BucketSpan": [(1, "sint32", "offset"), (2, "uint32", "length")],
    "Histogram": [
        (1, "uint64", "count_int"),
        (3, "double", "sum"),
        (4, "sint32", "schema"),
        (5, "double", "zero_threshold"),
        (6, "uint64", "zero_count_int"),
        (11, "*BucketSpan", "positive_spans"),
        (12, "*sint64", "positive_deltas"),
        (15, "int64", "timestamp"),
    ],
    "TimeSeries": [
        (1, "*Label", "labels"),
        (2, "*Sample", "samples"),
        (3, "*Exemplar", "exemplars"),
        (4, "*Histogram", "histograms"),
    ],
    "WriteRequest": [(1, "*TimeSeries", "timeseries")],
}


def _message_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(
        name="remote_write_test.proto", package="prometheus_test", syntax="proto3"
    )
    kinds = descriptor_pb2.FieldDescriptorProto
    for message, fields in FIELDS.items():
        added = file.message_type.add(name=message)
        for number, kind, name in fields:
            plain = kind.lstrip("*")
            field = added.field.add(name=name, number=number)
            field.label = kinds.LABEL_REPEATED if kind.startswith("*") else kinds.LABEL_OPTIONAL
            if plain in FIELDS:
                field.type, field.type_name = kinds.TYPE_MESSAGE, f".prometheus_test.{plain}"
            else:
                field.type = getattr(kinds, f"TYPE_{plain.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("prometheus_test.WriteRequest"))


WriteRequest: Any = _message_class()
