"""Share one generator's weights as safetensors, with a card that describes it. No pickle, nothing executed.

A file holds the tensors of ``networks["generator"]`` and, in its header, the card as JSON: model, config, task,
digest of the tensors, and whatever the writer adds (data, metrics, license). Everything in a file is checked before it
is used; only models that are registered already, or given by ``models_from``, are ever built.

Examples:
    >>> inpaint = models.load_pretrained("mgs-iim.safetensors")  # doctest: +SKIP
    >>> filled = inpaint(image, mask)  # (N, 3, S, S) in [0, 1] and (N, 1, S, S), 1 = hole  # doctest: +SKIP
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor, nn

from models import discovery
from models.base import Batch, Box, InpaintingModel, Task
from models.errors import InvalidWeightsError, ModelError
from models.registry import ModelEntry

FORMAT = "inpaint-bench weights 1"
_HEADER_KEY = "inpaint_bench"
#: SHA-256 of the card's text; files of earlier versions have none.
_CHECKSUM_KEY = "inpaint_bench_sha256"
_SIZES = range(16, 1025)
#: Config fields of earlier versions -> their names today.
_RENAMED_FIELDS = {"mse_mean": "mse_reduction", "normalisation": "normalization"}


class PretrainedModel(nn.Module):
    """A generator ready to complete images, in evaluation mode, on the CPU until it is moved.

    Attributes:
        model: the model, with its generator only: it can complete, not train.
        card: description of the weights; the keys of :func:`weights_card`, and what the writer added.
    """

    def __init__(self, model: InpaintingModel, card: Mapping[str, Any]) -> None:
        super().__init__()
        for name in set(model.networks) - {"generator"}:
            del model.networks[name]
        self.generator = model.networks["generator"]
        self.model, self.card = model, dict(card)
        self._unused = torch.Generator()  # a batch carries one for losses, which are never computed here
        self.eval().requires_grad_(False)

    @property
    def size(self) -> int:
        """Side of the square images that it takes, in pixels."""
        return self.model.task.size

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Complete images; known pixels are returned bit for bit.

        Args:
            image: ``(N, 3, S, S)`` float32 in [0, 1]; pixels under the hole are not used.
            mask: ``(N, 1, S, S)`` float32, 1 = hole.
        """
        batch = Batch(image, mask, torch.arange(image.shape[0]), 0, self._unused)
        return self.model.complete(batch).composite


def build_pretrained(
    entry: ModelEntry, config: Any, task: Task, state: Mapping[str, Tensor], about: Mapping[str, Any]
) -> PretrainedModel:
    """Build the model of ``entry`` with the generator's weights ``state``; add ``about`` to its card.

    Raises:
        InvalidWeightsError: a training-free baseline, or weights that do not fit the model.
    """
    if not entry.model.trained:
        raise InvalidWeightsError(f"{entry.card.name} is a training-free baseline: it has no weights")
    # Completing needs no loss network, nor the weights that it would have to fetch.
    used = entry.model.completion_config(config)
    try:
        entry.model.validate(used, task.size)
        # Compare shapes on the meta device first: a wrong config must not allocate anything.
        with torch.device("meta"):
            expected = entry.model(used, task).networks["generator"].state_dict()
        _compare(expected, state)
        # Weights are drawn and overwritten at once; the caller's random numbers must not move for that.
        with torch.random.fork_rng(devices=[]):
            model = entry.model(used, task)
        model.networks["generator"].load_state_dict(dict(state))
    except (ModelError, RuntimeError, TypeError, ValueError, KeyError) as error:
        raise InvalidWeightsError(f"weights do not fit {entry.card.name}: {_first_line(error)}") from error
    return PretrainedModel(model, weights_card(entry, config, task, state) | dict(about))


