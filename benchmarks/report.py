"""How long a large experiment's report takes, and how much memory: 20,000 images, 10 models, 3 masks.

    python benchmarks/report.py [--images N] [--models N] [--masks N]

Results are synthetic; pictures are gradients with noise. The target is 10 s and 15 MB.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from reports.render import render_report
from reports.results.schema import write_rows

NAMES = ("context-encoder", "glcic", "pconv", "mgs-iim", "mean", "mean-image", "biharmonic")
MASKS = ("center", "random-rect", "shapes", "strokes")
POOL, SIZE = 48, 160


def main() -> None:
    """Write the experiment, render it, print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--models", type=int, default=10)
    parser.add_argument("--masks", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        experiment = write_experiment(Path(folder) / "runs" / "large", args.images, args.models, args.masks)
        start, cpu = time.perf_counter(), time.process_time()
        page = render_report(experiment, Path(folder) / "reports" / "large")
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        megabytes = page.stat().st_size / 1e6
    # Kilobytes on Linux.
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{args.images:,} images x {args.models} models x {args.masks} masks: "
        f"{seconds:.1f} s ({cpu:.1f} s of one core), page {megabytes:.1f} MB, peak memory {memory:.0f} MiB"
    )


def write_experiment(folder: Path, images: int, models: int, masks: int) -> Path:
    """Make an experiment's folder with random results."""
    names = [NAMES[i] if i < len(NAMES) else f"variant-{i}" for i in range(models)]
    cells = []
    for m, mask in enumerate(MASKS[:masks]):
        rng = np.random.default_rng(m)
        hardness = rng.normal(0, 2, images)
        # One mask with equal holes, as the center, and others with different ones: both paths of the page.
        ratio = np.full(images, 0.25) if m == 0 else rng.uniform(0.05, 0.5, images)
        save_pool(folder / "pictures" / f"{mask}.npz", rng)
        for i, name in enumerate(names):
            cell = f"{name}-{mask}"
            place = folder / "cells" / cell
            place.mkdir(parents=True)
            write_rows(rows(name, mask, 22 + 0.3 * i + hardness, ratio, rng), place / "results.parquet")
            # Noise of a narrow range: that of all values would not
            # compress at all, as no real completion does.
            fill = rng.integers(0, 256, (POOL, SIZE, SIZE, 3), dtype=np.uint8) // 8 + 100
            np.savez(place / "pictures.npz", ids=ids(POOL), composite=fill.astype(np.uint8))
            cells.append(entry(cell, name, mask))
    (folder / "manifest.json").write_text(json.dumps(manifest(cells, MASKS[:masks], images)))
    return folder


def rows(name: str, mask: str, mean: np.ndarray, ratio: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
    """One cell's results: five images a person."""
    count = len(mean)
    psnr = mean - 8 * (ratio - 0.25) + rng.normal(0, 0.4, count)
    # Metrics that agree with one another, as real ones mostly do.
    ssim = 1 - 0.5 * 10 ** (-psnr / 40)
    return pd.DataFrame(
        {
            "model": name, "label": name, "track": "uniform", "preset": "quick", "seed": 0, "mask": mask,
            "train_mask": "-" if name in NAMES[4:] else mask, "size": SIZE, "image_id": ids(count),
            "identity": pd.array(np.arange(count) // 5, dtype="Int64"), "hole_ratio": ratio,
            "identical": False, "psnr_db": psnr, "ssim": ssim, "lpips_alex": 0.6 - psnr / 60,
            "hole_psnr_db": psnr - 6, "hole_mae": 10 ** (-psnr / 20),
        }
    )  # fmt: skip


def ids(count: int) -> np.ndarray:
    """File names."""
    return np.array([f"{i:06d}.jpg" for i in range(count)])


def save_pool(path: Path, rng: np.random.Generator) -> None:
    """Gradients with noise, and a center hole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    gradient = np.linspace(40, 200, SIZE)[None, :, None, None] + rng.uniform(-40, 40, (POOL, 1, SIZE, 3))
    image = np.clip(gradient + rng.normal(0, 8, (POOL, SIZE, SIZE, 3)), 0, 255).astype(np.uint8)
    mask = np.zeros((POOL, SIZE, SIZE), np.uint8)
    mask[:, SIZE // 4 : 3 * SIZE // 4, SIZE // 4 : 3 * SIZE // 4] = 1
    np.savez(path, ids=ids(POOL), image=image, mask=mask)


def entry(cell: str, name: str, mask: str) -> dict[str, object]:
    """Return the manifest's entry of a cell."""
    return {
        "cell": cell, "folder": f"cells/{cell}", "model": name, "label": name, "summary": "", "paper": "",
        "trained": name not in NAMES[4:], "mask": mask, "train_mask": "-" if name in NAMES[4:] else mask,
        "seed": 0, "track": "uniform", "status": "done", "reason": None, "error": None, "config": {},
        "ambiguities": [], "training": None, "evaluation": {"seconds": 1.0, "images_per_second": 100.0},
    }  # fmt: skip


def manifest(cells: list[dict[str, object]], masks: tuple[str, ...], images: int) -> dict[str, object]:
    """Return the manifest of an experiment on procedural faces."""
    metrics = {"psnr_db": "dB", "ssim": "", "lpips_alex": "", "hole_psnr_db": "dB", "hole_mae": ""}
    return {
        "schema": 1, "experiment": "large", "created": "", "updated": "", "command": ["bench", "run"],
        "settings": {
            "preset": "quick", "size": SIZE, "track": "uniform", "images_seen": 1600, "seeds": [0],
            "masks": list(masks),
        },
        "data": {
            "name": "faces", "title": "Procedural faces", "licence": "none needed", "procedural": True,
            "fingerprint": "0", "train": 2000, "evaluated": images, "skipped": [],
        },
        "software": {}, "hardware": {}, "commit": None,
        "masks": {m: {"digest": "0", "mean_hole_ratio": 0.25, "summary": m} for m in masks},
        "metrics": {
            name: {"convention": "", "unit": unit, "higher_is_better": name not in ("lpips_alex", "hole_mae"),
                   "unavailable": None}
            for name, unit in metrics.items()
        },
        "cells": cells,
    }  # fmt: skip


if __name__ == "__main__":
    main()
