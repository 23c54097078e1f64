"""Wire messages: OTLP traces, and the gRPC error details that go back to senders.

The `.proto` files are written by us from the published field numbers; the `*_pb2.py` and their type stubs are generated
and checked in, so that installing needs no protoc. After a change of a `.proto`:

    .venv/bin/python -m grpc_tools.protoc -I src --python_out=src --pyi_out=src src/vivace/model/proto/*.proto
    .venv/bin/ruff check --fix src/vivace/model/proto && .venv/bin/ruff format src/vivace/model/proto

The packages are our own (`vivace.otlp`, `vivace.rpc`): the wire carries no package names, and another library that
registers `opentelemetry.proto.*` or `google.rpc.*` in the same process does not collide with us.
"""
