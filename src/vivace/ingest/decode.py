"""OTLP request bytes to a SpanBatch: the native decoder, or the one on the protobuf library where that was not built."""

from __future__ import annotations

from typing import Protocol

from vivace.ingest.outcome import Outcome
from vivace.model.batch import SpanBatch
from vivace.model.dictionary import Dictionary

try:
    from vivace.ingest._decode import Decoder as NativeDecoder
except ImportError:
    NativeDecoder = None


class Decoder(Protocol):
    """Decodes groups of requests into batches of one dictionary; one caller at a time."""

    def decode(self, bodies: list[bytes]) -> tuple[SpanBatch, list[Outcome]]:
        """The batch of all accepted spans in order, and one Outcome a body: one bad body harms no other.

        Raises  MemoryError; nothing of the group counts then.
        """
        ...


def is_native() -> bool:
    """Whether the compiled decoder is there."""
    return NativeDecoder is not None


def decoder(dictionary: Dictionary, attribute_bytes_max: int) -> Decoder:
    """A decoder into `dictionary`; keys and string values over `attribute_bytes_max` bytes are cut, 0 = never."""
    if NativeDecoder is not None:
        native: Decoder = NativeDecoder(dictionary, attribute_bytes_max)
        return native
    from vivace.ingest.plain_decode import PlainDecoder

    return PlainDecoder(dictionary, attribute_bytes_max)


def native_notice() -> str | None:
    """One line for the log when the native modules are missing, else None."""
    if is_native():
        return None
    return (
        "native modules are not built: decoding with the protobuf library, about 40 times slower; "
        "install a C compiler and reinstall to change that"
    )
