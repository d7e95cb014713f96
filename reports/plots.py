"""The report's figures: functions from a table to a figure, without file access; :mod:`reports.svg` writes them."""

from __future__ import annotations

import reports.plain_matplotlib  # noqa: F401  before anything imports matplotlib

# isort: split
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from reports.palette import LineStyle
from reports.svg import FAINT, HEIGHT, INK, PAPER, WIDTH, add_hint, new_figure

Floats = NDArray[np.float64]

#: Points of a distribution curve: finer than the figure's pixels, and the same for 200 images and 20,000.
_QUANTILES = np.linspace(0.0, 1.0, 161)

#: Percentage below which cividis is dark enough for white letters (contrast above 4.5), and above for black.
_DARK_BELOW = 45.0


def plot_ecdf(scores: Mapping[str, Floats], styles: Mapping[str, LineStyle], xlabel: str) -> Figure:
    """Draw the share of images below each score: one line per method.

    Args:
        scores: label -> ``(N,)`` one value per image.
        styles: label -> style.
        xlabel: metric with unit.
    """
    figure, axes = new_figure()
    # Quantiles instead of a step an image: the same curve at the figure's
    # resolution, whatever the number of images.
    for label, values in scores.items():
        (line,) = axes.plot(np.quantile(values, _QUANTILES), _QUANTILES, label=label, **styles[label].line())
        add_hint(line, f"{label}: median {np.median(values):.4g}")
    axes.set(xlabel=xlabel, ylabel="share of images below", ylim=(0, 1))
    return figure


def plot_violins(scores: Mapping[str, Floats], styles: Mapping[str, LineStyle], xlabel: str) -> Figure:
    """Draw violins with quartiles, one per method, of at most 2,000 images evenly spread over the sorted scores.

    Args:
        scores: label -> ``(N,)`` one value per image.
        styles: label -> style.
        xlabel: metric with unit.
    """
    figure, axes = new_figure(height=_height(len(scores)))
    picked = {k: np.quantile(v, np.linspace(0, 1, min(len(v), 2000))) for k, v in scores.items()}
    table = pd.DataFrame(
        {
            "label": np.repeat(list(picked), [len(v) for v in picked.values()]),
            "value": np.concatenate(list(picked.values())),
        }
    )
    sns.violinplot(
        table,
        x="value",
        y="label",
        hue="label",
        palette={k: styles[k].color for k in picked},
        inner="quart",
        cut=0,
        linewidth=0.9,
        linecolor=INK,
        legend=False,
        gridsize=70,
        density_norm="width",
        ax=axes,
    )
    axes.set(xlabel=xlabel, ylabel="")
    axes.tick_params(axis="y", length=0)
    # seaborn sets labels of its own, which are not wrapped.
    axes.set_yticks(range(len(picked)), labels=[_wrap(label) for label in picked])
    axes.grid(visible=False, axis="y")
    return figure


def plot_paired_forest(
    differences: pd.DataFrame, styles: Mapping[str, LineStyle], xlabel: str, *, baselines: Sequence[str] = ()
) -> Figure:
    """Draw paired differences of one method to the others with 95 % intervals; the zero line is a tie.

    Baselines get a panel of their own below: on one scale they would squeeze the trained models together.

    Args:
        differences: lines of :func:`reports.statistics.paired_differences.paired_differences`, ``a`` the same method
            throughout. A column ``published`` holds the paper's difference, drawn as a hollow marker; NaN: it has none.
        styles: label -> style.
        xlabel: metric with unit.
        baselines: labels of the training-free baselines among ``b``.
    """
    is_baseline = differences["b"].isin(list(baselines))
    panels = [part for part in (differences[~is_baseline], differences[is_baseline]) if len(part)]
    figure = Figure(
        figsize=(WIDTH, _height(len(differences)) + 0.5 * (len(panels) - 1)), layout="constrained"
    )
    # Heights follow the numbers of rows, so that rows are equally far apart in both panels.
    all_axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=[len(p) + 0.6 for p in panels])[
        :, 0
    ]
    for axes, part in zip(all_axes, panels, strict=True):
        _draw_forest(axes, part, styles)
    if len(panels) > 1:
        all_axes[1].set_title("baselines, on their own scale", fontsize=8.5, fontweight="normal", pad=4)
    all_axes[-1].set(xlabel=xlabel)
    return figure


