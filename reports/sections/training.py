"""How the models trained: losses by phase, validation, discriminators, instabilities."""

from __future__ import annotations

import itertools
from typing import Any

import pandas as pd

from reports import plots
from reports.context import MethodView, ReportContext
from reports.sections import Plot, ReportSection
from reports.svg import apply_style


def build_training(context: ReportContext) -> dict[str, Any]:
    """Build the view of ``sections/training.html.j2``."""
    curves = context.experiment.curves
    trainings = _trainings(context)
    styles = {m.label: m.style for m in context.methods}
    with apply_style():
        validations = _validation(context, curves, trainings, styles)
        losses, scores = [], []
        for method, training in trainings:
            # One training a method: the losses of other seeds look alike, and would fill the page.
            if training["first"]:
                losses += _losses(method, training, curves)
                scores += _scores(method, training, curves)
    return {
        "any": bool(trainings),
        "validation": validations,
        "losses": losses,
        "scores": scores,
        "methods": list({m.label: m for m, _ in trainings}.values()),
        "events": [(m, t["seed"], e) for m, t in trainings for e in t.get("events", [])],
        "log_problems": _log_problems(context, trainings),
        "several": any(not t["first"] for _, t in trainings),
    }


def _log_problems(
    context: ReportContext, trainings: list[tuple[MethodView, dict[str, Any]]]
) -> list[tuple[str, str]]:
    """List what is wrong with logs, each once with the trainings that it is true of."""
    by_problem: dict[str, list[str]] = {}
    for method, training in trainings:
        if problem := context.experiment.log_problems.get(training["key"]):
            by_problem.setdefault(problem, []).append(f"{method.label}, seed {training['seed']}")
    return [
        ("; ".join(of) if len(of) < len(trainings) or len(of) < 3 else f"All {len(of)} trainings", problem)
        for problem, of in by_problem.items()
    ]


def _trainings(context: ReportContext) -> list[tuple[MethodView, dict[str, Any]]]:
    """List every training once; ``first`` marks the one whose losses are drawn (lowest seed of a method)."""
    found: list[tuple[MethodView, dict[str, Any]]] = []
    for method in context.methods:
        seen: set[str] = set()
        for cell in sorted(method.done, key=lambda c: c["seed"]):
            training = cell["training"]
            if training and training["key"] not in seen:
                found.append((method, {**training, "seed": cell["seed"], "first": not seen}))
                seen.add(training["key"])
    return found


def _validation(
    context: ReportContext,
    curves: pd.DataFrame,
    trainings: list[tuple[MethodView, dict[str, Any]]],
    styles: dict[str, Any],
) -> list[Plot]:
    tables = []
    for method, training in trainings:
        part = curves[
            (curves["training"] == training["key"])
            & (curves["kind"] == "validation")
            & (curves["term"] == "psnr_db")
        ].dropna(subset="value")
        if len(part):
            tables.append(part.assign(label=method.label))
    if not tables:
        return []
    table = pd.concat(tables, ignore_index=True)
    last = (
        # The last value of each training first: trainings may end at different steps.
        table.groupby(["label", "training"], sort=False)["value"].last().groupby("label", sort=False).mean()
    )
    ends = ", ".join(f"{label} {value:.2f}" for label, value in last.items())
    bands = (
        "Line: mean of the seeds; band: from the lowest to the highest. "
        if table["seed"].nunique() > 1
        else ""
    )
    drawn = [
        Plot(
            plots.plot_validation(table, styles, x, "validation PSNR (dB)"),
            f"validation {x}",
            f"Validation against {words}",
            f"Validation PSNR in dB against {words}. At the end: {ends}.",
            bands.strip(),
        )
        for x, words in (("images_seen", "images seen"), ("seconds", "wall time"))
    ]
    return drawn + _beside_baseline(context, table, styles, ends)


