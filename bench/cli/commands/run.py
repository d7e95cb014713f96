"""``bench run``: the main job."""

from __future__ import annotations

import sys
from typing import Any

import click

from bench.cli import options as completing
from bench.cli.config_file import ASSIGNMENT, config_option, resolved_options
from bench.cli.options import (
    GroupedCommand,
    NameList,
    NumberOrWord,
    data_option,
    flatten_names,
    models_from_option,
)
from bench.config import PRESETS
from bench.errors import BenchError, DiskError, UsageError

#: Heading -> options, in ``--help`` and in the file of ``bench init``.
GROUPS = {
    "What is compared": ("models", "mask", "resize-masks", "data", "seeds", "metrics", "set", "models-from"),
    "The experiment": ("preset", "name", "config", "pictures", "dry-run"),
    "Images": ("size", "crop", "split", "train-images", "evaluate-on", "test-images", "allow-unreadable"),
    "Training": (
        "track",
        "images-seen",
        "steps-per-phase",
        "batch",
        "micro-batch",
        "learning-rate",
        "flips",
        "train-mask",
    ),
    "Machine": ("device", "precision", "compile", "jobs", "checkpoint-every"),
    "What is watched": ("samples", "tensorboard"),
    "What is printed": ("quiet", "verbose", "json", "help"),
}


