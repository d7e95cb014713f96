"""``bench score``: pictures made by any other program, judged as our own models are."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from bench.cli import options
from bench.cli.options import (
    NameList,
    cut_options,
    data_option,
    device_option,
    flatten_names,
    output_option,
    preset_option,
    scored_images_option,
    size_option,
    with_preset,
)
from bench.cli.paths import GivenPath
from bench.cli.wrapping import echo_line, echo_notes
from bench.config import resolve_mask_names
from bench.errors import BenchError, DiskError, UsageError
from bench.wording import format_count
from masks.file_names import escape_name

if TYPE_CHECKING:
    import pandas as pd

    from bench.data import DataSpec
    from bench.data.dataset import Dataset, ImageSet
    from bench.runner.run_folder import RunFolder
    from bench.scoring.add_to_experiment import ScoringTarget
    from bench.scoring.external_images import ScoredImages
    from masks.mask_images import Masks


@click.command(
    epilog="\b\nExamples:\n"
    "  bench masks export --data ~/celeba --mask center --preset paper masks-center\n"
    "  bench score my-results --data ~/celeba --mask center --preset paper --output my-results.parquet\n"
    "  bench score my-results --mask center --into all-center-celeba-paper --label 'My method'\n"
    "  bench score my-results-1 --mask center --into all-center-celeba-paper --label 'My method' --seed 1"
)
@click.argument("predictions", type=GivenPath(file_okay=False, path_type=Path))
@data_option
@click.option("--mask", required=True, help="The mask that the pictures were completed on (one name).")
@preset_option
@size_option(click.IntRange(16, 1024))
@cut_options
@scored_images_option
@click.option(
    "--suffix",
    default="",
    help="What the program adds to the images' names: _out for 000001_out.png.",
)
@click.option("--label", help="What tables call the method (default: the folder's name).")
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Which training of the program, or which of its random seeds, made the pictures: under one label, each "
    "seed is a row of its own.",
)
@click.option(
    "--metrics",
    "names",
    multiple=True,
    type=NameList(),
    show_default="hole_psnr_db,hole_mae",
    help="Measured besides PSNR, SSIM and LPIPS, as in 'bench run': metric names, 'secondary' or 'all'.",
)
@click.option(
    "--into",
    metavar="EXPERIMENT",
    shell_complete=options.complete_experiments,
    help="Add the row to the table and the report of an experiment, whose data, preset, size, crop, split, test images "
    "and metrics then need not be given; scored again under the same label, it replaces the row.",
)
@device_option
@output_option("Write the rows, one an image (Parquet).")
def score_command(
    predictions: Path,
    data: str,
    mask: str,
    preset: str,
    size: int | None,
    crop: str | None,
    split: str | None,
    test_images: Any,
    suffix: str,
    label: str | None,
    seed: int,
    names: Any,
    into: str | None,
    device: str,
    output: Path | None,
) -> None:
    """Score the pictures in PREDICTIONS, completed by any program on masks of 'bench masks export'.

    Pictures are matched to test images by path and file name (without extension), or by file name alone where those
    are unique, in whatever sub-folder. Exit code: 0 every test image scored, 1 some are missing
    or unusable (the others are scored), 2 usage.

    With --into, every image must have its picture, and images and masks must be the experiment's. Each --seed counts as
    one training of which nothing is known: with fewer than three, no comparison with a trained model is decided.
    """
    from bench.data import open_data
    from bench.evaluation.evaluator import sample_subset
    from bench.evaluation.metrics import prepare_distribution_metrics, prepare_metrics
    from bench.runner.prepare import evaluated_images
    from bench.scoring import external_images as scoring
    from bench.training.device import select_device
    from masks.file_names import real_path

    folder = real_path(predictions).name
    title = scoring.method_label(label, folder)
    where = select_device(device).device
    chosen = with_preset(preset, size=size, crop=crop, split=split, test_images=test_images)
    task = _resolve_task(data, mask, chosen, flatten_names(names), into)
    dataset = open_data(task.spec)
    echo_notes(dataset.warnings)
    images = sample_subset(evaluated_images(dataset, task.evaluate_on), task.num_images)
    mask_name, drawn = _draw_masks(mask, images, dataset)
    # After the masks are drawn and before anything is scored: other data, images or masks are refused.
    if task.target is not None:
        task.target.check(dataset, images, drawn)
    ready, unavailable = prepare_metrics(task.metrics, where, dataset.face_box)
    sets, unavailable_sets = prepare_distribution_metrics(task.metrics, where, dataset.face_box)
    scored = scoring.score_images(
        predictions, images, drawn, ready, where, sets=sets, face_box=dataset.face_box, suffix=suffix
    )
    # On standard error, so that the table alone is on standard output.
    echo_line(f"{predictions}: {scored.findings.summary(len(images))}", err=True)
    for sentence in scored.findings.sentences():
        echo_line(f"note: {sentence}", fg="yellow", err=True)
    for name, reason in (unavailable | unavailable_sets).items():
        echo_line(f"note: {name} is not available: {reason}", fg="yellow", err=True)
    _print(f"{title} on {dataset.title}, mask {mask_name}", len(images), scored, task.metrics)
    if output is not None:
        _write_rows(
            scoring.as_result_rows(scored.rows, label=title, mask=mask_name, size=task.spec.size, seed=seed),
            output,
        )
    if task.target is not None:
        source = scoring.method_label(None, folder)
        _add_to_experiment(task.target, scored, images, name=title, source=source, seed=seed)
    if dataset.procedural:
        echo_line("These are procedural faces, not real results: give --data PATH for CelebA or a folder.")
    sys.exit(1 if scored.findings.incomplete else 0)


@dataclass(frozen=True)
class _ScoringTask:
    """What pictures are scored on, and for which experiment (``None``: for none)."""

    spec: DataSpec
    evaluate_on: str
    num_images: int | None
    metrics: list[str]
    target: ScoringTarget | None


def _resolve_task(
    data: str, mask: str, chosen: dict[str, Any], names: Sequence[str], into: str | None
) -> _ScoringTask:
    """Resolve what was typed; what was not is the experiment's own, or the preset's where there is none.

    Args:
        data: The value of ``--data``.
        mask: The one mask.
        chosen: Size, crop, split and number of test images, each typed or of the preset.
        names: The values of ``--metrics``.
        into: The experiment, which is opened before the data: one that is not there should not cost an hour of packing.
    """
    from bench.config import RunConfig
    from bench.data import DataSpec
    from bench.evaluation.metrics import expand_metrics
    from bench.experiments import find_experiment
    from bench.scoring.add_to_experiment import open_target

    metrics = expand_metrics(("primary", *(names or RunConfig().metrics)))
    num_images = chosen.pop("test_images")
    spec = DataSpec(source=data, **chosen)
    if into is None:
        return _ScoringTask(spec, "test", num_images, metrics, None)
    target = open_target(find_experiment(into), mask)
    settings = target.manifest["settings"]
    asked = {"data": "source", "size": "size", "crop": "crop", "split": "split"}
    # What was typed wins over the experiment's own, and is then checked against its fingerprint.
    given = {field: getattr(spec, field) for option, field in asked.items() if _is_given(option)}
    return _ScoringTask(
        replace(target.spec, **given),
        settings.get("evaluate_on", "test"),
        num_images if _is_given("test_images") else settings["test_images"],
        metrics if _is_given("names") else target.metrics,
        target,
    )


def _draw_masks(mask: str, images: ImageSet, dataset: Dataset) -> tuple[str, Masks]:
    """Return the one mask's name and what it draws for the images, saying by which rule masks are paired."""
    from bench.runner.prepare import pairing_rule
    from masks import registry

    try:
        named = resolve_mask_names([mask])
        if len(named) != 1:
            raise UsageError(f"--mask {mask}: one mask a folder of pictures; there {len(named)} are meant")
        rule = pairing_rule(named[0], images, dataset)
        drawn = registry.draw_masks(named[0], images.ids, dataset.size)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if rule:
        echo_line(rule, err=True)
    return named[0], drawn


