"""``bench inpaint``: complete pictures of one's own."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from bench.cli.options import models_from_option
from bench.errors import UsageError


@click.command(
    epilog="\b\nExamples:\n"
    "  bench inpaint photo.jpg --mask hole.png --model biharmonic\n"
    "  bench inpaint photo.jpg --mask hole.png --model mgs-iim --from all-center-celeba-paper\n"
    "  bench inpaint photos --mask holes --from mgs-iim-paper-seed0.safetensors --output completed"
)
@click.argument("photo", type=click.Path(path_type=Path))
@click.option(
    "--mask",
    required=True,
    type=click.Path(path_type=Path),
    help="Black and white picture of the same size, white = hole; for a folder of pictures, a folder of masks "
    "of the same names, or one mask for all.",
)
@click.option("--model", help="biharmonic, telea or navier-stokes; or with --from, which of its models.")
@click.option(
    "--from",
    "source",
    metavar="EXPERIMENT|FILE",
    help="A finished experiment, or a file of 'bench export-weights'.",
)
@click.option("--seed", type=int, help="Of several trainings in an experiment.  [default: the lowest]")
@click.option("--train-mask", help="Of several trainings in an experiment.")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    help="The PNG to write, or for a folder the folder.  [default: PHOTO-inpainted(.png) here]",
)
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1 ...")
@models_from_option
@click.option("--quiet", "-q", is_flag=True, help="Print failures only.")
def inpaint_command(
    photo: Path,
    mask: Path,
    model: str | None,
    source: str | None,
    seed: int | None,
    train_mask: str | None,
    output: Path | None,
    device: str,
    models_from: tuple[str, ...],
    quiet: bool,
) -> None:
    """Fill the hole of PHOTO, or of every picture in the folder PHOTO. Known pixels are kept bit for bit.

    Any size: for each part of the hole the model is shown a square of the picture, twice as wide as the part
    and reduced to the size it was trained at; what it makes of the hole is enlarged and put back.

    Exit code: 0 all done, 1 some pictures could not be used (the others are done), 2 usage.
    """
    from bench.experiments import open_experiment
    from bench.inpainting import job
    from bench.inpainting import model_source as sources
    from bench.progress import ConsoleCallbacks
    from bench.training.device import select_device

    if source is None and (model is None or seed is not None or train_mask is not None):
        raise UsageError("give --model biharmonic, or --from EXPERIMENT (or a weights file)")
    work = job.list_jobs(photo, mask, output)
    compute = select_device(device, "fp32")
    files = [Path(p) for p in models_from]
    if source is None:
        assert model is not None
        filler = sources.load_baseline(model, compute, files)
    elif Path(source).is_file() or source.endswith(".safetensors"):
        filler = sources.load_weights_file(Path(source), model, compute, files)
    else:
        filler = sources.load_from_experiment(
            open_experiment(source), model, seed, train_mask, compute, files
        )
    if photo.is_file():
        job.complete_image(work[0], filler)
        failed = 0
    else:
        with ConsoleCallbacks(quiet=quiet) as callbacks:
            failed = job.run_jobs(
                work,
                filler,
                on_progress=lambda done, of: callbacks.preparing("inpainting", done, of),
                failed=lambda text: click.echo(f"failed: {text}", err=True),
            )
    if not quiet:
        where = work[0].output if photo.is_file() else f"{len(work) - failed} of {len(work)} pictures"
        click.echo(f"written: {where}")
    sys.exit(1 if failed else 0)
