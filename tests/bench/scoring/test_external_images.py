"""``bench score``: pictures of another program, matched by name, and everything that can be wrong with them."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from PIL import Image, ImageCms

from bench.cli import cli
from bench.config import RunConfig
from bench.data import ImageSet
from bench.data.procedural_faces import render_faces
from bench.errors import UsageError
from bench.evaluation import metrics
from bench.evaluation.image_batch import FaceBox
from bench.evaluation.metrics import list_metrics, load_metric, prepare_metrics
from bench.scoring.external_images import (
    MatchedImages,
    ScoredImages,
    as_result_rows,
    match_images,
    score_images,
)
from masks.file_names import escape_name
from masks.registry import draw_masks
from reports.results.schema import read_rows, write_rows

SIZE = 64
CPU = torch.device("cpu")
METRICS = ("psnr_db", "ssim", "hole_psnr_db", "hole_mae", "raw_psnr_db")


@pytest.fixture
def images() -> ImageSet:
    ids = [f"folder/{i:06d}.jpg" for i in range(4)]
    return ImageSet(ids, render_faces(list(range(4)), SIZE), np.array([5, 5, 6, 7]))


@pytest.fixture
def masks(images: ImageSet) -> NDArray[np.uint8]:
    return draw_masks("random-rect", images.ids, SIZE)


@pytest.fixture
def made(tmp_path: Path, images: ImageSet) -> Path:
    """A method that inverts the picture, everywhere."""
    for image_id, pixels in zip(images.ids, images.pixels, strict=True):
        path = tmp_path / "made" / Path(image_id).with_suffix(".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(255 - pixels).save(path)
    return tmp_path / "made"


def _score(folder: Path, images: ImageSet, masks: NDArray[np.uint8]) -> ScoredImages:
    return score_images(folder, images, masks, prepare_metrics(METRICS, CPU)[0], CPU)


def test_metrics_mean_what_they_mean_in_run_and_those_of_sets_are_measured(
    pictures_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named ones besides the primary ones; by default the two that a run measures."""

    def colors(images: torch.Tensor, face_box: FaceBox | None) -> torch.Tensor:
        return images.double().mean((2, 3))

    replaced = dataclasses.replace(load_metric("fid"), load_features=lambda device: colors)
    monkeypatch.setitem(metrics._REGISTERED, "fid", replaced)
    common = [
        "score",
        pictures_dir,
        "--data",
        pictures_dir,
        "--crop",
        "resize",
        "--mask",
        "center",
        "--size",
        64,
    ]
    words = [str(word) for word in common]
    result = CliRunner().invoke(cli, [*words, "--metrics", "fid,seam"])
    assert [name for name in list_metrics() if f"\n  {name} " in result.stdout] == [
        "psnr_db",
        "ssim",
        "lpips_alex",
        "seam",
        "fid",
    ]
    assert "fid             0.00" in result.stdout, "the truth itself"
    assert "found 60 pictures, such as 000.png; " in result.stderr
    default = CliRunner().invoke(cli, words).stdout
    measured = [name for name in list_metrics() if f"  {name} " in default]
    assert measured == ["psnr_db", "ssim", "lpips_alex", "hole_psnr_db", "hole_mae"]
    assert tuple(measured[3:]) == RunConfig().metrics


@pytest.mark.parametrize("naming", ["folder/{}.png", "{}.png", "step/9/{}.png"])
def test_a_sub_folder_more_or_less_does_not_matter_where_names_are_unique(
    tmp_path: Path, images: ImageSet, masks: NDArray[np.uint8], naming: str
) -> None:
    for image_id, pixels in zip(images.ids, images.pixels, strict=True):
        path = tmp_path / naming.format(Path(image_id).stem)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    scored = _score(tmp_path, images, masks)
    assert scored.findings.missing == []
    assert scored.rows["identical"].all()
    assert bool(scored.findings.by_file_name) == (not naming.startswith("folder"))
    first = naming.format("000000")
    assert scored.findings.summary(4) == f"found 4 pictures, such as {first}; 4 of 4 test images have one"


def test_names_that_are_not_unique_are_not_guessed_at(
    tmp_path: Path, images: ImageSet, masks: NDArray[np.uint8]
) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        for image_id, pixels in zip(images.ids, images.pixels, strict=True):
            Image.fromarray(pixels).save(tmp_path / folder / f"{Path(image_id).stem}.png")
    with pytest.raises(
        UsageError, match=r"found 8 pictures, such as one/000000\.png; 0 of 4 test images have one"
    ):
        _score(tmp_path, images, masks)


