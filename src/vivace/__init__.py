"""Vivace: a distributed-tracing backend for OTLP spans, TraceQL queries and local disks."""

__version__ = "0.1.0"
