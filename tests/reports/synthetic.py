"""A synthetic experiment's folder, as a run leaves it: manifest, results, training logs, pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from reports.results.schema import write_rows

LABELS = {
    "context-encoder": "Context Encoder",
    "glcic": "GLCIC",
    "pconv": "PConv (no perceptual/style)",
    "mgs-iim": "MGS-IIM",
    "mgs-iim-no-gate": "MGS-IIM, no gates",
    "mgs-iim-no-sn": "MGS-IIM, no spectral norm",
    "mgs-iim-single-d": "MGS-IIM, global D only",
    "mgs-iim-no-skip": "MGS-IIM, no skips",
    "mean": "Mean pixel",
    "mean-image": "Mean image",
    "biharmonic": "Biharmonic",
}
UNTRAINED = ("mean", "mean-image", "biharmonic")
MEANS = {"context-encoder": 22.5, "glcic": 23.8, "pconv": 23.4, "mgs-iim": 24.3, "biharmonic": 20.5}
METRICS = {
    "psnr_db": ("8-bit RGB composite, per image, capped", "dB", True),
    "ssim": ("Gaussian 11 taps, sigma 1.5, valid, per channel", "", True),
    "lpips_alex": ("AlexNet v0.1", "", False),
    "hole_psnr_db": ("hole only", "dB", True),
    "hole_mae": ("hole only, of [0, 1]", "", False),
}
NO_LPIPS = "the AlexNet weights are not in torchvision's cache"


def make_rows(
    model: str = "mgs-iim",
    *,
    mask: str = "center",
    seed: int = 0,
    images: int = 24,
    per_person: int = 2,
    mean_db: float = 24.0,
    image_sd: float = 2.0,
    noise_sd: float = 0.3,
    seed_sd: float = 0.1,
    identities: bool = True,
    lpips: bool = False,
    preset: str = "quick",
    size: int = 64,
    track: str = "uniform",
    label: str | None = None,
    train_mask: str | None = None,
) -> pd.DataFrame:
    """Rows of one cell. Images are as hard for every model; a training has an offset of its own."""
    persons = np.arange(images) // per_person
    hard = np.random.default_rng([1, images]).normal(0, image_sd, images)
    hard += np.random.default_rng([2, images]).normal(0, image_sd / 2, images)[persons]
    own = np.random.default_rng([3, seed, *model.encode()])
    trained = model not in UNTRAINED
    psnr = mean_db + hard + (own.normal(0, seed_sd) if trained else 0.0) + own.normal(0, noise_sd, images)
    return pd.DataFrame(
        {
            "model": model,
            "label": label or LABELS.get(model, model),
            "track": track,
            "preset": preset,
            "seed": seed,
            "mask": mask,
            "train_mask": (train_mask or mask) if trained else "-",
            "size": size,
            "image_id": [f"{i:06d}.png" for i in range(images)],
            "identity": pd.array(persons if identities else [pd.NA] * images, dtype="Int64"),
            "hole_ratio": 0.25,
            "psnr_db": psnr,
            "ssim": 1 - 0.5 * 10 ** (-psnr / 40),
            "lpips_alex": 0.6 - psnr / 60 if lpips else np.nan,
            "hole_psnr_db": psnr - 6.02,
            "hole_mae": 10 ** (-psnr / 20),
            "identical": False,
        }
    )


def make_experiment(
    root: Path,
    *,
    name: str = "synthetic",
    models: Sequence[str] = ("context-encoder", "glcic", "pconv", "mgs-iim", "mean", "biharmonic"),
    masks: Sequence[str] = ("center",),
    seeds: Sequence[int] = (0,),
    images: int = 24,
    means: Mapping[str, float] | None = None,
    failed: Sequence[str] = (),
    not_applicable: Sequence[tuple[str, str]] = (),
    procedural: bool = True,
    preset: str = "quick",
    size: int = 64,
    images_seen: int | None = None,
    track: str | None = None,
    pictures: int = 6,
    lpips: bool = False,
    seed_sd: float = 0.1,
    noise_sd: float = 0.3,
    mask_digest: str = "ab",
    labels: Mapping[str, str] | None = None,
) -> Path:
    """Write ``root/name`` and return it.

    Args:
        root: the ``runs`` folder.
        name: of the experiment.
        models: registry names.
        masks: evaluated.
        seeds: of trained models.
        images: evaluated.
        means: model -> PSNR in dB.
        failed: models all of whose cells failed.
        not_applicable: (model, mask) that cannot be.
        procedural: the data are procedural faces, else CelebA.
        preset: of the settings.
        size: of the images in pixels.
        images_seen: training budget; the preset's by default.
        track: the preset's by default.
        pictures: kept; 0 keeps none.
        lpips: whether the backbone is there.
        seed_sd: spread between trainings, in dB.
        noise_sd: spread between the images of a training, in dB.
        mask_digest: start of the masks' digests.
        labels: model -> label, where it is not the usual one.
    """
    folder = root / name
    folder.mkdir(parents=True)
    paper = preset == "paper"
    seen = images_seen if images_seen is not None else (3_600_000 if paper else 1600)
    track = track or ("faithful" if paper else "uniform")
    means = {**MEANS, **(means or {})}
    cells: list[dict[str, Any]] = []
    for model in models:
        for mask in masks:
            for seed in seeds if model not in UNTRAINED else seeds[:1]:
                cell = _cell(model, mask, seed, track)
                cell["label"] = (labels or {}).get(model, cell["label"])
                cells.append(cell)
                if (model, mask) in not_applicable:
                    cell |= {"status": "not-applicable", "reason": "predicts the centre patch only"}
                elif model in failed:
                    text = (
                        "Traceback (most recent call last):\n  ...\nNonFiniteLossError: loss is nan at step 7"
                    )
                    cell |= {"status": "failed", "reason": "loss is not a number at step 7", "error": text}
                else:
                    _fill(
                        folder,
                        cell,
                        seen=seen,
                        images=images,
                        mean_db=means.get(model, 21.0),
                        preset=preset,
                        size=size,
                        track=track,
                        pictures=pictures,
                        lpips=lpips,
                        seed_sd=seed_sd,
                        noise_sd=noise_sd,
                    )
    for mask in masks if pictures else ():
        (folder / "pictures").mkdir(exist_ok=True)
        np.savez_compressed(folder / "pictures" / f"{mask}.npz", **_pool(pictures, size))  # type: ignore[arg-type]
    # The preset paper on CelebA has the paper's split and all its test images, though fewer rows are made here.
    whole = {"split": "paper", "train": 173_222, "test": 20_260, "evaluated": 20_260}
    manifest = {
        "schema": 1,
        "experiment": name,
        "created": "2024-05-01T10:00:00Z",
        "updated": "2024-05-01T11:00:00Z",
        "command": ["bench", "run", "--models", "all", "--mask", ",".join(masks)],
        "settings": {
            "preset": preset,
            "size": size,
            "crop": "center",
            "track": track,
            "images_seen": seen,
            "batch": None,
            "precision": "fp32",
            "seeds": list(seeds),
            "masks": list(masks),
            "models": list(models),
            "train_mask": "auto",
            "split": "auto",
            "learning_rate": 4e-4,
            "flips": True,
            "steps_per_phase": None,
            "test_images": None if paper and not procedural else images,
        },
        "data": {
            "name": "faces" if procedural else "celeba",
            "title": "Procedural faces" if procedural else "CelebA",
            "licence": "generated" if procedural else "non-commercial research only",
            "procedural": procedural,
            "source": "faces" if procedural else "celeba",
            "train": 1000 if procedural else 162_770,
            "validation": 50,
            "test": 100,
            "evaluated": images,
            "fingerprint": "f" * 64 if procedural else "c" * 64,
            "split": "official",
            "crop": "center",
            "skipped": [{"id": "broken.jpg", "reason": "truncated"}],
            "shared_identities": 0,
            **(whole if paper and not procedural else {}),
        },
        "software": {"python": "3.12.0", "torch": "2.5.0"},
        "hardware": {"device": "cpu", "cpu": "a processor", "threads": 2, "cores": 2, "memory_gib": 8},
        "commit": "0123456789ab",
        "masks": {
            m: {
                "digest": (mask_digest + m.encode().hex()).ljust(64, "0")[:64],
                "mean_hole_ratio": 0.25,
                "summary": f"the mask {m}",
            }
            for m in masks
        },
        "metrics": {
            m: {
                "convention": c,
                "unit": u,
                "higher_is_better": h,
                "unavailable": NO_LPIPS if m == "lpips_alex" and not lpips else None,
            }
            for m, (c, u, h) in METRICS.items()
        },
        "cells": cells,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1))
    return folder


def _cell(model: str, mask: str, seed: int, track: str) -> dict[str, Any]:
    trained = model not in UNTRAINED
    slug = f"{model}-{mask}-seed{seed}"
    return {
        "cell": slug,
        "folder": None,
        "model": model,
        "label": LABELS.get(model, model),
        "summary": f"{model} in one line",
        "paper": "Authors, venue and year",
        "trained": trained,
        "mask": mask,
        "train_mask": mask if trained else "-",
        "seed": seed,
        "track": track,
        "status": "done",
        "reason": None,
        "error": None,
        "config": {"width": 1.0, **({"vgg_losses": "off"} if model == "pconv" else {})},
        "ambiguities": [
            {
                "topic": "skips",
                "published": "addition or concatenation",
                "resolved": "addition",
                "field": "skips",
                "deviation": model == "context-encoder",
            }
        ],
        "training": None,
        "evaluation": None,
    }


def _fill(
    folder: Path, cell: dict[str, Any], *, seen: int, pictures: int, size: int, seed_sd: float, **about: Any
) -> None:
    place = folder / "cells" / cell["cell"]
    place.mkdir(parents=True)
    rows = make_rows(
        cell["model"],
        mask=cell["mask"],
        seed=cell["seed"],
        size=size,
        seed_sd=seed_sd,
        label=cell["label"],
        **about,
    )
    write_rows(rows, place / "results.parquet")
    if pictures:
        pool = _pool(pictures, size)
        fill = np.random.default_rng(list(cell["model"].encode())).integers(0, 255, 3)
        composite = np.where(pool["mask"][..., None] > 0, fill, pool["image"]).astype(np.uint8)
        np.savez_compressed(place / "pictures.npz", ids=pool["ids"], composite=composite)
    cell["folder"] = f"cells/{cell['cell']}"
    cell["evaluation"] = {"seconds": 1.5, "images_per_second": 16.0}
    if not cell["trained"]:
        return
    key = f"{cell['cell']}-key"
    training = folder / "trainings" / key
    training.mkdir(parents=True)
    cell["training"] = {
        "key": key,
        "folder": f"trainings/{key}",
        "seconds": 60.0,
        "images_per_second": seen / 60,
        "num_steps": seen // 16,
        "batch_size": 16,
        "images_seen": seen,
        "precision": "fp32",
        "phases": [{"name": "completion", "num_steps": 18}, {"name": "joint", "num_steps": 82}],
        "parameters": {"generator": 6_300_035, "discriminator": 37_720_000},
        "multiply_accumulates": 4_100_000_000,
        "peak_memory_mb": 900.0,
        "events": [],
    }
    with (training / "train.jsonl").open("w") as log:
        for step in range(10, 101, 10):
            phase = "completion" if step <= 18 else "joint"
            common = {"step": step, "images_seen": 16 * step, "seconds": 0.6 * step}
            terms = {"generator/loss": 1.0 / step, "discriminator/real_score": 0.5}
            log.write(json.dumps({**common, "phase": phase, "terms": terms}) + "\n")
            if step % 50 == 0:
                log.write(json.dumps({**common, "validation": {"psnr_db": 20 + step / 50}}) + "\n")


def _pool(count: int, size: int) -> dict[str, Any]:
    rng = np.random.default_rng(7)
    low = rng.integers(0, 255, (count, 4, 4, 3))
    image = np.kron(low, np.ones((1, size // 4, size // 4, 1))).astype(np.uint8)
    mask = np.zeros((count, size, size), np.uint8)
    mask[:, size // 4 : 3 * size // 4, size // 4 : 3 * size // 4] = 1
    return {"ids": np.array([f"{i:06d}.png" for i in range(count)]), "image": image, "mask": mask}
