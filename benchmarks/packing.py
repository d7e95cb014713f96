"""What packing costs beside plain decoding, with the same number of processes. Prints Markdown.

    python benchmarks/packing.py --data PATH/TO/celeba --size 160

Plain decoding reads each picture, decodes it to RGB and throws it away. Packing also cuts, resizes, sums and stores,
and keeps a record to resume from. What the same bytes take to write until they are on the disk is shown beside it. They
are run in turns; the shortest time of each counts.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from PIL import Image

from bench.child_processes import safe_path
from bench.data import DataSpec
from bench.data.cache import cache_source, num_processes
from bench.data.sources import find_source, read_bytes


def decode_block(place: Path, ids: list[str]) -> int:
    """Decode and forget; returns the number of pixels."""
    return sum(
        image.width * image.height
        for image in (Image.open(io.BytesIO(read_bytes(place, i))).convert("RGB") for i in ids)
    )


def write(path: Path, num_bytes: int) -> None:
    """Write as many bytes, in pieces of 16 MiB, until they are on the disk."""
    # Random bytes: a file system that compresses would write zeros in no time.
    piece = os.urandom(2**24)
    with path.open("wb") as file:
        for start in range(0, num_bytes, len(piece)):
            file.write(piece[: num_bytes - start])
        file.flush()
        # Else the time would be that of a copy into memory.
        os.fsync(file.fileno())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--repeats", type=int, default=2)
    given = parser.parse_args()
    source, processes = find_source(given.data), num_processes()
    # Blocks, or passing single names between processes would be most of the work.
    blocks = [source.ids[i : i + 256] for i in range(0, len(source.ids), 256)]
    plain, packed, written = [], [], []
    for _ in range(given.repeats):
        start = time.perf_counter()
        if processes == 1:
            list(map(partial(decode_block, source.place), blocks))
        else:
            # As packing starts its processes.
            with safe_path(), ProcessPoolExecutor(processes, get_context("forkserver")) as pool:
                list(pool.map(partial(decode_block, source.place), blocks))
        plain.append(time.perf_counter() - start)
        folder = Path(tempfile.mkdtemp())
        start = time.perf_counter()
        cache_source(DataSpec(source=str(given.data), size=given.size, cache=folder), source, lambda *_: None)
        packed.append(time.perf_counter() - start)
        (pack,) = folder.glob("*.npy")
        num_bytes = pack.stat().st_size
        # Removed before the plain write, so that both find the same room on the disk.
        pack.unlink()
        start = time.perf_counter()
        write(folder / "plain", num_bytes)
        written.append(time.perf_counter() - start)
        shutil.rmtree(folder)
    print(f"{len(source.ids):,} pictures, {processes} processes, {given.size} px")
    print("| | seconds | pictures a second |")
    print("|---|---|---|")
    timings = {"plain decoding": plain, "packing": packed, f"writing {num_bytes / 1e9:.2f} GB": written}
    for name, seconds in timings.items():
        # The shortest time is the one least disturbed.
        print(f"| {name} | {min(seconds):.1f} | {len(source.ids) / min(seconds):,.0f} |")
    print(f"\npacking takes {min(packed) / min(plain):.2f} times as long as plain decoding")


if __name__ == "__main__":
    main()
