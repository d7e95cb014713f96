"""One picture or a folder of them: sources, masks and results matched by name, failures told apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchError, DataError, UsageError
from bench.inpainting.photo import read_hole, read_photo
from bench.inpainting.tiling import ImageCompleter, complete_tiled
from bench.runner.run_folder import atomic_write
from masks.image_files import find_files


@dataclass(frozen=True)
class InpaintJob:
    """One picture to complete."""

    photo: Path
    mask: Path
    output: Path


def list_jobs(photo: Path, mask: Path, output: Path | None) -> list[InpaintJob]:
    """What is to be done: one job for a picture; for a folder one for each picture in it.

    Masks of a folder are matched by path below it, with any suffix; one mask file serves all pictures.

    Raises:
        DataError: nothing there, or a picture without a mask.
        UsageError: an output that is no PNG, or that would overwrite a picture or a mask.
    """
    for given, what in ((photo, "picture"), (mask, "mask")):
        if not given.exists():
            raise DataError(f"{given}: no such {what}")
    if photo.is_file():
        if mask.is_dir():
            raise UsageError(f"--mask {mask}: a folder; one picture needs one mask file")
        made = [InpaintJob(photo, mask, output or Path(f"{photo.stem}-inpainted.png"))]
    else:
        folder = output or Path(f"{photo.resolve().name}-inpainted")
        photos = _pictures(photo)
        if not photos:
            raise DataError(f"{photo}: holds no pictures")
        masks = {p.relative_to(mask).with_suffix(""): p for p in _pictures(mask)} if mask.is_dir() else {}
        made = []
        for path in photos:
            name = path.relative_to(photo).with_suffix("")
            found = masks.get(name) if mask.is_dir() else mask
            if found is None:
                raise DataError(f"{path}: no mask {mask / name}.png (masks are matched by name)")
            made.append(InpaintJob(path, found, folder / name.parent / f"{name.name}.png"))
    targets = [job.output.resolve() for job in made]
    sources = {path.resolve() for job in made for path in (job.photo, job.mask)}
    for job, target in zip(made, targets, strict=True):
        if target in sources:
            raise UsageError(f"--output {job.output}: would overwrite a picture or a mask; give another")
        if target.suffix.lower() != ".png":
            raise UsageError(f"--output {job.output}: results are PNG, so that no known pixel changes")
        if targets.count(target) > 1:
            raise UsageError(f"two pictures would be written to {job.output}; rename one")
    return made


def run_jobs(
    work: list[InpaintJob],
    filler: ImageCompleter,
    *,
    on_progress: Callable[[int, int], None],
    failed: Callable[[str], None],
) -> int:
    """Do every job; one that fails is told of and the others go on. Returns how many failed."""
    failures = 0
    for number, job in enumerate(work, start=1):
        try:
            complete_image(job, filler)
        except DataError as error:
            failures += 1
            failed(str(error))
        except BenchError as error:
            failures += 1
            failed(f"{job.photo}: {error}")
        on_progress(number, len(work))
    return failures


def complete_image(job: InpaintJob, filler: ImageCompleter) -> None:
    """Complete one picture and write it.

    Raises:
        BenchError: the picture, its mask or the output cannot be used.
    """
    photo = read_photo(job.photo)
    hole = read_hole(job.mask, photo)
    result = photo.completed(complete_tiled(filler, photo.rgb, hole), hole)
    atomic_write(job.output, result.save)


def _pictures(folder: Path) -> list[Path]:
    return [folder / path for path in find_files(folder).images]
