"""Mask images: a user's folder, export and verification."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from masks import folder as files
from masks import registry
from masks.file_names import escape_name
from masks.folder import PolarityWarning, UnusedFilesWarning
from masks.mask_images import MaskFileError, MaskReading, digest_pixels, mask_preview, read_mask

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
        (
            np.linspace(0, 1, 32 * 32).reshape(32, 32),
            "gray values, so its edges are smoothed; a mask must be binary",
        ),
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


@pytest.mark.parametrize("image_id", ["../x.png", "/etc/x.png", "a/../../x.png", "..\\x.png", ""])
def test_no_id_leaves_the_folder(image_id: str) -> None:
    with pytest.raises(MaskFileError, match="no path below a folder"):
        files.mask_image_name(image_id)


def test_the_preview_is_a_picture(tmp_path: Path) -> None:
    rows = [(name, registry.draw_masks(name, IDS[:3], 32)) for name in ("center", "shapes")]
    (tmp_path / "sheet.png").write_bytes(mask_preview(rows))
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size[0] > 3 * 32
        assert (np.asarray(sheet) == 255).any()


def _write(path: Path, values: np.ndarray, mode: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values, mode).save(path)


def test_unknown_parameters_are_refused_and_known_ones_work(folder: Path) -> None:
    plain = registry.draw_masks(f"files:{folder}", IDS, 32)
    (folder / "inverted").mkdir()
    for i, mask in enumerate(registry.draw_masks("shapes", ["a", "b", "c"], 32)):
        save(folder / "inverted" / f"{i}.png", 1 - mask)
    assert np.array_equal(registry.draw_masks(f"files:{folder}/inverted?invert", IDS, 32), plain)
    for wrong in (
        "invrt",
        "resize=bilinear",
        "threshold=0",
        "threshold=256",
        "threshold=0100000",
        "threshold=x",
        "pair=id",
        "invert=no",
    ):
        with pytest.raises(MaskFileError, match=f"unknown parameter '{wrong}'; there are resize=nearest"):
            registry.resolve_masks([f"files:{folder}?{wrong}"])


@pytest.mark.parametrize(
    ("low", "high", "says"),
    [
        (0, 128, "the two gray values 0 and 128"),
        (10, 250, "the two gray values 10 and 250"),
        (77, 77, "one gray value"),
    ],
)
def test_two_values_that_are_not_black_and_white(tmp_path: Path, low: int, high: int, says: str) -> None:
    mask = registry.draw_masks("shapes", ["a"], 32)[0]
    _write(tmp_path / "x.png", np.where(mask == 1, high, low).astype(np.uint8))
    with pytest.raises(MaskFileError, match=rf"x\.png: {says}.*threshold=128"):
        registry.draw_masks(f"files:{tmp_path}", IDS, 32)
    if low != high:
        read = registry.draw_masks(f"files:{tmp_path}?threshold=100", IDS[:1], 32)[0]
        assert np.array_equal(read, mask)


@pytest.mark.parametrize("blur", [1, 3])
def test_smoothed_masks_name_the_remedy(tmp_path: Path, blur: int) -> None:
    mask = registry.draw_masks("center", ["a"], 32)[0] * np.uint8(255)
    smooth = Image.fromarray(mask).resize((32 * blur + 1,) * 2).resize((32, 32), Image.Resampling.BICUBIC)
    smooth.save(tmp_path / "x.png")
    smooth.save(tmp_path / "y.jpg")
    for name, says in (("x.png", "smoothed"), ("y.jpg", "JPEG blurs edges")):
        with pytest.raises(MaskFileError, match=rf"{name}: \d+ gray values.*{says}"):
            read_mask(tmp_path / name, 32)
    assert read_mask(tmp_path / "x.png", 32, MaskReading(threshold=128)).any()


@pytest.mark.parametrize("rgb", [0, 255, None])
def test_a_mask_in_the_alpha_channel_is_not_read_as_black(tmp_path: Path, rgb: int | None) -> None:
    mask = registry.draw_masks("center", ["a"], 32)[0] * np.uint8(255)
    color = np.full((32, 32, 3), rgb, np.uint8) if rgb is not None else np.stack([mask] * 3, axis=-1)
    _write(tmp_path / "x.png", np.dstack([color, mask]))
    with pytest.raises(MaskFileError, match=r"alpha channel.*without transparency"):
        read_mask(tmp_path / "x.png")
    _write(tmp_path / "opaque.png", np.dstack([np.stack([mask] * 3, axis=-1), np.full_like(mask, 255)]))
    assert np.array_equal(read_mask(tmp_path / "opaque.png") * np.uint8(255), mask)


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_masks_with_more_than_8_bits_are_refused_by_mode(tmp_path: Path, mode: str) -> None:
    kind = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
    Image.fromarray((registry.draw_masks("center", ["a"], 32)[0]).astype(kind)).save(tmp_path / "x.tiff")
    with pytest.raises(MaskFileError, match=r"x\.tiff: mode .*8 bits"):
        read_mask(tmp_path / "x.tiff")


def test_oblong_masks_are_not_stretched_unasked(tmp_path: Path) -> None:
    wide = np.zeros((32, 64), np.uint8)
    wide[8:20, 10:30] = 255
    _write(tmp_path / "x.png", wide)
    with pytest.raises(
        MaskFileError, match=r"64 x 32 pixels.*not square: crop it, or give --resize-masks stretch"
    ):
        registry.draw_masks(f"files:{tmp_path}?resize=nearest", IDS, 32)
    stretched = registry.draw_masks(f"files:{tmp_path}?resize=stretch", IDS[:1], 32)[0]
    assert np.array_equal(stretched, (wide[:, ::2] > 0).astype(np.uint8))


@pytest.mark.parametrize("place", ["", "deep/er", "other"])
def test_masks_are_paired_by_name_where_every_image_has_one(tmp_path: Path, place: str) -> None:
    drawn = registry.draw_masks("freeform", IDS, 32)
    for image_id, mask in zip(IDS, drawn, strict=True):
        save(tmp_path / place / f"{image_id.removesuffix('.jpg')}.png", mask)
    ids = IDS if place != "deep/er" else [f"deep/er/{i}" for i in IDS]
    name = f"files:{tmp_path}"
    assert np.array_equal(registry.draw_masks(name, ids, 32), drawn)
    assert np.array_equal(registry.draw_masks(name, ids[::-3], 32), drawn[::-3])
    assert files.pairing_rule(name, ids, 32).endswith("each image gets the mask of its name")
    by_digest = registry.draw_masks(f"{name}?pair=digest", ids, 32)
    assert not np.array_equal(by_digest, drawn)
    assert "chosen by a digest" in files.pairing_rule(f"{name}?pair=digest", ids, 32)


def test_masks_for_some_images_only_are_an_error_that_names_one(tmp_path: Path) -> None:
    for image_id in IDS[:7]:
        save(tmp_path / image_id.replace(".jpg", ".png"), registry.draw_masks("center", ["x"], 32)[0])
    with pytest.raises(MaskFileError, match=r"name of 7 of 20 images, and none for 007\.jpg.*pair=digest"):
        registry.draw_masks(f"files:{tmp_path}", IDS, 32)
    with pytest.raises(MaskFileError, match=r"none for 007\.jpg; add it$"):
        registry.draw_masks(f"files:{tmp_path}?pair=name", IDS, 32)
    assert len(registry.draw_masks(f"files:{tmp_path}?pair=digest", IDS, 32)) == len(IDS)


def test_training_masks_of_a_named_folder_are_drawn_by_digest(tmp_path: Path) -> None:
    for image_id, mask in zip(IDS, registry.draw_masks("shapes", IDS, 32), strict=True):
        save(tmp_path / image_id.replace(".jpg", ".png"), mask)
    ids = [f"training-{i}" for i in range(50)]
    masks = registry.draw_masks(f"files:{tmp_path}", ids, 32, stream="training")
    assert len({m.tobytes() for m in masks}) > 10


@pytest.mark.parametrize("parameter", ["", "?pair=name"])
def test_training_masks_need_no_names(tmp_path: Path, parameter: str) -> None:
    for image_id, mask in zip(IDS, registry.draw_masks("shapes", IDS, 32), strict=True):
        save(tmp_path / image_id.replace(".jpg", ".png"), mask)
    # One of the ids has a mask of its name, as a training image may by chance.
    ids = ["training-0", "003.jpg", "training-1"]
    drawn = registry.draw_masks(f"files:{tmp_path}{parameter}", ids, 32, stream="training")
    assert np.array_equal(
        drawn, registry.draw_masks(f"files:{tmp_path}?pair=digest", ids, 32, stream="training")
    )


@pytest.mark.parametrize("parameter", ["", "?pair=name"])
@pytest.mark.parametrize("masks", [["a/{}.png"], ["{}.png"], ["a/{}.png", "c/{}.png"]])
def test_a_file_name_of_several_images_is_not_guessed_at(
    tmp_path: Path, masks: list[str], parameter: str
) -> None:
    ids = [f"{folder}/{i}" for folder in ("a", "b") for i in IDS[:5]]
    for layout in masks:
        for image_id, mask in zip(IDS[:5], registry.draw_masks("shapes", IDS[:5], 32), strict=True):
            save(tmp_path / layout.format(image_id.removesuffix(".jpg")), mask)
    with pytest.raises(MaskFileError, match=r"file name of 2 images|masks of the name of 5 of 10 images"):
        registry.draw_masks(f"files:{tmp_path}{parameter}", ids, 32)
    # Nor where the other image is in the data, and not among those that are evaluated.
    with pytest.raises(MaskFileError, match=r"file name of|masks of the name of 0 of 1 images"):
        files.pairing_rule(f"files:{tmp_path}{parameter or '?pair=name'}", ["b/003.jpg"], 32, among=ids)
    # The whole name is no guess, whatever else lies there.
    for folder in ("a", "b"):
        for image_id, mask in zip(IDS[:5], registry.draw_masks("half", IDS[:5], 32), strict=True):
            save(tmp_path / folder / image_id.replace(".jpg", ".png"), mask)
    files.load_folder.cache_clear()
    expected = np.concatenate([registry.draw_masks("half", IDS[:5], 32)] * 2)
    assert np.array_equal(registry.draw_masks(f"files:{tmp_path}{parameter}", ids, 32), expected)


@pytest.mark.parametrize("parameter", ["", "?pair=name"])
@pytest.mark.parametrize(
    ("mask", "image_id", "is_its"),
    [
        ("a/1.png", "b/1.jpg", False),
        ("a/1.png", "a/b/1.jpg", False),
        ("b/a/1.png", "a/1.jpg", True),
        ("a/1.png", "b/a/1.jpg", True),
        ("1.png", "b/1.jpg", True),
        ("a/1.png", "1.jpg", True),
        ("a/1.png", "ba/1.jpg", False),
    ],
)
def test_a_mask_of_another_folder_is_no_mask_of_an_image(
    tmp_path: Path, mask: str, image_id: str, is_its: bool, parameter: str
) -> None:
    save(tmp_path / mask, registry.draw_masks("half", ["x"], 32)[0])
    save(tmp_path / "z.png", registry.draw_masks("center", ["x"], 32)[0])
    name = f"files:{tmp_path}{parameter}"
    if is_its:
        assert files.pairing_rule(name, [image_id], 32, among=[image_id, "0.jpg"]).endswith("of its name")
    else:
        with pytest.raises(MaskFileError, match="which lies in another folder"):
            registry.draw_masks(name, [image_id], 32)
    assert len(registry.draw_masks(f"files:{tmp_path}?pair=digest", [image_id], 32)) == 1


@pytest.mark.parametrize("parameter", ["", "?pair=name"])
def test_a_training_is_watched_on_masks_that_are_for_the_evaluated_images(
    tmp_path: Path, parameter: str
) -> None:
    evaluated, watched = IDS[:10], IDS[8:14]
    for image_id, mask in zip(evaluated, registry.draw_masks("shapes", evaluated, 32), strict=True):
        save(tmp_path / image_id.replace(".jpg", ".png"), mask)
    name = f"files:{tmp_path}{parameter}"
    with pytest.raises(MaskFileError, match="of 2 of 6 images"):
        registry.draw_masks(name, watched, 32)
    drawn = registry.draw_validation_masks(name, watched, 32)
    kept = {mask.tobytes() for mask in registry.draw_masks(name, evaluated, 32)}
    assert {mask.tobytes() for mask in drawn} <= kept
    assert np.array_equal(registry.draw_validation_masks(name, watched[::-1], 32), drawn[::-1])
    # Where all have one, each has its own.
    assert np.array_equal(
        registry.draw_validation_masks(name, evaluated, 32), registry.draw_masks(name, evaluated, 32)
    )


@pytest.mark.parametrize("second", ["003.bmp", "003.tif", "003.PNG"])
def test_two_masks_of_one_name_are_refused_where_they_differ(tmp_path: Path, second: str) -> None:
    drawn = registry.draw_masks("shapes", IDS, 32)
    for image_id, mask in zip(IDS, drawn, strict=True):
        save(tmp_path / image_id.replace(".jpg", ".png"), mask)
    save(tmp_path / second, drawn[3])
    assert np.array_equal(registry.draw_masks(f"files:{tmp_path}", IDS, 32), drawn)
    save(tmp_path / second, drawn[4])
    files.load_folder.cache_clear()
    with pytest.raises(MaskFileError, match=r"are different masks of one name, 003\.jpg; keep one"):
        registry.draw_masks(f"files:{tmp_path}", IDS, 32)
    # Images of other names are not concerned.
    assert len(registry.draw_masks(f"files:{tmp_path}", IDS[4:], 32)) == 16


@pytest.mark.skipif(os.name == "nt", reason="names are bytes on Unix")
@pytest.mark.parametrize("name", ["表", "ソ能", "x/予"])
def test_a_letter_that_ends_in_a_backslash_is_a_letter(tmp_path: Path, name: str) -> None:
    raw = os.fsdecode(f"{name}.jpg".encode("shift_jis"))
    image_id = escape_name(raw)
    assert "\\" in image_id
    assert files.mask_image_name(image_id) == image_id.replace(".jpg", ".png")
    save(tmp_path / raw.replace(".jpg", ".png"), registry.draw_masks("half", ["x"], 32)[0])
    assert "the mask of its name" in files.pairing_rule(f"files:{tmp_path}", [image_id], 32)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes")
def test_nothing_waits_for_a_pipe(folder: Path) -> None:
    os.mkfifo(folder / "manifest.json")
    with pytest.raises(MaskFileError, match="not a regular file"):
        registry.draw_masks(f"files:{folder}", IDS, 32)
    with pytest.raises(MaskFileError, match="not a regular file"):
        list(files.verify_export(folder))
    with pytest.raises(MaskFileError, match="not a regular file"):
        read_mask(folder / "manifest.json")


def test_hidden_files_change_no_draw(folder: Path) -> None:
    name = f"files:{folder}"
    before = registry.draw_masks(name, IDS, 32)
    for hidden in (".thumbnails/0.png", "@eaDir/1.png", "._0.png", "__MACOSX/._x.png"):
        save(folder / hidden, registry.draw_masks("half", ["x"], 32)[0])
    files.load_folder.cache_clear()
    with pytest.warns(UnusedFilesWarning, match="left out"):
        assert np.array_equal(registry.draw_masks(name, IDS, 32), before)


#: What of a folder is not read -> how it comes there, and what is said of it.
UNUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "@eaDir": (lambda path: save(path / "1.png", np.eye(32)), "left out: @eaDir (hidden)"),
    "._m0.png": (lambda path: path.write_bytes(b"fork"), "left out: ._m0.png (hidden)"),
    "gone.png": (lambda path: path.symlink_to("nowhere"), "left out: gone.png (a broken link)"),
    "pipe.png": (os.mkfifo, "left out: pipe.png (not a regular file)"),
    "self": (lambda path: path.symlink_to("."), "left out: self (a link to a folder that is read already)"),
    "m.jfif": (lambda path: path.write_bytes(b"jpeg"), "not read, since they are none of JPEG"),
    "m.npy": (lambda path: path.write_bytes(b"array"), "not read, since they are none of JPEG"),
}


@pytest.mark.parametrize("unused", UNUSED)
def test_what_a_folder_of_masks_holds_besides_is_named(folder: Path, unused: str) -> None:
    name, (make, says) = f"files:{folder}", UNUSED[unused]
    before, digest = registry.draw_masks(name, IDS, 32), registry.mask_content_digest(name, 32)
    assert files.folder_notes(name, 32) == []
    make(folder / unused)
    files.load_folder.cache_clear()
    with pytest.warns(UnusedFilesWarning) as caught:
        assert np.array_equal(registry.draw_masks(name, IDS, 32), before)
    assert registry.mask_content_digest(name, 32) == digest
    (note,) = files.folder_notes(name, 32)
    assert note.startswith(says)
    assert unused in note
    assert [str(warning.message) for warning in caught] == [f"{folder}: {note}"]


@pytest.mark.parametrize("unused", UNUSED)
def test_a_folder_without_masks_says_what_it_holds(tmp_path: Path, unused: str) -> None:
    UNUSED[unused][0](tmp_path / unused)
    with pytest.raises(MaskFileError, match=f"holds no images; .*{unused}"):
        registry.draw_masks(f"files:{tmp_path}", IDS, 32)


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX only")
def test_a_folder_whose_name_is_not_utf8_has_a_name_that_every_file_can_hold(tmp_path: Path) -> None:
    raw = Path(os.fsdecode(bytes(tmp_path) + b"/caf\xe9"))
    raw.mkdir()
    save(raw / os.fsdecode(b"\xe9.png"), registry.draw_masks("center", ["x"], 32)[0])
    (name,) = registry.resolve_masks([f"files:{raw}"])
    assert name == f"files:{tmp_path}/caf%E9"
    name.encode("utf-8")
    assert np.array_equal(registry.draw_masks(name, ["a"], 32), registry.draw_masks("center", ["a"], 32))
    assert registry.resolve_masks([name]) == [name]


@pytest.mark.parametrize(
    "litter", [".DS_Store", ".ipynb_checkpoints/a.png", "@eaDir/a.png", "@Recycle/a.png", "._a.png"]
)
def test_what_a_file_manager_leaves_in_an_export_is_no_fault_of_it(tmp_path: Path, litter: str) -> None:
    content = registry.draw_masks("center", ["a"], 32)
    manifest = {
        "hole": "white",
        "images": {"a": {"mask": "a.png"}},
        "files": {"a.png": digest_pixels(content[0])},
    }
    (tmp_path / "manifest.json").write_text(
        json.dumps({**manifest, "digest": files.manifest_digest(manifest)}), encoding="utf-8"
    )
    save(tmp_path / "a.png", content[0])
    assert list(files.verify_export(tmp_path)) == []
    save(tmp_path / "b.png", content[0])
    assert list(files.verify_export(tmp_path)) == ["b.png: not in the manifest"]
    (tmp_path / "b.png").unlink()
    (tmp_path / litter).parent.mkdir(exist_ok=True)
    (tmp_path / litter).write_bytes(b"x")
    assert list(files.verify_export(tmp_path)) == []
