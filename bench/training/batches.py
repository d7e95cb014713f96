"""Training batches: a seeded walk over a uint8 pack and a bit-packed bank of masks, with no work per sample.

Image, flip and mask of every position in the walk are pure functions of (seed, position), so every model sees the same
sequence whatever its batch size, and a resumed training goes on where it stopped.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.errors import UsageError
from bench.training.ranks import ALONE, Ranks
from models.protocol import Batch


def stream(*names: object) -> np.random.Philox:
    """A Philox bit generator keyed by the digest of names; only its raw output is used (its stream is guaranteed)."""
    key = hashlib.sha256("\x1f".join(map(str, names)).encode()).digest()
    return np.random.Philox(key=np.frombuffer(key[:16], dtype="<u8"))


def permutation(count: int, *names: object) -> NDArray[np.int64]:
    """A seeded permutation of ``range(count)``: the order of that many raw 64-bit draws."""
    return np.argsort(stream(*names).random_raw(count), kind="stable").astype(np.int64)


class TrainingBatches:
    """Batches by step.

    Args:
        pixels: ``(N, H, W, 3)`` uint8, the training images (a memory map is fine).
        masks_packed: ``(M, ceil(H * W / 8))`` uint8, a bank of masks with 1 = hole, big bit order.
        batch_size: images per step.
        seed: names the walk.
        flips: mirror half of the images.
        ranks: this process among those that share every batch; each has an equal part.
        device: where batches are made; the pack moves there once if it takes less than half of its memory.
    """

    def __init__(
        self,
        pixels: NDArray[np.uint8],
        masks_packed: NDArray[np.uint8],
        *,
        batch_size: int,
        seed: int,
        flips: bool,
        device: torch.device,
        ranks: Ranks = ALONE,
    ) -> None:
        self.pixels, self.batch_size, self.seed, self.flips, self.device = (
            pixels,
            batch_size,
            seed,
            flips,
            device,
        )
        self._masks = torch.from_numpy(masks_packed.copy()).to(device)
        self._shifts = torch.arange(7, -1, -1, dtype=torch.uint8, device=device)
        self._epoch = -1
        if batch_size % ranks.world:
            raise UsageError(
                f"--batch {batch_size}: cannot be shared equally by {ranks.world} processes; give a multiple"
            )
        self._share = batch_size // ranks.world
        self._first = ranks.rank * self._share
        self._resident: Tensor | None = None
        if device.type == "cuda" and pixels.nbytes < torch.cuda.mem_get_info(device)[0] // 2:
            self._resident = torch.from_numpy(np.ascontiguousarray(pixels)).to(device)

    def __call__(self, step: int) -> Batch:
        """This process's part of the batch of ``step``.

        Images float32 ``(B, 3, H, W)`` channels-last in [0, 1], masks ``(B, 1, H, W)``.
        """
        start = step * self.batch_size + self._first
        walk = [self._walk(position) for position in range(start, start + self._share)]
        index = np.array([image for image, _, _ in walk], dtype=np.int64)
        flip = torch.tensor([flipped for _, flipped, _ in walk], dtype=torch.bool)
        mask_index = torch.tensor([mask for _, _, mask in walk], dtype=torch.int64)
        if self._resident is not None:
            raw = self._resident[torch.from_numpy(index).to(self.device, non_blocking=True)]
        else:
            raw = torch.from_numpy(self.pixels[index]).to(self.device, non_blocking=True)
        image = raw.permute(0, 3, 1, 2).float().div_(255)
        if self.flips:
            image = torch.where(flip.to(self.device).view(-1, 1, 1, 1), image.flip(-1), image)
        generator = torch.Generator()
        generator.manual_seed(int(stream("losses", self.seed, step).random_raw() >> 1))
        return Batch(
            image,
            self._unpack(mask_index.to(self.device)),
            torch.from_numpy(index),
            step,
            generator,
            first=self._first,
            whole=self.batch_size,
        )

    def _walk(self, position: int) -> tuple[int, bool, int]:
        """(image, flipped, mask) at a position of the endless walk; arrays are drawn once an epoch."""
        epoch, offset = divmod(position, len(self.pixels))
        if epoch != self._epoch:
            count = len(self.pixels)
            self._order = permutation(count, "order", self.seed, epoch)
            self._flip = stream("flips", self.seed, epoch).random_raw(count) & np.uint64(1)
            self._mask = stream("masks", self.seed, epoch).random_raw(count) % np.uint64(len(self._masks))
            self._epoch = epoch
        return int(self._order[offset]), bool(self._flip[offset]), int(self._mask[offset])

    def _unpack(self, index: Tensor) -> Tensor:
        size = self.pixels.shape[1]
        bits = (self._masks[index].unsqueeze(-1) >> self._shifts) & 1
        return bits.flatten(1)[:, : size * size].reshape(-1, 1, size, size).float()
