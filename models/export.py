"""Export pretrained generators and check the files: safetensors, ``torch.export`` (``.pt2``) and ONNX.

The latter two hold one function ``(image, mask) -> composite`` with the conventions of :mod:`models.base`, a fixed side
and any number of images; reading them needs nothing of this package.
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from models import discovery
from models.errors import InvalidWeightsError, MissingPackageError
from models.pretrained import PretrainedModel, load_pretrained, save_pretrained

#: Largest difference to the original that counts as equal, in units of [0, 1]: a twentieth of one of 255 levels.
TOLERANCE = 2e-4
#: ``--format`` -> file suffix.
SUFFIXES = {"safetensors": ".safetensors", "torch-export": ".pt2", "onnx": ".onnx"}
_INPUTS = ["image", "mask"]


def write_exported(pretrained: PretrainedModel, path: Path, form: str) -> float:
    """Write ``path`` in one of the formats of :data:`SUFFIXES`, read it back, and compare on random images.

    Returns:
        The largest difference found: zero for safetensors, at most :data:`TOLERANCE` for the others.

    Raises:
        MissingPackageError: ONNX without its packages.
        InvalidWeightsError: the model cannot be exported, or the file computes something else.
    """
    require_onnx(form)
    side = pretrained.size
    try:
        with _quiet():
            if form == "safetensors":
                save_pretrained(pretrained, path)
            else:
                _export(pretrained, path, form)
            run = _reader(pretrained, path, form)
    except OSError:
        raise
    except Exception as error:  # exporters raise exceptions of any type
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InvalidWeightsError(
            f"{pretrained.card['model']} cannot be written as {form}: {reason}"
        ) from error
    worst = 0.0
    with torch.inference_mode():
        # Neither is the batch size of the export, which a faulty exporter bakes into the file.
        for count in (1, 3):
            image, mask = _random_images(count, side)
            worst = max(worst, float((run(image, mask) - pretrained(image, mask)).abs().max()))
    allowed = 0.0 if form == "safetensors" else TOLERANCE
    # Written so that NaN, which is not at most anything, is refused.
    if not worst <= allowed:
        raise InvalidWeightsError(
            f"{path}: computes other images than the model (difference {worst:.2g}, allowed {allowed})"
        )
    return worst


def require_onnx(form: str) -> None:
    """Raise :class:`models.errors.MissingPackageError` if a package that ``form`` needs is not installed."""
    if form == "onnx":
        for package in ("onnx", "onnxscript", "onnxruntime"):
            if importlib.util.find_spec(package) is None:
                raise MissingPackageError(f"--format onnx needs {package}: pip install 'inpaint-bench[onnx]'")


def _export(pretrained: PretrainedModel, path: Path, form: str) -> None:
    count = torch.export.Dim("n")
    # Two images: torch.export takes a dimension of one for a constant.
    program = torch.export.export(
        pretrained, _random_images(2, pretrained.size), dynamic_shapes=({0: count}, {0: count})
    )
    if form == "torch-export":
        with path.open("wb") as file:
            torch.export.save(program, file)
        return
    exported = torch.onnx.export(
        program, input_names=_INPUTS, output_names=["composite"], dynamo=True, verbose=False
    )
    assert exported is not None
    exported.save(str(path), external_data=False)


def _reader(pretrained: PretrainedModel, path: Path, form: str) -> Callable[[Tensor, Tensor], Tensor]:
    """Read the file back as a function."""
    if form == "safetensors":
        source = inspect.getfile(type(pretrained.model))
        return load_pretrained(path, () if pretrained.card["model"] in discovery.find_models() else (source,))
    if form == "torch-export":
        with path.open("rb") as file:
            return torch.export.load(file).module()
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(image: Tensor, mask: Tensor) -> Tensor:
        (filled,) = session.run(None, dict(zip(_INPUTS, (image.numpy(), mask.numpy()), strict=True)))
        return torch.from_numpy(filled)

    return run


def _random_images(count: int, side: int) -> tuple[Tensor, Tensor]:
    """Return noise with the center hole, which every model can complete; always the same."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.zeros(count, 1, side, side)
    mask[:, :, side // 4 : side // 4 + side // 2, side // 4 : side // 4 + side // 2] = 1.0
    return torch.rand(count, 3, side, side, generator=generator), mask


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporters' own messages, on which a user cannot act; the written file is checked instead."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