@pytest.mark.parametrize(
    ("ids", "there", "expected"),
    [
        (["a/1.png", "a__1.png"], ["a__1.png"], {"a__1.png": "a__1.png"}),
        (["a/1.png", "a__1.png"], ["a__1.png", "a/1.png"], {"a/1.png": "a/1.png", "a__1.png": "a__1.png"}),
        (["x.png", "x_mask1.png"], ["x_mask1.png"], {"x_mask1.png": "x_mask1.png"}),
        (
            ["x.png", "x_mask1.png"],
            ["x_mask1.png", "x_mask2.png"],
            {"x_mask1.png": "x_mask1.png", "x.png": "x_mask2.png"},
        ),
        (["x.png", "x_mask1.png"], ["x_mask1_mask001.png"], {"x_mask1.png": "x_mask1_mask001.png"}),
        (["a/b__1.png", "a__b/1.png"], ["a__b__1.png"], {}),
        (["p/x.png", "p/x_mask1.png"], ["out/x_mask1.png"], {"p/x_mask1.png": "out/x_mask1.png"}),
        (["a/x.png"], ["a__x_mask001.png"], {"a/x.png": "a__x_mask001.png"}),
    ],
)
def test_a_picture_is_of_one_image_the_one_whose_name_it_has(
    tmp_path: Path, ids: list[str], there: list[str], expected: dict[str, str]
) -> None:
    for file in there:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    findings = MatchedImages()
    assert match_images(tmp_path, ids, findings) == expected
    assert findings.missing == [image_id for image_id in ids if image_id not in expected]
    assert findings.extra == sorted(set(there) - set(expected.values()))


def test_what_the_program_adds_to_the_names_is_given_by_suffix(
    tmp_path: Path, images: ImageSet, masks: NDArray[np.uint8]
) -> None:
    """Beside each result lies its input, under the plain name."""
    for image_id, pixels in zip(images.ids, images.pixels, strict=True):
        Image.fromarray(255 - pixels).save(tmp_path / f"{Path(image_id).stem}.png")
        Image.fromarray(pixels).save(tmp_path / f"{Path(image_id).stem}_fake.png")
    ready = prepare_metrics(METRICS, CPU)[0]
    assert score_images(tmp_path, images, masks, ready, CPU, suffix="_fake").rows["identical"].all()
    assert not score_images(tmp_path, images, masks, ready, CPU).rows["identical"].any()
    with pytest.raises(UsageError, match=r"folder/000000_out\.png, .*by --suffix"):
        score_images(tmp_path, images, masks, ready, CPU, suffix="_out")


def test_composites_are_scored_image_by_image(
    made: Path, images: ImageSet, masks: NDArray[np.uint8], tmp_path: Path
) -> None:
    scored = _score(made, images, masks)
    assert list(scored.rows["image_id"]) == images.ids
    for i, row in scored.rows.iterrows():
        truth = images.pixels[int(str(i))].astype(float)
        hole = masks[int(str(i))].astype(bool)
        error = ((255 - 2 * truth) ** 2)[hole].mean()
        assert row["hole_psnr_db"] == pytest.approx(10 * np.log10(255**2 / error), abs=1e-9)
        # Known pixels are the truth's, so the whole image is better by the share of the hole.
        assert row["psnr_db"] == pytest.approx(row["hole_psnr_db"] - 10 * np.log10(hole.mean()), abs=1e-9)
        assert row["raw_psnr_db"] < row["psnr_db"]
    assert len(scored.findings.changed) == 4
    assert len(scored.findings.alien) == 4
    rows = as_result_rows(scored.rows, label="Inverter", mask="random-rect", size=SIZE)
    write_rows(rows, tmp_path / "rows.parquet")
    again = read_rows(tmp_path / "rows.parquet")
    assert again["lpips_alex"].isna().all()
    assert list(again["identity"]) == [5, 5, 6, 7]


