"""Contextual attention: rebuild patches of the hole from similar patches of the known region.

Yu et al., "Generative Image Inpainting with Contextual Attention" (DeepFillv1, CVPR 2018), section 4, as
DeepFillv2 uses it. Computed by unfold, matrix products and fold for a batch in which each image has its own mask.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_MIN_NORM = 1e-4


def contextual_attention(
    features: Tensor, mask: Tensor, *, rate: int = 2, softmax_scale: float = 10.0, fuse: bool = True
) -> Tensor:
    """Rebuild ``features`` from their own patches without hole, in float32.

    3 x 3 patches of the features, subsampled by ``rate``, are compared by cosine similarity (the known patch is
    normalized, the other is not); the softmax over the known patches weights patches of ``2 * rate`` pixels of the
    features at full resolution, which are summed where they overlap.

    Args:
        features: ``(N, C, H, W)``, H and W multiples of ``rate``.
        mask: ``(N, 1, H, W)``, 1 = hole.
        rate: subsampling for the comparison.
        softmax_scale: inverse temperature.
        fuse: smooth the scores so that neighboring patches choose neighboring patches.

    Returns:
        ``(N, C, H, W)``; zeros for an image without a known patch.
    """
    with torch.autocast(features.device.type, enabled=False):
        features = features.float()
        n, _, height, width = features.shape
        small = features[:, :, ::rate, ::rate]
        rows, columns = small.shape[2:]
        sought = F.unfold(small, 3, padding=1)  # (N, C * 9, L)
        # Only the known side is normalized: the norm of a sought patch is the same for all its candidates.
        known = sought / sought.norm(dim=1, keepdim=True).clamp(min=_MIN_NORM)
        scores = torch.bmm(known.transpose(1, 2), sought)  # (N, L known, L sought)
        if fuse:
            scores = fuse_scores(scores.view(n, rows, columns, rows, columns)).reshape_as(scores)
        # A patch is usable if none of its nine positions is hole.
        holes = F.unfold(mask.float()[:, :, ::rate, ::rate], 3, padding=1)
        usable = (holes.amax(dim=1) < 0.5).float().unsqueeze(2)  # (N, L known, 1)
        # As published, unusable patches have score 0 before and weight 0 after the softmax: its sum includes them.
        weights = torch.softmax(scores * usable * softmax_scale, dim=1) * usable
        # Windows of 2 * rate that step by rate cover each pixel four
        # times, as the division at the end assumes.
        patches = F.unfold(features, 2 * rate, stride=rate, padding=rate // 2)  # (N, C * 4 * rate^2, L known)
        mixed = torch.bmm(patches, weights)
        rebuilt = F.fold(mixed, (height, width), 2 * rate, stride=rate, padding=rate // 2)
        return rebuilt / 4.0  # each pixel is in four patches


def fuse_scores(scores: Tensor) -> Tensor:
    """Add to each score those of the neighboring pairs with the same shift, along columns, then along rows.

    This is the published convolution of the matrix of scores with a 3 x 3 identity, once with positions counted by rows
    and once by columns.

    Args:
        scores: ``(N, h, w, h, w)``: known position, then sought position.

    Returns:
        The same shape.
    """
    n, h, w = scores.shape[:3]
    by_rows = _diagonal_sum(scores.reshape(n, h * w, h * w)).view(n, h, w, h, w)
    by_columns = by_rows.permute(0, 2, 1, 4, 3).reshape(n, h * w, h * w)
    return _diagonal_sum(by_columns).view(n, w, h, w, h).permute(0, 2, 1, 4, 3)


def _diagonal_sum(matrix: Tensor) -> Tensor:
    padded = F.pad(matrix, (1, 1, 1, 1))
    # The 3 x 3 identity as a kernel sums along the diagonal, so that a pair of
    # positions gains from its shifted neighbors.
    return padded[:, :-2, :-2] + matrix + padded[:, 2:, 2:]