def _draw_forest(axes: Axes, part: pd.DataFrame, styles: Mapping[str, LineStyle]) -> None:
    axes.axvline(0, color=INK, linewidth=1.0)
    for place, line in enumerate(part.to_dict("records")):
        style = styles[line["b"]]
        (bar,) = axes.plot(
            [line["low"], line["high"]],
            [place, place],
            color=style.color,
            linewidth=2.4,
            # Ends without caps, which would make the interval look longer than it is.
            solid_capstyle="butt",
        )
        (point,) = axes.plot(
            [line["difference"]],
            [place],
            marker=style.marker,
            color=style.color,
            markersize=6.5,
            linestyle="",
        )
        for artist in (bar, point):
            hint = f"{line['b']}: {line['difference']:.4g} [{line['low']:.4g}, {line['high']:.4g}]"
            add_hint(artist, hint)
        published = line.get("published", np.nan)
        if not np.isnan(published):
            (hollow,) = axes.plot(
                [published],
                [place],
                marker="D",
                markersize=7,
                linestyle="",
                color=INK,
                markerfacecolor="none",
            )
            add_hint(hollow, f"{line['b']}: {published:.4g} in the paper")
    axes.set_yticks(range(len(part)), labels=[_wrap(str(label)) for label in part["b"]])
    # Upside down: the first row on top, as in a table.
    axes.set_ylim(len(part) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(5))


def plot_seeds(
    trainings: pd.DataFrame,
    means: pd.DataFrame,
    styles: Mapping[str, LineStyle],
    xlabel: str,
    *,
    lead: tuple[float, float, str] | None = None,
) -> Figure:
    """Draw every training as a dot beside its model's mean and interval, and a lead as a bar to measure them by.

    Args:
        trainings: ``label``, ``seed``, ``value``: one row per training.
        means: ``label``, ``mean``, ``low``, ``high``: one row per model, in the order of the rows of the figure.
        styles: label -> style.
        xlabel: metric with unit.
        lead: (from, to, text) of the bar above the models, or ``None``.
    """
    above = 0 if lead is None else 1
    figure, axes = new_figure(height=_height(len(means) + above) + 0.25)
    for place, line in enumerate(means.to_dict("records")):
        style = styles[line["label"]]
        own = trainings[trainings["label"] == line["label"]]
        # Dots below the interval, not on it, or the mean's marker would hide them.
        for dot in own.to_dict("records"):
            (artist,) = axes.plot(
                [dot["value"]],
                [place + 0.14],
                marker="o",
                markersize=4.5,
                linestyle="",
                color=style.color,
                alpha=0.65,
            )
            add_hint(artist, f"{line['label']}, seed {dot['seed']}: {dot['value']:.4g}")
        (bar,) = axes.plot(
            [line["low"], line["high"]],
            [place - 0.14] * 2,
            color=style.color,
            linewidth=2.4,
            solid_capstyle="butt",
        )
        (mean,) = axes.plot(
            [line["mean"]],
            [place - 0.14],
            marker=style.marker,
            markersize=7.5,
            linestyle="",
            color=style.color,
        )
        for artist in (bar, mean):
            hint = f"{line['label']}: mean {line['mean']:.4g} [{line['low']:.4g}, {line['high']:.4g}]"
            add_hint(artist, hint)
    labels = [_wrap(str(label)) for label in means["label"]]
    places = list(range(len(means)))
    if lead is not None:
        start, end, text = lead
        (bar,) = axes.plot([start, end], [-1, -1], color=INK, linewidth=7, solid_capstyle="butt")
        add_hint(bar, text)
        for edge in (start, end):
            axes.axvline(edge, color=INK, linewidth=0.7, linestyle=(0, (2, 3)))
        # Place -1: above the first model, whose place is 0.
        places, labels = [-1, *places], [text, *labels]
    axes.set_yticks(places, labels=labels)
    axes.set_ylim(len(means) - 0.4, -0.6 - above)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.set(xlabel=xlabel)
    return figure


def plot_against_hole_area(
    binned: Mapping[str, pd.DataFrame], styles: Mapping[str, LineStyle], ylabel: str
) -> Figure:
    """Draw score against the area of the hole: means of bins with equal counts.

    Args:
        binned: label -> columns ``ratio`` (in [0, 1]) and ``value``, a row a bin.
        styles: label -> style.
        ylabel: metric with unit.
    """
    figure, axes = new_figure()
    for label, table in binned.items():
        style = styles[label]
        axes.plot(
            100 * table["ratio"],
            table["value"],
            label=label,
            marker=style.marker,
            markersize=4,
            **style.line(),
        )
    axes.set(xlabel="hole, % of the image", ylabel=ylabel)
    return figure