@click.command(
    name="run",
    cls=GroupedCommand,
    groups=GROUPS,
    epilog="\b\nExamples:\n"
    "  bench run --models all --mask center\n"
    "  bench run --models mgs-iim,glcic --mask center,random-rect --data ~/celeba\n"
    "  bench run --models all --mask center --data ~/celeba --preset paper\n"
    "  bench run --models all --mask center --metrics secondary\n"
    "  bench run --models pconv --mask center --set pconv.hole_weight=3 --name pconv-hole3\n"
    "  bench run --config experiment.toml --seeds 0,1,2",
)
@config_option
@click.option(
    "--models",
    multiple=True,
    type=NameList(),
    default=("all",),
    show_default="all",
    shell_complete=completing.complete_models,
    help="Model names or groups (see 'bench list').",
)
@click.option(
    "--mask",
    "mask_names",
    multiple=True,
    type=NameList(),
    default=("center",),
    show_default="center",
    shell_complete=completing.complete_masks,
    help="Mask names, 'paper' or 'all'.",
)
@click.option(
    "--resize-masks",
    type=click.Choice(["nearest", "stretch"]),
    help="Let files:FOLDER take mask images of another size; 'stretch' distorts those that are not square.",
)
@data_option
@click.option("--preset", default="quick", show_default=True, help=f"Defaults: {', '.join(PRESETS)}.")
@click.option("--name", help="Name of the experiment (default: made from models, mask, data and preset).")
@click.option("--seeds", multiple=True, type=NameList(), help="One training for each, e.g. 0,1,2.")
@click.option("--size", type=int, help="Side of the images in pixels.")
@click.option(
    "--track",
    type=click.Choice(["uniform", "faithful"]),
    help="The same optimizer and batch for all, or each paper's own.",
)
@click.option("--images-seen", type=int, help="Training budget of each model, in images.")
@click.option(
    "--steps-per-phase", type=int, help="Exactly so many steps in every phase, instead of the budget."
)
@click.option(
    "--batch", type=NumberOrWord("auto"), help="Images per step; 'auto': the most that fit into memory."
)
@click.option("--micro-batch", type=int, help="At most so many images at once; gradients are accumulated.")
@click.option("--learning-rate", type=float, help="Of the uniform track's Adam.")
@click.option("--flips/--no-flips", default=None, help="Mirror half of the training images.")
@click.option(
    "--train-mask", help="What is trained on: a mask, 'same' (each evaluated mask by itself) or 'auto'."
)
@click.option("--train-images", type=NumberOrWord("all"), help="Use only so many training images.")
@click.option(
    "--evaluate-on",
    type=click.Choice(["test", "validation"]),
    help="Images that are scored; 'validation' to choose settings by (default: test).",
)
@click.option(
    "--test-images", type=NumberOrWord("all"), help="Score so many of these images, chosen by seed, or 'all'."
)
@click.option(
    "--metrics",
    multiple=True,
    type=NameList(),
    show_default="hole_psnr_db,hole_mae",
    help="Measured besides the primary ones: metric names, 'primary', 'secondary' or 'all'.",
)
@click.option("--split", help="auto, official, paper, identity or digest.")
@click.option("--crop", help="center, resize or face.")
@click.option(
    "--allow-unreadable", is_flag=True, help="Go on although over 1 % of the pictures cannot be read."
)
@click.option("--precision", type=click.Choice(["auto", "bf16", "fp32"]), help="bf16 autocast or fp32.")
@click.option("--compile/--no-compile", default=None, help="Networks through torch.compile.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1 ...")
@click.option("--checkpoint-every", type=int, help="Steps between checkpoints (default: every two minutes).")
@click.option(
    "--jobs",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Trainings side by side; they share threads.",
)
@click.option(
    "--samples",
    "samples_every",
    type=click.IntRange(1),
    metavar="STEPS",
    help="Complete the same eight images every so many steps; kept beside the training's log.",
)
@click.option("--tensorboard", is_flag=True, help="Write curves and samples for TensorBoard too.")
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar=ASSIGNMENT,
    help="Change a field of a model's config.",
)
@models_from_option
@click.option("--pictures/--no-pictures", default=True, help="Keep pictures and embed them in the report.")
@click.option(
    "--dry-run", is_flag=True, help="Show the cells, what of them is done, time and memory; train nothing."
)
@click.option("--quiet", "-q", is_flag=True, help="Print only the table and the path of the report.")
@click.option("--verbose", "-v", is_flag=True, help="Print every reading of the losses, and tracebacks.")
@click.option("--json", "as_json", is_flag=True, help="Print the table as JSON.")
def run_command(
    models: Any,
    mask_names: Any,
    resize_masks: str | None,
    data: str,
    preset: str,
    name: str | None,
    seeds: Any,
    metrics: Any,
    assignments: tuple[str, ...],
    models_from: tuple[str, ...],
    device: str,
    pictures: bool,
    allow_unreadable: bool,
    jobs: int,
    samples_every: int | None,
    tensorboard: bool,
    dry_run: bool,
    quiet: bool,
    verbose: bool,
    as_json: bool,
    train_images: Any,
    test_images: Any,
    **settings: Any,
) -> None:
    """Train, evaluate and report.

    Finished cells are taken from runs/<experiment>/, an interrupted training goes on from its newest checkpoint, and
    the report is written to reports/<experiment>/index.html. Exit code: 0 all done, 1 some cells failed, 2 usage,
    130 Ctrl-C, 143 SIGTERM.
    """
    from pathlib import Path

    from bench.cli.console import print_preview, print_summary
    from bench.config import Request, resolve_config
    from bench.progress import ConsoleCallbacks
    from bench.runner.run_folder import REPORTS, RUNS
    from masks.folder import MaskFileError
    from masks.registry import UnknownMaskError
    from masks.registry import resolve_masks as resolve_masks
    from models.discovery import expand_models
    from models.errors import ModelError

    try:
        chosen_models = expand_models(flatten_names(models), [Path(p) for p in models_from])
        asked_masks = chosen_masks = resolve_masks(list(flatten_names(mask_names)))
        if resize_masks:
            chosen_masks = [
                f"{m}{'&' if '?' in m else '?'}resize={resize_masks}" if m.startswith("files:") else m
                for m in chosen_masks
            ]
    except (ModelError, UnknownMaskError, MaskFileError) as error:
        raise UsageError(str(error)) from error
    overrides = {
        **settings,
        "seeds": _numbers(flatten_names(seeds)),
        "metrics": flatten_names(metrics) or None,
        "train_images": _count(train_images),
    }
    if test_images is not None:
        overrides["test_images"] = _count(test_images)
    run_config = resolve_config(preset, overrides)
    if test_images == "all":
        import dataclasses

        run_config = dataclasses.replace(run_config, test_images=None)
    model_options = _assignments(assignments)
    as_resolved = {"models": chosen_models, "mask_names": asked_masks, "assignments": model_options}
    request = Request(
        models=tuple(chosen_models),
        masks=tuple(chosen_masks),
        data=data,
        settings=run_config,
        model_options=model_options,
        models_from=models_from,
        name=name,
        device=device,
        pictures=pictures,
        allow_unreadable=allow_unreadable,
        jobs=jobs,
        samples_every=samples_every,
        tensorboard=tensorboard,
        command=("bench", *sys.argv[1:]),
        options=resolved_options(
            click.get_current_context().command,
            click.get_current_context().params,
            {**run_config.as_dict(), "test_images": run_config.test_images or "all", **as_resolved},
        ),
    )
    from bench.runner.run import run_experiment
    from reports.index_page import render_index
    from reports.render import render_report
    from reports.results.experiment import ExperimentError

    if dry_run:
        print_preview(request, as_json=as_json)
        return
    with ConsoleCallbacks(quiet=quiet, verbose=verbose, procedural=data == "faces") as callbacks:
        outcome = run_experiment(request, callbacks)
        if not outcome.is_main:
            return
        callbacks.note("writing the report")
        try:
            page = render_report(outcome.store.folder, outcome.store.report_folder, pictures=pictures)
            render_index(RUNS, REPORTS)
        except ExperimentError as error:
            raise BenchError(str(error)) from error
        except OSError as error:
            where = error.filename or outcome.store.report_folder
            raise DiskError(f"cannot write the report: {where}: {error.strerror or error}") from error
    print_summary(outcome.store.folder, page, failed=outcome.failed, as_json=as_json)
    sys.exit(1 if outcome.failed else 0)


def _numbers(names: tuple[str, ...]) -> tuple[int, ...] | None:
    try:
        return tuple(int(n) for n in names) or None
    except ValueError:
        raise UsageError(f"--seeds {','.join(names)}: give numbers, for example 0,1,2") from None


def _count(value: int | str | None) -> int | None:
    return value if isinstance(value, int) else None


def _assignments(given: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """``MODEL.FIELD=VALUE`` -> model -> field -> value (a Python literal, or text)."""
    import ast

    options: dict[str, dict[str, Any]] = {}
    for text in given:
        target, equals, value = text.partition("=")
        model, dot, field = target.partition(".")
        if not (equals and dot and model and field):
            raise UsageError(f"--set {text!r}: give MODEL.FIELD=VALUE, for example pconv.hole_weight=3")
        try:
            parsed = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            parsed = value
        options.setdefault(model, {})[field] = parsed
    return options
