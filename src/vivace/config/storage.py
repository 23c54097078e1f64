"""The keys of keeping: `ingester`, `compactor` and `storage.trace`."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from .section import Section
from .units import ByteSize, BytesOrPercent, Count, DiskShare, Duration, Switch

_MIB = 2**20


class Ingester(Section):
    """Recent spans, before they are written into a block."""

    trace_idle_period: Duration = Field(
        default=timedelta(seconds=5),
        description="A trace without new spans for this time counts as complete; more keeps late spans in one block.",
    )
    trace_live_period: Duration = Field(
        default=timedelta(seconds=30),
        description="A trace counts as complete at this age whatever still comes; more waits longer for long traces.",
    )
    flush_check_period: Duration = Field(
        default=timedelta(seconds=10),
        description="How often recent spans are looked through for complete traces; less costs CPU, more costs memory.",
    )
    max_block_duration: Duration = Field(
        default=timedelta(minutes=30),
        description="A block is written at this age at the latest; more makes fewer, larger blocks and a longer replay at start.",
    )
    head_max_bytes: ByteSize = Field(
        default=128 * _MIB,
        description="Memory in bytes for recent spans, a block is written when it is full; more makes larger blocks and faster "
        "queries of recent data (Vivace's own key).",
    )
    flush_all_on_shutdown: Switch = Field(
        default=False,
        description="Whether a stop writes recent spans into a block; true stops slower and starts faster, nothing is lost "
        "either way.",
    )


class Compaction(Section):
    """Merging of blocks, and how long they are kept."""

    block_retention: Duration = Field(
        default=timedelta(hours=336),
        description="Blocks older than this are deleted; more keeps more history and takes more disk.",
    )
    compaction_window: Duration = Field(
        default=timedelta(hours=1),
        description="Blocks of the same window may be merged; more makes fewer, larger blocks that span more time.",
    )
    max_block_bytes: ByteSize = Field(
        default=107_374_182_400,
        description="Merging stops at blocks of this many bytes; more makes fewer, larger blocks.",
    )
    max_compaction_objects: Count = Field(
        default=6_000_000, description="Merging stops at blocks of this many traces; more makes fewer, larger blocks."
    )
    compaction_cycle: Duration = Field(
        default=timedelta(seconds=30),
        description="How often Vivace looks for blocks to merge and to delete; less does so sooner, more idles more.",
    )
    memory_max_bytes: ByteSize = Field(
        default=64 * _MIB,
        description="Memory in bytes that one merge may take for rows it has read; more reads fewer rows twice where many blocks "
        "are merged at once (Vivace's own key).",
    )


class Compactor(Section):
    """Merging and retention."""

    disabled: Switch = Field(
        default=False, description="Whether merging and retention by time are off; the byte limits still hold."
    )
    compaction: Compaction = Field(default=Compaction(), description="Merging of blocks, and how long they are kept.")


class LocalBackend(Section):
    """Blocks on the local disk, and how much of it Vivace may take."""

    path: Path = Field(default=Path("/var/tempo/blocks"), description="Directory of the blocks.")
    max_bytes: DiskShare = Field(
        default=BytesOrPercent(percent=85.0),
        description="Most that Vivace stores, everything counted, in bytes or as a share of the file system; beyond it the "
        "oldest blocks go first (Vivace's own key).",
    )
    min_free_bytes: DiskShare = Field(
        default=BytesOrPercent(percent=2.0),
        description="Free space that Vivace leaves on the file system, in bytes or as a share of it; below it spans are refused "
        "with a retryable error (Vivace's own key).",
    )


class Wal(Section):
    """The write-ahead log: spans are durable here before they are acknowledged."""

    path: Path = Field(default=Path("/var/tempo/wal"), description="Directory of the write-ahead log.")
    segment_max_bytes: ByteSize = Field(
        default=64 * _MIB,
        description="Size in bytes at which a new segment begins; less frees disk sooner after a block is written, more makes "
        "fewer files (Vivace's own key).",
    )
    sync: Switch = Field(
        default=True,
        description="Whether spans reach the disk before they are acknowledged; false is faster and loses the newest spans in a "
        "power cut, not in a crash of Vivace (Vivace's own key).",
    )


class TraceStorage(Section):
    """Where traces are kept."""

    backend: Literal["local"] = Field(default="local", description="Kind of store; only local.")
    local: LocalBackend = Field(default=LocalBackend(), description="Blocks on the local disk.")
    wal: Wal = Field(default=Wal(), description="The write-ahead log.")

    @field_validator("backend", mode="before")
    @classmethod
    def _refuse_object_stores(cls, value: object) -> object:
        if value in ("s3", "gcs", "azure"):
            raise ValueError(f"found {value!r}, not yet: only local; set backend: local and local.path")
        return value


class Storage(Section):
    """Where traces are kept."""

    trace: TraceStorage = Field(default=TraceStorage(), description="Where traces are kept.")
