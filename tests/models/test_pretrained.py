"""Shared weights: what is written is what is read, and nothing else is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

import models
from models import discovery, export, pretrained
from models.base import Box, Task
from models.errors import InvalidWeightsError, ModelError

PAPER = ("context-encoder", "glcic", "pconv", "mgs-iim")
MODERN = ("deepfillv2", "lama-fourier")


def make(name: str, **changes: Any) -> pretrained.PretrainedModel:
    entry = discovery.load_model(name)
    config = entry.config("smoke", **changes)
    task = Task(size=64, fixed_hole_box=Box(16, 16, 32, 32), mean_pixel=(0.5, 0.4, 0.3))
    torch.manual_seed(1)
    state = entry.model(entry.model.completion_config(config), task).networks["generator"].state_dict()
    return pretrained.build_pretrained(entry, config, task, state, {"note": "a test"})


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "mgs-iim.safetensors"
    pretrained.save_pretrained(make("mgs-iim"), path)
    return path


@pytest.mark.parametrize("name", [*PAPER, *MODERN])
def test_what_is_written_computes_the_same_pictures(name: str, tmp_path: Path) -> None:
    assert export.write_exported(make(name), tmp_path / "weights", "safetensors") == 0
    loaded = models.load_pretrained(tmp_path / "weights")
    assert loaded.card["note"] == "a test"
    assert loaded.size == 64
    image, mask = torch.rand(2, 3, 64, 64), torch.zeros(2, 1, 64, 64)
    mask[..., 16:48, 16:48] = 1
    filled = loaded(image, mask)
    assert torch.equal(torch.where(mask > 0.5, 0, filled), torch.where(mask > 0.5, 0, image))


def test_losses_and_their_weights_are_not_needed_to_complete() -> None:
    loaded = make("pconv", vgg_losses="required")
    assert "vgg16" not in loaded.model.frozen
    assert loaded.card["label"] == "PConv"


@pytest.mark.long
@pytest.mark.parametrize("name", [*PAPER, *MODERN])
def test_torch_export_computes_the_same_pictures(name: str, tmp_path: Path) -> None:
    assert export.write_exported(make(name), tmp_path / "net.pt2", "torch-export") <= export.TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("name", PAPER)
def test_onnx_computes_the_same_pictures(name: str, tmp_path: Path) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    assert export.write_exported(make(name), tmp_path / "net.onnx", "onnx") <= export.TOLERANCE


def test_an_export_that_computes_something_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "_reader", lambda *_: lambda image, mask: image * 0)
    with pytest.raises(InvalidWeightsError, match="computes other images than the model"):
        export.write_exported(make("glcic"), tmp_path / "net.pt2", "safetensors")


def tensors_and_card(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    card, state = pretrained._read(path)
    return state, card


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c, t: c.update(format="something 7"), "format 'something 7', this version reads"),
        (lambda c, t: c.update(model="mgs-imm"), "did you mean 'mgs-iim'"),
        (lambda c, t: c.update(model=7), "lacks model, config or task"),
        (lambda c, t: c["config"].update(width=1.0), "of newer|do not fit|not .*128"),
        (lambda c, t: c["config"].update(width="wide"), "config is not one of mgs-iim"),
        (lambda c, t: c["config"].update(evil=1), "has no option 'evil'"),
        (lambda c, t: c["task"].update(size=10**9), "not a side in pixels"),
        (lambda c, t: c["task"].update(mean_pixel=["a"]), "not three numbers"),
        (lambda c, t: c["task"].update(fixed_hole_box=[1]), "not four numbers"),
        (lambda c, t: t["output.weight"].mul_(2), "do not match the digest"),
        (lambda c, t: c.update(digest=0), "do not match the digest"),
    ],
)
def test_a_changed_file_is_refused_in_one_line(
    written: Path, tmp_path: Path, change: Any, message: str
) -> None:
    tensors, card = tensors_and_card(written)
    change(card, tensors)
    path = tmp_path / "changed.safetensors"
    save_file(tensors, path, metadata={"inpaint_bench": json.dumps(card)})
    with pytest.raises(ModelError, match=message) as caught:
        models.load_pretrained(path)
    assert "\n" not in str(caught.value)


def test_numbers_that_are_not_finite_are_refused(written: Path, tmp_path: Path) -> None:
    tensors, card = tensors_and_card(written)
    tensors["output.weight"][0] = float("nan")
    card["digest"] = pretrained.tensors_digest(tensors)
    save_file(tensors, tmp_path / "nan", metadata={"inpaint_bench": json.dumps(card)})
    with pytest.raises(InvalidWeightsError, match="not finite"):
        models.load_pretrained(tmp_path / "nan")


@pytest.mark.parametrize("content", [b"", b"\x80\x04K*.", b"PK\x03\x04", b"\xff" * 64, b"{}" * 40])
def test_foreign_files_are_refused_and_pickles_never_opened(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "foreign.safetensors"
    path.write_bytes(content)
    with pytest.raises(InvalidWeightsError, match="not readable as safetensors"):
        models.load_pretrained(path)


def test_other_peoples_safetensors_and_missing_files_are_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(InvalidWeightsError, match="not written by 'bench export-weights'"):
        models.load_pretrained(tmp_path / "other.safetensors")
    with pytest.raises(InvalidWeightsError, match="no such file"):
        models.load_pretrained(tmp_path / "none.safetensors")


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_damaged_file_never_loads(written: Path, tmp_path_factory: Any, data: st.DataObject) -> None:
    """A byte of the tensors, or of the header, changed; or the file cut short."""
    content = bytearray(written.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        content[data.draw(st.integers(start, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path = written.with_name("damaged.safetensors")
    path.write_bytes(content)
    with pytest.raises(InvalidWeightsError):
        models.load_pretrained(path)
