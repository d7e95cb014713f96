"""Training batches: a seeded walk over a uint8 image array and bit-packed pre-drawn masks, with no work per sample.

Image, flip and mask at every position of the walk are pure functions of (seed, position), so that every model sees the
same sequence whatever its batch size, and a resumed training continues where it stopped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol
from weakref import WeakValueDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.training.device import Compute
from models.base import Batch


def random_stream(*names: object) -> np.random.Philox:
    """Return a Philox bit generator keyed by the digest of names; only its raw output has a guaranteed stream.

    >>> int(random_stream("order", 0, 0).random_raw()) == int(random_stream("order", 0, 0).random_raw())
    True
    """
    # The separator occurs in no name, so ("a", "bc") and ("ab", "c") differ; "<u8" gives one key on any byte
    # order.
    key = hashlib.sha256("\x1f".join(map(str, names)).encode()).digest()
    return np.random.Philox(key=np.frombuffer(key[:16], dtype="<u8"))


def seeded_permutation(count: int, *names: object) -> NDArray[np.int64]:
    """Return a seeded permutation of ``range(count)``: the order of that many raw 64-bit draws.

    >>> seeded_permutation(5, "order", 0, 0).tolist()
    [3, 0, 4, 1, 2]
    """
    return np.argsort(random_stream(*names).random_raw(count), kind="stable").astype(np.int64)


class BatchSource(Protocol):
    """What the trainer takes its batches from."""

    @property
    def batch_size(self) -> int:
        """Images per step, over all processes."""

    def __call__(self, step: int) -> Batch:
        """Return the batch of ``step``."""


@dataclass(frozen=True)
class StepBatches:
    """A function of the step as a :class:`BatchSource`, for checks and measurements.

    Attributes:
        batch_size: images per step.
        make: step -> batch.
    """

    batch_size: int
    make: Callable[[int], Batch]

    def __call__(self, step: int) -> Batch:
        """Return the batch of ``step``."""
        return self.make(step)


class TrainingDataLoader:
    """Makes the batch of any step.

    Args:
        pixels: ``(N, H, W, 3)`` uint8, the training images; may be a memory map.
        masks_packed: ``(M, ceil(H * W / 8))`` uint8, pre-drawn masks with 1 = hole, big-endian bits.
        batch_size: images per step, over all processes.
        seed: seed of the walk.
        flips: whether to mirror half of the images.
        compute: the device where batches are made, and the processes that share every batch equally.
        resident: keep images and masks on the device; otherwise a thread fetches those of the next step. ``None``:
            decide by :func:`is_resident`.

    Raises:
        UsageError: the processes cannot share the batch equally.
    """

    def __init__(
        self,
        pixels: NDArray[np.uint8],
        masks_packed: NDArray[np.uint8],
        *,
        batch_size: int,
        seed: int,
        flips: bool,
        compute: Compute,
        resident: bool | None = None,
    ) -> None:
        device, process_group = compute.device, compute.process_group
        # The arrays are held beside their copies on the device: those are found by address, which must not be
        # reused meanwhile.
        self.pixels, self.masks_packed, self.device = pixels, masks_packed, device
        self.batch_size, self.seed, self.flips = batch_size, seed, flips
        self._share = process_group.share_of(batch_size)
        self._first = process_group.rank * self._share
        # From the highest bit down: NumPy's packbits puts the first pixel there.
        self._shifts = torch.arange(7, -1, -1, dtype=torch.uint8, device=device)
        self._epoch = -1
        if resident is None:
            resident = is_resident(pixels.nbytes + masks_packed.nbytes, compute)
        self._fetch: Callable[[int], tuple[Tensor, ...]]
        # Chosen once, here: the step's path below is then one call, with no branch on the device.
        if not resident:
            self._fetch = Prefetcher(self._rows, device)
        elif device.type == "cpu":
            # Host memory is the device's memory: there is nothing to keep a copy of, and no transfer to hide.
            self._fetch = lambda step: copy_to_device(self._rows(step), device)
        else:
            copies = [resident_copy(array, device) for array in (pixels, masks_packed)]
            self._fetch = lambda step: self._rows_on_device(step, *copies)

    def __call__(self, step: int) -> Batch:
        """Return this process's part of the batch of ``step``.

        Images are float32 ``(B, 3, H, W)`` channels-last in [0, 1], masks ``(B, 1, H, W)``.
        """
        ids, flip, raw, bits = self._fetch(step)
        # Bytes travel and become floats on the device, a quarter of the traffic; the permuted view is
        # channels-last already.
        image = raw.permute(0, 3, 1, 2).float().div_(255)
        if self.flips:
            # Both are computed and one is chosen: indexing by ``flip`` would make the host wait for the
            # number of mirrored images.
            image = torch.where(flip.view(-1, 1, 1, 1), image.flip(-1), image)
        # On the CPU whatever the device, so that a loss draws the same numbers everywhere; the shift keeps 63
        # bits, a valid seed.
        generator = torch.Generator()
        generator.manual_seed(int(random_stream("losses", self.seed, step).random_raw() >> 1))
        mask = self._unpack(bits)
        return Batch(image, mask, ids, step, generator, offset=self._first, global_batch_size=self.batch_size)

    def _rows(self, step: int) -> tuple[NDArray[np.generic], ...]:
        """Gather positions, flips, pixels and packed masks of ``step`` on the host."""
        # The walk has no end: the prefetched step after the last one is valid too, and simply never used.
        ids, flip, masks = self._walk(step)
        return ids, flip, self.pixels[ids], self.masks_packed[masks]

    def _rows_on_device(self, step: int, pixels: Tensor, masks_packed: Tensor) -> tuple[Tensor, ...]:
        """Gather the same on the device."""
        ids, flip, masks = copy_to_device(self._walk(step), self.device)
        return ids, flip, pixels[ids], masks_packed[masks]

    def _walk(self, step: int) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]]:
        """Return positions of images, flips and positions of masks for this process's part of ``step``."""
        count = len(self.pixels)
        position = step * self.batch_size + self._first
        end, parts = position + self._share, []
        # A batch may straddle two epochs, or hold several where there are fewer images than a batch has.
        while position < end:
            epoch, offset = divmod(position, count)
            if epoch != self._epoch:  # a new order every epoch
                # All draws of an epoch at once, by position: what an image gets depends on neither batch size
                # nor number of processes.
                self._order = seeded_permutation(count, "order", self.seed, epoch)
                flips = random_stream("flips", self.seed, epoch).random_raw(count) & np.uint64(1)
                # The bias of the remainder is of the order of 1 in 2^50 for a bank of thousands of masks.
                masks = random_stream("masks", self.seed, epoch).random_raw(count) % np.uint64(
                    len(self.masks_packed)
                )
                self._flip, self._mask = flips.astype(np.bool_), masks.astype(np.int64)
                self._epoch = epoch
            # What is cached is a function of the epoch alone, so a resumed training draws the same again.
            here = slice(offset, min(count, offset + end - position))
            parts.append((self._order[here], self._flip[here], self._mask[here]))
            position += here.stop - here.start
        ids, flip, mask = (np.concatenate(column) for column in zip(*parts, strict=True))
        return ids, flip, mask

    def _unpack(self, packed: Tensor) -> Tensor:
        size = self.pixels.shape[1]
        bits = (packed.unsqueeze(-1) >> self._shifts) & 1
        # Rows are packed to whole bytes, so the bits beyond size * size are padding.
        return bits.flatten(1)[:, : size * size].reshape(-1, 1, size, size).float()


