"""Rows of arrays too large for the device, on it before the step that needs them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Arrays = Iterable[NDArray[np.generic]]
Tensors = tuple[Tensor, ...]


def send(arrays: Arrays, device: torch.device) -> Tensors:
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
            return send(rows, self._device), None
        with torch.cuda.stream(self._stream):
            return send(rows, self._device), self._stream.record_event()
