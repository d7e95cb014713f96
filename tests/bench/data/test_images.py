"""Bad pictures: converted rightly, or skipped with a reason that names them."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.data import DataSpec, open_data
from bench.data.procedural_faces import render_faces
from bench.data.transforms import ImageError, decode_image
from bench.errors import DataError

FACE = Image.fromarray(render_faces([7], 96)[0])


def _bytes(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _plain(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"))


def _bomb() -> bytes:
    """A PNG of a few bytes whose header says 30,000 x 30,000."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def test_plain_pictures_are_unchanged_where_nothing_is_to_be_done() -> None:
    assert np.array_equal(decode_image(_bytes(FACE), 96, "center"), _plain(FACE))
    assert np.array_equal(decode_image(_bytes(FACE), 96, "resize"), _plain(FACE))


def test_greyscale_becomes_three_equal_channels() -> None:
    grey = FACE.convert("L")
    assert np.array_equal(decode_image(_bytes(grey), 96, "center"), np.stack([np.asarray(grey)] * 3, axis=-1))


def test_palette_is_looked_up() -> None:
    palette = FACE.quantize(32)
    assert np.array_equal(decode_image(_bytes(palette), 96, "center"), _plain(palette))
    assert np.array_equal(decode_image(_bytes(palette, "GIF"), 96, "center"), _plain(palette))


def test_transparency_lies_on_white() -> None:
    alpha = np.full((96, 96), 255, np.uint8)
    alpha[:, :30], alpha[:, 30:60] = 0, 128
    clear = FACE.copy()
    clear.putalpha(Image.fromarray(alpha))
    out = decode_image(_bytes(clear), 96, "center")
    assert (out[:, :30] == 255).all()
    half = _plain(FACE)[:, 30:60].astype(float) * (128 / 255) + 255 * (127 / 255)
    assert np.abs(out[:, 30:60] - half).max() <= 1
    assert np.array_equal(out[:, 60:], _plain(FACE)[:, 60:])


def test_transparent_colour_of_a_palette_lies_on_white() -> None:
    palette = FACE.quantize(8)
    clear = np.asarray(palette) == 3
    out = decode_image(_bytes(palette, transparency=3), 96, "center")
    assert clear.any()
    assert (out[clear] == 255).all()
    assert np.array_equal(out[~clear], _plain(palette)[~clear])


def test_cmyk_becomes_rgb() -> None:
    out = decode_image(_bytes(FACE.convert("CMYK"), "TIFF"), 96, "center")
    assert np.abs(out.astype(int) - _plain(FACE)).max() <= 1
    lossy = decode_image(_bytes(FACE.convert("CMYK"), "JPEG", quality=100, subsampling=0), 96, "center")
    assert np.abs(lossy.astype(int) - _plain(FACE)).max() <= 8


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_to_eight(kind: str) -> None:
    grey = np.asarray(FACE.convert("L"))
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    out = decode_image(_bytes(deep, kind), 96, "center")
    assert np.array_equal(out, np.stack([grey] * 3, axis=-1))


@pytest.mark.parametrize(
    ("scale", "kind"),
    [(1 / 255, np.float32), (1.0, np.float32), (257.0, np.float32), (1, np.int32), (257, np.int32)],
)
def test_floats_and_long_integers_are_read_by_their_range(scale: float, kind: type) -> None:
    gray = np.asarray(FACE.convert("L")).astype(np.float64)
    gray.flat[:2] = 0, 255
    stored = Image.fromarray((gray * scale).astype(kind))
    out = decode_image(_bytes(stored, "TIFF"), 96, "center")
    assert np.array_equal(out, np.stack([gray.astype(np.uint8)] * 3, axis=-1))


@pytest.mark.parametrize(
    "values",
    [(np.nan, 0.5), (np.inf, 0.5), (-0.5, 0.5), (1e6, 0.5), (-3, 200), (2**30, 5)],
)
def test_values_without_a_usual_range_are_skipped_with_the_reason(values: tuple[float, float]) -> None:
    kind = np.int32 if all(float(v).is_integer() for v in values) and values[1] >= 5 else np.float32
    stored = np.full((64, 64), values[1], kind)
    stored[0, 0] = values[0]
    with pytest.raises(
        ImageError, match=r"mode [IF] with values from .* to .*: no usual range; save it with 8 or 16"
    ):
        decode_image(_bytes(Image.fromarray(stored), "TIFF"), 64, "center")


@pytest.mark.parametrize("mode", ["1", "LA", "RGBA", "RGBX", "YCbCr"])
def test_every_mode_of_eight_bits_becomes_rgb(mode: str) -> None:
    stored = FACE.convert(mode)
    kind = {"1": "PNG", "LA": "PNG", "RGBA": "PNG"}.get(mode, "TIFF")
    out = decode_image(_bytes(stored, kind), 96, "center")
    assert np.abs(out.astype(int) - _plain(stored)).max() <= 1


def test_a_dark_picture_of_sixteen_bits_stays_dark() -> None:
    dark = Image.fromarray(np.full((64, 64), 200, np.uint16))
    assert decode_image(_bytes(dark), 64, "center").max() == 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(orientation: int) -> None:
    stored = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = FACE if stored is None else FACE.transpose(stored)
    assert np.array_equal(decode_image(_bytes(turned, exif=exif), 96, "center"), _plain(FACE))


