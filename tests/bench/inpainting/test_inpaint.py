"""``bench inpaint`` and ``bench export-weights`` on files as people have them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

import bench
from bench.cli import cli
from bench.config import Request, resolve_config
from bench.data.transforms import decode_image
from bench.errors import BenchError, DataError, UsageError
from bench.inpainting import job
from bench.inpainting.photo import Photo, read_photo
from bench.inpainting.tiling import ImageCompleter, complete_tiled, plan_tiles
from bench.runner.callbacks import RunCallbacks
from bench.runner.run import run_experiment
from bench.training.device import Compute
from masks.mask_images import MaskFileError
from models.base import Box

CPU = Compute(torch.device("cpu"), "fp32")
GREY = ImageCompleter(
    lambda image, mask: torch.where(mask > 0.5, 0.5, image), None, None, CPU
)  # at the picture's own size


def write(path: Path, height: int = 90, width: int = 120, mode: str = "RGB") -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 4), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).save(path)
    return path


def write_mask(path: Path, height: int = 90, width: int = 120) -> Path:
    mask = np.zeros((height, width), np.uint8)
    mask[20:50, 30:70] = 255
    mask[80:83, 5:9] = 255
    Image.fromarray(mask).save(path)
    return path


def levels(path: Path) -> NDArray[Any]:
    with Image.open(path) as image:
        return np.array(image)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA"])
def test_known_pixels_are_kept_bit_for_bit(tmp_path: Path, mode: str) -> None:
    photo, mask = write(tmp_path / "p.png", mode=mode), write_mask(tmp_path / "m.png")
    job.complete_image(job.InpaintJob(photo, mask, tmp_path / "o.png"), GREY)
    before, after, hole = (levels(tmp_path / f"{n}.png") for n in "pom")
    hole = hole > 0
    assert before.shape == after.shape
    assert np.array_equal(before[~hole], after[~hole])
    colours = after[hole] if mode in ("L", "RGB") else after[hole][:, :-1]
    assert np.abs(colours.astype(int) - 128).max() <= 1
    if mode in ("LA", "RGBA"):
        assert (after[hole][:, -1] == 255).all()


def test_sixteen_bit_grey_stays_so(tmp_path: Path) -> None:
    before = np.random.default_rng(0).integers(0, 65536, (90, 120), dtype=np.uint16)
    Image.fromarray(before).save(tmp_path / "p.png")
    mask = write_mask(tmp_path / "m.png")
    job.complete_image(job.InpaintJob(tmp_path / "p.png", mask, tmp_path / "o.png"), GREY)
    after, hole = levels(tmp_path / "o.png"), levels(mask) > 0
    assert np.array_equal(after[~hole], before[~hole])
    assert np.abs(after[hole].astype(int) - 32768).max() <= 1


def test_a_photo_is_turned_upright_and_its_mask_fits_the_upright_one(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(write(tmp_path / "p.png")) as image:
        image.save(tmp_path / "p.jpg", exif=exif)
    upright = write_mask(tmp_path / "upright.png", 120, 90)
    job.complete_image(job.InpaintJob(tmp_path / "p.jpg", upright, tmp_path / "o.png"), GREY)
    with Image.open(tmp_path / "o.png") as result:
        assert result.size == (90, 120)
    lying = write_mask(tmp_path / "lying.png", 90, 120)
    with pytest.raises(DataError, match="after its EXIF rotation"):
        job.complete_image(job.InpaintJob(tmp_path / "p.jpg", lying, tmp_path / "o.png"), GREY)


@settings(deadline=None, max_examples=40)
@given(
    st.integers(8, 150),
    st.integers(8, 150),
    st.booleans(),
    st.integers(0, 10**6),
    st.sampled_from([None, 32]),
)
def test_what_lies_under_the_hole_never_reaches_the_model(
    height: int, width: int, centered: bool, seed: int, size: int | None
) -> None:
    """Any size, any hole: every hole pixel is filled, and equal known pixels give equal results."""
    rng = np.random.default_rng(seed)
    hole = np.zeros((height, width), bool)
    for _ in range(rng.integers(1, 4)):
        top, left = rng.integers(0, height), rng.integers(0, width)
        hole[top : top + rng.integers(1, height + 1), left : left + rng.integers(1, width + 1)] = True
    if hole.all():
        hole[0, 0] = False

    def mean_of_known(image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Sees every known pixel of its tile; marks what it fills by more than 1."""
        known = 1 - mask
        mean = (image * known).sum((1, 2, 3), keepdim=True) / known.sum((1, 2, 3), keepdim=True).clamp(min=1)
        return torch.where(mask > 0.5, 2 + mean, image)

    box = Box(8, 8, 16, 16) if centered and size else None
    filler = ImageCompleter(mean_of_known, size, box, CPU)
    rgb = rng.random((height, width, 3), dtype=np.float32)
    other = np.where(hole[..., None], rng.random((height, width, 3), dtype=np.float32), rgb)
    first, second = complete_tiled(filler, rgb, hole), complete_tiled(filler, other, hole)
    assert np.array_equal(first, second) or np.array_equal(first[hole], second[hole])
    assert np.array_equal(first[~hole], rgb[~hole])


