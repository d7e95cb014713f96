"""``bench run``: the main job."""

from __future__ import annotations

import ast
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from bench.cli import options
from bench.cli.config_file import (
    ASSIGNMENT,
    allow_code_option,
    config_option,
    refuse_code_from_file,
    resolved_options,
)
from bench.cli.options import (
    GroupedCommand,
    NameList,
    NumberOrWord,
    cut_options,
    data_option,
    device_option,
    flatten_names,
    json_option,
    models_from_option,
    preset_default,
    preset_option,
    quiet_option,
    scored_images_option,
    size_option,
    unreadable_option,
)
from bench.cli.paths import GivenPath
from bench.cli.wrapping import echo_line, echo_notes
from bench.config import Precision, Request, RunConfig, resolve_config, resolve_mask_names
from bench.errors import BenchError, DiskError, UsageError
from bench.protocols import apply_protocol, find_protocol
from masks.file_names import escape_name
from models.learning_rate_schedules import SCHEDULES

if TYPE_CHECKING:
    from bench.runner.run_folder import RunFolder

#: Heading -> options, in ``--help`` and in the file of ``bench init``.
GROUPS = {
    "What is compared": (
        "models",
        "mask",
        "resize-masks",
        "data",
        "seeds",
        "samples-per-image",
        "metrics",
        "set",
        "models-from",
    ),
    "The experiment": (
        "preset",
        "protocol",
        "name",
        "config",
        "allow-code",
        "pictures",
        "dry-run",
        "plan-only",
        "gpus",
        "gpu-price",
    ),
    "Images": ("size", "crop", "split", "train-images", "evaluate-on", "test-images", "allow-unreadable"),
    "Training": (
        "track",
        "images-seen",
        "steps-per-phase",
        "batch",
        "micro-batch",
        "learning-rate",
        "schedule",
        "flips",
        "train-mask",
    ),
    "Machine": (
        "device",
        "precision",
        "deterministic",
        "compile",
        "cuda-graphs",
        "jobs",
        "jobs-per-gpu",
        "on",
        "mixed",
        "checkpoint-every",
        "recompute",
    ),
    "Tracking": ("samples", "tensorboard", "callback"),
    "Output": ("quiet", "verbose", "json", "help"),
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
    "  bench run --models pconv --set pconv.hole_weight=3 --name pconv-hole3\n"
    "  bench run --config experiment.toml --seeds 0,1,2",
)
@config_option
@click.option(
    "--models",
    multiple=True,
    type=NameList(),
    default=("all",),
    show_default="all",
    shell_complete=options.complete_models,
    help="Model names or groups (see 'bench list').",
)
@click.option(
    "--mask",
    "mask_names",
    multiple=True,
    type=NameList(),
    default=("center",),
    show_default="center",
    shell_complete=options.complete_masks,
    help="Mask names, 'paper' or 'all'.",
)
@click.option(
    "--resize-masks",
    type=click.Choice(["nearest", "stretch"]),
    help="Resize mask images of files:FOLDER that have another size; 'stretch' distorts those that are not square.",
)
@data_option
@click.option(
    "--protocol",
    metavar="NAME",
    help="Fix size, crop, split, masks and test images as a named protocol does ('bench list protocols').",
)
@preset_option
@click.option("--name", help="Name of the experiment.  [default: made from models, mask, data and preset]")
@click.option(
    "--seeds",
    multiple=True,
    type=NameList(),
    show_default=preset_default("seeds"),
    help="Train once per seed.",
)
@click.option(
    "--samples-per-image",
    type=int,
    show_default=preset_default("samples_per_image"),
    help="Completions that a stochastic model draws of each image; tables show their mean.",
)
@size_option(click.INT)
@click.option(
    "--track",
    type=click.Choice(["uniform", "faithful"]),
    show_default=preset_default("track"),
    help="uniform: one optimizer and batch size for all models; faithful: each paper's own.",
)
@click.option(
    "--images-seen",
    type=int,
    show_default=preset_default("images_seen"),
    help="Training budget of each model, in images.",
)
@click.option("--steps-per-phase", type=int, help="Steps per phase; overrides --images-seen.")
@click.option(
    "--batch",
    type=NumberOrWord("auto"),
    show_default=preset_default("batch", "16; faithful track: the paper's own"),
    help="Images per step; 'auto': the most that fit into memory.",
)
@click.option(
    "--micro-batch",
    type=int,
    help="Maximum images per forward pass; gradients are accumulated over the batch.",
)
@click.option(
    "--learning-rate",
    type=float,
    show_default=preset_default("learning_rate"),
    help="Adam learning rate (uniform track).",
)
@click.option(
    "--schedule",
    type=click.Choice(list(SCHEDULES)),
    show_default=preset_default("schedule"),
    help="Learning-rate schedule (uniform track).",
)
@click.option(
    "--flips/--no-flips",
    default=None,
    show_default=preset_default("flips"),
    help="Mirror half of the training images.",
)
@click.option(
    "--train-mask",
    show_default=preset_default("train_mask"),
    help="Mask to train on; 'same': train for each evaluated mask; 'auto': the mask, or a mixture of several.",
)
@click.option(
    "--train-images",
    type=NumberOrWord("all"),
    show_default=preset_default("train_images"),
    help="Number of training images to use.",
)
@click.option(
    "--evaluate-on",
    type=click.Choice(["test", "validation"]),
    show_default=preset_default("evaluate_on"),
    help="Images to score; use 'validation' to choose settings.",
)
@scored_images_option
@click.option(
    "--metrics",
    multiple=True,
    type=NameList(),
    show_default=preset_default("metrics"),
    help="Metrics besides the primary ones: names, 'primary', 'secondary' or 'all'.",
)
@cut_options
@unreadable_option
@click.option(
    "--precision",
    type=click.Choice(get_args(Precision)),
    show_default=preset_default("precision"),
    help="Number format of matrix products and convolutions; 'auto': bf16 where the device computes in it.",
)
@click.option(
    "--deterministic/--no-deterministic",
    default=None,
    show_default=preset_default("deterministic"),
    help="Replace or refuse kernels whose sums depend on the order of threads.",
)
@click.option(
    "--compile/--no-compile",
    default=None,
    show_default=preset_default("compile"),
    help="Compile networks with torch.compile.",
)
@click.option(
    "--cuda-graphs/--no-cuda-graphs",
    default=None,
    show_default=preset_default("cuda_graphs"),
    help="Compile networks and replay them as CUDA graphs (GPU only).",
)
@device_option
@click.option("--checkpoint-every", type=int, help="Steps between checkpoints.  [default: every two minutes]")
@click.option(
    "--jobs",
    type=NumberOrWord("auto"),
    default=1,
    show_default=True,
    help="Number of trainings to run in parallel, each with its evaluations; 'auto': one a GPU.",
)
@click.option(
    "--jobs-per-gpu",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Number of trainings that share a GPU with --jobs auto, as memory allows.",
)
@click.option(
    "--on",
    type=GivenPath(),
    metavar="local|FILE",
    help="Where to compute: 'local', or Slurm as a TOML file says (partition, gres, time ...).",
)
@click.option(
    "--mixed",
    is_flag=True,
    help="With --on: resume trainings on another kind of machine than they were begun on.",
)
@click.option(
    "--recompute",
    is_flag=True,
    help="Compute again what was computed with other versions or on other hardware.",
)
@click.option(
    "--samples",
    "samples_every",
    type=click.IntRange(1),
    metavar="STEPS",
    help="Complete the same eight images every STEPS steps; kept beside the training's log.",
)
@click.option("--tensorboard", is_flag=True, help="Write curves and samples for TensorBoard.")
@click.option(
    "--callback",
    "callback_names",
    multiple=True,
    type=NameList(),
    help="Report to an experiment tracker of an installed package (entry points inpaint_bench.callbacks).",
)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar=ASSIGNMENT,
    help="Change a field of a model's config.",
)
@models_from_option
@allow_code_option
@click.option(
    "--pictures/--no-pictures",
    default=True,
    show_default=True,
    help="Keep completed images and embed them in the report.",
)
@click.option(
    "--plan-only",
    is_flag=True,
    help="List the units of work, for 'bench work' on any scheduler; train nothing.",
)
@click.option(
    "--gpus",
    metavar="COUNTxNAME",
    help="With --plan-only: model the hours of all trainings on such GPUs, for example 8xA100; needs no GPU.",
)
@click.option(
    "--gpu-price",
    type=click.FloatRange(0.0),
    help="With --gpus: price of one of them for an hour; the modelled cost is printed.",
)
@click.option(
    "--dry-run", is_flag=True, help="List the cells and their state, estimate time and memory; train nothing."
)
@quiet_option
@click.option("--verbose", "-v", is_flag=True, help="Print every reading of the losses, and tracebacks.")
@json_option
def run_command(
    models: Any,
    mask_names: Any,
    resize_masks: str | None,
    protocol: str | None,
    preset: str,
    seeds: Any,
    metrics: Any,
    assignments: tuple[str, ...],
    callback_names: Any,
    tensorboard: bool,
    on: str | None,
    mixed: bool,
    plan_only: bool,
    gpus: str | None,
    gpu_price: float | None,
    dry_run: bool,
    quiet: bool,
    verbose: bool,
    as_json: bool,
    train_images: Any,
    test_images: Any,
    **others: Any,
) -> None:
    """Train, evaluate and report.

    Finished cells are taken from runs/<experiment>/, an interrupted training resumes from its newest checkpoint, and
    the report is written to reports/<experiment>/index.html.

    Exit code: 0 all done, 1 some cells failed, 2 usage, 130 Ctrl-C, 143 SIGTERM, 129 SIGHUP.
    """
    from bench.cli.console import print_preview, print_summary
    from bench.progress import ConsoleCallbacks
    from bench.runner.callbacks import CallbackGroup, load_callbacks
    from bench.runner.run import run_experiment

    # Before anything that the file names is imported.
    refuse_code_from_file(click.get_current_context())
    if gpus is not None and not plan_only:
        raise UsageError("--gpus: give --plan-only too; where to compute is --device, --jobs and --on")
    if gpu_price is not None and gpus is None:
        raise UsageError("--gpu-price: give --gpus too")
    others.pop("allow_code")
    # What belongs to the request is taken out; what remains are fields of the settings.
    asked = {k: others.pop(k) for k in _REQUEST_OPTIONS}
    # The protocol first: settings are resolved from the options that it fixes.
    if protocol is not None:
        fixed = _protocol_options(protocol, asked["data"], mask_names, test_images, others)
        mask_names, test_images = (fixed.pop("mask_names"),), fixed.pop("test_images")
        others |= fixed
        metrics = (*metrics, find_protocol(protocol).metrics)
    overrides = {
        **others,
        "seeds": _numbers(flatten_names(seeds)),
        "metrics": flatten_names(metrics) or None,
        "train_images": _count(train_images),
        "test_images": _count(test_images),
    }
    config = resolve_config(preset, overrides)
    # "all" is None in the settings, and None there means "not given", so it is put in afterwards.
    if test_images == "all":
        config = replace(config, test_images=None)
    asked["protocol"] = protocol
    request = _request(
        asked, flatten_names(models), flatten_names(mask_names), resize_masks, config, assignments
    )
    if dry_run:
        print_preview(request, as_json=as_json)
        return
    if plan_only:
        _print_units(request, gpus, gpu_price, as_json=as_json)
        return
    # Made before the data are opened: a missing package or an unreadable file must show at once.
    if on not in (None, "local") and config.batch == "auto":
        raise UsageError("--batch auto: with --on, this machine plans and another trains; give a number")
    launcher = _launcher(on, mixed=mixed)
    trackers = load_callbacks((*(["tensorboard"] if tensorboard else []), *flatten_names(callback_names)))
    procedural, began = request.data == "faces", click.get_current_context().obj["began"]
    with ConsoleCallbacks(quiet=quiet, verbose=verbose, procedural=procedural, began=began) as console:
        outcome = run_experiment(request, CallbackGroup([console, *trackers]), on=launcher)
        # The other processes of torchrun have nothing to print and nothing to write.
        if not outcome.is_main:
            return
        console.note("writing the report")
        # Inside the callbacks' context, so that the bars are gone only when the page is there.
        page = _write_report(outcome.store, pictures=request.pictures)
    print_summary(outcome.store.folder, page, failed=outcome.failed, as_json=as_json)
    sys.exit(1 if outcome.failed else 0)


