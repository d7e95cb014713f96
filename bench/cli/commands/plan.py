"""``bench plan``: how many seeds and images a difference takes, before a run."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from bench.cli import options
from bench.cli.options import json_option
from bench.cli.wrapping import echo_wrapped
from bench.errors import UsageError
from masks.file_names import one_line

if TYPE_CHECKING:
    from reports.claims.power import PlanLine, Spread
    from reports.results.experiment import Experiment

#: Test images planned for, as shares of the pilot's.
_SHARES = (0.25, 1.0, 4.0)


@click.command(
    epilog="\b\nExamples:\n  bench plan --pilot all-center-celeba-quick --detect 0.2\n"
    "  bench plan --detect 0.2 --num-models 4"
)
@click.option(
    "--pilot",
    metavar="EXPERIMENT",
    shell_complete=options.complete_experiments,
    help="Measure the spread on this one.  [default: an assumed spread, which is printed]",
)
@click.option(
    "--detect", type=float, required=True, help="Smallest difference that matters, in the metric's unit."
)
@click.option("--metric", default="psnr_db", show_default=True, help="Metric column.")
@click.option("--mask", help="Mask.  [default: center, or the pilot's first]")
@click.option(
    "--num-models",
    type=click.IntRange(2),
    help="Trained models to compare, all pairs.  [default: the pilot's, or 4]",
)
@click.option(
    "--power",
    type=click.FloatRange(0.1, 0.99),
    default=0.8,
    show_default=True,
    help="How often the difference should be decided.",
)
@click.option("--images-seen", type=click.IntRange(1), help="Budget of a training, for the hours.")
@json_option
def plan_command(
    pilot: str | None,
    detect: float,
    metric: str,
    mask: str | None,
    num_models: int | None,
    power: float,
    images_seen: int | None,
    as_json: bool,
) -> None:
    """Say how many seeds and test images decide a difference between any two of several models.

    A difference counts as found where it is decided with the given power after Holm's correction for all pairs.
    Hours are those of the pilot's trainings, in proportion to --images-seen where it is given.
    """
    from reports.claims.power import ASSUMED_SPREAD, plan_experiment

    if not detect > 0:
        raise UsageError("--detect must be a positive number")
    if pilot is None:
        if metric != "psnr_db":
            raise UsageError(
                f"--metric {metric}: only psnr_db has an assumed spread; give --pilot EXPERIMENT"
            )
        spreads, seconds, per_image, source = [ASSUMED_SPREAD], None, 0.0, "assumed, for want of a --pilot"
        models = num_models or 4
    else:
        experiment, mask = _open_pilot(pilot, metric, mask)
        spreads, found = _pilot_spreads(experiment, metric, mask)
        models = num_models or found
        # The pilot's hours are for its own number of models, so they are scaled.
        seconds, per_image = _pilot_seconds(experiment, mask, models / found, images_seen)
        source = f"measured on {experiment.name}, mask {mask}, {found} trained models"
    # More or fewer images than the pilot's are extrapolated from its noise.
    counts = [round(spreads[0].n_images * share) for share in _SHARES]
    pairs = models * (models - 1) // 2
    lines = plan_experiment(
        spreads,
        detect,
        counts,
        comparisons=pairs,
        power=power,
        training_seconds=seconds,
        seconds_per_image=per_image,
    )
    if as_json:
        about = {"detect": detect, "metric": metric, "power": power, "models": models, "pairs": pairs}
        spread = {"source": source, "spreads": [asdict(s) for s in spreads]}
        click.echo(json.dumps({**about, **spread, "plan": [asdict(line) for line in lines]}, indent=1))
        return
    _print_plan(lines, spreads, source, metric, detect, power, pairs)


def _open_pilot(pilot: str, metric: str, mask: str | None) -> tuple[Experiment, str]:
    from bench.experiments import open_experiment
    from reports.results.schema import metric_columns

    experiment = open_experiment(pilot)
    if metric not in metric_columns(experiment.rows):
        raise UsageError(f"--metric {metric}: {experiment.name} lacks it")
    if not experiment.masks:
        raise UsageError(f"--pilot {experiment.name}: it has no results yet")
    mask = mask or ("center" if "center" in experiment.masks else experiment.masks[0])
    if mask not in experiment.masks:
        raise UsageError(f"--mask {mask}: {experiment.name} has {', '.join(experiment.masks)}")
    return experiment, mask


def _pilot_spreads(experiment: Experiment, metric: str, mask: str) -> tuple[list[Spread], int]:
    """Return the spread of every pair of the pilot's models, and the number of models."""
    from reports.claims.power import pair_spreads
    from reports.statistics.scores import group_scores

    grouped = group_scores(experiment.rows[experiment.rows["mask"] == mask], metric)
    # A spread between trainings takes two seeds of a method at least.
    methods = [m for m in grouped.values() if m.trained and len(m.seeds) > 1 and m.values.size]
    spreads = pair_spreads(methods)
    if not spreads:
        raise UsageError(
            f"--pilot {experiment.name}: the spread takes two trained models with two seeds each on {mask}"
        )
    return spreads, len(methods)