def test_a_wrong_extension_does_not_matter(tmp_path: Path) -> None:
    for i, face in enumerate(render_faces(list(range(40)), 64)):
        Image.fromarray(face).save(tmp_path / f"{i:02d}.jpg", "PNG")
    data = open_data(DataSpec(source=str(tmp_path), size=64, cache=tmp_path / "cache"))
    assert data.skipped == []
    first = data.train.ids[0]
    assert np.array_equal(data.train.pixels[0], render_faces([int(first[:2])], 64)[0])


BAD = {
    "zero.jpg": (b"", "empty file"),
    "text.jpg": (b"this is no picture", "not a picture"),
    "corrupt.png": (_bytes(FACE)[:60] + b"\0" * 400 + _bytes(FACE)[460:], "unreadable"),
    "truncated.jpg": (_bytes(FACE, "JPEG")[:1500], "unreadable"),
    "truncated.png": (_bytes(FACE)[:3000], "unreadable"),
    "header.png": (_bytes(FACE)[:20], "unreadable|not a picture"),
    "bomb.png": (_bomb(), "too large"),
    "large.png": (_bytes(Image.new("1", (9000, 9000))), "too large"),
    "small.png": (_bytes(FACE.resize((40, 90))), "40 x 90 pixels: smaller than 64 x 64"),
    "script.jpg": (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\nshowpage\n",
        "not a picture",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_picture_gets_a_reason(name: str) -> None:
    data, reason = BAD[name]
    with pytest.raises(ImageError, match=reason):
        decode_image(data, 64, "center")


def test_bad_pictures_are_named_and_stop_the_command_unless_told_otherwise(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for i, face in enumerate(render_faces(list(range(60)), 64)):
        Image.fromarray(face).save(folder / f"{i:02d}.png")
    for name, (data, _) in BAD.items():
        (folder / name).write_bytes(data)
    spec = DataSpec(source=str(folder), size=64, cache=tmp_path / "cache")
    with pytest.raises(DataError, match=r"10 of 70 pictures.*bomb\.png: .*--allow-unreadable"):
        open_data(spec)
    data = open_data(DataSpec(source=str(folder), size=64, cache=tmp_path / "cache", allow_unreadable=True))
    assert {s.id for s in data.skipped} == set(BAD)
    kept = {
        i: p for s in (data.train, data.validation, data.test) for i, p in zip(s.ids, s.pixels, strict=True)
    }
    assert sorted(kept) == [f"{i:02d}.png" for i in range(60)]
    for name, pixels in kept.items():  # a skipped row moves nobody else's pixels
        assert np.array_equal(pixels, np.asarray(Image.open(folder / name)))


def test_one_in_a_hundred_may_be_bad(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for i, face in enumerate(render_faces(list(range(99)), 32)):
        Image.fromarray(face).save(folder / f"{i:02d}.png")
    (folder / "zero.png").touch()
    data = open_data(DataSpec(source=str(folder), size=32, cache=tmp_path / "cache"))
    assert [(s.id, s.reason) for s in data.skipped] == [("zero.png", "empty file")]


def test_all_bad_is_an_error_even_when_told_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "zero.png").touch()
    with pytest.raises(DataError, match=r"no picture can be used.*zero\.png: empty file"):
        open_data(DataSpec(source=str(tmp_path), cache=tmp_path / "cache", allow_unreadable=True))


@pytest.mark.parametrize(
    ("width", "height", "crop", "box"),
    [
        (178, 218, "center", (9, 29, 169, 189)),  # CelebA: 160 x 160 from the middle
        (178, 218, "resize", (0, 20, 178, 198)),
        (120, 100, "center", (10, 0, 110, 100)),  # where 160 do not fit: the largest square
        (400, 100, "resize", (150, 0, 250, 100)),
    ],
)
def test_crops_cut_the_declared_box(
    width: int, height: int, crop: str, box: tuple[int, int, int, int]
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    side = box[2] - box[0]
    out = decode_image(_bytes(Image.fromarray(noise)), side, crop)
    assert np.array_equal(out, noise[box[1] : box[3], box[0] : box[2]])


def test_face_crop_finds_the_face_and_lists_pictures_without_one(tmp_path: Path) -> None:
    from skimage import data as pictures

    person = Image.fromarray(pictures.astronaut())
    out = decode_image(_bytes(person), 64, "face")
    # The face of scikit-image's picture is centred at about (225, 115), some 110 pixels wide.
    expected = np.asarray(person.crop((150, 45, 300, 195)).resize((64, 64)), dtype=float)
    assert np.corrcoef(out[8:56, 8:56].ravel(), expected[8:56, 8:56].ravel())[0, 1] > 0.5
    with pytest.raises(ImageError, match="no face found"):
        decode_image(_bytes(Image.new("RGB", (200, 200), "grey")), 64, "face")


def test_pictures_without_a_face_are_counted_but_are_not_unreadable(tmp_path: Path) -> None:
    from skimage import data as pictures

    face = Image.fromarray(pictures.astronaut()).crop((100, 0, 350, 250))
    for i in range(30):
        face.save(tmp_path / f"{i:02d}.png")
    Image.new("RGB", (200, 200), "grey").save(tmp_path / "wall.png")
    data = open_data(DataSpec(source=str(tmp_path), size=32, crop="face", cache=tmp_path / "cache"))
    assert [(s.id, s.reason) for s in data.skipped] == [("wall.png", "no face found")]
