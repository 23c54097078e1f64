"""Undo a request's Content-Encoding without ever holding more than the allowed size.

Rule 1  the bound is on the decompressed bytes, and it holds while inflating: a zip bomb is cut off at the bound.
Rule 2  what is not exactly one well-formed stream (gzip: one or more members) is refused: truncated, damaged, trailed.
Rule 3  no more than INLINE_BYTES_MAX are inflated on the event loop; longer bodies go to a thread.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable

import cramjam
import numpy as np

from vivace.errors import LimitError, RequestError

# About 0.5 ms of inflating at the 10:1 that spans compress to; a hop to a thread and back costs 0.1 ms.
INLINE_BYTES_MAX = 32 * 1024

GZIP_WINDOW_BITS = 16 + zlib.MAX_WBITS
SNAPPY_STREAM_IDENTIFIER = b"\xff\x06\x00\x00sNaPpY"

# cramjam reports a full output buffer by this text alone; a test pins it.
OUTPUT_FULL = "failed to write whole buffer"


async def inflate(body: bytes, encoding: str, size_max: int) -> bytes:
    """decompress(), off the event loop when the body is long."""
    if not encoding or encoding == "identity":
        return body
    if len(body) <= INLINE_BYTES_MAX:
        return decompress(body, encoding, size_max)
    return await asyncio.to_thread(decompress, body, encoding, size_max)


def decompress(body: bytes, encoding: str, size_max: int) -> bytes:
    """The bytes that `body` stands for under one Content-Encoding, at most `size_max` of them.

    Raises  RequestError (400) for an encoding that we do not know or a damaged body; LimitError past size_max.
    """
    codec = CODECS.get(encoding)
    if codec is None:
        raise RequestError(f"unsupported Content-Encoding: {encoding}")
    return codec(body, size_max)


def _identity(body: bytes, size_max: int) -> bytes:
    return body if len(body) <= size_max else _refuse_size(size_max)


def _gzip(body: bytes, size_max: int) -> bytes:
    """One or more gzip members, concatenated as RFC 1952 allows."""
    parts: list[bytes] = []
    room = size_max
    rest = body
    while rest:
        part, rest = _zlib_stream(rest, "gzip", GZIP_WINDOW_BITS, room)
        parts.append(part)
        room -= len(part)
    if not parts:
        raise RequestError("cannot decompress gzip body: it is empty")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _zlib(body: bytes, size_max: int) -> bytes:
    inflated, rest = _zlib_stream(body, "zlib", zlib.MAX_WBITS, size_max)
    if rest:
        raise RequestError(f"cannot decompress zlib body: {len(rest)} bytes follow its end")
    return inflated


def _zlib_stream(body: bytes, name: str, window_bits: int, size_max: int) -> tuple[bytes, bytes]:
    """Inflate one stream; return its bytes and what follows it."""
    inflater = zlib.decompressobj(window_bits)
    try:
        # One byte of room past the bound tells "exactly full" from "too long"; max_length 0 would mean unbounded.
        inflated = inflater.decompress(body, size_max + 1)
    except zlib.error as error:
        raise RequestError(f"cannot decompress {name} body: {error}") from error
    if len(inflated) > size_max:
        return _refuse_size(size_max), b""
    if not inflater.eof:
        raise RequestError(f"cannot decompress {name} body: it ends early")
    return inflated, inflater.unused_data


def _snappy(body: bytes, size_max: int) -> bytes:
    """A raw snappy block; senders that label the framed format `snappy` are told by its first ten bytes."""
    if body.startswith(SNAPPY_STREAM_IDENTIFIER):
        return _snappy_framed(body, size_max)
    try:
        if cramjam.snappy.decompress_raw_len(body) > size_max:
            return _refuse_size(size_max)
        return bytes(cramjam.snappy.decompress_raw(body))
    except cramjam.DecompressionError as error:
        raise RequestError(f"cannot decompress snappy body: {error}") from error


def _into_bounded(name: str, decompress_into: Callable[[bytes, memoryview], int]) -> Callable[[bytes, int], bytes]:
    def run(body: bytes, size_max: int) -> bytes:
        if not body:
            raise RequestError(f"cannot decompress {name} body: it is empty")
        # numpy leaves the memory untouched, so only pages that are written to become real (a bytearray of 20 MiB
        # would take 3 ms to clear).
        room = np.empty(size_max, dtype=np.uint8)
        try:
            size = decompress_into(body, room.data)
        except cramjam.DecompressionError as error:
            if str(error) == OUTPUT_FULL:
                return _refuse_size(size_max)
            raise RequestError(f"cannot decompress {name} body: {error}") from error
        return room[:size].tobytes()

    return run


def _refuse_size(size_max: int) -> bytes:
    raise LimitError(
        f"the decompressed body exceeds {size_max} bytes, send smaller batches",
        limit="decompressed size",
        allowed=size_max,
        seen=size_max + 1,  # at least; inflating stopped there
        retry_after_seconds=None,
    )


_snappy_framed = _into_bounded("x-snappy-framed", cramjam.snappy.decompress_into)

CODECS: dict[str, Callable[[bytes, int], bytes]] = {
    "": _identity,
    "identity": _identity,
    "gzip": _gzip,
    "zlib": _zlib,
    "deflate": _zlib,
    "snappy": _snappy,
    "x-snappy-framed": _snappy_framed,
    "zstd": _into_bounded("zstd", cramjam.zstd.decompress_into),
    "lz4": _into_bounded("lz4", cramjam.lz4.decompress_into),
}
