"""One segment of the remote-write queue: compressed requests, one record each, and how they are read back.

Rule 1  a segment is records one after another and nothing else; a record never spans two segments.
Rule 2  a record counts only when its whole length lies before the given end and both checksums hold.
Rule 3  nothing is searched inside a record whose header is intact; after a damaged header the next intact one counts.

Bytes: docs/formats/remote-write-queue.md.  Which segments there are, and how far each endpoint has got: write_queue.py.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..errors import InvariantError
from .write_request import Kind

RECORD_MAGIC: Final = b"\xf7RW1"  # the last byte is the version of the format; 0xF7 is in no UTF-8 text
RECORD_HEADER: Final = struct.Struct("<4sHBxIIQII")
"""Magic, tenant bytes, kind, zero, series, body bytes, milliseconds since 1970, crc of tenant and body, crc of the header."""

_CRC: Final = struct.Struct("<I")
_KINDS: Final[tuple[Kind, ...]] = ("samples", "exemplars", "histograms")
_SCAN_BYTES: Final = 1 << 20
_SEGMENT_NAME: Final = re.compile(r"(\d{12})\.rwq")


@dataclass(frozen=True, slots=True)
class WriteRecord:
    """One request as it waits: whose it is, what it holds, when it was queued, and its snappy-compressed body."""

    tenant: str
    kind: Kind
    count: int
    queued_ms: int
    body: bytes


@dataclass(frozen=True, slots=True)
class RecordPlace:
    """An intact record header and where it stands. Its payload may still be damaged."""

    offset: int
    tenant_bytes: int
    body_bytes: int
    kind: Kind
    count: int
    queued_ms: int
    payload_crc: int

    @property
    def end(self) -> int:
        return self.offset + RECORD_HEADER.size + self.tenant_bytes + self.body_bytes


def segment_path(directory: Path, number: int) -> Path:
    return directory / f"{number:012}.rwq"


def number_of(file_name: str) -> int | None:
    """The number in a segment's file name; None for a name that is not a segment's."""
    found = _SEGMENT_NAME.fullmatch(file_name)
    return int(found[1]) if found else None


def encode_record(record: WriteRecord) -> bytes:
    """Raises InvariantError for a tenant of 64 KiB or more: its name came in a header, which is shorter."""
    name = record.tenant.encode()
    if len(name) > 0xFFFF:
        raise InvariantError(f"found a tenant of {len(name)} bytes, expected less than 64 KiB")
    unsigned = RECORD_HEADER.pack(
        RECORD_MAGIC,
        len(name),
        _KINDS.index(record.kind),
        record.count,
        len(record.body),
        record.queued_ms,
        zlib.crc32(record.body, zlib.crc32(name)),
        0,
    )[: -_CRC.size]
    return b"".join((unsigned, _CRC.pack(zlib.crc32(unsigned)), name, record.body))


def find_record(fd: int, offset: int, end: int) -> RecordPlace | None:
    """The first record at or after `offset` that ends at or before `end`; None when only a torn rest is left.

    Bytes that had to be passed over show in the place's offset: it is larger than the one asked for.
    Raises  OSError when the device cannot be read.
    """
    place = _decode(os.pread(fd, RECORD_HEADER.size, offset), offset)
    if place is None:
        place = _search(fd, offset, end)
    return place if place is not None and place.end <= end else None


def read_record(fd: int, place: RecordPlace) -> WriteRecord | None:
    """The record whose header was found; None when its payload does not match its checksum."""
    payload = os.pread(fd, place.tenant_bytes + place.body_bytes, place.offset + RECORD_HEADER.size)
    if zlib.crc32(payload) != place.payload_crc:
        return None
    tenant = payload[: place.tenant_bytes].decode()
    return WriteRecord(tenant, place.kind, place.count, place.queued_ms, payload[place.tenant_bytes :])


def _decode(data: bytes, offset: int) -> RecordPlace | None:
    """None unless `data` is a whole header with the right magic and checksum."""
    if len(data) != RECORD_HEADER.size:
        return None
    magic, tenant_bytes, kind, count, body_bytes, queued_ms, payload_crc, header_crc = RECORD_HEADER.unpack(data)
    if magic != RECORD_MAGIC or zlib.crc32(data[: -_CRC.size]) != header_crc or kind >= len(_KINDS):
        return None
    return RecordPlace(offset, tenant_bytes, body_bytes, _KINDS[kind], count, queued_ms, payload_crc)


def _search(fd: int, offset: int, end: int) -> RecordPlace | None:
    while offset < end:
        window = os.pread(fd, min(_SCAN_BYTES, end - offset), offset)
        if not window:
            return None
        at = window.find(RECORD_MAGIC)
        while at >= 0:
            place = _decode(window[at : at + RECORD_HEADER.size], offset + at)
            if place is not None:
                return place
            at = window.find(RECORD_MAGIC, at + 1)
        if offset + len(window) >= end:
            return None
        offset += len(window) - (RECORD_HEADER.size - 1)  # a header may lie across two windows
    return None
