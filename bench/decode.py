"""What decoding costs: spans per CPU second of the native decoder and of the one on the protobuf library.

Usage: python bench/decode.py WORKLOAD [--seconds S] [--group N]
WORKLOAD holds ExportTraceServiceRequest messages, each behind its length and its span count, two 32-bit
little-endian numbers. Each round decodes all of it into a new dictionary, `--group` requests at a time, as group commit does.
"""

from __future__ import annotations

import argparse
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from vivace.ingest.decode import Decoder, NativeDecoder, native_notice
from vivace.ingest.plain_decode import PlainDecoder
from vivace.model.dictionary import Dictionary

ATTRIBUTE_BYTES_MAX = 2048


def requests(path: Path) -> Iterator[bytes]:
    """The messages of a workload file."""
    data, at = path.read_bytes(), 0
    while at < len(data):
        size, _spans = struct.unpack_from("<II", data, at)
        yield data[at + 8 : at + 8 + size]
        at += 8 + size


def measure(make: Callable[[Dictionary, int], Decoder], bodies: list[bytes], seconds: float, group: int) -> str:
    spans = rounds = 0
    cpu = time.process_time()
    while rounds == 0 or time.process_time() - cpu < seconds:
        decoder = make(Dictionary(), ATTRIBUTE_BYTES_MAX)
        for first in range(0, len(bodies), group):
            batch, outcomes = decoder.decode(bodies[first : first + group])
            if any(o.error or o.rejected for o in outcomes):
                raise SystemExit(f"the workload does not decode: {outcomes}")
            spans += len(batch)
        rounds += 1
    cpu = time.process_time() - cpu
    megabytes = rounds * sum(map(len, bodies)) / 1e6
    return f"{spans / cpu:>12,.0f} spans/s  {megabytes / cpu:>8.1f} MB/s  ({rounds} rounds of {spans // rounds} spans)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workload", type=Path)
    parser.add_argument("--seconds", type=float, default=5.0, help="CPU seconds a decoder, at least")
    parser.add_argument("--group", type=int, default=16, help="requests decoded at once")
    arguments = parser.parse_args()
    bodies = list(requests(arguments.workload))
    if NativeDecoder is None:
        print(native_notice())
    else:
        print("native  ", measure(NativeDecoder, bodies, arguments.seconds, arguments.group))
    print("protobuf", measure(PlainDecoder, bodies, arguments.seconds, arguments.group))


if __name__ == "__main__":
    main()
