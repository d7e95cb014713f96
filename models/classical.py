"""Training-free baselines: means of the training split, and classical methods.

* ``mean``: the training split's mean pixel;
* ``mean-image``: its mean image, which already shows where a face's eyes are;
* ``biharmonic``: Damelin and Hoang, "On Surface Completion and Image Inpainting by Biharmonic Functions",
  IJMMS 2018, by scikit-image;
* ``telea``: Telea, "An Image Inpainting Technique Based on the Fast Marching Method", JGT 2004, by OpenCV;
* ``navier-stokes``: Bertalmio et al., "Navier-Stokes, Fluid Dynamics, and Image and Video Inpainting",
  CVPR 2001, by OpenCV, which is an optional dependency.

| what | ambiguous | here | field |
|---|---|---|---|
| OpenCV's radius | demos use 3 | 3 px | ``radius`` |
| OpenCV's depth | 8 bits only | the image is rounded to 8 bits for the call | |
| biharmonic's range | unbounded | scikit-image clips to the known pixels' range, per image and channel | |
"""

from __future__ import annotations

import importlib.util
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from models.base import Ambiguity, Batch, Budget, Completion, InpaintingModel, Phase, Task, composite
from models.config_fields import check_fields
from models.errors import MissingPackageError, ModelError
from models.registry import register


@dataclass(frozen=True, kw_only=True)
class NoConfig:
    """Empty config of baselines without options."""


@dataclass(frozen=True, kw_only=True)
class OpenCVConfig:
    """Options of OpenCV's methods.

    Attributes:
        radius: of the neighborhood from which a pixel is computed, in pixels.
    """

    radius: float = 3.0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.radius <= 0:
            raise ValueError(f"radius must be positive, not {self.radius}")


class TrainingFreeBaseline(InpaintingModel):
    """A model without networks or phases; subclasses define how the hole is filled."""

    Config: ClassVar[type] = NoConfig

    trained = False

    def phases(self, budget: Budget) -> list[Phase]:
        """Return no phases: nothing is trained."""
        return []

    def complete(self, batch: Batch) -> Completion:
        """Fill the hole; known pixels of ``raw`` are whatever the method returns there."""
        raw = self.fill(batch.image, batch.mask)
        return Completion(raw, composite(batch.image, raw, batch.mask))

    def loss(self, network: str, batch: Batch, completion: Completion, phase: Phase) -> dict[str, Tensor]:
        """Raise an error: there are no phases, so nothing may ask for a loss."""
        raise ModelError(f"{type(self).__name__} is a training-free baseline and has no loss")

    @abstractmethod
    def fill(self, image: Tensor, mask: Tensor) -> Tensor:
        """Return ``(N, 3, H, W)`` float32 in [0, 1], computed from the known pixels of ``image`` alone."""


@register(
    "mean",
    label="Mean pixel",
    summary="the training split's mean color",
    groups=("untrained",),
)
class MeanPixel(TrainingFreeBaseline):
    """One color for every hole."""

    def fill(self, image: Tensor, mask: Tensor) -> Tensor:
        """Return the mean pixel everywhere."""
        return image.new_tensor(self.task.mean_pixel).view(1, 3, 1, 1).expand_as(image)


@register(
    "mean-image",
    label="Mean image",
    summary="the training split's mean image",
    groups=("untrained",),
)
class MeanImage(TrainingFreeBaseline):
    """One image for every hole.

    Raises:
        ModelError: the task carries no mean image.
    """

    def __init__(self, config: NoConfig, task: Task) -> None:
        super().__init__(config, task)
        if task.mean_image is None:
            raise ModelError("mean-image needs the mean image of the training split (Task.mean_image)")
        self._mean = task.mean_image

    def fill(self, image: Tensor, mask: Tensor) -> Tensor:
        """Return the mean image."""
        # Moved here, since a baseline has no networks whose device somebody sets.
        return self._mean.to(image).unsqueeze(0).expand_as(image)