def _beside_baseline(
    context: ReportContext, table: pd.DataFrame, styles: dict[str, Any], ends: str
) -> list[Plot]:
    """Draw the models' learning curves beside that of a fitted baseline: how much of a win is not linear."""
    for method in context.methods:
        for cell in method.done:
            scores = (cell.get("fit") or {}).get("validation_psnr_db_by_images")
            if not scores or cell["mask"] != context.main_mask:
                continue
            by_images = {int(count): float(score) for count, score in scores.items()}
            words = ", ".join(f"{score:.2f} from {count:,} images" for count, score in by_images.items())
            return [
                Plot(
                    plots.plot_validation(
                        table,
                        styles,
                        "images_seen",
                        "validation PSNR (dB)",
                        baseline=(method.label, by_images),
                    ),
                    f"validation beside {method.model}",
                    f"How much is not linear: beside {method.label}",
                    f"Validation PSNR in dB of {method.label}: {words}; of the models at the end: {ends}.",
                    f"{method.label} fitted to {_counts(list(by_images))} of its training images; the level line is "
                    "its last score. Only what a model gains above it is more than linear.",
                )
            ]
    return []


def _counts(images: list[int]) -> str:
    """Say to how many images a baseline was fitted.

    >>> _counts([32]), _counts([125, 500, 2000])
    ('all 32', '125, 500 and all 2,000')
    """
    *fewer, last = (f"{count:,}" for count in images)
    return f"{', '.join(fewer)} and all {last}" if fewer else f"all {last}"


def _losses(method: MethodView, training: dict[str, Any], curves: pd.DataFrame) -> list[Plot]:
    part = curves[(curves["training"] == training["key"]) & (curves["kind"] == "term")].dropna(subset="value")
    part = part[part["term"].isin(["generator/loss", "discriminator/loss"])]
    if part.empty:
        return []
    phases = ", ".join(f"{p['name']} ({p['num_steps']:,} steps)" for p in training.get("phases", []))
    ends = ", ".join(
        f"{t} from {g['value'].iloc[0]:.3g} to {g['value'].iloc[-1]:.3g}" for t, g in part.groupby("term")
    )
    return [
        Plot(
            plots.plot_loss_by_phase(_thin(part), method.style, _phase_ends(training)),
            f"loss {method.label} {training['key'][:8]}",
            method.label,
            f"Losses of {method.label} over steps: {ends}.",
            f"Phases, from left to right: {phases}." if phases else "",
        )
    ]


def _scores(method: MethodView, training: dict[str, Any], curves: pd.DataFrame) -> list[Plot]:
    part = curves[(curves["training"] == training["key"]) & (curves["kind"] == "term")].dropna(subset="value")
    # By their names, whatever a model calls its terms beside the loss.
    part = part[part["term"].str.startswith("discriminator/") & part["term"].str.contains("score|real|fake")]
    if part.empty:
        return []
    ends = ", ".join(f"{t.split('/', 1)[-1]} {g['value'].iloc[-1]:.3g}" for t, g in part.groupby("term"))
    return [
        Plot(
            plots.plot_discriminator_scores(_thin(part), method.style, _phase_ends(training)),
            f"scores {method.label} {training['key'][:8]}",
            method.label,
            f"Discriminator terms of {method.label} over steps; at the end: {ends}.",
        )
    ]


def _phase_ends(training: dict[str, Any]) -> list[int]:
    """Return the last step of every phase but the last one."""
    return list(itertools.accumulate(int(p["num_steps"]) for p in training.get("phases", [])))[:-1]


def _thin(curves: pd.DataFrame, most: int = 400) -> pd.DataFrame:
    """Keep at most about ``most`` points per term, the last among them: finer than the figure's pixels."""

    def pick(part: pd.DataFrame) -> pd.DataFrame:
        step = -(-len(part) // most)
        # Backwards and back, so that the last point is always among those kept.
        return part.iloc[::-1].iloc[::step].iloc[::-1]

    return pd.concat([pick(part) for _, part in curves.groupby("term", sort=False)], ignore_index=True)


SECTION = ReportSection("training", "Training", 70, build_training)