def test_a_centered_window_holds_its_part_within_the_middle_half() -> None:
    hole = np.zeros((300, 400), bool)
    hole[250:290, 5:95] = True
    labels, (tile,) = plan_tiles(hole, 64, 64 / 30, centered_hole=32)
    assert labels.max() == 1
    quarter = tile.side / 4
    assert tile.left + quarter <= 5
    assert tile.left + 3 * quarter >= 95


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(150, 200), st.integers(150, 200))
def test_a_model_of_one_hole_is_shown_that_hole_whatever_the_size_of_the_photos(
    height: int, width: int, top: int, left: int
) -> None:
    """Partial convolutions that know one hole fail on one that is a pixel smaller."""
    hole = np.zeros((400, 400), bool)
    hole[top : top + height, left : left + width] = True
    box = Box(8, 8, 16, 16)
    shown = []

    def look(image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        shown.append(mask)
        return torch.where(mask > 0.5, 0.5, image)

    complete_tiled(ImageCompleter(look, 32, box, CPU), np.ones((400, 400, 3), np.float32), hole)
    expected = torch.zeros(1, 1, 32, 32)
    expected[..., 8:24, 8:24] = 1
    (mask,) = shown
    assert torch.equal(mask, expected)


@pytest.mark.parametrize(
    ("box", "hole_of"), [(Box(16, 16, 32, 32), "center"), (None, "center"), (None, "strokes")]
)
def test_a_photo_like_the_test_images_is_completed_like_one(box: Box | None, hole_of: str) -> None:
    """At the model's size, with a hole as in training: the model sees the photo itself, and its output is pasted."""
    rgb = np.random.default_rng(0).random((64, 64, 3), dtype=np.float32)
    hole = np.zeros((64, 64), bool)
    if hole_of == "center":
        hole[16:48, 16:48] = True
    else:
        hole[3:6, :40], hole[20:63, 50:60] = True, True
    output = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    seen = []

    def complete(image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        seen.append((image, mask))
        return torch.where(mask > 0.5, output, image)

    completed = complete_tiled(ImageCompleter(complete, 64, box, CPU), rgb, hole)
    ((image, mask),) = seen
    known = ~hole
    assert np.array_equal(image[0].permute(1, 2, 0).numpy()[known], rgb[known])
    assert np.array_equal(mask[0, 0].numpy() > 0.5, hole)
    assert np.array_equal(completed[hole], output[0].permute(1, 2, 0).numpy()[hole])


def test_specks_share_windows() -> None:
    hole = np.zeros((256, 256), bool)
    hole[::8, ::8] = True
    _, tiles = plan_tiles(hole, 64, 2.0)
    assert len(tiles) <= 1024 // 8  # the part in the middle keeps its context, a few round it come along
    assert sorted(p for w in tiles for p in w.parts) == list(range(1, 1025))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d: write_mask(d / "m.png", 91, 120), r"m\.png: mask is 120 x 91, image 120 x 90"),
        (lambda d: Image.new("L", (120, 90)).save(d / "m.png"), "no hole"),
        (lambda d: Image.new("L", (120, 90), 255).save(d / "m.png"), "all hole"),
        (lambda d: Image.new("L", (120, 90), 100).save(d / "m.png"), "binary .*save it as PNG"),
        (lambda d: (d / "m.png").write_bytes(b"PNG"), "not readable as an image"),
    ],
)
def test_a_mask_that_cannot_be_used_is_one_line(tmp_path: Path, make: object, message: str) -> None:
    photo = write(tmp_path / "p.png")
    make(tmp_path)  # type: ignore[operator]
    with pytest.raises((DataError, MaskFileError), match=message) as caught:
        job.complete_image(job.InpaintJob(photo, tmp_path / "m.png", tmp_path / "o.png"), GREY)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "o.png").exists()


