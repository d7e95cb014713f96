"""Test sets for other programs: layouts, manifest, verification, and back again by the programs' own names."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.data.procedural_faces import render_faces
from bench.errors import UsageError
from bench.scoring.export_test_set import LAYOUTS, Layout, export_test_set, program_command
from bench.scoring.external_images import MatchedImages, match_images
from masks import folder as files
from masks import registry
from masks.mask_images import MaskFileError, mask_png

IDS = [f"{i:03d}.jpg" for i in range(20)]
IMAGES = render_faces(list(range(20)), 32)


def save(path: Path, mask: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((mask * 255).astype(np.uint8)).save(path)


def export(masks: np.ndarray, ids: list[str], folder: Path, settings: dict[str, object]) -> Path:
    return export_test_set(folder, ids, masks, settings)


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    target = tmp_path / "out"
    export(registry.draw_masks("freeform", IDS, 32), IDS, target, {"mask": "freeform"})
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


@pytest.mark.skipif(os.name != "posix", reason="the limit of a name is that of the file system")
@pytest.mark.parametrize("layout", ["plain", "lama", "mat"])
def test_a_name_that_a_layout_makes_too_long_is_named(tmp_path: Path, layout: str) -> None:
    longest = os.pathconf(tmp_path, "PC_NAME_MAX")
    ids = ["short.png", "é" * ((longest - 3) // 2) + ".jpeg"]
    masks = registry.draw_masks("center", ids, 32)
    with pytest.raises(UsageError, match="File name too long: éééé"):
        export_test_set(tmp_path / "out", ids, masks, {}, images=IMAGES[:2], layout=LAYOUTS[layout])
    assert list(tmp_path.iterdir()) == []


def test_an_export_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    masks, saved = registry.draw_masks("freeform", IDS, 32), []

    def full(self: Path, content: bytes) -> int:
        saved.append(self)
        if len(saved) == 7:
            raise OSError(28, "No space left on device")
        return write_bytes(self, content)

    write_bytes = Path.write_bytes
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UsageError, match="out: No space left on device"):
        export(masks, IDS, tmp_path / "out", {})
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    (tmp_path / "out").mkdir()
    export(masks, IDS, tmp_path / "out", {})  # an empty folder will do
    assert list(files.verify_export(tmp_path / "out")) == []


def test_an_export_overwrites_nothing(exported: Path) -> None:
    before = {p: p.read_bytes() for p in exported.iterdir()}
    with pytest.raises(UsageError, match="there are files already; give a new folder"):
        export(registry.draw_masks("center", IDS, 32), IDS, exported, {})
    assert {p: p.read_bytes() for p in exported.iterdir()} == before


def test_two_images_with_one_file_name_are_refused(tmp_path: Path) -> None:
    masks = registry.draw_masks("center", ["a", "b"], 32)
    with pytest.raises(UsageError, match=r"two images would have the mask file a\.png"):
        export(masks, ["a.jpg", "a.png"], tmp_path / "out", {})


def test_what_lies_among_exported_masks_is_named_and_not_read(tmp_path: Path) -> None:
    masks = registry.draw_masks("freeform", IDS, 32)
    export_test_set(tmp_path / "out", IDS, masks, {"mask": "freeform", "size": 32})
    (tmp_path / "out/mine.png").write_bytes((tmp_path / "out/000.png").read_bytes())
    (tmp_path / "out/._a.png").write_bytes(b"fork")
    with pytest.warns(files.UnusedFilesWarning, match=r"left out: \._a\.png|does not list it: mine\.png"):
        assert np.array_equal(registry.draw_masks(f"files:{tmp_path}/out", IDS, 32), masks)
    assert len(files.folder_notes(f"files:{tmp_path}/out", 32)) == 2


def _read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=str)
@pytest.mark.parametrize("nested", [False, True])
def test_every_layout_holds_truth_masked_images_and_masks(
    tmp_path: Path, layout: Layout, nested: bool
) -> None:
    ids = [f"a/{i}" if nested else i for i in IDS]
    masks = registry.draw_masks("freeform", ids, 32)
    out = tmp_path / "out"
    export_test_set(out, ids, masks, {"mask": "freeform", "size": 32}, images=IMAGES, layout=layout)
    assert list(files.verify_export(out)) == []
    manifest = json.loads((out / "manifest.json").read_text())
    for image_id, mask, image in zip(ids, masks, IMAGES, strict=True):
        names = manifest["images"][image_id]
        shown = mask if layout.hole == "white" else 1 - mask
        assert np.array_equal(_read(out / names["mask"]), shown * np.uint8(255))
        assert np.array_equal(_read(out / names["truth"]), image)
        masked = _read(out / names["masked"])
        assert np.array_equal(masked[mask == 0], image[mask == 0])
        assert (masked[mask == 1] == 128).all()  # the program never sees the truth
    # As a folder of masks it pairs by its manifest, and the program's results come back by their own names.
    assert np.array_equal(registry.draw_masks(f"files:{out}", ids, 32), masks)
    assert "manifest" in files.pairing_rule(f"files:{out}", ids, 32)
    # An image that it does not name gets no other image's mask.
    for parameter in ("", "?pair=name"):
        with pytest.raises(
            MaskFileError, match=rf"of {len(ids)} of {len(ids) + 1} images, and none for new\.jpg"
        ):
            registry.draw_masks(f"files:{out}{parameter}", [*ids, "new.jpg"], 32)
    results = tmp_path / "results"
    for image_id in ids:
        names = manifest["images"][image_id]
        # LaMa calls a result as its mask, the others as the image that they read.
        name = Path(names["mask"]).name if layout.name == "lama" else names["masked"].split("/", 1)[-1]
        (results / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(IMAGES[0]).save(results / name)
    findings = MatchedImages()
    assert sorted(match_images(results, ids, findings)) == sorted(ids)
    assert findings.missing == findings.extra == []
    command = program_command(layout, out, 32)
    assert "{" not in command
    assert str(out) in command


def test_a_changed_image_and_a_changed_mask_of_an_export_are_named(tmp_path: Path) -> None:
    masks = registry.draw_masks("freeform", IDS, 32)
    out = tmp_path / "out"
    export_test_set(out, IDS, masks, {}, images=IMAGES, layout=LAYOUTS["mat"])
    Image.fromarray(IMAGES[3]).save(out / "images" / "004.png")
    Image.fromarray((masks[3] * 255).astype(np.uint8)).save(out / "masks" / "005.png")
    problems = list(files.verify_export(out))
    assert problems == [
        "images/004.png: differs from the manifest",
        "masks/005.png: differs from the manifest",
    ]
    with pytest.raises(MaskFileError, match=r"005\.png: differs from the manifest"):
        registry.draw_masks(f"files:{out}", IDS, 32)


def test_the_diffusers_script_is_python(tmp_path: Path) -> None:
    export_test_set(
        tmp_path / "out",
        IDS,
        registry.draw_masks("center", IDS, 32),
        {},
        images=IMAGES,
        layout=LAYOUTS["diffusers"],
    )
    compile((tmp_path / "out" / "complete.py").read_text(), "complete.py", "exec")
    assert Image.open(io.BytesIO(mask_png(np.eye(4, dtype=np.uint8)))).mode == "L"
