"""One set of pictures under the conventions of other programs: why your PSNR, SSIM or LPIPS is higher or lower.

    python benchmarks/conventions.py

The pictures are procedural faces whose center hole holds the mean color of the known pixels, blurred into it: anybody
can make them again. torchmetrics is run as it is; the conventions of MATLAB and of pyiqa are computed here from their
documentation (neither is free for every use), and the lines say so. Prints Markdown.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from skimage.metrics import structural_similarity

from bench.data.procedural_faces import render_faces
from bench.evaluation.image_batch import ImageBatch
from bench.evaluation.metrics import load_metric
from bench.evaluation.ssim import mean_ssim


def example_completions(count: int, size: int) -> ImageBatch:
    """Fill the center hole with a blurred mean color."""
    truth = render_faces(list(range(count)), size)
    hole = np.zeros((size, size), dtype=bool)
    hole[size // 4 : 3 * size // 4, size // 4 : 3 * size // 4] = True
    made = truth.copy()
    for image in made:
        image[hole] = image[~hole].mean(axis=0)
        smooth = gaussian_filter(image.astype(float), (size / 32, size / 32, 0))
        # Only the hole is blurred: known pixels stay those of the truth, as in every composite.
        image[hole] = np.rint(smooth[hole])
    planes = [torch.from_numpy(x).permute(0, 3, 1, 2).contiguous() for x in (truth, made)]
    mask = torch.from_numpy(hole).float().expand(count, 1, size, size)
    return ImageBatch(planes[0], planes[1], planes[1].float() / 255, mask)


def ours(name: str, images: ImageBatch) -> float:
    """Return the mean of one of our metrics."""
    return float(load_metric(name).compute(images).mean())


def luma(images: torch.Tensor, weights: tuple[float, float, float], offset: float = 0.0) -> torch.Tensor:
    """``(N, 1, H, W)`` float64 of uint8 RGB."""
    w = torch.tensor(weights, dtype=torch.float64).view(1, 3, 1, 1)
    return (images.double() * w).sum(dim=1, keepdim=True) + offset


def matlab_ssim(images: ImageBatch) -> float:
    """MATLAB's ``ssim`` of ``rgb2gray`` images: Gaussian of 11 (sigma 1.5), borders replicated, the whole map."""
    # rgb2gray keeps 8 bits.
    gray = [luma(x, (0.2989, 0.5870, 0.1140)).round() for x in (images.composite, images.truth)]
    # Padded by the window's radius, the valid region is the size of the image: MATLAB's whole map.
    padded = [torch.nn.functional.pad(x, (5, 5, 5, 5), mode="replicate") for x in gray]
    return float(mean_ssim(padded[0], padded[1]).mean())


def pyiqa_y(images: torch.Tensor) -> torch.Tensor:
    """Pyiqa's Y: BT.601 in its limited range of 16 to 235, of images in [0, 255]."""
    return luma(images, (65.481 / 255, 128.553 / 255, 24.966 / 255), 16.0)


def pyiqa_ssim(images: ImageBatch) -> float:
    """Pyiqa's ``ssim``: of Y, Gaussian of 11, valid region."""
    return float(mean_ssim(pyiqa_y(images.composite), pyiqa_y(images.truth)).mean())


def pyiqa_psnr(images: ImageBatch, *, of_luma: bool) -> float:
    """Pyiqa's ``psnr`` (RGB) or ``psnry``: 1e-8 is added to the error, so that 80 dB is the most."""
    pair = (images.composite, images.truth)
    a, b = (pyiqa_y(x) / 255 if of_luma else x.double() / 255 for x in pair)
    return float((-10 * torch.log10((a - b).square().mean(dim=(1, 2, 3)) + 1e-8)).mean())


