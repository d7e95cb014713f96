"""A test set for other programs: images, masked images and masks in the layout that a program reads.

``bench masks export`` writes it, ``bench score`` takes what the program made of it, by the same names.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shlex
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bench.errors import UsageError
from masks.file_names import real_path
from masks.folder import MANIFEST, manifest_digest, mask_image_name
from masks.mask_images import digest_pixels, mask_png
from reports.results.atomic_io import make_folder, publish_folder

#: Gray level of the hole in masked images.
_FILL = 128


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a program wants its files.

    Attributes:
        name: of ``--layout``.
        summary: one line.
        masked: path of an image with its hole filled in gray, with ``{stem}``; what the program sees.
        mask: path of its mask.
        truth: path of the whole image, which the program does not read.
        flat: whether all images lie in one folder, whatever folders their ids have.
        hole: ``white`` or ``black``.
        command: the command line, with ``{folder}``, ``{results}`` and ``{size}``.
        script: text of a file ``complete.py`` beside the images, which the command runs.
    """

    name: str
    summary: str
    masked: str
    mask: str
    truth: str = "truth/{stem}.png"
    flat: bool = True
    hole: str = "white"
    command: str
    script: str = ""


_DIFFUSERS_SCRIPT = '''\
"""Complete images/ with masks/ by a diffusers pipeline: python complete.py MODEL RESULTS [SEED]"""

import hashlib
import sys
from pathlib import Path

import torch
from diffusers import AutoPipelineForInpainting
from PIL import Image

model, results, seed = sys.argv[1], Path(sys.argv[2]), int((sys.argv[3:] or ["0"])[0])
here = Path(__file__).parent
device = "cuda" if torch.cuda.is_available() else "cpu"
pipeline = AutoPipelineForInpainting.from_pretrained(model).to(device)
results.mkdir(parents=True, exist_ok=True)
for path in sorted((here / "images").glob("*.png")):
    image, mask = Image.open(path).convert("RGB"), Image.open(here / "masks" / path.name).convert("L")
    large = (512, 512)  # what Stable Diffusion was trained on
    # Of the name and not of the position, so that other images beside it change no completion.
    drawn = int.from_bytes(hashlib.sha256(f"{seed}/{path.name}".encode()).digest()[:4], "little")
    made = pipeline(
        prompt="",
        image=image.resize(large),
        mask_image=mask.resize(large),
        generator=torch.Generator(device).manual_seed(drawn),
    ).images[0]
    made.resize(image.size).save(results / path.name)
'''

LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout(
            name="plain",
            summary="images/, masked/ and masks/ with the names of the test images",
            truth="images/{stem}.png",
            masked="masked/{stem}.png",
            mask="masks/{stem}.png",
            flat=False,
            command="YOUR-PROGRAM --input {folder}/masked --masks {folder}/masks --output {results}",
        ),
        Layout(
            name="lama",
            summary="x.png beside x_mask001.png",
            masked="{stem}.png",
            mask="{stem}_mask001.png",
            command="python3 bin/predict.py model.path=$(pwd)/big-lama indir={folder} outdir={results} "
            "dataset.img_suffix=.png",
        ),
        Layout(
            name="mat",
            summary="images/ and masks/ with a black hole",
            masked="images/{stem}.png",
            mask="masks/{stem}.png",
            hole="black",
            command="python generate_image.py --network pretrained/CelebA-HQ.pkl --resolution {size} "
            "--dpath {folder}/images --mpath {folder}/masks --outdir {results}",
        ),
        Layout(
            name="repaint",
            summary="gts/ and masks/ with a black hole",
            masked="gts/{stem}.png",
            mask="masks/{stem}.png",
            hole="black",
            command="python test.py --conf_path confs/face_example.yml   "
            "# with gt_path: {folder}/gts, mask_path: {folder}/masks, srs: {results}, image_size: {size}",
        ),
        Layout(
            name="diffusers",
            summary="images/, masks/ and a script for any inpainting pipeline",
            masked="images/{stem}.png",
            mask="masks/{stem}.png",
            command="python {folder}/complete.py stable-diffusion-v1-5/stable-diffusion-inpainting {results} 0",
            script=_DIFFUSERS_SCRIPT,
        ),
        Layout(
            name="iopaint",
            summary="images/ and masks/",
            masked="images/{stem}.png",
            mask="masks/{stem}.png",
            command="iopaint run --model=lama --device=cpu --image={folder}/images --mask={folder}/masks "
            "--output={results}",
        ),
    )
}