def plot_win_matrix(wins: pd.DataFrame) -> Figure:
    """Draw the probability (in %) that the row's method beats the column's on an image; ties count half.

    Args:
        wins: square, values in [0, 1], NaN on the diagonal.
    """
    count = len(wins)
    figure, axes = new_figure(WIDTH, max(HEIGHT, 1.3 + 0.3 * count))
    # Letters above the columns: whole names would not fit beside each other.
    codes = [_letter(i) for i in range(count)]
    shown = 100 * wins.to_numpy(dtype=float)
    sns.heatmap(
        shown,
        ax=axes,
        vmin=0,
        vmax=100,
        # The same to people with and without color blindness, and in gray.
        cmap="cividis",
        annot=True,
        fmt=".0f",
        mask=np.isnan(shown),
        cbar=False,
        linewidths=1.5,
        linecolor=PAPER,
        annot_kws={"fontsize": 9.0 if count <= 8 else 7.5},
        xticklabels=codes,
        yticklabels=[f"{_wrap(label)}  {code}" for code, label in zip(codes, wins.index, strict=True)],
    )
    # seaborn writes texts only where the matrix is not masked, in the order of the matrix.
    for text, value in zip(axes.texts, shown[~np.isnan(shown)], strict=True):
        text.set_color("black" if value > _DARK_BELOW else "white")
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.xaxis.tick_top()
    axes.set_yticklabels(axes.get_yticklabels(), rotation=0)
    return figure


def plot_loss_by_phase(curves: pd.DataFrame, style: LineStyle, phase_ends: Sequence[int]) -> Figure:
    """Draw the losses of one training, on a logarithmic axis where all are positive and span a decade.

    Args:
        curves: columns ``term``, ``step``, ``value`` (:data:`reports.results.experiment.CURVE_COLUMNS`).
        style: of the model.
        phase_ends: steps at which one phase gives way to the next.
    """
    figure, axes = new_figure()
    lines: list[tuple[str, str, dict[str, Any]]] = [
        ("generator/loss", "generator", {"color": style.color, "linestyle": "-"}),
        ("discriminator/loss", "discriminator", {"color": INK, "linestyle": (0, (3, 2)), "linewidth": 1.1}),
    ]
    positive = True
    for term, name, how in lines:
        part = curves[curves["term"] == term]
        if len(part):
            axes.plot(part["step"], part["value"], label=name, **how)
            positive &= bool((part["value"] > 0).all())
    # Hinge losses may be negative, which a logarithmic axis would leave out.
    if positive and len(curves) and curves["value"].max() > 10 * curves["value"].min():
        axes.set_yscale("log")
        _plain_log(axes.yaxis)
    _phases(axes, phase_ends)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set(xlabel="step", ylabel="loss")
    axes.legend(loc="best", fontsize=8.5)
    return figure


def time_unit(seconds: float) -> tuple[str, float]:
    """Return the unit in which times up to ``seconds`` are shown, and its length in seconds.

    Examples:
        >>> time_unit(0.4), time_unit(600), time_unit(90_000)
        (('seconds', 1.0), ('minutes', 60.0), ('hours', 3600.0))
    """
    return ("seconds", 1.0) if seconds < 120 else ("minutes", 60.0) if seconds < 7200 else ("hours", 3600.0)