def test_a_jpeg_mask_is_told_apart(tmp_path: Path) -> None:
    photo, mask = write(tmp_path / "p.png"), write_mask(tmp_path / "m.png")
    with Image.open(mask) as image:
        image.save(tmp_path / "m.jpg", quality=60)
    with pytest.raises(DataError, match="JPEG blurs edges"):
        job.complete_image(job.InpaintJob(photo, tmp_path / "m.jpg", tmp_path / "o.png"), GREY)


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"\xff\xd8\xff\xe0JFIF", b"hello"])
def test_a_picture_that_cannot_be_read_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "p.jpg").write_bytes(content)
    with pytest.raises(DataError, match=r"p\.jpg: not (an image|readable)"):
        job.complete_image(
            job.InpaintJob(tmp_path / "p.jpg", write_mask(tmp_path / "m.png"), tmp_path / "o.png"), GREY
        )


def test_nothing_of_the_users_is_overwritten(tmp_path: Path) -> None:
    photo, mask = write(tmp_path / "p.png"), write_mask(tmp_path / "m.png")
    for output, message in ((photo, "overwrite"), (mask, "overwrite"), (tmp_path / "o.jpg", "PNG")):
        with pytest.raises(UsageError, match=message):
            job.list_jobs(photo, mask, output)


def test_a_folder_goes_on_after_a_bad_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("photos", "masks"):
        Path(folder).mkdir()
    for name in "ab":
        write(Path(f"photos/{name}.png"))
        write_mask(Path(f"masks/{name}.png"))
    Path("photos/a.png").write_bytes(b"no")
    result = CliRunner().invoke(cli, ["inpaint", "photos", "--mask", "masks", "--model", "biharmonic"])
    assert result.exit_code == 1
    assert "a.png: not an image" in result.stderr
    assert "1 of 2 images" in result.stdout
    assert Path("photos-inpainted/b.png").is_file()
    again = CliRunner().invoke(cli, ["inpaint", "photos", "--mask", "masks", "--model", "biharmonic"])
    assert "photos-inpainted/b.png: exists already; give another --output, or --overwrite" in str(
        again.exception
    )


def test_one_missing_mask_leaves_the_others_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("photos/.thumbnails", "masks"):
        Path(folder).mkdir(parents=True)
    for name in "abc":
        write(Path(f"photos/{name}.png"))
    write(Path("photos/.thumbnails/a.png"))
    write_mask(Path("masks/b.png"))
    words = ["inpaint", "photos", "--mask", "masks", "--model", "biharmonic"]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 1
    failed = [line for line in result.stderr.splitlines() if line.startswith("failed: ")]
    assert [line.split(":")[1:3] for line in failed] == [
        [" photos/a.png", " no mask masks/a.png (masks are matched by name)"],
        [" photos/c.png", " no mask masks/c.png (masks are matched by name)"],
    ]
    assert [p.name for p in Path("photos-inpainted").iterdir()] == ["b.png"]
    Path("masks/b.png").unlink()
    with pytest.raises(DataError, match="no mask"):  # not one has a mask: the wrong folder
        job.list_jobs(Path("photos"), Path("masks"), None)


def test_a_folder_names_what_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("photos/.thumbnails", "photos/sub", "masks/@eaDir"):
        Path(folder).mkdir(parents=True)
    for name in ("a.png", "b.png", "._a.png", ".thumbnails/a.png", "sub/c.png"):
        write(Path("photos") / name)
    Path("photos/sub/loop").symlink_to(tmp_path / "photos")
    Path("photos/gone.png").symlink_to("nowhere.png")
    for name in ("d.heic", "e.avif", "notes.txt", "f.cr2", "Gr\udcfc\udcdfe.doc"):
        (Path("photos") / name).write_bytes(b"x")
    for name in ("a", "b", "sub/c", "@eaDir/a"):
        Path(f"masks/{name}").parent.mkdir(exist_ok=True)
        write_mask(Path(f"masks/{name}.png"))
    words = ["inpaint", "photos", "--mask", "masks", "--model", "biharmonic", "--quiet"]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0, result.output
    left_out, formats, of_masks = [line for line in result.stderr.splitlines() if line.startswith("note: ")]
    assert left_out == (
        "note: photos: left out: gone.png (a broken link), sub/loop (a link to a folder that is read already), "
        "._a.png (hidden) and 1 more"
    )
    assert formats.startswith("note: photos: not read, since they are none of JPEG, PNG, ")
    assert formats.endswith(": Gr%FC%DFe.doc, d.heic, e.avif and 2 more")
    assert of_masks == "note: masks: left out: @eaDir (hidden)"
    made = sorted(str(p.relative_to("photos-inpainted")) for p in Path("photos-inpainted").rglob("*.png"))
    assert made == ["a.png", "b.png", "sub/c.png"]