@register(
    "biharmonic",
    label="Biharmonic",
    summary="the smoothest surface through the hole's border (scikit-image)",
    paper="Damelin and Hoang, IJMMS 2018, https://doi.org/10.1155/2018/3950312",
    groups=("untrained",),
)
class Biharmonic(TrainingFreeBaseline):
    """The solution of the biharmonic equation in the hole, in float64, on the CPU."""

    ambiguities: ClassVar[tuple[Ambiguity, ...]] = (
        Ambiguity(
            topic="range of the result",
            published="unbounded",
            resolved="clipped to the range of the known pixels, per image and channel (scikit-image)",
        ),
    )

    def fill(self, image: Tensor, mask: Tensor) -> Tensor:
        """Solve the equation; images that share a mask are solved together."""
        from skimage.restoration import inpaint_biharmonic

        # float64, because the condition number of the biharmonic equations grows with
        # the fourth power of the hole's side.
        images = image.detach().permute(0, 2, 3, 1).double().cpu().numpy()
        holes = mask[:, 0].cpu().numpy() > 0.5
        result = images.copy()
        # The equations depend on the mask alone: one factorization serves all images with that mask.
        for members in _same_mask(holes):
            hole = holes[members[0]]
            if not hole.any():
                continue
            if hole.all():
                raise ModelError("biharmonic needs at least one known pixel in every image")
            # (M, H, W, 3) to (H, W, 3 M): scikit-image clips each channel to its own known range.
            stack = np.moveaxis(images[members], 0, 2).reshape(*hole.shape, -1)
            # Pixels under the hole never enter the equations, but a NaN there would.
            stack[hole] = 0.0
            solved = inpaint_biharmonic(stack, hole, channel_axis=-1)
            result[members] = np.moveaxis(solved.reshape(*hole.shape, len(members), 3), 2, 0)
        return torch.from_numpy(result).permute(0, 3, 1, 2).to(image)


def _same_mask(holes: np.ndarray[Any, Any]) -> list[list[int]]:
    """Group positions by equal mask, in order of appearance."""
    groups: dict[bytes, list[int]] = {}
    for position, hole in enumerate(holes):
        groups.setdefault(np.packbits(hole).tobytes(), []).append(position)
    return list(groups.values())


class OpenCVFill(TrainingFreeBaseline):
    """Base of the two methods of ``cv2.inpaint``: 8 bits, on the CPU."""

    Config: ClassVar[type] = OpenCVConfig
    #: Name of OpenCV's constant.
    method: ClassVar[str]
    ambiguities: ClassVar[tuple[Ambiguity, ...]] = (
        Ambiguity(
            topic="radius", published="not given; OpenCV's examples use 3", resolved="3 px", field="radius"
        ),
        Ambiguity(
            topic="depth", published="any", resolved="8 bits: OpenCV's color implementation", deviation=True
        ),
    )

    @classmethod
    def requirements(cls, config: OpenCVConfig) -> None:
        """Raise :class:`models.errors.MissingPackageError` where OpenCV is not installed."""
        if importlib.util.find_spec("cv2") is None:
            raise MissingPackageError(
                "telea and navier-stokes need OpenCV: pip install 'inpaint-bench[opencv]'"
            )

    def fill(self, image: Tensor, mask: Tensor) -> Tensor:
        """Fill image by image."""
        # A caller of the library need not have asked; the bare import error
        # would not say how to install OpenCV.
        self.requirements(self.config)
        import cv2

        images = (image.detach().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        holes = (mask[:, 0] > 0.5).byte().cpu().numpy()
        flag = getattr(cv2, self.method)
        # Zero what is under the hole, so that nothing hidden can be read.
        filled = [
            cv2.inpaint(np.ascontiguousarray(p * (1 - h[..., None])), h, self.config.radius, flag)
            for p, h in zip(images, holes, strict=True)
        ]
        return torch.from_numpy(np.stack(filled)).permute(0, 3, 1, 2).to(image) / 255


@register(
    "telea",
    label="Telea",
    summary="fast marching from the border inwards (OpenCV, optional)",
    paper="Telea, Journal of Graphics Tools 2004, https://doi.org/10.1080/10867651.2004.10487596",
    groups=("classical",),
)
class Telea(OpenCVFill):
    """Fast marching (Telea 2004)."""

    method = "INPAINT_TELEA"


@register(
    "navier-stokes",
    label="Navier-Stokes",
    summary="isophotes continued as streamlines of a fluid (OpenCV, optional)",
    paper="Bertalmio et al., CVPR 2001, https://doi.org/10.1109/CVPR.2001.990497",
    groups=("classical",),
)
class NavierStokes(OpenCVFill):
    """Fluid dynamics (Bertalmio et al. 2001)."""

    method = "INPAINT_NS"
