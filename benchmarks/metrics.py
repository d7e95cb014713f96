"""PSNR and SSIM of a batch against a plain scikit-image loop, on the same cores.

"center hole" are composites, known pixels equal, as every model here gives; "everywhere" are pictures that
differ in every pixel, the worst case.

    OMP_NUM_THREADS=1 python benchmarks/metrics.py
    OMP_NUM_THREADS=2 python benchmarks/metrics.py --threads 2

Both are timed in turn, so that a busy machine slows both; the ratio of the medians is what counts. Parity is
checked on the very same images. What the time goes into is measured too, part by part, on pictures that differ
everywhere. Prints Markdown.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from bench.data.procedural_faces import render_faces
from bench.evaluation import ssim
from bench.evaluation.image_batch import ImageBatch
from bench.evaluation.metrics import load_metric
from bench.evaluation.ssim import GAUSSIAN_11, weighted_means

Floats = NDArray[np.float64]
BATCH = 32


def _scikit_image(truth: NDArray[np.uint8], made: NDArray[np.uint8]) -> Floats:
    """``(N, 2)`` PSNR and SSIM."""
    return np.array(
        [
            (
                peak_signal_noise_ratio(t, m, data_range=255),
                structural_similarity(
                    t,
                    m,
                    channel_axis=-1,
                    data_range=255,
                    gaussian_weights=True,
                    sigma=1.5,
                    use_sample_covariance=False,
                ),
            )
            for t, m in zip(truth, made, strict=True)
        ]
    )


def _ours(pictures: ImageBatch) -> Floats:
    """``(N, 2)`` PSNR and SSIM."""
    pictures = dataclasses.replace(pictures)  # a fresh batch, which has no map yet
    return np.stack([load_metric(name).compute(pictures).numpy() for name in ("psnr_db", "ssim")], axis=1)


def _seconds(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 160])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(
        "| size | difference | scikit-image (ms / image) | here (ms / image) | ratio of medians | deviation |"
    )
    print("|---|---|---|---|---|---|")
    for size in options.sizes:
        for where in ("center hole", "everywhere"):
            print(_row(size, where, options.repeats))
    print("\n| size | part, where pictures differ everywhere | ms / image |")
    print("|---|---|---|")
    for size in options.sizes:
        for part, milliseconds in _parts(size, options.repeats).items():
            print(f"| {size} | {part} | {milliseconds:.2f} |")


def _row(size: int, where: str, repeats: int) -> str:
    truth, made, pictures = _pictures(size, where)
    deviation = np.abs(_ours(pictures) - _scikit_image(truth, made)).max()
    loop, batched = [], []
    for _ in range(repeats):
        # In turn, so that load from elsewhere slows both.
        loop.append(_seconds(lambda: _scikit_image(truth, made)))
        batched.append(_seconds(lambda: _ours(pictures)))
    a, b = (1000 * statistics.median(times) / BATCH for times in (loop, batched))
    return f"| {size} | {where} | {a:.2f} | {b:.2f} | {a / b:.1f} | {deviation:.1e} |"


def _parts(size: int, repeats: int) -> dict[str, float]:
    """Part -> milliseconds an image, medians; the whole last."""
    _, _, pictures = _pictures(size, "everywhere")
    levels = list(zip(pictures.composite, pictures.truth, strict=True))
    # As ssim makes them: strips of rows, whose sums, differences and squares are four planes.
    reach, rows = 2 * GAUSSIAN_11.radius, size - 2 * GAUSSIAN_11.radius
    heights = [min(ssim.STRIP, rows - top) + reach for top in range(0, rows, ssim.STRIP)]
    planes = [torch.rand(4, 3, height, size, dtype=torch.float64) for height in heights]
    values = [(p[0], p[1]) for p in planes]

    def similarity() -> None:
        for _ in range(BATCH):
            for x, y in values:
                ssim.ssim_formula(x, y, GAUSSIAN_11, 255.0)

    def means() -> None:
        for _ in range(BATCH):
            for p in planes:
                weighted_means(p, GAUSSIAN_11)

    parts: dict[str, Callable[[], object]] = {
        "psnr": lambda: load_metric("psnr_db").compute(pictures),
        "means": means,
        "similarity": similarity,
        "differing": lambda: [(x != y).any(dim=0) for x, y in levels],
        "whole": lambda: load_metric("ssim").compute(dataclasses.replace(pictures)),
    }
    taken: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(repeats):
        for name, part in parts.items():
            taken[name].append(_seconds(part))
    ms = {name: 1000 * statistics.median(times) / BATCH for name, times in taken.items()}
    return {
        "PSNR": ms["psnr"],
        "finding the pixels that differ": ms["differing"],
        "weighted means of four planes": ms["means"],
        "the planes, and SSIM from their means": ms["similarity"] - ms["means"],
        "conversion to float64, the map, its mean": ms["whole"] - ms["similarity"] - ms["differing"],
        "together": ms["psnr"] + ms["whole"],
    }


def _pictures(size: int, where: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8], ImageBatch]:
    truth = render_faces(list(range(BATCH)), size)
    made = truth.copy()
    hole = slice(size // 4, size // 4 + size // 2) if where == "center hole" else slice(None)
    # Shifted by three pixels, and the last bit flipped, so that flat areas differ too.
    made[:, hole, hole] = np.roll(truth, 3, axis=2)[:, hole, hole] ^ 1
    planes = [torch.from_numpy(x).permute(0, 3, 1, 2) for x in (truth, made)]
    pictures = ImageBatch(planes[0], planes[1], planes[1].float() / 255, torch.ones(BATCH, 1, size, size))
    return truth, made, pictures


if __name__ == "__main__":
    main()
