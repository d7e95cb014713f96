"""The weights that a finished training left: read from its checkpoint, and described without building a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from bench.errors import BenchError
from bench.training import checkpoint
from models.pretrained import tensors_digest

#: Discriminators are needed for training alone, and stay behind.
_PREFIX = "generator."


def read_generator(folder: Path, key: str) -> dict[str, Tensor]:
    """Return the generator's weights at the end of the training in ``folder``, by tensor name.

    Args:
        folder: of the training.
        key: digest of what decides its numbers.

    Raises:
        BenchError: the weights are gone, damaged, of another training, or from the middle of this one.
    """
    state = checkpoint.newest_checkpoint(folder)
    if state is not None and state.get("origin", {}).get("what") not in (None, key):
        raise BenchError(f"{folder}: holds the weights of another training; run the experiment again")
    # Weights from the middle of a training belong to no number that was reported.
    if state is None or not state.get("complete"):
        raise BenchError(
            f"{folder}: the weights are gone or damaged; the experiment's own command trains them again"
        )
    return generator_weights(state)


def generator_weights(state: Mapping[str, Any] | None) -> dict[str, Tensor]:
    """Return the generator's weights of a checkpoint; empty where there is no checkpoint, or no generator in it."""
    networks = state["networks"] if state else {}
    return {k.removeprefix(_PREFIX): v for k, v in networks.items() if k.startswith(_PREFIX)}


def describe_weights(weights: Mapping[str, Tensor], task: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what tells weights from others, as the card beside exported ones has it; ``None`` where there are none.

    Args:
        weights: of a generator, by tensor name.
        task: size, fixed hole box and mean pixel that it was built for.
    """
    if not weights:
        return None
    return {
        "digest": tensors_digest(weights),
        "parameters": sum(t.numel() for t in weights.values() if t.is_floating_point()),
        "task": dict(task),
    }


def weights_license(data: Mapping[str, Any]) -> str:
    """State the terms of the training images for whoever passes weights on."""
    if data["procedural"]:
        return "Trained on procedural faces drawn by inpaint-bench: no images of real people; MIT like the program."
    terms = data.get("licence") or "terms unknown to this program; ask whoever made the images"
    return f"Learnt from {data['title']}. Terms of the pictures: {terms}. They may bind these weights too."
