"""GLCIC's published post-processing: fast marching, then Poisson blending of the network's picture into it.

Iizuka et al. (SIGGRAPH 2017), with the calls and the radius of the authors' ``inpaint.lua``; OpenCV on the CPU, 8
bits, and no gradient.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.errors import MissingPackageError

#: Of the fast marching, in pixels (``inpaint.lua``).
RADIUS = 1


def require_opencv() -> None:
    """Raise :class:`models.errors.MissingPackageError` where OpenCV is not installed."""
    if importlib.util.find_spec("cv2") is None:
        raise MissingPackageError("post-processing needs OpenCV: pip install 'inpaint-bench[opencv]'")


def telea_and_poisson(completed: Tensor, mask: Tensor) -> Tensor:
    """Completed pictures with the colours of the hole fitted to its border.

    The gradients of the completion are kept and its colours on the border replaced by those that fast marching carries
    there (Telea 2004; Perez et al. 2003). ``inpaint.lua`` mixes up rows and columns when it looks for the place of the
    hole; here the hole stays where it is.

    Args:
        completed: ``(N, 3, H, W)`` in [0, 1], the composite.
        mask: ``(N, 1, H, W)``, 1 = hole.

    Returns:
        ``(N, 3, H, W)`` in [0, 1], rounded to 8 bits.
    """
    pictures = (completed.detach().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    holes = (mask[:, 0] > 0.5).byte().cpu().numpy() * 255
    done = [_one(np.ascontiguousarray(p), h) for p, h in zip(pictures, holes, strict=True)]
    return torch.from_numpy(np.stack(done)).permute(0, 3, 1, 2).to(completed) / 255


def _one(picture: NDArray[np.uint8], hole: NDArray[np.uint8]) -> NDArray[np.uint8]:
    import cv2

    marched: Any = cv2.inpaint(picture, hole, RADIUS, cv2.INPAINT_TELEA)
    # seamlessClone takes no hole on the picture's outermost pixels: they keep the fast marching's colours.
    inner = np.zeros_like(hole)
    inner[1:-1, 1:-1] = hole[1:-1, 1:-1]
    left, top, width, height = cv2.boundingRect(inner)
    if min(width, height) < 2:
        return np.asarray(marched)
    centre = (left + width // 2, top + height // 2)
    return np.asarray(cv2.seamlessClone(picture, marched, inner, centre, cv2.NORMAL_CLONE))
