"""One WAL segment: its bytes and how they are read back, whatever happened to them.

Rule 1  a record never spans segments; sequences in a segment are consecutive from the one in its file name.
Rule 2  a record counts only when its sequence is smaller than the first sequence of the next segment.
        What a refused append left at the end of a segment is void as soon as its successor exists.
Rule 3  nothing is searched inside a record whose header is intact: a body cannot pass itself off as records.
Rule 4  zeros after the last record are room that was reserved; any other rest without a record is a torn tail.

Bytes: docs/formats/wal.md.  Writing: wal_writer.py.  Which segments there are, replay over all of them, truncation: wal.py.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from vivace.errors import InvariantError, StorageError

FORMAT_VERSION = 1
SEGMENT_MAGIC = b"VIVAWAL\n"
SEGMENT_HEADER = struct.Struct("<8sIQ8xI")  # magic, format version, first sequence, zeros, crc of all before it
RECORD_MAGIC = b"\xf7REC"  # 0xF7 is in no UTF-8 text, so strings in bodies do not look like a header
RECORD_HEADER = struct.Struct("<4sIIQII")  # magic, tenant bytes, body bytes, sequence, crc of payload, crc of header
_CRC = struct.Struct("<I")

_SCAN_BYTES = 1 << 20
_READ_BUFFER_BYTES = 1 << 18
_U32_MAX = 0xFFFF_FFFF
TEMPORARY_SUFFIX = ".tmp"
_SEGMENT_NAME = re.compile(r"(\d{20})\.wal")


@dataclass(frozen=True, slots=True)
class WalRecord:
    """One acknowledged request: raw OTLP bytes and whose they are."""

    sequence: int
    tenant: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Broken:
    """Bytes that should be records, or the segment header, and are not."""

    offset: int
    length: int
    reason: str


@dataclass(frozen=True, slots=True)
class Tail:
    """Bytes after the last record, to be cut. `torn` is False where they are only reserved room."""

    offset: int
    length: int
    torn: bool


Piece = WalRecord | Broken | Tail


@dataclass(frozen=True, slots=True)
class RecordHeader:
    """A record header whose checksum holds, so its lengths can be trusted."""

    tenant_bytes: int
    body_bytes: int
    sequence: int
    payload_crc: int

    @property
    def record_bytes(self) -> int:
        return RECORD_HEADER.size + self.tenant_bytes + self.body_bytes


# -- bytes ------------------------------------------------------------------------------------------------------------


def segment_path(directory: Path, first_sequence: int) -> Path:
    return directory / f"{first_sequence:020}.wal"


def sequence_of(file_name: str) -> int | None:
    """The first sequence that a segment's file name promises; None for a name that is not a segment's."""
    found = _SEGMENT_NAME.fullmatch(file_name)
    return int(found[1]) if found else None


def encode_segment_header(first_sequence: int) -> bytes:
    unsigned = SEGMENT_HEADER.pack(SEGMENT_MAGIC, FORMAT_VERSION, first_sequence, 0)[: -_CRC.size]
    return unsigned + _CRC.pack(zlib.crc32(unsigned))


def encode_group(records: Sequence[tuple[str, bytes]], first_sequence: int) -> tuple[list[bytes], int]:
    """Buffers of a group in file order, bodies uncopied, and their total length.

    Raises  InvariantError for a tenant or body of 4 GiB or more: admission refuses those long before.
    """
    buffers: list[bytes] = []
    byte_count = 0
    for sequence, (tenant, body) in enumerate(records, first_sequence):
        name = tenant.encode()
        if len(name) > _U32_MAX or len(body) > _U32_MAX:
            raise InvariantError(
                f"a WAL record holds less than 4 GiB, got tenant {len(name)} and body {len(body)} bytes"
            )
        payload_crc = zlib.crc32(body, zlib.crc32(name))
        unsigned = RECORD_HEADER.pack(RECORD_MAGIC, len(name), len(body), sequence, payload_crc, 0)[: -_CRC.size]
        buffers.append(unsigned + _CRC.pack(zlib.crc32(unsigned)) + name)
        buffers.append(body)
        byte_count += RECORD_HEADER.size + len(name) + len(body)
    return buffers, byte_count


def decode_record_header(data: bytes) -> RecordHeader | None:
    """None unless `data` is a whole record header with the right magic and checksum."""
    if len(data) != RECORD_HEADER.size:
        return None
    magic, tenant_bytes, body_bytes, sequence, payload_crc, header_crc = RECORD_HEADER.unpack(data)
    if magic != RECORD_MAGIC or zlib.crc32(data[: -_CRC.size]) != header_crc:
        return None
    return RecordHeader(tenant_bytes, body_bytes, sequence, payload_crc)


def check_format_version(path: Path) -> None:
    """Refuse a segment of a later format before anything is replayed or cut; damage is left to read_segment().

    Raises  StorageError.
    """
    with path.open("rb", buffering=0) as file:
        data = file.read(SEGMENT_HEADER.size)
    if len(data) != SEGMENT_HEADER.size:
        return
    magic, version, _, crc = SEGMENT_HEADER.unpack(data)
    intact = magic == SEGMENT_MAGIC and zlib.crc32(data[: -_CRC.size]) == crc
    if intact and version != FORMAT_VERSION:
        raise StorageError(
            f"{path} has WAL format version {version}, expected {FORMAT_VERSION}: "
            "start the version of Vivace that wrote it, or move the file away to go on without its spans"
        )


# -- reading ----------------------------------------------------------------------------------------------------------


def read_segment(path: Path, first_sequence: int, sequence_end: int | None) -> Iterator[Piece]:
    """Everything in one segment, in file order; damage comes as Broken and Tail pieces, never as an exception.

    `sequence_end` is the first sequence of the next segment; None for the last segment, the only one where a rest
    without records means an append that was cut short rather than damage.
    Cost    one record and one read buffer in memory; a damaged region is read twice.
    Raises  OSError when the device cannot be read.
    """
    with path.open("rb", buffering=_READ_BUFFER_BYTES) as file:
        size = os.fstat(file.fileno()).st_size
        if size < SEGMENT_HEADER.size:
            if size > 0:
                yield Tail(0, size, torn=True) if sequence_end is None else Broken(0, size, "segment header cut short")
            return
        if file.read(SEGMENT_HEADER.size) != encode_segment_header(first_sequence):
            yield Broken(0, SEGMENT_HEADER.size, "segment header damaged or not of this file name")

        offset = SEGMENT_HEADER.size
        expected = first_sequence
        while offset < size and expected != sequence_end:
            header = _header_at(file, offset)
            if header is not None and header.sequence == expected:
                record = _record_of(file, header) if offset + header.record_bytes <= size else None
                if record is not None:
                    yield record
                    offset += header.record_bytes
                    expected += 1
                    continue
                search_from = offset + header.record_bytes
                reason = f"record {expected} does not match its checksum"
            else:
                search_from = offset
                reason = f"no header of record {expected}"
            found = _find_header(file, search_from, size, skipped_from=offset, expected=expected, end=sequence_end)
            if found is None:
                break
            if found[0] > offset:
                yield Broken(offset, found[0] - offset, reason)
            offset, expected = found

        if offset == size:
            return
        if _only_zeros(file, offset):
            yield Tail(offset, size - offset, torn=False)
        elif sequence_end is None or expected == sequence_end:
            yield Tail(offset, size - offset, torn=True)
        else:
            yield Broken(offset, size - offset, f"no record from {expected} on, up to {sequence_end - 1} expected")


def _header_at(file: BinaryIO, offset: int) -> RecordHeader | None:
    file.seek(offset)
    return decode_record_header(file.read(RECORD_HEADER.size))


def _record_of(file: BinaryIO, header: RecordHeader) -> WalRecord | None:
    """The record whose header was just read; None when its payload does not match its checksum."""
    name = file.read(header.tenant_bytes)
    body = file.read(header.body_bytes)
    if zlib.crc32(body, zlib.crc32(name)) != header.payload_crc:
        return None
    return WalRecord(header.sequence, name.decode(errors="replace"), body)


def _find_header(
    file: BinaryIO, start: int, size: int, *, skipped_from: int, expected: int, end: int | None
) -> tuple[int, int] | None:
    """Offset and sequence of the first believable record header at or after `start`.

    Believable: checksum right, sequence before `end`, and not much further ahead than the skipped bytes could hold records.
    """
    offset = start
    while offset < size:
        file.seek(offset)
        window = file.read(_SCAN_BYTES)
        at = window.find(RECORD_MAGIC)
        while at >= 0:
            header = decode_record_header(window[at : at + RECORD_HEADER.size])
            if header is not None:
                records_skipped_max = 1 + (offset + at - skipped_from) // RECORD_HEADER.size
                not_past_end = end is None or header.sequence < end
                if expected <= header.sequence <= expected + records_skipped_max and not_past_end:
                    return offset + at, header.sequence
            at = window.find(RECORD_MAGIC, at + 1)
        if offset + len(window) >= size:
            break
        offset += len(window) - (RECORD_HEADER.size - 1)  # a header may lie across two windows
    return None


def _only_zeros(file: BinaryIO, offset: int) -> bool:
    file.seek(offset)
    while window := file.read(_SCAN_BYTES):
        if window.count(0) != len(window):
            return False
    return True
