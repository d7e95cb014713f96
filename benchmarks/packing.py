"""What packing costs beside plain decoding, with the same number of processes. Prints Markdown.

    python benchmarks/packing.py --data PATH/TO/celeba --size 160

Plain decoding reads each picture, decodes it to RGB and throws it away. Packing also cuts, resizes, sends, stores,
and keeps a record to resume from. Both are run in turns; the shortest time of each counts.
"""

from __future__ import annotations

import argparse
import io
import shutil
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from PIL import Image

from bench.data import DataSpec
from bench.data.fill import num_processes
from bench.data.pack import pack_source
from bench.data.sources import find, read


def decode_block(place: Path, ids: list[str]) -> int:
    """Decode and forget; returns the number of pixels."""
    return sum(
        image.width * image.height
        for image in (Image.open(io.BytesIO(read(place, i))).convert("RGB") for i in ids)
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--repeats", type=int, default=2)
    given = parser.parse_args()
    source, processes = find(given.data), num_processes()
    blocks = [source.ids[i : i + 256] for i in range(0, len(source.ids), 256)]
    plain, packed = [], []
    for _ in range(given.repeats):
        start = time.perf_counter()
        if processes == 1:
            list(map(partial(decode_block, source.place), blocks))
        else:
            with ProcessPoolExecutor(processes, get_context("forkserver")) as pool:
                list(pool.map(partial(decode_block, source.place), blocks))
        plain.append(time.perf_counter() - start)
        folder = Path(tempfile.mkdtemp())
        start = time.perf_counter()
        pack_source(DataSpec(source=str(given.data), size=given.size, cache=folder), source, lambda *_: None)
        packed.append(time.perf_counter() - start)
        shutil.rmtree(folder)
    print(f"{len(source.ids):,} pictures, {processes} processes, {given.size} px")
    print("| | seconds | pictures a second |")
    print("|---|---|---|")
    for name, seconds in (("plain decoding", min(plain)), ("packing", min(packed))):
        print(f"| {name} | {seconds:.1f} | {len(source.ids) / seconds:,.0f} |")
    print(f"\npacking takes {min(packed) / min(plain):.2f} times as long as plain decoding")


if __name__ == "__main__":
    main()