def test_two_masks_of_one_name_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("photos", "masks"):
        Path(folder).mkdir()
    for name in "ab":
        write(Path(f"photos/{name}.jpg"))
        write_mask(Path(f"masks/{name}.png"))
    write_mask(Path("masks/a.bmp"))
    result = CliRunner().invoke(cli, ["inpaint", "photos", "--mask", "masks", "--model", "biharmonic"])
    assert result.exit_code == 1
    assert "failed: photos/a.jpg: 2 masks have its name: masks/a.bmp, masks/a.png; keep one" in result.stderr
    assert [p.name for p in Path("photos-inpainted").iterdir()] == ["b.png"]


def test_an_earlier_result_is_replaced_only_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("p.png"))
    write_mask(Path("m.png"))
    Path("p-inpainted.png").write_bytes(b"kept")
    words = ["inpaint", "p.png", "--mask", "m.png", "--model", "biharmonic"]
    with pytest.raises(UsageError, match="exists already"):
        CliRunner().invoke(cli, words, catch_exceptions=False)
    assert Path("p-inpainted.png").read_bytes() == b"kept"
    assert CliRunner().invoke(cli, [*words, "--overwrite"]).exit_code == 0
    assert levels(Path("p-inpainted.png")).shape == (90, 120, 3)


@pytest.mark.parametrize(("threshold", "row"), [(128, 22), (1, 19), (255, 26)])
def test_a_smoothed_mask_is_taken_with_a_threshold(tmp_path: Path, threshold: int, row: int) -> None:
    """A ramp from known to hole: the hole begins where the ramp reaches the threshold."""
    photo = write(tmp_path / "p.png")
    ramp = np.zeros((90, 120), np.uint8)
    ramp[19:27, 30:70] = np.array([40, 80, 120, 160, 200, 220, 240, 255])[:, None]
    ramp[27:50, 30:70] = 255
    Image.fromarray(ramp).save(tmp_path / "m.png")
    work = job.InpaintJob(photo, tmp_path / "m.png", tmp_path / "o.png")
    with pytest.raises(DataError, match="give --threshold 128"):
        job.complete_image(work, GREY)
    job.complete_image(work, GREY, threshold=threshold)
    changed = (levels(tmp_path / "p.png") != levels(tmp_path / "o.png")).any(axis=(1, 2))
    assert int(np.flatnonzero(changed)[0]) == row


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("more", [1, 2])
def test_a_phones_multi_picture_jpeg_is_its_first_picture(
    tmp_path: Path, more: int, orientation: int
) -> None:
    """Made by Pillow as phones make them: the photo, then small copies; as a photo and among the data."""
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    first, second = Image.fromarray(noise), Image.fromarray(noise[::3, ::3])
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = tmp_path / "p.jpg"
    first.save(path, format="MPO", save_all=True, append_images=[second] * more, exif=exif)
    with Image.open(path) as image:
        assert (image.format, getattr(image, "n_frames", 1)) == ("MPO", 1 + more)
        upright = ImageOps.exif_transpose(image).convert("RGB")
    assert np.array_equal(read_photo(path).pixels, np.asarray(upright))
    upright.save(tmp_path / "alone.png")
    assert np.array_equal(
        decode_image(path.read_bytes(), 64, "center"),
        decode_image((tmp_path / "alone.png").read_bytes(), 64, "center"),
    )


def test_the_python_function_takes_arrays_images_and_files(tmp_path: Path) -> None:
    photo, mask = write(tmp_path / "p.png"), write_mask(tmp_path / "m.png")
    pixels, hole = levels(photo), levels(mask) > 0
    results = [
        bench.inpaint(photo, mask),
        bench.inpaint(str(photo), hole, "biharmonic"),
        bench.inpaint(Image.fromarray(pixels), Image.fromarray(hole)),
        bench.inpaint(pixels, mask),
    ]
    for result in results:
        assert np.array_equal(result, results[0])
    assert np.array_equal(results[0][~hole], pixels[~hole])
    assert (results[0][hole] != pixels[hole]).any()
    with pytest.raises(DataError, match="mask is 60 x 90, image 120 x 90"):
        bench.inpaint(pixels, hole[:, :60])


