"""Pictures completed by any other program on our exported masks, scored as our own models are.

A picture belongs to the test image whose id has the same path without its suffix (``000001.png`` to
``000001.jpg``), as ``bench masks export`` names its masks. Known pixels are taken from the truth, so that
every method is judged on its hole alone; which pictures change them is said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from bench.data import ImageSet
from bench.errors import UsageError
from bench.evaluation.cards import CARDS
from bench.evaluation.evaluator import EVALUATION_BATCH, identities_of, picture_pool
from bench.scoring.external_images import Findings, match, read_picture
from bench.evaluation.metrics import Function, Pictures
from reports.results.schema import EXTERNAL

#: Mean difference outside the hole, in 8-bit levels, above which a picture is hardly of the same image and
#: crop (JPEG at quality 75 changes faces by about 2).
_ALIEN_LEVELS = 8.0


@dataclass(frozen=True)
class Scored:
    """What scoring gave.

    Attributes:
        rows: one a picture, without what names the method.
        findings: what was noticed.
        pictures: ``(P, H, W, 3)`` uint8, composites of those images of the picture pool that were scored.
    """

    rows: pd.DataFrame
    findings: Findings
    pictures: NDArray[np.uint8]


def score(
    folder: Path,
    images: ImageSet,
    masks: NDArray[np.uint8],
    ready: Mapping[str, Function],
    device: torch.device,
    *,
    listen: Callable[[int, int], None] = lambda done, of: None,
) -> Scored:
    """Score the pictures of ``folder``.

    Args:
        folder: pictures of the size of ``images``, in 8 bits, searched with its sub-folders.
        images: the test images.
        masks: ``(N, H, W)`` uint8, 1 = hole, by image.
        ready: metric name -> function, from :func:`bench.evaluation.metrics.prepare`.
        device: where metrics are computed.
        listen: told (images done, images in all).

    Raises:
        UsageError: no such folder, or not one picture in it can be scored.
    """
    findings = Findings()
    files = match(folder, images.ids, findings)
    count = len(images)
    positions: list[int] = []
    columns: dict[str, list[NDArray[np.float64]]] = {name: [] for name in (*ready, "identical")}
    pool, kept_pictures = set(picture_pool(count).tolist()), []
    for start in range(0, count, EVALUATION_BATCH):
        block = [i for i in range(start, min(start + EVALUATION_BATCH, count)) if images.ids[i] in files]
        read = {
            i: read_picture(folder, files[images.ids[i]], images.pixels.shape[1:3], findings) for i in block
        }
        kept = [i for i in block if read[i] is not None]
        if kept:
            given = np.stack([picture for i in kept if (picture := read[i]) is not None])
            truth, hole = np.asarray(images.pixels[kept]), masks[kept].astype(bool)
            _compare_known(given, truth, hole, [files[images.ids[i]] for i in kept], findings)
            composite = np.where(hole[..., None], given, truth)
            pictures = Pictures(
                truth=_tensor(truth, device),
                composite=_tensor(composite, device),
                raw=_tensor(given, device).float() / 255,
                mask=torch.from_numpy(hole).to(device).unsqueeze(1).float(),
            )
            with torch.inference_mode():
                for name, function in ready.items():
                    columns[name].append(function(pictures).double().cpu().numpy())
            columns["identical"].append((composite == truth).all(axis=(1, 2, 3)))
            kept_pictures += [composite[j] for j, i in enumerate(kept) if i in pool]
            positions += kept
        listen(min(start + EVALUATION_BATCH, count), count)
    if not positions:
        why = f"; {findings.rejected[0].file}: {findings.rejected[0].reason}" if findings.rejected else ""
        raise UsageError(
            f"{folder}: no picture there can be scored{why}. Give pictures named like the test images "
            f"({PurePosixPath(images.ids[0]).with_suffix('.png')}, ...)"
        )
    rows = pd.DataFrame(
        {
            "image_id": [images.ids[i] for i in positions],
            "identity": identities_of(images)[positions],
            "hole_ratio": masks[positions].reshape(len(positions), -1).mean(axis=1),
            **{name: np.concatenate(parts) for name, parts in columns.items()},
        }
    )
    shown = np.stack(kept_pictures) if kept_pictures else np.empty((0, *images.pixels.shape[1:]), np.uint8)
    return Scored(rows, findings, shown)


def as_results(
    rows: pd.DataFrame, *, label: str, mask: str, size: int, model: str = EXTERNAL
) -> pd.DataFrame:
    """Rows of :func:`score` as a results table (``docs/results-schema.md``): one external method, seed 0."""
    named: dict[str, object] = {
        "model": model,
        "label": label,
        "track": EXTERNAL,
        "preset": EXTERNAL,
        "seed": 0,
        "mask": mask,
        "train_mask": EXTERNAL,
        "size": size,
    }
    unavailable = {
        name: np.nan for name, card in CARDS.items() if card.group == "primary" and name not in rows
    }
    return rows.assign(**named, **unavailable)  # type: ignore[arg-type]


def _compare_known(
    given: NDArray[np.uint8],
    truth: NDArray[np.uint8],
    hole: NDArray[np.bool_],
    files: Sequence[str],
    findings: Findings,
) -> None:
    difference = np.abs(given.astype(np.int16) - truth).mean(axis=-1)
    levels = [d[~h].mean() if not h.all() else 0.0 for d, h in zip(difference, hole, strict=True)]
    findings.changed += [file for file, level in zip(files, levels, strict=True) if level > 0]
    findings.alien += [file for file, level in zip(files, levels, strict=True) if level > _ALIEN_LEVELS]


def _tensor(pictures: NDArray[np.uint8], device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(pictures)).to(device).permute(0, 3, 1, 2)
