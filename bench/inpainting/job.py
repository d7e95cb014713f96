"""One image or a folder of them: images, masks and results matched by name; one that fails leaves the others alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchError, DataError, UsageError
from bench.inpainting.photo import read_hole, read_photo
from bench.inpainting.tiling import ImageCompleter, complete_tiled
from bench.runner.run_folder import atomic_write
from masks.file_names import real_path
from masks.image_files import find_files


@dataclass(frozen=True)
class InpaintJob:
    """One image to complete.

    Attributes:
        photo: the image's file.
        mask: its mask's file; ``problem`` says why where there is none.
        output: the PNG to write.
        problem: why the image cannot be completed, or ``None``.
    """

    photo: Path
    mask: Path
    output: Path
    problem: str | None = None


def list_jobs(
    photo: Path,
    mask: Path,
    output: Path | None,
    *,
    overwrite: bool = False,
    on_unused: Callable[[str], None] = lambda _: None,
) -> list[InpaintJob]:
    """List the jobs: one for an image; for a folder, one for each image in it.

    Masks of a folder are matched by path below it, with any suffix; one mask file serves all images. An image without
    a mask becomes a job with a problem.

    Args:
        photo: an image or a folder of images.
        mask: a mask, or for a folder of images a folder of masks.
        output: the PNG to write, or for a folder the folder.
        overwrite: replace results of an earlier run.
        on_unused: called with a sentence about what of a folder is not used: hidden parts, links in a circle, other
            formats.

    Raises:
        DataError: nothing there, or no image has a mask.
        UsageError: an output that is no PNG, that exists already, or that is an image or a mask of the user's.
    """
    for given, what in ((photo, "image"), (mask, "mask")):
        if not given.exists():
            raise DataError(f"{given}: no such {what}")
        if not (given.is_file() or given.is_dir()):
            raise DataError(
                f"{given}: neither a file nor a folder, but a pipe or a device; give an image or a folder of images"
            )
    if photo.is_file():
        if mask.is_dir():
            raise UsageError(f"--mask {mask}: a folder; one image needs one mask file")
        jobs = [InpaintJob(photo, mask, output or Path(f"{photo.stem}-inpainted.png"))]
    else:
        jobs = _jobs_of_folder(photo, mask, output or Path(f"{real_path(photo).name}-inpainted"), on_unused)
    # Before the first image is completed, so that no result is written if another would be lost.
    _check_outputs(jobs, overwrite=overwrite)
    return jobs


def _jobs_of_folder(
    photo: Path, mask: Path, output: Path, on_unused: Callable[[str], None]
) -> list[InpaintJob]:
    found = find_files(photo)
    for sentence in found.unused_sentences():
        on_unused(f"{photo}: {sentence}")
    if not found.images:
        raise DataError(
            f"{photo}: holds no images{'; ' if found.left_out else ''}{found.left_out_sentence()}"
        )
    masks: dict[Path, list[Path]] = {}
    if mask.is_dir():
        drawn = find_files(mask)
        for sentence in drawn.unused_sentences():
            on_unused(f"{mask}: {sentence}")
        for name in map(Path, drawn.images):
            masks.setdefault(name.with_suffix(""), []).append(mask / name)
    jobs = []
    for path in map(Path, found.images):
        # Masks are usually PNG files beside JPEG photos, so the suffix does not count.
        name = path.with_suffix("")
        own = masks.get(name, []) if mask.is_dir() else [mask]
        problem = None
        if not own:
            problem = f"{photo / path}: no mask {mask / name}.png (masks are matched by name)"
        elif len(own) > 1:
            problem = f"{photo / path}: {len(own)} masks have its name: {', '.join(map(str, own))}; keep one"
        jobs.append(
            InpaintJob(photo / path, own[0] if own else mask / f"{name}.png", output / f"{name}.png", problem)
        )
    # Where no image has a mask, the user has named the wrong folder.
    if all(job.problem for job in jobs):
        raise DataError(str(jobs[0].problem))
    return jobs


def _check_outputs(jobs: list[InpaintJob], *, overwrite: bool) -> None:
    """Refuse outputs that would lose something of the user's."""
    # Resolved, since two spellings or a link may mean one file.
    targets = [real_path(job.output) for job in jobs]
    sources = {real_path(path) for job in jobs for path in (job.photo, job.mask)}
    for job, target in zip(jobs, targets, strict=True):
        if target in sources:
            raise UsageError(f"--output {job.output}: would overwrite an image or a mask; give another")
        if target.suffix.lower() != ".png":
            raise UsageError(f"--output {job.output}: results are PNG, so that no known pixel changes")
        if targets.count(target) > 1:
            raise UsageError(f"two images would be written to {job.output}; rename one")
    there = [job.output for job in jobs if job.output.exists()]
    if there and not overwrite:
        more = f" and {len(there) - 1:,} more" if len(there) > 1 else ""
        raise UsageError(f"{there[0]}{more}: exists already; give another --output, or --overwrite")


def run_jobs(
    jobs: list[InpaintJob],
    completer: ImageCompleter,
    *,
    threshold: int | None = None,
    on_progress: Callable[[int, int], None],
    on_failure: Callable[[str], None],
) -> int:
    """Do every job, and return how many failed; report one that fails and continue with the others."""
    failures = 0
    for number, job in enumerate(jobs, start=1):
        try:
            complete_image(job, completer, threshold=threshold)
        # Its message names the file already.
        except DataError as error:
            failures += 1
            on_failure(str(error))
        except BenchError as error:
            failures += 1
            on_failure(f"{job.photo}: {error}")
        on_progress(number, len(jobs))
    return failures


def complete_image(job: InpaintJob, completer: ImageCompleter, *, threshold: int | None = None) -> None:
    """Complete one image and write it.

    Args:
        job: the image, its mask and where the result is written.
        completer: see :class:`bench.inpainting.tiling.ImageCompleter`.
        threshold: gray level from which on a smoothed mask is hole; masks must be binary without one.

    Raises:
        BenchError: the image, its mask or the output cannot be used.
    """
    if job.problem:
        raise DataError(job.problem)
    photo = read_photo(job.photo)
    hole = read_hole(job.mask, photo, threshold=threshold)
    result = photo.completed(complete_tiled(completer, photo.rgb, hole), hole)
    atomic_write(job.output, result.save)