@pytest.mark.long
def test_from_a_training_to_a_file_to_a_picture(workplace: Path, pictures_dir: Path) -> None:
    settings = resolve_config("smoke", {"images_seen": 16})
    request = Request(
        models=("mgs-iim",), masks=("center",), data=str(pictures_dir), settings=settings, name="t"
    )
    run_experiment(request, RunCallbacks())
    runner = CliRunner()
    exported = runner.invoke(cli, ["export-weights", "t", "--hub-card"], catch_exceptions=False)
    assert "bit for bit" in exported.stdout
    (weights,) = Path("weights/t").glob("*.safetensors")
    about = json.loads(weights.with_suffix(".json").read_text())
    header = yaml.safe_load(Path("weights/t/README.md").read_text().split("---\n")[1])
    measured = header["model-index"][0]["results"][0]["metrics"]
    assert [m["value"] for m in measured if m["type"] == "psnr"] == [about["metrics"]["center"]["psnr_db"]]
    assert weights.name in Path("weights/t/README.md").read_text()
    assert about["paper"] in Path("weights/t/README.md").read_text()
    photo, mask = write(Path("p.png")), write_mask(Path("m.png"))
    common = ["inpaint", str(photo), "--mask", str(mask)]
    for source, output in (("t", "a.png"), (str(weights), "b.png")):
        done = runner.invoke(cli, [*common, "--from", source, "-o", output], catch_exceptions=False)
        assert done.exit_code == 0, done.output
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    with pytest.raises(UsageError, match="holds mgs-iim"):
        runner.invoke(cli, [*common, "--model", "glcic", "--from", str(weights)], catch_exceptions=False)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give --model biharmonic, or --from"),
        (["--model", "mgs-iim"], "is trained: give --from"),
        (["--model", "mean-image"], "use biharmonic"),
        (["--model", "linear"], "use biharmonic"),
        (["--model", "biharmonik"], "did you mean 'biharmonic'"),
        (["--from", "none"], "no experiment 'none'"),
        (["--from", "none.safetensors"], "no such file"),
    ],
)
def test_usage_errors_name_the_remedy(workplace: Path, words: list[str], message: str) -> None:
    write(Path("p.png"))
    write_mask(Path("m.png"))
    with pytest.raises(BenchError, match=message):
        CliRunner().invoke(cli, ["inpaint", "p.png", "--mask", "m.png", *words], catch_exceptions=False)


def test_photo_rounds_and_clamps() -> None:
    photo = Photo(np.zeros((1, 2, 3), np.uint8), {})
    filled = np.array([[[9, 9, 9], [-1, 0.5, 2]]], np.float32)
    assert photo.completed(filled, np.array([[False, True]])).pixels.tolist() == [[[0, 0, 0], [0, 128, 255]]]


@pytest.mark.parametrize("mode", ["P", "CMYK", "1", "icc"])
def test_palettes_inks_bits_and_profiles_keep_what_is_known(tmp_path: Path, mode: str) -> None:
    """Oracle: Pillow's own conversion of the whole picture; a colour profile stays, but for one of inks."""
    colours = np.random.default_rng(3).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    picture = Image.fromarray(colours)
    profile = {"icc_profile": b"a profile"} if mode in ("icc", "CMYK") else {}
    if mode != "icc":
        picture = picture.convert(mode)
    path = tmp_path / "a.tif"
    picture.save(path, **profile)
    photo = read_photo(path)
    hole = np.zeros((40, 50), dtype=bool)
    hole[10:20, 15:30] = True
    photo.completed(np.full((40, 50, 3), 0.5, dtype=np.float32), hole).save(tmp_path / "b.png")
    with Image.open(tmp_path / "b.png") as made:
        whole = picture.convert("L" if mode == "1" else "RGB")
        assert made.mode == whole.mode
        assert np.array_equal(np.asarray(made)[~hole], np.asarray(whole)[~hole])
        assert made.info.get("icc_profile") == (b"a profile" if mode == "icc" else None)
