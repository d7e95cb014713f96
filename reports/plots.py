"""Figures: functions from a table to a figure. No file access; :mod:`reports.svg` makes SVG of them."""

from __future__ import annotations

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
from reports.svg import FAINT, HEIGHT, INK, PAPER, WIDTH, new_figure

Floats = NDArray[np.float64]

#: Points of a distribution curve: finer than the figure's pixels, and the same for 200 images and 20,000.
_QUANTILES = np.linspace(0.0, 1.0, 161)

#: Percentage below which cividis is dark enough for white letters (contrast above 4.5), and above for black.
_DARK_BELOW = 45.0


def plot_ecdf(scores: Mapping[str, Floats], styles: Mapping[str, LineStyle], xlabel: str) -> Figure:
    """Share of images below each score: one line a method.

    Args:
        scores: label -> ``(N,)`` one value an image.
        styles: label -> style.
        xlabel: metric with unit.
    """
    figure, axes = new_figure()
    for label, values in scores.items():
        axes.plot(np.quantile(values, _QUANTILES), _QUANTILES, label=label, **styles[label].line())
    axes.set(xlabel=xlabel, ylabel="share of images below", ylim=(0, 1))
    return figure


def plot_violins(scores: Mapping[str, Floats], styles: Mapping[str, LineStyle], xlabel: str) -> Figure:
    """Violins with quartiles, one a method, of at most 2,000 images evenly spread over the sorted scores."""
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
    axes.set_yticks(range(len(picked)), labels=[_wrap(label) for label in picked])
    axes.grid(visible=False, axis="y")
    return figure


def plot_paired_forest(differences: pd.DataFrame, styles: Mapping[str, LineStyle], xlabel: str) -> Figure:
    """Paired differences of the best method to the others, with 95 % intervals; the zero line is a tie.

    Args:
        differences: lines of :func:`reports.statistics.summary.paired_differences`, ``a`` the best method throughout.
        styles: label -> style.
        xlabel: metric with unit.
    """
    figure, axes = new_figure(height=_height(len(differences)))
    axes.axvline(0, color=INK, linewidth=1.0)
    for place, line in enumerate(differences.to_dict("records")):
        style = styles[line["b"]]
        axes.plot(
            [line["low"], line["high"]],
            [place, place],
            color=style.color,
            linewidth=2.4,
            solid_capstyle="butt",
        )
        axes.plot(
            [line["difference"]],
            [place],
            marker=style.marker,
            color=style.color,
            markersize=6.5,
            linestyle="",
        )
    axes.set_yticks(range(len(differences)), labels=[_wrap(label) for label in differences["b"]])
    axes.set_ylim(len(differences) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set(xlabel=xlabel)
    return figure


def plot_against_hole_area(
    binned: Mapping[str, pd.DataFrame], styles: Mapping[str, LineStyle], ylabel: str
) -> Figure:
    """Score against the area of the hole: means of bins with equal counts.

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
    """Probability (in %) that the row's method beats the column's on an image; ties count half.

    Args:
        wins: square, values in [0, 1], NaN on the diagonal.
    """
    count = len(wins)
    figure, axes = new_figure(WIDTH, max(HEIGHT, 1.3 + 0.3 * count))
    codes = [_letter(i) for i in range(count)]
    shown = 100 * wins.to_numpy(dtype=float)
    sns.heatmap(
        shown,
        ax=axes,
        vmin=0,
        vmax=100,
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
    for text, value in zip(axes.texts, shown[~np.isnan(shown)], strict=True):
        text.set_color("black" if value > _DARK_BELOW else "white")
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.xaxis.tick_top()
    axes.set_yticklabels(axes.get_yticklabels(), rotation=0)
    return figure


def plot_loss_by_phase(curves: pd.DataFrame, style: LineStyle, phase_ends: Sequence[int]) -> Figure:
    """Losses of one training, on a logarithmic axis where all are positive and span a decade.

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
    if positive and len(curves) and curves["value"].max() > 10 * curves["value"].min():
        axes.set_yscale("log")
        _plain_log(axes.yaxis)
    _phases(axes, phase_ends)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set(xlabel="step", ylabel="loss")
    axes.legend(loc="best", fontsize=8.5)
    return figure


def plot_validation(
    curves: Sequence[pd.DataFrame], styles: Mapping[str, LineStyle], x: str, ylabel: str
) -> Figure:
    """Validation score against images seen or wall time, a line a training.

    Args:
        curves: one table a training: ``label``, ``images_seen``, ``seconds``, ``value``.
        styles: label -> style.
        x: ``images_seen`` or ``seconds``.
        ylabel: metric with unit.
    """
    figure, axes = new_figure()
    longest = max(float(t["seconds"].max()) for t in curves)
    unit, divisor = ("minutes", 60.0) if longest < 7200 else ("hours", 3600.0)
    for table in curves:
        style = styles[table["label"].iloc[0]]
        at = table[x] / divisor if x == "seconds" else table[x]
        label = table["label"].iloc[0]
        axes.plot(at, table["value"], label=label, marker=style.marker, markersize=3.5, **style.line())
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set(xlabel=f"wall time ({unit})" if x == "seconds" else "images seen", ylabel=ylabel)
    return figure


def plot_discriminator_scores(curves: pd.DataFrame, style: LineStyle, phase_ends: Sequence[int]) -> Figure:
    """Every logged discriminator term but its loss (scores of real and completed pictures) over steps."""
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
    """Scatter of a score against a cost, a point a method. Columns ``label``, ``cost``, ``value``."""
    figure, axes = new_figure()
    for line in points.to_dict("records"):
        style = styles[line["label"]]
        axes.plot(
            [line["cost"]],
            [line["value"]],
            label=line["label"],
            marker=style.marker,
            color=style.color,
            markersize=8,
            linestyle="",
        )
    if len(points) and points["cost"].min() > 0 and points["cost"].max() > 8 * points["cost"].min():
        axes.set_xscale("log")
        _plain_log(axes.xaxis)
    axes.margins(x=0.12, y=0.18)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    return figure


def _plain_log(axis: Axis) -> None:
    """Plain numbers at 1, 2 and 5 of every decade."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _height(lines: int) -> float:
    return max(2.2, 1.1 + 0.34 * lines)


def _wrap(label: str) -> str:
    """A label in at most two lines of 22 letters."""
    lines = textwrap.wrap(label, 22, max_lines=2, placeholder=" …", break_long_words=True)
    return "\n".join(lines) or label


def _letter(place: int) -> str:
    return chr(ord("A") + place) if place < 26 else str(place + 1)


def _phases(axes: Axes, ends: Sequence[int]) -> None:
    """Thin lines where a phase ends."""
    for step in ends:
        axes.axvline(step, color=FAINT, linewidth=1.2, linestyle=(0, (2, 2)))