def test_the_truth_itself_is_identical_and_raises_no_finding(
    tmp_path: Path, images: ImageSet, masks: NDArray[np.uint8]
) -> None:
    for image_id, pixels in zip(images.ids, images.pixels, strict=True):
        path = tmp_path / Path(image_id).with_suffix(".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    scored = _score(tmp_path, images, masks)
    assert scored.rows["identical"].all()
    assert (scored.rows["psnr_db"] == 100).all()
    assert scored.findings.sentences() == []


def test_what_is_missing_extra_of_another_size_unreadable_or_lossy_is_said(
    made: Path, images: ImageSet, masks: NDArray[np.uint8]
) -> None:
    folder = made / "folder"
    (folder / "000000.png").unlink()
    Image.open(folder / "000001.png").convert("RGB").save(folder / "000001.jpg", quality=90)
    (folder / "000001.png").unlink()
    Image.new("RGB", (SIZE, 2 * SIZE)).save(folder / "000002.png")
    (folder / "000003.png").rename(made / "elsewhere.png")
    (folder / "000003.png").write_bytes(b"no picture")
    scored = _score(made, images, masks)
    found = scored.findings
    assert found.missing == ["folder/000000.jpg"]
    assert found.extra == ["elsewhere.png"]
    assert found.lossy == ["folder/000001.jpg"]
    assert [(r.file, r.reason) for r in found.rejected] == [
        ("folder/000002.png", "64 x 128 pixels instead of 64 x 64"),
        ("folder/000003.png", "not readable as a picture"),
    ]
    assert found.incomplete
    assert list(scored.rows["image_id"]) == ["folder/000001.jpg"]


def test_pictures_of_other_formats_alone_are_named(
    made: Path, images: ImageSet, masks: NDArray[np.uint8]
) -> None:
    for path in (made / "folder").iterdir():
        path.rename(path.with_suffix(".jfif"))
    with pytest.raises(UsageError, match=r"of a kind that is not read: folder/000000\.jfif"):
        _score(made, images, masks)


def test_compression_is_known_by_its_content(made: Path, images: ImageSet, masks: NDArray[np.uint8]) -> None:
    folder = made / "folder"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for number, (suffix, how) in enumerate(
        [
            (".webp", {"lossless": True, "icc_profile": profile}),
            (".webp", {"quality": 90, "icc_profile": profile}),
            (".tif", {"compression": "jpeg"}),
            (".tif", {"compression": "tiff_deflate"}),
        ]
    ):
        path = folder / f"{number:06d}.png"
        Image.open(path).convert("RGB").save(path.with_suffix(suffix), **how)
        path.unlink()
    found = _score(made, images, masks).findings
    assert found.lossy == ["folder/000001.webp", "folder/000002.tif"]


def test_transparent_turned_and_unread_pictures_are_not_scored_silently(
    made: Path, images: ImageSet, masks: NDArray[np.uint8]
) -> None:
    folder = made / "folder"
    Image.new("RGBA", (SIZE, SIZE), (9, 9, 9, 0)).save(folder / "000000.png")
    Image.open(folder / "000001.png").convert("RGBA").save(folder / "000001.png")  # opaque: as good as RGB
    (folder / "000002.png").unlink()
    Image.fromarray(255 - images.pixels[2]).save(folder / "000002.gif")
    for other in ("000002.heic", "000002.npy", "log.txt", "complete.py"):
        (folder / other).write_bytes(b"x")
    turned = Image.fromarray(255 - images.pixels[3]).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise
    turned.save(folder / "000003.png", exif=exif)
    scored = _score(made, images, masks)
    assert [(r.file, "transparent" in r.reason) for r in scored.findings.rejected] == [
        ("folder/000000.png", True)
    ]
    assert scored.findings.unread == [f"folder/000002.{suffix}" for suffix in ("gif", "heic", "npy")]
    assert scored.findings.missing == ["folder/000002.jpg"]
    assert any("not read" in sentence for sentence in scored.findings.sentences())
    assert list(scored.rows["image_id"]) == ["folder/000001.jpg", "folder/000003.jpg"]
    inverted = (images.pixels[3].astype(float) / 127.5 - 1)[masks[3].reshape(SIZE, SIZE) == 1]
    assert scored.rows["hole_mae"].iloc[1] == pytest.approx(np.abs(inverted).mean(), rel=1e-6)


def test_png_is_preferred_and_the_second_picture_is_extra(
    made: Path, images: ImageSet, masks: NDArray[np.uint8]
) -> None:
    Image.new("RGB", (SIZE, SIZE)).save(made / "folder" / "000000.jpeg")
    found = _score(made, images, masks).findings
    assert found.extra == ["folder/000000.jpeg"]
    assert not found.lossy
    assert not found.incomplete


def test_sixteen_bits_are_refused_and_grey_is_read(
    made: Path, images: ImageSet, masks: NDArray[np.uint8]
) -> None:
    Image.fromarray(np.zeros((SIZE, SIZE), np.uint16)).save(made / "folder" / "000000.png")
    Image.new("L", (SIZE, SIZE), 7).save(made / "folder" / "000001.png")
    scored = _score(made, images, masks)
    assert [r.file for r in scored.findings.rejected] == ["folder/000000.png"]
    assert "instead of 8 bits" in scored.findings.rejected[0].reason
    assert images.ids[1] in set(scored.rows["image_id"])


def test_nothing_to_score_is_a_usage_error(
    tmp_path: Path, images: ImageSet, masks: NDArray[np.uint8]
) -> None:
    with pytest.raises(UsageError, match=r"no picture there can be scored.*folder/000000\.png"):
        _score(tmp_path, images, masks)
    with pytest.raises(UsageError, match="no such folder"):
        _score(tmp_path / "nowhere", images, masks)
    # Of two files with one name, in folders that the test images do not have, neither is taken.
    doubled = tmp_path / "doubled"
    for place in ("a", "b"):
        (doubled / place).mkdir(parents=True)
        Image.new("RGB", (SIZE, SIZE)).save(doubled / place / "000000.png")
    with pytest.raises(UsageError, match=r"since several have one: a/000000\.png, b/000000\.png"):
        _score(doubled, images, masks)
    empty = tmp_path / "empty"
    (empty / ".ipynb_checkpoints").mkdir(parents=True)
    (empty / "results").symlink_to("/nowhere/at/all")
    left_out = r"; 2 left out: results \(a broken link\), \.ipynb_checkpoints \(hidden\)"
    with pytest.raises(UsageError, match=f"found 0 pictures; .*{left_out}"):
        _score(empty, images, masks)


def _invoke(*words: object) -> Result:
    return CliRunner().invoke(cli, ["score", *map(str, words)], catch_exceptions=False)


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[str]]:
    """A folder of pictures as data, and the ids of its test split."""
    from bench.data import DataSpec, open_data

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    for i, pixels in enumerate(render_faces(list(range(60)), SIZE)):
        Image.fromarray(pixels).save(tmp_path / "data" / f"{i:03d}.png")
    spec = DataSpec(source=str(tmp_path / "data"), size=SIZE, crop="resize")
    return tmp_path / "data", open_data(spec).test.ids


