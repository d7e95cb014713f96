"""Training batches: a seeded walk over a uint8 pack and a bit-packed bank of masks, with no work per sample.

Image, flip and mask of every position in the walk are pure functions of (seed, position), so every model sees the same
sequence whatever its batch size, and a resumed training goes on where it stopped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.errors import UsageError
from bench.training.distributed import SINGLE_PROCESS, ProcessGroup
from models.base import Batch


def random_stream(*names: object) -> np.random.Philox:
    """A Philox bit generator keyed by the digest of names; only its raw output is used (its stream is guaranteed)."""
    key = hashlib.sha256("\x1f".join(map(str, names)).encode()).digest()
    return np.random.Philox(key=np.frombuffer(key[:16], dtype="<u8"))


def seeded_permutation(count: int, *names: object) -> NDArray[np.int64]:
    """A seeded permutation of ``range(count)``: the order of that many raw 64-bit draws."""
    return np.argsort(random_stream(*names).random_raw(count), kind="stable").astype(np.int64)


class TrainingDataLoader:
    """Batches by step.

    Args:
        pixels: ``(N, H, W, 3)`` uint8, the training images (a memory map is fine).
        masks_packed: ``(M, ceil(H * W / 8))`` uint8, a bank of masks with 1 = hole, big bit order.
        batch_size: images per step.
        seed: names the walk.
        flips: mirror half of the images.
        device: where batches are made.
        process_group: this process among those that share every batch; each has an equal part.
        resident: images and masks live on the device; otherwise a thread fetches those of the next step. ``None``:
            where they take less than half of its free memory.
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
        process_group: ProcessGroup = SINGLE_PROCESS,
        resident: bool | None = None,
    ) -> None:
        if batch_size % process_group.world_size:
            raise UsageError(
                f"--batch {batch_size}: cannot be shared equally by {process_group.world_size} processes; "
                "give a multiple"
            )
        self.pixels, self.masks_packed, self.device = pixels, masks_packed, device
        self.batch_size, self.seed, self.flips = batch_size, seed, flips
        self._share = batch_size // process_group.world_size
        self._first = process_group.rank * self._share
        self._shifts = torch.arange(7, -1, -1, dtype=torch.uint8, device=device)
        self._epoch = -1
        if resident is None:
            needed = pixels.nbytes + masks_packed.nbytes
            resident = device.type == "cpu" or needed < torch.cuda.mem_get_info(device)[0] // 2
        self._fetch: Callable[[int], tuple[Tensor, ...]]
        if not resident:
            self._fetch = Prefetcher(self._rows, device)
        elif device.type == "cpu":
            self._fetch = lambda step: copy_to_device(self._rows(step), device)
        else:
            whole = [torch.from_numpy(np.array(a)).to(device) for a in (pixels, masks_packed)]
            self._fetch = lambda step: self._rows_there(step, *whole)

    def __call__(self, step: int) -> Batch:
        """This process's part of the batch of ``step``.

        Images float32 ``(B, 3, H, W)`` channels-last in [0, 1], masks ``(B, 1, H, W)``.
        """
        ids, flip, raw, bits = self._fetch(step)
        image = raw.permute(0, 3, 1, 2).float().div_(255)
        if self.flips:
            image = torch.where(flip.view(-1, 1, 1, 1), image.flip(-1), image)
        generator = torch.Generator()
        generator.manual_seed(int(random_stream("losses", self.seed, step).random_raw() >> 1))
        mask = self._unpack(bits)
        return Batch(image, mask, ids, step, generator, offset=self._first, global_batch_size=self.batch_size)

    def _rows(self, step: int) -> tuple[NDArray[np.generic], ...]:
        """Images' positions, whether mirrored, pixels and packed masks of ``step``, gathered by the host."""
        ids, flip, masks = self._walk(step)
        return ids, flip, self.pixels[ids], self.masks_packed[masks]

    def _rows_there(self, step: int, pixels: Tensor, masks_packed: Tensor) -> tuple[Tensor, ...]:
        """The same, gathered by the device."""
        ids, flip, masks = copy_to_device(self._walk(step), self.device)
        return ids, flip, pixels[ids], masks_packed[masks]

    def _walk(self, step: int) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]]:
        """Images, whether mirrored, and masks of this process's part of ``step``, from an endless walk."""
        count = len(self.pixels)
        position = step * self.batch_size + self._first
        end, parts = position + self._share, []
        while position < end:
            epoch, offset = divmod(position, count)
            if epoch != self._epoch:  # arrays are drawn once an epoch
                self._order = seeded_permutation(count, "order", self.seed, epoch)
                flips = random_stream("flips", self.seed, epoch).random_raw(count) & np.uint64(1)
                masks = random_stream("masks", self.seed, epoch).random_raw(count) % np.uint64(
                    len(self.masks_packed)
                )
                self._flip, self._mask = flips.astype(np.bool_), masks.astype(np.int64)
                self._epoch = epoch
            here = slice(offset, min(count, offset + end - position))
            parts.append((self._order[here], self._flip[here], self._mask[here]))
            position += here.stop - here.start
        ids, flip, mask = (np.concatenate(column) for column in zip(*parts, strict=True))
        return ids, flip, mask

    def _unpack(self, packed: Tensor) -> Tensor:
        size = self.pixels.shape[1]
        bits = (packed.unsqueeze(-1) >> self._shifts) & 1
        return bits.flatten(1)[:, : size * size].reshape(-1, 1, size, size).float()


# Rows of arrays too large for the device, on it before the step that needs them.


Arrays = Iterable[NDArray[np.generic]]
Tensors = tuple[Tensor, ...]


def copy_to_device(arrays: Arrays, device: torch.device) -> Tensors:
    """``arrays`` on ``device``; a GPU takes them from pinned memory, and the host does not wait for it."""
    tensors = tuple(torch.from_numpy(array) for array in arrays)
    if device.type != "cuda":
        return tensors
    # The allocator of pinned memory gives a block out again only when its copy is done.
    return tuple(tensor.pin_memory().to(device, non_blocking=True) for tensor in tensors)


class Prefetcher:
    """A function of the step, called one step ahead by a thread; on a GPU the copy runs on a stream of its own.

    Args:
        rows: step -> arrays; called by one thread only.
        device: where they are wanted.
    """

    def __init__(self, rows: Callable[[int], Arrays], device: torch.device) -> None:
        self._rows, self._device = rows, device
        self._thread = ThreadPoolExecutor(1, "prefetch")
        on_gpu = device.type == "cuda"
        self._stream = torch.cuda.Stream(device) if on_gpu else None  # type: ignore[no-untyped-call]
        self._ahead: tuple[int, Future[tuple[Tensors, torch.cuda.Event | None]]] | None = None

    def __call__(self, step: int) -> Tensors:
        """The arrays of ``step``; those of the next step are begun."""
        if self._ahead and self._ahead[0] == step:
            future = self._ahead[1]
        else:  # the first step, or a jump
            future = self._thread.submit(self._send, step)
        tensors, sent = future.result()
        self._ahead = step + 1, self._thread.submit(self._send, step + 1)
        if sent is not None:
            stream = torch.cuda.current_stream(self._device)
            stream.wait_event(sent)
            for tensor in tensors:
                tensor.record_stream(stream)  # its memory is not given out again before the step has read it
        return tensors

    def _send(self, step: int) -> tuple[Tensors, torch.cuda.Event | None]:
        rows = self._rows(step)
        if self._stream is None:
            return copy_to_device(rows, self._device), None
        with torch.cuda.stream(self._stream):
            return copy_to_device(rows, self._device), self._stream.record_event()
