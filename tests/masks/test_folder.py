"""Mask images: a user's folder, export and verification."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from masks import folder as files
from masks import registry
from masks.folder import MaskFileError, PolarityWarning

IDS = [f"{i:03d}.jpg" for i in range(20)]


def save(path: Path, mask: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((mask * 255).astype(np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i, mask in enumerate(registry.draw_masks("shapes", ["a", "b", "c"], 32)):
        save(tmp_path / f"{i}.png", mask)
    return tmp_path


def test_masks_are_assigned_by_image_id(folder: Path) -> None:
    name = f"files:{folder}"
    masks = registry.draw_masks(name, IDS, 32)
    pool = {np.asarray(Image.open(p)).tobytes() for p in folder.glob("*.png")}
    assert {(m * 255).astype(np.uint8).tobytes() for m in masks} == pool
    assert np.array_equal(registry.draw_masks(name, IDS[5:9], 32), masks[5:9])
    assert registry.fixed_hole_box(name, 32) is None


def test_content_enters_the_digest(folder: Path) -> None:
    name = f"files:{folder}"
    before = registry.mask_content_digest(name, 32)
    save(folder / "0.png", registry.draw_masks("half", ["x"], 32)[0])
    os.utime(folder / "0.png", ns=(1, 1))
    files.load_folder.cache_clear()
    assert registry.mask_content_digest(name, 32) != before
    assert registry.mask_content_digest("center", 32) == ""


def test_other_sizes_are_refused_unless_resized(folder: Path) -> None:
    with pytest.raises(MaskFileError, match="32 x 32 pixels, needs 64 x 64; give --resize-masks nearest"):
        registry.draw_masks(f"files:{folder}", IDS, 64)
    masks = registry.draw_masks(f"files:{folder}?resize=nearest", IDS, 64)
    assert np.array_equal(masks[:, ::2, ::2], registry.draw_masks(f"files:{folder}", IDS, 32))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (np.zeros((32, 32)), "no hole"),
        (np.ones((32, 32)), "all hole"),
        (np.linspace(0, 1, 32 * 32).reshape(32, 32), "grey values; a mask must be binary"),
    ],
)
def test_what_is_no_mask_is_refused_by_name(tmp_path: Path, values: np.ndarray, says: str) -> None:
    save(tmp_path / "bad.png", values)
    with pytest.raises(MaskFileError, match=f"bad.png: .*{says}"):
        registry.draw_masks(f"files:{tmp_path}", IDS, 32)


def test_missing_empty_and_broken_folders(tmp_path: Path) -> None:
    with pytest.raises(MaskFileError, match="no such folder"):
        registry.draw_masks(f"files:{tmp_path}/none", IDS, 32)
    with pytest.raises(MaskFileError, match="holds no images"):
        registry.draw_masks(f"files:{tmp_path}", IDS, 32)
    (tmp_path / "x.png").write_bytes(b"not a picture")
    with pytest.raises(MaskFileError, match=r"x\.png: not readable as an image"):
        registry.draw_masks(f"files:{tmp_path}", IDS, 32)


def test_inverted_masks_are_warned_about(tmp_path: Path) -> None:
    for i, mask in enumerate(registry.draw_masks("shapes", ["a", "b", "c"], 32)):
        save(tmp_path / f"{i}.png", 1 - mask)
    with pytest.warns(PolarityWarning, match="may be inverted"):
        registry.draw_masks(f"files:{tmp_path}", IDS, 32)


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    target = tmp_path / "out"
    files.export_masks(registry.draw_masks("freeform", IDS, 32), IDS, target, {"mask": "freeform"})
    return target


def test_an_export_is_what_it_was(exported: Path) -> None:
    assert list(files.verify_export(exported)) == []
    for image_id, mask in zip(IDS, registry.draw_masks("freeform", IDS, 32), strict=True):
        assert np.array_equal(files.read_mask(exported / files.mask_image_name(image_id), 32), mask)


def test_tampering_is_found(exported: Path) -> None:
    (exported / "000.png").unlink()
    save(exported / "001.png", registry.draw_masks("half", ["x"], 32)[0])
    save(exported / "new.png", registry.draw_masks("half", ["x"], 32)[0])
    problems = list(files.verify_export(exported))
    assert problems == [
        "000.png: missing",
        "001.png: differs from the manifest",
        "new.png: not in the manifest",
    ]


def test_any_file_that_is_not_of_the_export_is_named(exported: Path) -> None:
    (exported / "notes.txt").write_text("mine")
    (exported / "sub").mkdir()
    (exported / "sub" / "x.jpg").write_bytes(b"")
    assert list(files.verify_export(exported)) == [
        "notes.txt: not in the manifest",
        "sub/x.jpg: not in the manifest",
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [('"mask": "freeform"', '"mask": "center"'), ('"digest": "', '"digest": "0'), ('"000.png"', '"xyz.png"')],
)
def test_a_changed_manifest_is_found(exported: Path, old: str, new: str) -> None:
    path = exported / files.MANIFEST
    text = path.read_text()
    path.write_text(text.replace(old, new, 1))
    assert path.read_text() != text
    assert "manifest.json: is not what was written" in list(files.verify_export(exported))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": {}}', '{"files": 3, "digest": ""}'])
def test_a_manifest_that_is_none_is_refused(exported: Path, text: str) -> None:
    (exported / files.MANIFEST).write_text(text)
    with pytest.raises(MaskFileError, match="not readable as a manifest of masks"):
        list(files.verify_export(exported))


def test_an_export_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    masks, saved = registry.draw_masks("freeform", IDS, 32), []

    def full(self: Image.Image, path: Path) -> None:
        saved.append(path)
        if len(saved) == 7:
            raise OSError(28, "No space left on device")
        save_picture(self, path)

    save_picture = Image.Image.save
    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(MaskFileError, match="out: No space left on device"):
        files.export_masks(masks, IDS, tmp_path / "out", {})
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    (tmp_path / "out").mkdir()
    files.export_masks(masks, IDS, tmp_path / "out", {})  # an empty folder will do
    assert list(files.verify_export(tmp_path / "out")) == []


def test_an_export_overwrites_nothing(exported: Path) -> None:
    before = {p: p.read_bytes() for p in exported.iterdir()}
    with pytest.raises(MaskFileError, match="there are files already; give a new folder"):
        files.export_masks(registry.draw_masks("center", IDS, 32), IDS, exported, {})
    assert {p: p.read_bytes() for p in exported.iterdir()} == before


def test_two_images_with_one_file_name_are_refused(tmp_path: Path) -> None:
    masks = registry.draw_masks("center", ["a", "b"], 32)
    with pytest.raises(MaskFileError, match=r"two images would have the mask file a\.png"):
        files.export_masks(masks, ["a.jpg", "a.png"], tmp_path / "out", {})


@pytest.mark.parametrize("image_id", ["../x.png", "/etc/x.png", "a/../../x.png", "..\\x.png", ""])
def test_no_id_leaves_the_folder(image_id: str) -> None:
    with pytest.raises(MaskFileError, match="no path below a folder"):
        files.mask_image_name(image_id)


def test_the_preview_is_a_picture(tmp_path: Path) -> None:
    rows = [(name, registry.draw_masks(name, IDS[:3], 32)) for name in ("center", "shapes")]
    files.mask_sheet(rows, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size[0] > 3 * 32
        assert (np.asarray(sheet) == 255).any()
