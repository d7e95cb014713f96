"""Fills that learn nothing: the floor that a trained model must clear, and the classics.

* ``mean``: the training split's mean pixel;
* ``mean-image``: its mean picture, which already knows where a face's eyes are;
* ``biharmonic``: Damelin and Hoang, "On Surface Completion and Image Inpainting by Biharmonic Functions",
  IJMMS 2018, by scikit-image;
* ``telea``: Telea, "An Image Inpainting Technique Based on the Fast Marching Method", JGT 2004, by OpenCV;
* ``navier-stokes``: Bertalmio et al., "Navier-Stokes, Fluid Dynamics, and Image and Video Inpainting",
  CVPR 2001, by OpenCV, which is an optional dependency.

| what | ambiguous | here | field |
|---|---|---|---|
| OpenCV's radius | demos use 3 | 3 px | ``radius`` |
| OpenCV's depth | 8 bits only | the picture is rounded to 8 bits for the call | |
| biharmonic's range | unbounded | scikit-image clips to the known pixels' range, per picture and channel | |
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
from models.errors import MissingPackageError, ModelError
from models.registry import register


@dataclass(frozen=True, kw_only=True)
class NoConfig:
    """Nothing to choose."""


@dataclass(frozen=True, kw_only=True)
class OpenCVConfig:
    """Attributes:
    radius: of the neighbourhood that a pixel is computed from, in pixels.
    """

    radius: float = 3.0

    def __post_init__(self) -> None:
        if self.radius <= 0:
            raise ValueError(f"radius must be positive, not {self.radius}")


class TrainingFreeBaseline(InpaintingModel):
    """A model without networks or phases; subclasses say what lies in the hole."""

    Config: ClassVar[type] = NoConfig

    trained = False

    def phases(self, budget: Budget) -> list[Phase]:
        """None: nothing is trained."""
        return []

    def complete(self, batch: Batch) -> Completion:
        """The fill, and its composite; known pixels of ``raw`` are whatever the method gives there."""
        raw = self.fill(batch.image, batch.mask)
        return Completion(raw, composite(batch.image, raw, batch.mask))

    def loss(self, network: str, batch: Batch, completion: Completion, phase: Phase) -> dict[str, Tensor]:
        """Never called, since there are no phases."""
        raise ModelError(f"{type(self).__name__} is an untrained fill and has no loss")

    @abstractmethod
    def fill(self, image: Tensor, mask: Tensor) -> Tensor:
        """A picture ``(N, 3, H, W)`` float32 in [0, 1] made of the known pixels of ``image`` alone."""


@register(
    "mean",
    label="Mean pixel",
    summary="the training split's mean colour",
    groups=("untrained",),
)
class MeanPixel(TrainingFreeBaseline):
    """One colour for every hole."""

    def fill(self, image: Tensor, mask: Tensor) -> Tensor:
        """The mean pixel everywhere."""
        return image.new_tensor(self.task.mean_pixel).view(1, 3, 1, 1).expand_as(image)


@register(
    "mean-image",
    label="Mean image",
    summary="the training split's mean picture: the bar that a trained model must clear",
    groups=("untrained",),
)
class MeanImage(TrainingFreeBaseline):
    """One picture for every hole.

    Raises:
        ModelError: the task carries no mean picture.
    """

    def __init__(self, config: NoConfig, task: Task) -> None:
        super().__init__(config, task)
        if task.mean_image is None:
            raise ModelError("mean-image needs the mean picture of the training split (Task.mean_image)")
        self._mean = task.mean_image

    def fill(self, image: Tensor, mask: Tensor) -> Tensor:
        """The mean picture."""
        return self._mean.to(image).unsqueeze(0).expand_as(image)


@register(
    "biharmonic",
    label="Biharmonic",
    summary="the smoothest surface through the hole's border (scikit-image)",
    paper="Damelin and Hoang, IJMMS 2018, https://doi.org/10.1155/2018/3950312",
    groups=("untrained",),
)
class Biharmonic(TrainingFreeBaseline):
    """Solves the biharmonic equation in the hole, in float64, on the CPU."""

    ambiguities: ClassVar[tuple[Ambiguity, ...]] = (
        Ambiguity(
            topic="range of the result",
            published="unbounded",
            resolved="clipped to the range of the known pixels, per picture and channel (scikit-image)",
        ),
    )

    def fill(self, image: Tensor, mask: Tensor) -> Tensor:
        """Pictures that share a mask are solved together: the equations depend on the mask alone."""
        from skimage.restoration import inpaint_biharmonic

        pictures = image.detach().permute(0, 2, 3, 1).double().cpu().numpy()
        holes = mask[:, 0].cpu().numpy() > 0.5
        result = pictures.copy()
        for members in _same_mask(holes):
            hole = holes[members[0]]
            if not hole.any():
                continue
            if hole.all():
                raise ModelError("biharmonic needs at least one known pixel in every picture")
            # (M, H, W, 3) to (H, W, 3 M): scikit-image clips each channel to its own known range.
            stack = np.moveaxis(pictures[members], 0, 2).reshape(*hole.shape, -1)
            # What lies under the hole never enters the equations; zero it against NaN.
            stack[hole] = 0.0
            solved = inpaint_biharmonic(stack, hole, channel_axis=-1)
            result[members] = np.moveaxis(solved.reshape(*hole.shape, len(members), 3), 2, 0)
        return torch.from_numpy(result).permute(0, 3, 1, 2).to(image)


def _same_mask(holes: np.ndarray[Any, Any]) -> list[list[int]]:
    """Positions grouped by equal mask, in order of appearance."""
    groups: dict[bytes, list[int]] = {}
    for position, hole in enumerate(holes):
        groups.setdefault(np.packbits(hole).tobytes(), []).append(position)
    return list(groups.values())


class OpenCVFill(TrainingFreeBaseline):
    """Base of the two methods of ``cv2.inpaint``; 8 bits, on the CPU."""

    Config: ClassVar[type] = OpenCVConfig
    #: Name of OpenCV's constant.
    method: ClassVar[str]
    ambiguities: ClassVar[tuple[Ambiguity, ...]] = (
        Ambiguity(
            topic="radius", published="not given; OpenCV's examples use 3", resolved="3 px", field="radius"
        ),
        Ambiguity(
            topic="depth", published="any", resolved="8 bits: OpenCV's colour implementation", deviation=True
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
        """Picture by picture."""
        self.requirements(self.config)
        import cv2

        pictures = (image.detach().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        holes = (mask[:, 0] > 0.5).byte().cpu().numpy()
        flag = getattr(cv2, self.method)
        # Zeroed under the hole, so that nothing hidden can be read.
        filled = [
            cv2.inpaint(np.ascontiguousarray(p * (1 - h[..., None])), h, self.config.radius, flag)
            for p, h in zip(pictures, holes, strict=True)
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
    """Fast marching."""

    method = "INPAINT_TELEA"


@register(
    "navier-stokes",
    label="Navier-Stokes",
    summary="isophotes continued as streamlines of a fluid (OpenCV, optional)",
    paper="Bertalmio et al., CVPR 2001, https://doi.org/10.1109/CVPR.2001.990497",
    groups=("classical",),
)
class NavierStokes(OpenCVFill):
    """Fluid dynamics."""

    method = "INPAINT_NS"
