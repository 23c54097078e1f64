"""Checksums: every byte of every file counts; what cannot be read is told from what is damaged."""

from __future__ import annotations

import errno
import zlib
from pathlib import Path

import builders as b
import pytest

from vivace.errors import CorruptionError, StorageError
from vivace.storage import layout
from vivace.storage.verify import CHUNK_BYTES, checksum, verify


def test_checksum_is_the_crc32_of_the_whole(tmp_path: Path) -> None:
    path, checks = tmp_path / "f", 0
    for data in (b"", b"x", b"ab" * CHUNK_BYTES + b"c"):
        path.write_bytes(data)
        assert checksum(path) == zlib.crc32(data)

    def check() -> None:
        nonlocal checks
        checks += 1

    checksum(path, check)
    assert checks == 3


def test_what_verify_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = b.write_block(tmp_path, b.batch(b.request(b.span(events=[b.event()]))))
    verify(block.directory, block.meta)
    for name in block.meta.files:
        path = block.directory / name
        good = path.read_bytes()
        for bad in (good[:-1], good + b"\0", good[:5] + bytes([good[5] ^ 1]) + good[6:], None):
            path.unlink() if bad is None else path.write_bytes(bad)
            with pytest.raises(CorruptionError) as error:
                verify(block.directory, block.meta)
            assert error.value.path == path
            path.write_bytes(good)
    verify(block.directory, block.meta)

    for number, expected in ((errno.EMFILE, StorageError), (errno.EACCES, StorageError), (errno.EIO, CorruptionError)):

        def fail(self: Path, *arguments: object, number: int = number) -> None:
            raise OSError(number, "no")

        with monkeypatch.context() as patch:
            patch.setattr(Path, "open", fail)
            with pytest.raises(StorageError) as error_of_reading:
                verify(block.directory, block.meta)
        assert type(error_of_reading.value) is expected


def test_stopping(tmp_path: Path) -> None:
    block = b.write_block(tmp_path, b.batch(b.request(b.span())))

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verify(block.directory, block.meta, stop)
    assert layout.SPANS in block.meta.checksums
