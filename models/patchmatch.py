"""PatchMatch: fill the hole with patches of the known region, found by randomized search.

Paper: Barnes, Shechtman, Finkelstein, Goldman, "PatchMatch: A Randomized Correspondence Algorithm for Structural Image
Editing", SIGGRAPH 2009, https://gfx.cs.princeton.edu/pubs/Barnes_2009_PAR/
Code: PyPatchMatch, https://github.com/mauwii/PyPatchMatch (MIT), the extra ``patchmatch``.
Patches are 7 x 7 (``patch_radius``) as published; the random search starts from one ``seed`` for every image.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from models.base import Ambiguity
from models.classical import TrainingFreeBaseline
from models.config_fields import check_fields
from models.errors import MissingPackageError, ModelError
from models.registry import register


@dataclass(frozen=True, kw_only=True)
class PatchMatchConfig:
    """Options of PatchMatch.

    Attributes:
        patch_radius: of the compared patches, which are ``2 * patch_radius + 1`` pixels wide.
        seed: of the randomized search; the search in every image starts from it.
    """

    patch_radius: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.patch_radius < 1:
            raise ValueError(f"patch_radius must be at least 1, not {self.patch_radius}")


@register(
    "patchmatch",
    label="PatchMatch",
    summary="patches of the known region, found by randomized search (PyPatchMatch, optional)",
    paper="Barnes et al., SIGGRAPH 2009, https://gfx.cs.princeton.edu/pubs/Barnes_2009_PAR/",
    groups=("classical",),
)
class PatchMatch(TrainingFreeBaseline):
    """PyPatchMatch's inpainting: 8 bits, on the CPU."""

    Config: ClassVar[type] = PatchMatchConfig
    ambiguities: ClassVar[tuple[Ambiguity, ...]] = (
        Ambiguity(topic="size of the patches", published="7 x 7", resolved="7 x 7", field="patch_radius"),
        Ambiguity(
            topic="random search",
            published="random",
            resolved="from one seed for every image, so that the result depends on image and mask alone",
            field="seed",
        ),
    )

    @classmethod
    def requirements(cls, config: PatchMatchConfig) -> None:
        """Raise :class:`models.errors.MissingPackageError` if PyPatchMatch is not installed."""
        if importlib.util.find_spec("patchmatch") is None:
            raise MissingPackageError(
                "patchmatch needs PyPatchMatch: pip install 'inpaint-bench[patchmatch]'"
            )

    def fill(self, image: Tensor, mask: Tensor) -> Tensor:
        """Fill image by image.

        Raises:
            ModelError: an image without a known pixel.
        """
        self.requirements(self.config)
        import patchmatch

        images = (image.detach().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        holes = (mask[:, 0] > 0.5).cpu().numpy()
        if holes.all(axis=(1, 2)).any():
            raise ModelError("patchmatch needs known pixels in every image")
        # The library starts every call from this seed, so an image's place in the batch changes nothing.
        patchmatch.set_random_seed(self.config.seed)
        # Zero what is under the hole, so that nothing hidden can be read.
        filled = [
            patchmatch.inpaint(p * ~h[..., None], h, patch_size=self.config.patch_radius)
            for p, h in zip(images, holes, strict=True)
        ]
        return torch.from_numpy(np.stack(filled)).permute(0, 3, 1, 2).to(image) / 255