def rows(images: ImageBatch) -> list[tuple[str, str, Callable[[], float]]]:
    """``(program, why it differs, value)``; ours lead each block."""
    from torchmetrics.functional.image import (
        peak_signal_noise_ratio,
        structural_similarity_index_measure,
    )
    from torchmetrics.image import LearnedPerceptualImagePatchSimilarity

    made, truth = images.composite.float() / 255, images.truth.float() / 255
    pictures = [x.permute(0, 2, 3, 1).numpy() for x in (images.truth, images.composite)]

    def lpips(net: str, scale: Callable[[torch.Tensor], torch.Tensor]) -> float:
        metric = LearnedPerceptualImagePatchSimilarity(net_type=net)
        return float(metric(scale(made), scale(truth)))

    def skimage_gray() -> float:
        gray = [
            luma(x, (0.2989, 0.5870, 0.1140)).round()[:, 0].numpy() for x in (images.truth, images.composite)
        ]
        pairs = zip(*gray, strict=True)
        return float(np.mean([structural_similarity(a, b, win_size=51, data_range=255) for a, b in pairs]))

    def skimage_default() -> float:
        pairs = zip(*pictures, strict=True)
        return float(np.mean([structural_similarity(a, b, channel_axis=-1) for a, b in pairs]))

    return [
        ("**`psnr_db`**", "mean of the images' PSNR, RGB", lambda: ours("psnr_db", images)),
        (
            "torchmetrics `PeakSignalNoiseRatio`",
            "one PSNR of the error pooled over all images: bad images weigh more",
            lambda: float(peak_signal_noise_ratio(made, truth, data_range=1.0)),
        ),
        ("pyiqa `psnr`*", "as ours, but at most 80 dB", lambda: pyiqa_psnr(images, of_luma=False)),
        ("pyiqa `psnry`*", "of luma in 16 to 235: a smaller range", lambda: pyiqa_psnr(images, of_luma=True)),
        ("`hole_psnr_db`", "the hole alone, a quarter of the image", lambda: ours("hole_psnr_db", images)),
        ("**`ssim`**", "Gaussian 11, RGB, where the window fits", lambda: ours("ssim", images)),
        (
            "torchmetrics `StructuralSimilarityIndexMeasure`",
            "the border is reflected and counted; there all is known here",
            lambda: float(structural_similarity_index_measure(made, truth, data_range=1.0)),
        ),
        (
            "the same without `data_range`",
            "the range is taken from each batch's values, here 0 to 1 by luck",
            lambda: float(structural_similarity_index_measure(made, truth)),
        ),
        ("scikit-image's default, `ssim_uniform7`", "uniform window of 7", skimage_default),
        ("EdgeConnect's script", "gray, uniform window of 51", skimage_gray),
        ("MATLAB `ssim(rgb2gray(a), rgb2gray(b))`*", "gray, borders replicated", lambda: matlab_ssim(images)),
        ("pyiqa `ssim`*", "of luma in 16 to 235", lambda: pyiqa_ssim(images)),
        ("`ssim_y`", "luma of the full range", lambda: ours("ssim_y", images)),
        ("**`lpips_alex`**", "images in [-1, 1]", lambda: ours("lpips_alex", images)),
        (
            "torchmetrics `LearnedPerceptualImagePatchSimilarity('alex')`",
            "the same network, given [-1, 1]",
            lambda: lpips("alex", lambda x: 2 * x - 1),
        ),
        (
            "the same, given [0, 1]",
            "half the contrast: forgotten `normalize=True`",
            lambda: lpips("alex", lambda x: x),
        ),
        ("`lpips_vgg`", "another network, another scale", lambda: ours("lpips_vgg", images)),
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--size", type=int, default=64)
    options = parser.parse_args()
    images = example_completions(options.images, options.size)
    print(conventions_table(images), end="")


def conventions_table(images: ImageBatch) -> str:
    """Return the table in Markdown."""
    lines = ["| program | value | because |", "|---|--:|---|"]
    with warnings.catch_warnings():
        # Programs warn about some of these calls; what they return all the same is compared.
        warnings.simplefilter("ignore")
        for program, why, value in rows(images):
            number = value()
            # Decibels or a score, by their size.
            digits = 2 if number > 5 else 4
            lines.append(f"| {program} | {number:.{digits}f} | {why} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