def is_resident(num_bytes: int, compute: Compute) -> bool:
    """Return whether images and masks of ``num_bytes`` are kept on the device: where they take less than half of it.

    The answer does not depend on what this process has allocated, so that ``--batch auto`` can rely on it.
    """
    return compute.device.type == "cpu" or num_bytes < compute.available_bytes() / 2


def keep_resident(arrays: Sequence[NDArray[np.uint8]], compute: Compute) -> list[Tensor]:
    """Put arrays on the device if :func:`is_resident` says so, and return what must be held to keep them there."""
    if compute.device.type == "cpu" or not is_resident(sum(a.nbytes for a in arrays), compute):
        return []
    return [resident_copy(array, compute.device) for array in arrays]


#: Resident arrays by address, shape and device: all loaders of a process share one copy, as long as any of them lives.
_resident_copies: WeakValueDictionary[tuple[object, ...], Tensor] = WeakValueDictionary()
#: Bytes per copy: a large memory map is never read into memory whole.
_CHUNK_BYTES = 1 << 26


def resident_copy(array: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Return the copy of ``array`` on ``device``, made at the first call and shared while it is in use."""
    # The address identifies an array without hashing gigabytes.
    key = (array.__array_interface__["data"][0], array.shape, array.strides, device)
    copy = _resident_copies.get(key)
    if copy is None:
        copy = torch.empty(array.shape, dtype=torch.uint8, device=device)
        rows = max(1, _CHUNK_BYTES // max(1, array[0].nbytes))
        for start in range(0, len(array), rows):
            # Copied first: torch warns about memory maps, which are read-only, and a copy makes one
            # sequential read of the file.
            copy[start : start + rows].copy_(torch.from_numpy(np.array(array[start : start + rows])))
        _resident_copies[key] = copy
    return copy


Arrays = Iterable[NDArray[np.generic]]
Tensors = tuple[Tensor, ...]


def copy_to_device(arrays: Arrays, device: torch.device) -> Tensors:
    """Copy ``arrays`` to ``device``, from pinned memory to a GPU, so that the host does not wait."""
    tensors = tuple(torch.from_numpy(array) for array in arrays)
    if device.type != "cuda":
        return tensors
    # The allocator of pinned memory reuses a block only when the copy from it is done.
    return tuple(tensor.pin_memory().to(device, non_blocking=True) for tensor in tensors)


class Prefetcher:
    """Calls a function of the step one step ahead in a thread; on a GPU the copy has its own stream.

    Args:
        rows: step -> arrays; called by one thread only.
        device: where the arrays are needed.
    """

    def __init__(self, rows: Callable[[int], Arrays], device: torch.device) -> None:
        self._rows, self._device = rows, device
        self._thread = ThreadPoolExecutor(1, "prefetch")
        on_gpu = device.type == "cuda"
        self._stream = torch.cuda.Stream(device) if on_gpu else None  # type: ignore[no-untyped-call]
        self._ahead: tuple[int, Future[tuple[Tensors, torch.cuda.Event | None]]] | None = None

    def __call__(self, step: int) -> Tensors:
        """Return the arrays of ``step`` and start to fetch those of the next step."""
        if self._ahead and self._ahead[0] == step:
            future = self._ahead[1]
        else:  # the first step, or a jump
            future = self._thread.submit(self._send, step)
        tensors, sent = future.result()
        # Submitted only after the previous result was taken, so at most one batch is held beside that of the
        # current step.
        self._ahead = step + 1, self._thread.submit(self._send, step + 1)
        if sent is not None:
            stream = torch.cuda.current_stream(self._device)
            # The GPU waits, not the host: the step's kernels queue behind the copy.
            stream.wait_event(sent)
            for tensor in tensors:
                tensor.record_stream(stream)  # its memory is not reused before the step has read it
        return tensors

    def _send(self, step: int) -> tuple[Tensors, torch.cuda.Event | None]:
        rows = self._rows(step)
        if self._stream is None:
            return copy_to_device(rows, self._device), None
        with torch.cuda.stream(self._stream):
            return copy_to_device(rows, self._device), self._stream.record_event()
