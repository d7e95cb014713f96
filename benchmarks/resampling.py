"""How long intervals take: 10,000 resamples of 20,000 images, 10 models, means and the 45 differences of pairs.

    OMP_NUM_THREADS=1 python benchmarks/resampling.py [--images N] [--models N] [--people N]

Scores are drawn, one training a model, once with so many people and once with none known, where every image counts as
a person of its own. Prints Markdown: seconds of one call, the means first, which also draw the resamples.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from reports.statistics.bootstrap import RESAMPLES
from reports.statistics.paired_differences import paired_differences
from reports.statistics.summary import summarize


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--models", type=int, default=10)
    parser.add_argument("--people", type=int, default=1000)
    options = parser.parse_args()
    pairs = options.models * (options.models - 1) // 2
    print(f"{RESAMPLES:,} resamples, {options.images:,} images, {options.models} models\n")
    print(f"| people | means (s) | {pairs} differences (s) |")
    print("|---|---|---|")
    for people in (options.people, None):
        rows = scores(options.images, options.models, people)
        # In this order: the means draw the resamples that the differences then find in the cache.
        means, differences = (
            _seconds(partial(f, rows, ["psnr_db"])) for f in (summarize, paired_differences)
        )
        print(f"| {f'{people:,}' if people else 'not known'} | {means:.1f} | {differences:.1f} |")


def scores(images: int, models: int, people: int | None) -> pd.DataFrame:
    """Results of ``models`` methods on the same images."""
    rng = np.random.default_rng(0)
    person = [pd.NA] * images if people is None else np.sort(rng.integers(0, people, images))
    hardness = rng.normal(25, 2, images)
    return pd.concat(
        pd.DataFrame(
            {
                "model": f"model-{i}", "label": f"Model {i}", "track": "uniform", "preset": "quick", "seed": 0,
                "mask": "center", "train_mask": "center", "size": 160,
                "image_id": [f"{j:06d}.jpg" for j in range(images)], "identity": pd.array(person, "Int64"),
                "hole_ratio": 0.25, "psnr_db": hardness + rng.normal(0.1 * i, 0.5, images), "ssim": 0.9,
                "lpips_alex": np.nan, "identical": False,
            }
        )
        for i in range(models)
    )  # fmt: skip


def _seconds(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
