"""``bench inpaint``: complete images of one's own."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from bench.cli.options import OutputPath, device_option, models_from_option, output_option, quiet_option
from bench.cli.paths import GivenPath
from bench.cli.wrapping import echo_line


@click.command(
    epilog="\b\nExamples:\n"
    "  bench inpaint photo.jpg --mask hole.png --model biharmonic\n"
    "  bench inpaint photo.jpg --mask hole.png --model mgs-iim --from my-run\n"
    "  bench inpaint photos --mask holes --from mgs-iim.safetensors -o completed"
)
@click.argument("photo", type=GivenPath(path_type=Path))
@click.option(
    "--mask",
    required=True,
    type=GivenPath(path_type=Path),
    help="Black and white image of the same size, white = hole; for a folder of images, a folder of masks "
    "of the same names, or one mask for all.",
)
@click.option(
    "--threshold",
    type=click.IntRange(1, 255),
    metavar="LEVEL",
    help="Take smoothed masks: pixels from this gray level (1 to 255) are hole.",
)
@click.option("--model", help="biharmonic, telea or navier-stokes; or with --from, which of its models.")
@click.option(
    "--from",
    "source",
    metavar="EXPERIMENT|FILE",
    help="A finished experiment, or a file of 'bench export-weights'.",
)
@click.option("--seed", type=int, help="Which training of an experiment.  [default: the lowest seed]")
@click.option("--train-mask", help="Which training of an experiment, by its training mask.")
@output_option(
    "The PNG to write, or for a folder the folder.  [default: PHOTO-inpainted(.png) here]",
    type=OutputPath(dir_okay=True),
)
@click.option("--overwrite", is_flag=True, help="Replace results that exist.")
@device_option
@models_from_option
@quiet_option
def inpaint_command(
    photo: Path,
    mask: Path,
    threshold: int | None,
    model: str | None,
    source: str | None,
    seed: int | None,
    train_mask: str | None,
    output: Path | None,
    overwrite: bool,
    device: str,
    models_from: tuple[str, ...],
    quiet: bool,
) -> None:
    """Fill the hole of PHOTO, or of every image in the folder PHOTO. Known pixels are kept bit for bit.

    Any size: for each part of the hole the model sees a square of the image, twice as wide as the part and reduced to
    the size it was trained at; its completion of the hole is enlarged and pasted back.

    Exit code: 0 all done, 1 some images could not be used (the others are done), 2 usage.
    """
    from bench.inpainting import job
    from bench.inpainting.model_source import load_completer
    from bench.progress import ConsoleCallbacks
    from bench.training.device import select_device
    from masks.file_names import escape_name

    jobs = job.list_jobs(
        photo,
        mask,
        output,
        overwrite=overwrite,
        on_unused=lambda text: echo_line(f"note: {escape_name(text)}", err=True),
    )
    compute = select_device(device, "fp32")
    files = [Path(p) for p in models_from]
    completer = load_completer(source, model, compute, files, seed=seed, train_mask=train_mask)
    failed = 0
    if photo.is_file():
        job.complete_image(jobs[0], completer, threshold=threshold)
    else:
        with ConsoleCallbacks(quiet=quiet) as callbacks:
            failed = job.run_jobs(
                jobs,
                completer,
                threshold=threshold,
                on_progress=lambda done, of: callbacks.preparing("inpainting", done, of),
                on_failure=lambda text: echo_line(f"failed: {text}", err=True),
            )
    if not quiet:
        where = jobs[0].output if photo.is_file() else f"{len(jobs) - failed} of {len(jobs)} images"
        echo_line(f"written: {where}")
    sys.exit(1 if failed else 0)