def _pilot_seconds(
    experiment: Experiment, mask: str, share: float, images_seen: int | None
) -> tuple[float | None, float]:
    """Return seconds of one training of every model, and of evaluating one image with every model."""
    trainings: dict[str, list[float]] = {}
    evaluations: dict[str, list[float]] = {}
    for cell in experiment.done(mask):
        training = cell["training"]
        if not training or not training.get("seconds"):
            continue
        # Time is proportional to the images seen, whatever the batch.
        factor = images_seen / training["images_seen"] if images_seen else 1.0
        trainings.setdefault(cell["label"], []).append(training["seconds"] * factor)
        speed = (cell["evaluation"] or {}).get("images_per_second")
        evaluations.setdefault(cell["label"], []).append(1 / speed if speed else 0.0)
    if not trainings:
        return None, 0.0
    means = [sum(sum(of) / len(of) for of in by.values()) for by in (trainings, evaluations)]
    return share * means[0], share * means[1]


def _print_plan(
    lines: list[PlanLine],
    spreads: list[Spread],
    source: str,
    metric: str,
    detect: float,
    power: float,
    pairs: int,
) -> None:
    from rich.console import Console
    from rich.table import Table

    from reports.claims.power import MAX_SEEDS, mean_spread

    typical = mean_spread(spreads)
    echo_wrapped(f"spread: {source}")
    echo_wrapped(
        f"  standard deviation between trainings {_root(typical.offset_a + typical.offset_b, 2):.3g}, "
        f"by chance of these images {_root(typical.interaction_a + typical.interaction_b, 2):.3g}, "
        f"of the mean difference over {typical.n_images:,} images of {typical.clusters:,} people "
        f"{_root(typical.images, 1):.3g}"
    )
    table = Table(
        title=one_line(
            f"to decide {detect:g} in {metric} with {power:.0%} power, corrected for {pairs} pairs"
        ),
        title_justify="left",
    )
    for heading in ("test images", "seeds of each model", "noisiest pair", "power", "hours"):
        table.add_column(heading, justify="right")
    for line in lines:
        table.add_row(
            f"{line.n_images:,}",
            f"over {MAX_SEEDS}" if line.seeds is None else str(line.seeds),
            f"over {MAX_SEEDS}" if line.noisiest is None else str(line.noisiest),
            "–" if line.seeds is None else f"{line.power:.0%}",
            "–" if line.hours is None else f"{line.hours:.1f}",
        )
    Console(highlight=False, markup=False).print(table)
    echo_wrapped(
        "The spread of a few trainings is itself uncertain: plan for the noisiest pair where it matters."
    )


def _root(variance: float, parts: int) -> float:
    return float((variance / parts) ** 0.5)