def weights_card(entry: ModelEntry, config: Any, task: Task, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the part of a card that loading needs."""
    return {
        "format": FORMAT,
        "model": entry.card.name,
        "label": f"{entry.card.label} {entry.model.label_suffix(config, task)}".strip(),
        "config": dataclasses.asdict(config),
        "task": {
            "size": task.size,
            "fixed_hole_box": None if task.fixed_hole_box is None else list(task.fixed_hole_box),
            "mean_pixel": list(task.mean_pixel),
        },
        "parameters": sum(t.numel() for t in state.values() if t.is_floating_point()),
        "digest": tensors_digest(state),
    }


def save_pretrained(pretrained: PretrainedModel, path: Path) -> None:
    """Write the generator and the card to ``path``."""
    tensors = {name: t.detach().cpu().contiguous() for name, t in pretrained.generator.state_dict().items()}
    # Not by save_file, whose file only its owner may read.
    text = json.dumps(pretrained.card)
    metadata = {_HEADER_KEY: text, _CHECKSUM_KEY: hashlib.sha256(text.encode()).hexdigest()}
    path.write_bytes(serialize(tensors, metadata=metadata))


def load_pretrained(path: str | Path, models_from: Sequence[str | Path] = ()) -> PretrainedModel:
    """Read weights that :func:`save_pretrained` (``bench export-weights``) wrote.

    Args:
        path: a ``.safetensors`` file.
        models_from: Python files with models of your own, if the weights are of one of these.

    Raises:
        InvalidWeightsError: not such a file, damaged, of another version, or not fitting the model it names.
        UnknownModelError: of a model that is not known here.
        InvalidModelError: a path in ``models_from`` is empty, or holds no model.
    """
    path, files = Path(path), discovery.user_paths(models_from)
    try:
        about, state = _read(path)
        entry, config, task = _described(about, files)
        loaded = build_pretrained(entry, config, task, state, about)
    except InvalidWeightsError as error:
        raise InvalidWeightsError(f"{path}: {error}") from error
    return loaded


def tensors_digest(state: Mapping[str, Tensor]) -> str:
    """Compute the hex SHA-256 of names, types, shapes and bytes of all tensors, in the order of names."""
    hashed = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        hashed.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        # As bytes, since NumPy has no bfloat16.
        hashed.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return hashed.hexdigest()


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read card and tensors of a file; check the digest, and that every number is finite."""
    if not path.is_file():
        raise InvalidWeightsError("no such file")
    try:
        with path.open("rb") as opened, safe_open(_utf8(path, opened), framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            header = metadata.get(_HEADER_KEY)
            if header is None:
                raise InvalidWeightsError("safetensors, but not written by 'bench export-weights'")
            if (
                metadata.get(_CHECKSUM_KEY, checksum := hashlib.sha256(header.encode()).hexdigest())
                != checksum
            ):
                raise InvalidWeightsError("damaged: its card does not match its checksum; download it again")
            about = json.loads(header)
            if not isinstance(about, dict) or about.get("format") != FORMAT:
                found = about.get("format") if isinstance(about, dict) else None
                raise InvalidWeightsError(f"format {found!r}, this version reads {FORMAT!r}")
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        if isinstance(error, InvalidWeightsError):
            raise
        raise InvalidWeightsError(
            f"not readable as safetensors ({_first_line(error)}); give a file written by 'bench export-weights'"
        ) from error
    if tensors_digest(state) != about.get("digest"):
        raise InvalidWeightsError(
            "damaged: its tensors do not match the digest in its card; download it again"
        )
    # A digest shows that the file is what was written, not that what was written is of use.
    if not all(bool(t.isfinite().all()) for t in state.values() if t.is_floating_point()):
        raise InvalidWeightsError("holds numbers that are not finite")
    return about, state


def _utf8(path: Path, opened: BinaryIO) -> Path | str:
    """Return a name of an open file that is UTF-8, which safetensors needs; systems with other names have /dev/fd."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return f"/dev/fd/{opened.fileno()}"
    return path


def _described(about: Mapping[str, Any], models_from: Sequence[Path]) -> tuple[ModelEntry, Any, Task]:
    """Load the model and build the config and the task that a card names, checking each value."""
    name, fields, task = about.get("model"), about.get("config"), about.get("task")
    if not isinstance(name, str) or not isinstance(fields, dict) or not isinstance(task, dict):
        raise InvalidWeightsError("its card lacks model, config or task")
    entry = discovery.load_model(name, models_from)
    fields = restore_fields(fields)
    known = {f.name for f in dataclasses.fields(entry.model.Config)}
    if unknown := sorted(map(str, set(fields) - known)):
        raise InvalidWeightsError(f"{name} has no option {unknown[0]!r}; the file may be of a newer version")
    try:
        config = entry.model.Config(**fields)
    except (TypeError, ValueError) as error:
        raise InvalidWeightsError(f"its card's config is not one of {name}: {_first_line(error)}") from error
    size, box, mean = task.get("size"), task.get("fixed_hole_box"), task.get("mean_pixel")
    # A card is somebody else's text. type() rather than isinstance, since True is an int.
    if type(size) is not int or size not in _SIZES:
        raise InvalidWeightsError(f"its card says size {size!r}, not a side in pixels")
    if box is not None and not (isinstance(box, list) and len(box) == 4 and all(type(v) is int for v in box)):
        raise InvalidWeightsError(f"its card says fixed_hole_box {box!r}, not four numbers")
    if not (
        isinstance(mean, list)
        and len(mean) == 3
        and all(type(v) in (int, float) and math.isfinite(v) for v in mean)
    ):
        raise InvalidWeightsError(f"its card says mean_pixel {mean!r}, not three numbers")
    hole = None if box is None else Box(*box)
    return entry, config, Task(size=size, fixed_hole_box=hole, mean_pixel=(mean[0], mean[1], mean[2]))


def _compare(expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Raise for the first tensor that is missing, unknown, or of another shape or type."""
    for name in sorted(set(expected) | set(state)):
        if name not in state or name not in expected:
            raise InvalidWeightsError(f"tensor {name!r} is {'missing' if name in expected else 'unknown'}")
        want, have = expected[name], state[name]
        if want.shape != have.shape or want.dtype != have.dtype:
            raise InvalidWeightsError(
                f"tensor {name!r} is {have.dtype} {tuple(have.shape)}, not {want.dtype} {tuple(want.shape)}"
            )


def restore_fields(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a stored config to fields of today: JSON's lists to tuples, and renamed fields to their new names.

    Examples:
        >>> restore_fields({"betas": [0.5, 0.999], "mse_mean": "image"})
        {'betas': (0.5, 0.999), 'mse_reduction': 'image'}
    """
    return {_RENAMED_FIELDS.get(name, name): as_tuples(value) for name, value in stored.items()}


def as_tuples(value: Any) -> Any:
    """Convert JSON's lists to the tuples that configs hold.

    Examples:
        >>> as_tuples([[0.5, 0.999], 3])
        ((0.5, 0.999), 3)
    """
    return tuple(as_tuples(v) for v in value) if isinstance(value, list) else value


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