def plot_validation(
    curves: pd.DataFrame,
    styles: Mapping[str, LineStyle],
    x: str,
    ylabel: str,
    *,
    baseline: tuple[str, Mapping[int, float]] | None = None,
) -> Figure:
    """Draw validation scores over the training: the mean of a model's trainings in a band from lowest to highest.

    Args:
        curves: ``label``, ``seed``, ``step``, ``images_seen``, ``seconds``, ``value``: one row per validation.
        styles: label -> style.
        x: ``images_seen`` or ``seconds``; trainings are matched by step, at the mean of their times.
        ylabel: metric with unit.
        baseline: label of a fitted baseline and its score by number of training images, drawn on the same axis, which
            is then logarithmic, with a level line at its last score.
    """
    figure, axes = new_figure()
    unit, divisor = time_unit(float(curves["seconds"].max()))
    # Trainings reach a step at different times; a band needs one place for each step.
    at = curves.groupby(["label", "step"], sort=False)[x].transform("mean") / (
        divisor if x == "seconds" else 1
    )
    table = curves.assign(at=at)
    for label, part in table.groupby("label", sort=False):
        style = styles[str(label)]
        sns.lineplot(
            part,
            x="at",
            y="value",
            # All values at a step: from the lowest training to the highest.
            errorbar=("pi", 100),
            label=str(label),
            legend=False,
            marker=style.marker,
            markersize=4.5,
            markeredgewidth=0,
            err_kws={"alpha": 0.18, "linewidth": 0},
            ax=axes,
            **style.line(),
        )
        add_hint(axes.lines[-1], f"{label}: {part.groupby('step')['value'].mean().iloc[-1]:.4g} at the end")
    if baseline is not None:
        label, scores = baseline
        style = styles[label]
        (line,) = axes.plot(
            list(scores),
            list(scores.values()),
            label=label,
            marker=style.marker,
            markersize=6,
            **style.line(),
        )
        add_hint(
            line, f"{label}: " + ", ".join(f"{score:.4g} from {count:,}" for count, score in scores.items())
        )
        # From all of its training images, as the baseline is evaluated.
        level = list(scores.values())[-1]
        axes.axhline(level, color=style.color, linewidth=1.0, linestyle=(0, (4, 3)))
        # The legend of the section names what was trained; the baseline is named at its line.
        axes.annotate(
            label, (0.01, level), xycoords=("axes fraction", "data"), xytext=(0, 4), textcoords="offset points",
            ha="left", va="bottom", fontsize=8.5, color=INK,
        )  # fmt: skip
        axes.set_xscale("log")
        _plain_log(axes.xaxis)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.set(xlabel="training images (of the models: images seen)", ylabel=ylabel)
        return figure
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set(xlabel=f"wall time ({unit})" if x == "seconds" else "images seen", ylabel=ylabel)
    return figure


def plot_discriminator_scores(curves: pd.DataFrame, style: LineStyle, phase_ends: Sequence[int]) -> Figure:
    """Draw every logged discriminator term but its loss (scores of real and completed images) over steps."""
    figure, axes = new_figure()
    dashes = ["-", (0, (4, 2)), (0, (1.2, 1.6)), (0, (6, 1.6, 1.2, 1.6))]
    for place, (term, part) in enumerate(curves.groupby("term", sort=False)):
        name = str(term).split("/", 1)[-1].replace("_", " ")
        color = style.color if place % 2 == 0 else INK
        axes.plot(
            part["step"], part["value"], label=name, color=color, linestyle=dashes[place % 4], linewidth=1.4
        )
    _phases(axes, phase_ends)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set(xlabel="step", ylabel="score")
    axes.legend(loc="best", fontsize=8.5)
    return figure


def plot_quality_against_cost(
    points: pd.DataFrame, styles: Mapping[str, LineStyle], xlabel: str, ylabel: str
) -> Figure:
    """Draw a score against a cost, a point per method. Columns ``label``, ``cost``, ``value``."""
    figure, axes = new_figure()
    for line in points.to_dict("records"):
        style = styles[line["label"]]
        (point,) = axes.plot(
            [line["cost"]],
            [line["value"]],
            label=line["label"],
            marker=style.marker,
            color=style.color,
            markersize=8,
            linestyle="",
        )
        add_hint(point, f"{line['label']}: {line['value']:.4g} at {line['cost']:.3g}")
    if len(points) and points["cost"].min() > 0 and points["cost"].max() > 8 * points["cost"].min():
        axes.set_xscale("log")
        _plain_log(axes.xaxis)
    axes.margins(x=0.12, y=0.18)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    return figure


def _plain_log(axis: Axis) -> None:
    """Put plain numbers at 1, 2 and 5 of every decade."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _height(lines: int) -> float:
    return max(2.2, 1.1 + 0.34 * lines)


def _wrap(label: str) -> str:
    """Wrap a label into at most two lines of 22 letters."""
    lines = textwrap.wrap(label, 22, max_lines=2, placeholder=" …", break_long_words=True)
    return "\n".join(lines) or label


def _letter(place: int) -> str:
    return chr(ord("A") + place) if place < 26 else str(place + 1)


def _phases(axes: Axes, ends: Sequence[int]) -> None:
    """Draw thin lines where a phase ends."""
    for step in ends:
        axes.axvline(step, color=FAINT, linewidth=1.2, linestyle=(0, (2, 2)))