def _write_rows(rows: pd.DataFrame, output: Path) -> None:
    from reports.results.schema import write_rows

    try:
        write_rows(rows, output)
    except OSError as error:
        raise UsageError(f"--output {output}: cannot be written ({error.strerror or error})") from error
    echo_line(f"rows: {output}")


def _add_to_experiment(
    target: ScoringTarget, scored: ScoredImages, images: ImageSet, *, name: str, source: str, seed: int
) -> None:
    """Add the row to table and report."""
    from bench.scoring.add_to_experiment import add_external_row

    command_line = ("bench", *map(escape_name, sys.argv[1:]))
    said = add_external_row(target, scored, images, name=name, source=source, command=command_line, seed=seed)
    echo_notes([said] if said else [])
    _report(target.store, pictures=bool(target.manifest["settings"].get("pictures", True)))


def _is_given(name: str) -> bool:
    source = click.get_current_context().get_parameter_source(name)
    # Both kinds of default: a value that nobody typed must not override the experiment's.
    return source is not None and source not in (ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP)


def _report(store: RunFolder, *, pictures: bool) -> None:
    """Write the experiment's page anew."""
    from bench.experiments import list_experiments
    from bench.runner.run_folder import REPORTS, RUNS
    from reports.index_page import render_index
    from reports.render import render_report
    from reports.results.experiment import ExperimentError

    try:
        page = render_report(store.folder, store.report_folder, pictures=pictures)
        # The overview lists runs/ of this folder; an experiment elsewhere is not in it.
        if store.folder.parent == RUNS.resolve():
            render_index(list_experiments(RUNS), REPORTS)
    except ExperimentError as error:
        raise BenchError(str(error)) from error
    except OSError as error:
        raise DiskError(f"cannot write the report: {error.strerror or error}") from error
    echo_line(f"added to {store.name}; report: {page}")


def _print(heading: str, count: int, scored: ScoredImages, metrics: list[str]) -> None:
    from bench.evaluation.metrics import list_metrics

    rows = scored.rows
    echo_line(f"{heading}: {len(rows):,} of {count:,} test images", bold=True)
    width = max(map(len, metrics))
    for name in metrics:
        info = list_metrics()[name]
        score = scored.sets.get(name)
        value = score.value if score else float(rows[name].mean()) if name in rows else None
        shown = info.format_value(value, missing="n/a")
        echo_line(f"  {name:<{width}}  {shown:>8}  {info.convention}")
    if rows["identical"].any():
        identical = format_count(int(rows["identical"].sum()), "image")
        echo_line(f"  equal to the truth, their PSNR counts as the cap: {identical}")
