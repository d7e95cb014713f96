"""Masks per second on one core, for every kind of the suite.

    python benchmarks/mask_rates.py [--size 160] [--count 1000] [--json FILE]

The median of three draws of ``count`` masks each. Seeding (a digest and a Philox key for every mask) is included.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

from masks import registry


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    ids = [str(i) for i in range(options.count)]
    rates = {}
    for name in registry.mask_names():
        # A draw that is not timed, for what is set up only once.
        registry.draw_masks(name, ids[:8], options.size)
        seconds = []
        for _ in range(3):
            began = time.perf_counter()
            registry.draw_masks(name, ids, options.size)
            seconds.append(time.perf_counter() - began)
        rates[name] = options.count / statistics.median(seconds)
        print(f"{name:24} {rates[name]:10,.0f} masks/s")
    if options.json:
        options.json.write_text(
            json.dumps({"size": options.size, "masks_per_second": rates}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
