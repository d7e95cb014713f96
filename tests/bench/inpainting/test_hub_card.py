"""The card for the Hugging Face Hub: front matter with the Hub's fields, numbers that are the cells' means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.errors import UsageError
from bench.inpainting.hub_card import ExportedWeights, hub_card, write_hub_card

METRICS: dict[str, Any] = {
    "psnr_db": {"heading": "PSNR", "unit": "dB", "digits": 2, "higher_is_better": True, "group": "primary"},
    "ssim": {"heading": "SSIM", "digits": 4, "higher_is_better": True, "group": "primary"},
    "hole_mae": {"heading": "hole MAE", "digits": 4, "higher_is_better": False, "convention": "in the hole"},
}


def manifest(**data: Any) -> dict[str, Any]:
    about = {
        "name": "celeba",
        "title": "CelebA",
        "procedural": False,
        "licence": "research: only\nno sharing",
    }
    about |= {"train": 162_770, "split": "official", "fingerprint": "abc123"}
    return {"experiment": "mine", "metrics": METRICS, "data": about | data}


def weights(label: str = "MGS-IIM", seed: int = 0, images_seen: int = 3_600_000) -> ExportedWeights:
    training = {"train_mask": "center", "seed": seed, "images_seen": images_seen, "preset": "paper"}
    training |= {"track": "faithful", "crop": "center", "batch_size": 96, "precision": "fp32"}
    card = {
        "model": label.lower(),
        "label": label,
        "paper": 'Jiao et al., 2022: a "paper", https://example.org',
        "task": {"size": 160},
        "parameters": 1_234_567,
        "training": training,
        "metrics": {"center": {"images": 1500, "psnr_db": 24.791234, "hole_mae": 0.05}},
        "licence": "Learnt from CelebA.",
    }
    return ExportedWeights(Path(f"{label.lower()}-center-seed{seed}.safetensors"), card)


def parts(text: str) -> tuple[dict[str, Any], str]:
    """Return the front matter, parsed, and what follows it."""
    before, header, body = text.split("---\n", 2)
    assert before == ""
    return yaml.safe_load(header), body


def test_the_front_matter_has_what_the_hub_reads() -> None:
    header, body = parts(hub_card([weights(), weights("GLCIC", 1)], manifest(), form="safetensors"))
    assert header["license"] == "other"
    assert header["license_name"] == "terms-of-celeba"
    assert header["library_name"] == "inpaint-bench"
    assert header["pipeline_tag"] == "image-to-image"
    assert header["tags"] == ["image-inpainting", "inpaint-bench", "mgs-iim", "glcic"]
    assert header["datasets"] == ["celeba"]
    assert header["metrics"] == ["psnr"]
    first, second = header["model-index"]
    assert second["name"] == "GLCIC, trained on center, seed 1"
    (result,) = first["results"]
    assert result["task"]["type"] == "image-to-image"
    assert result["dataset"] == {"type": "celeba", "name": "CelebA, 160 px, mask center"}
    values = {metric["type"]: metric["value"] for metric in result["metrics"]}
    assert values == {"psnr": 24.791234, "hole_mae": 0.05}
    # No column for SSIM, which was not measured.
    assert "| MGS-IIM | 0 | center | 24.79 | 0.0500 |" in body
    assert "models.load_pretrained('mgs-iim-center-seed0.safetensors')" in body
    assert body.count("Jiao et al.") == 1
    assert "far too few" not in body


def test_weights_from_procedural_faces_are_free_and_say_what_they_are_good_for() -> None:
    faces = manifest(
        name="faces", title="procedural faces", procedural=True, licence="Drawn by this program."
    )
    header, body = parts(hub_card([weights(images_seen=1600)], faces, form="onnx"))
    assert (header["license"], "license_name" in header) == ("mit", False)
    assert header["datasets"] == ["inpaint-bench-procedural-faces"]
    assert "1,600 images seen: far too few" in body
    assert "ONNX Runtime" in body


@pytest.mark.parametrize("name", ["yes", "a: b", "- x", "'#\n", '\u2028\U0001f600 \\ "', "|", "*"])
def test_no_name_breaks_the_front_matter(name: str) -> None:
    header, _ = parts(hub_card([weights(name)], manifest(name=name, title=name), form="safetensors"))
    assert header["tags"][2] == name.lower()
    assert header["model-index"][0]["name"] == f"{name}, trained on center, seed 0"
    assert header["model-index"][0]["results"][0]["dataset"]["name"] == f"{name}, 160 px, mask center"
    assert all(c.isalnum() or c == "-" for c in header["datasets"][0])


def test_only_a_card_of_this_program_is_replaced(tmp_path: Path) -> None:
    path = write_hub_card(tmp_path, [weights()], manifest(), form="safetensors")
    assert write_hub_card(tmp_path, [weights(seed=2)], manifest(), form="safetensors") == path
    assert "seed 2" in path.read_text(encoding="utf-8")
    path.write_text("# My project\n")
    with pytest.raises(UsageError, match=r"README\.md is not a card of this program"):
        write_hub_card(tmp_path, [weights()], manifest(), form="safetensors")
    assert path.read_text() == "# My project\n"