def test_the_command_prints_the_table_writes_the_rows_and_its_exit_code_says_if_any_is_missing(
    tmp_path: Path, pictures: tuple[Path, list[str]]
) -> None:
    data, ids = pictures
    (tmp_path / "grey").mkdir()
    for image_id in ids:
        Image.new("RGB", (SIZE, SIZE), (128, 128, 128)).save(tmp_path / "grey" / image_id)
    common = ["--data", data, "--size", SIZE, "--crop", "resize", "--metrics", "psnr_db,hole_mae"]
    output = tmp_path / "rows.parquet"
    result = _invoke(tmp_path / "grey", "--mask", "center", *common, "--output", output, "--label", "Grey")
    assert result.exit_code == 0, result.output
    assert f"{len(ids)} of {len(ids)} test images" in result.output
    rows = read_rows(output)
    assert set(rows["label"]) == {"Grey"}
    assert f"{rows['psnr_db'].mean():.2f}" in result.output
    (tmp_path / "grey" / ids[0]).unlink()
    partial = _invoke(tmp_path / "grey", "--mask", "center", *common)
    assert partial.exit_code == 1
    assert f"missing, so the means leave out these images: {ids[0]}" in partial.output
    with pytest.raises(UsageError, match="did you mean 'center'"):
        _invoke(tmp_path / "grey", "--mask", "centre", *common)


#: A picture that Pillow has Ghostscript draw: a program of its own.
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_no_picture_has_another_program_run(
    made: Path,
    images: ImageSet,
    masks: NDArray[np.uint8],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    suffix: str,
) -> None:
    """The content of a file must not choose a decoder that its name does not promise."""
    program = tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)
    (made / "folder" / "000000.png").unlink()
    (made / "folder" / f"000000{suffix}").write_bytes(EPS)
    scored = _score(made, images, masks)
    assert not (tmp_path / "ran").exists()
    assert [rejected.file for rejected in scored.findings.rejected] == [f"folder/000000{suffix}"]
    assert len(scored.rows) == 3


@pytest.mark.parametrize("raw", [b"caf\xe9", "写真".encode("shift_jis"), b"100%\xff"])
@pytest.mark.parametrize("suffix", ["", "_out"])
@pytest.mark.parametrize("depth", ["", "results/"])
def test_pictures_are_matched_by_the_name_that_an_image_has_on_disk_or_in_its_export(
    tmp_path: Path, raw: bytes, suffix: str, depth: str
) -> None:
    image_id = escape_name(os.fsdecode(raw))
    for name in (os.fsdecode(raw), image_id):
        folder = tmp_path / ("raw" if name != image_id else "escaped")
        file = folder / f"{depth}{name}{suffix}.png"
        file.parent.mkdir(parents=True)
        with file.open("wb") as stream:
            Image.new("RGB", (8, 8)).save(stream, "PNG")
        findings = MatchedImages()
        found = match_images(folder, [f"{image_id}.jpg", "other.jpg"], findings, suffix=suffix)
        assert found == {f"{image_id}.jpg": f"{depth}{name}{suffix}.png"}
        assert (findings.missing, findings.extra) == (["other.jpg"], [])