def _protocol_options(
    name: str, data: str, mask_names: Any, test_images: Any, others: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what a protocol fixes, unless an option contradicts it; note where the data are not its own."""
    from bench.data.sources import find_source

    ctx = click.get_current_context()
    asked = {**others, "mask_names": flatten_names(mask_names), "test_images": test_images}
    given = {
        k: v
        for k, v in asked.items()
        # Only what the user gave can contradict a protocol; defaults give way to it.
        if ctx.get_parameter_source(k) is not click.core.ParameterSource.DEFAULT
    }
    protocol = find_protocol(name)
    fixed = apply_protocol(protocol, given)
    found = data if data == "faces" else find_source(Path(data)).kind.name
    if found != protocol.data:
        echo_line(
            f"note: the protocol {name} is defined on {protocol.data}, these images are {found}: no published number "
            "is comparable",
            fg="yellow",
            err=True,
        )
    return fixed


#: Options that are fields of a request, not of its settings.
_REQUEST_OPTIONS = (
    "data",
    "name",
    "models_from",
    "device",
    "pictures",
    "allow_unreadable",
    "jobs",
    "jobs_per_gpu",
    "recompute",
    "samples_every",
)


def _request(
    asked: dict[str, Any],
    models: Sequence[str],
    mask_names: Sequence[str],
    resize_masks: str | None,
    config: RunConfig,
    assignments: tuple[str, ...],
) -> Request:
    """Build the run that the options describe, with every name expanded and checked."""
    from bench.api import expand_model_names
    from bench.runner.run_folder import check_name

    # Checked before models are looked for: a slash in a name is a common mistake, and cheap to find.
    if asked["name"] is not None:
        check_name(asked["name"])
    chosen_models = expand_model_names(models, asked["models_from"])
    asked_masks = masks = tuple(resolve_mask_names(mask_names))
    # The parameter belongs to the mask's name, so that it enters keys and records like any other.
    if resize_masks:
        masks = tuple(
            f"{m}{'&' if '?' in m else '?'}resize={resize_masks}" if m.startswith("files:") else m
            for m in masks
        )
    model_options = _assignments(assignments)
    ctx = click.get_current_context()
    resolved = {
        **config.as_dict(),
        "test_images": config.test_images or "all",
        "models": list(chosen_models),
        "mask_names": list(asked_masks),
        "assignments": model_options,
    }
    return Request(
        **asked,
        models=chosen_models,
        masks=masks,
        settings=config,
        model_options=model_options,
        # Escaped, since the manifest is UTF-8 and arguments may be any bytes.
        command=("bench", *map(escape_name, sys.argv[1:])),
        options=resolved_options(ctx.command, ctx.params, resolved),
    )


def _write_report(store: RunFolder, *, pictures: bool) -> Path:
    """Render the experiment's page and the overview."""
    from bench.experiments import list_experiments
    from bench.runner.run_folder import REPORTS, RUNS
    from reports.index_page import render_index
    from reports.render import render_report
    from reports.results.experiment import ExperimentError

    try:
        page = render_report(store.folder, store.report_folder, pictures=pictures)
        render_index(list_experiments(RUNS), REPORTS)
    except ExperimentError as error:
        raise BenchError(str(error)) from error
    except OSError as error:
        where = error.filename or store.report_folder
        raise DiskError(f"cannot write the report: {where}: {error.strerror or error}") from error
    return page


def _launcher(on: str | None, *, mixed: bool) -> Any:
    """Return what ``--on`` names; ``None`` for this machine."""
    if on in (None, "local"):
        return None
    from bench.runner.slurm import SlurmLauncher
    from bench.runner.slurm_jobs import read_slurm_config

    return SlurmLauncher(read_slurm_config(Path(on), mixed=mixed))


def _print_units(request: Request, gpus: str | None, gpu_price: float | None, *, as_json: bool) -> None:
    """Write the request into the experiment's folder and print its open units, with modelled hours where asked."""
    import json

    from bench.runner.callbacks import RunCallbacks
    from bench.runner.prepare import prepare_run
    from bench.runner.work import open_units, portable_request, read_saved_cell, write_request

    if gpus is not None:
        from bench.perf.sweep import model_sweep, parse_gpus

        count, gpu = parse_gpus(gpus)  # before the data are opened
    # Without callbacks: the listing is read by programs. What of the data is not used decides what it lists.
    prepared = prepare_run(request, RunCallbacks())
    echo_notes(prepared.context.data.warnings)
    saved = {cell.key: read_saved_cell(prepared, cell) for cell in prepared.plan.cells if cell.what}
    units = open_units(prepared, saved)
    path = write_request(*portable_request(prepared.context))
    modelled = None
    if gpus is not None:
        precision = "bf16" if request.settings.precision == "auto" else request.settings.precision
        modelled = model_sweep(
            units,
            gpu,
            count,
            precision=precision,
            flips=request.settings.flips,
            price=gpu_price,
            on_progress=lambda label: echo_line(f"counting {label}", err=True),
        )
    if as_json:
        listed: dict[str, Any] = {"experiment": prepared.context.store.name, "request": str(path)}
        listed["units"] = [unit.as_json() for unit in units]
        if modelled is not None:
            listed["modelled"] = modelled
        click.echo(json.dumps(listed, indent=1))
        return
    for unit in units:
        echo_line(
            f"bench work --request {path} --what {unit.key[:12]}  # {unit.name}, {len(unit.cells)} cells"
        )
    if modelled is not None:
        _print_modelled(modelled)


def _print_modelled(sweep: Mapping[str, Any]) -> None:
    """Print hours and cost of a sweep."""
    echo_line("")
    echo_line(
        f"Modelled, not measured, on {sweep['gpu']} in {sweep['precision']}; validation and evaluation come on top:"
    )
    width = max([len(row["label"]) for row in sweep["trainings"]], default=0)
    for row in sweep["trainings"]:
        echo_line(
            f"  {row['label']:<{width}}  {row['trainings']:3} trainings of {row['hours_each']:6.2f} hours"
        )
    number = sum(row["trainings"] for row in sweep["trainings"])
    echo_line(
        f"  {number} trainings: {sweep['gpu_hours']:.1f} GPU-hours; {sweep['wall_hours']:.1f} hours on "
        f"{sweep['gpus']} GPUs, one training on each"
    )
    if "price_per_gpu_hour" in sweep:
        echo_line(
            f"  at {sweep['price_per_gpu_hour']:g} per GPU-hour: {sweep['cost_of_hours_used']:,.0f} for the hours "
            f"used, {sweep['cost_of_all_held']:,.0f} with all {sweep['gpus']} held to the end"
        )


def _numbers(names: tuple[str, ...]) -> tuple[int, ...] | None:
    try:
        # None for nothing given, so that the preset's seeds apply.
        return tuple(int(n) for n in names) or None
    except ValueError:
        raise UsageError(f"--seeds {','.join(names)}: give numbers, for example 0,1,2") from None


def _count(value: int | str | None) -> int | None:
    return value if isinstance(value, int) else None


def _assignments(given: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Parse ``MODEL.FIELD=VALUE`` into model -> field -> value (a Python literal, or text)."""
    options: dict[str, dict[str, Any]] = {}
    for text in given:
        target, equals, value = text.partition("=")
        model, dot, field = target.partition(".")
        if not (equals and dot and model and field):
            raise UsageError(f"--set {text!r}: give MODEL.FIELD=VALUE, for example pconv.hole_weight=3")
        # Numbers, booleans and tuples are written as in Python; whatever is none of these is a text.
        try:
            parsed = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            parsed = value
        options.setdefault(escape_name(model), {})[field] = parsed
    return options