def program_command(layout: Layout, folder: Path, size: int) -> str:
    """Return the command line that runs the layout's program on an exported folder, for a shell.

    Paths are absolute: programs run in a checkout of their own, and LaMa's changes its working folder once more.
    """
    whole = real_path(folder, home=True)
    results = whole.with_name(f"{whole.name}-results")
    return layout.command.format(folder=shlex.quote(str(whole)), results=shlex.quote(str(results)), size=size)


def flat_stem(image_id: str) -> str:
    """Return an id as the name of a file in one folder, without suffix.

    >>> flat_stem("a/b/000001.jpg")
    'a__b__000001'
    """
    return str(PurePosixPath(mask_image_name(image_id)).with_suffix("")).replace("/", "__")


def export_test_set(
    folder: Path,
    ids: Sequence[str],
    masks: NDArray[np.uint8],
    settings: Mapping[str, object],
    *,
    images: NDArray[np.uint8] | None = None,
    layout: Layout = LAYOUTS["plain"],
) -> Path:
    """Write masks, and images if given, with a manifest of digests, atomically: a full disk leaves nothing behind.

    Args:
        folder: a new one.
        ids: of the images.
        masks: ``(N, H, W)`` uint8, 1 = hole.
        settings: what made the masks; stored in the manifest.
        images: ``(N, H, W, 3)`` uint8; without them, the masks alone are written, under the images' names.
        layout: which files, if images are given.

    Raises:
        UsageError: a folder that holds files, an id that would leave it, two ids with one file name, a full disk.
    """
    files_of = {i: _file_names(i, layout, with_images=images is not None) for i in ids}
    # Counted for masks, which have a file in every layout.
    name, times = Counter(names["mask"] for names in files_of.values()).most_common(1)[0]
    if times > 1:
        raise UsageError(f"two images would have the mask file {name}")
    folder = real_path(folder, home=True)
    # Beside its place, so that one rename publishes the whole folder.
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    # Masks alone are for any program, in this suite's own convention.
    hole = layout.hole if images is not None else "white"
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(f"{folder}: there are files already; give a new folder")
        digests: dict[str, str] = {}
        for row, (names, mask) in enumerate(zip(files_of.values(), masks, strict=True)):
            _write(temporary / names["mask"], mask_png(mask, hole_is_white=hole == "white"))
            # Of the mask's pixels and not of the file: another PNG encoder gives other bytes.
            digests[names["mask"]] = digest_pixels(mask)
            for role in ("truth", "masked") if images is not None else ():
                content = _image_png(np.asarray(images[row]), mask if role == "masked" else None)  # type: ignore[index]
                _write(temporary / names[role], content)
                digests[names[role]] = hashlib.sha256(content).hexdigest()
        if images is not None and layout.script:
            _write(temporary / "complete.py", layout.script.encode())
            digests["complete.py"] = hashlib.sha256(layout.script.encode()).hexdigest()
        # Written last, and sealed: a folder without a sound manifest was not written to its end.
        manifest = {**settings, "hole": hole, "layout": layout.name, "images": files_of, "files": digests}
        text = json.dumps({**manifest, "digest": manifest_digest(manifest)}, indent=1)
        _write(temporary / MANIFEST, f"{text}\n".encode())
        if folder.exists():
            folder.rmdir()  # it is empty
        publish_folder(temporary, folder)
    except OSError as error:
        # The suffix that a layout appends may be what makes a name too long: which one is said.
        too_long = f": {Path(error.filename).name}" if error.errno == errno.ENAMETOOLONG else ""
        raise UsageError(f"cannot write {folder}: {error.strerror or error}{too_long}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder / MANIFEST


# Ids may hold folders, which some programs do not search.
def _file_names(image_id: str, layout: Layout, *, with_images: bool) -> dict[str, str]:
    """Return the file of each role for an image."""
    path = mask_image_name(image_id)
    if not with_images:
        return {"mask": path}
    stem = flat_stem(image_id) if layout.flat else str(PurePosixPath(path).with_suffix(""))
    roles = {"truth": layout.truth, "masked": layout.masked, "mask": layout.mask}
    return {role: template.format(stem=stem) for role, template in roles.items()}


def _image_png(pixels: NDArray[np.uint8], mask: NDArray[np.uint8] | None) -> bytes:
    """Return an image as PNG, with its hole in gray where a mask is given."""
    if mask is not None:
        pixels = np.where(mask[..., None] == 1, np.uint8(_FILL), pixels)
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, "PNG")
    return stream.getvalue()


def _write(path: Path, content: bytes) -> None:
    make_folder(path.parent)
    path.write_bytes(content)
