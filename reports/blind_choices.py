"""Join what several readers chose on a blind page (:mod:`reports.blind_page`): win rates with intervals, and metrics.

A choice belongs to a reader and to an image, and both are samples: other readers would choose otherwise, and other
images would be harder. So readers and images are resampled together, each independently of the other (the pigeonhole
bootstrap of Owen, Annals of Applied Statistics 2007): the weight of a choice is the product of how often its reader and
its image were drawn.
"""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reports.context import MetricView, ReportContext
from reports.images import load_shown_images

#: Columns of an exported file, in its order.
COLUMNS = ("experiment", "reader", "number", "mask", "image_id", "left", "right", "choice", "winner", "time")
#: Bytes of the largest file that is read: some hundred thousand choices.
MAX_BYTES = 64 << 20
#: Below this many readers an interval over readers is a rough guide.
FEW_READERS = 5
_RESAMPLES = 4000
_Z = 1.959964  # 95 %

Floats = NDArray[np.float64]


class ChoicesError(ValueError):
    """A file does not hold exported choices, or files do not belong together. The message says which, and why."""


def read_choices(paths: Sequence[Path]) -> pd.DataFrame:
    """Read exported choices of one experiment, by any number of readers.

    A reader who exported twice counts once: of several choices of a reader between the same two completions, the latest
    holds.

    Returns:
        Columns ``experiment, reader, mask, image_id, a, b, value, time``: ``a`` and ``b`` are the two models in
        alphabetical order, ``value`` is 1 where ``a`` was chosen, 0 where ``b`` was, and 0.5 for no difference.

    Raises:
        ChoicesError: a file is none, or they are of several experiments.
        OSError: a file cannot be read.
    """
    rows = [row for path in paths for row in _read(path)]
    if not rows:
        raise ChoicesError(f"{', '.join(map(str, paths))}: no choice in it; a reader exports after choosing")
    table = pd.DataFrame(rows)
    experiments = sorted(table["experiment"].unique())
    if len(experiments) > 1:
        raise ChoicesError(f"choices of several experiments: {', '.join(experiments)}; join those of one")
    key = ["reader", "mask", "image_id", "a", "b"]
    # Times are ISO 8601 of one form, so they sort as texts; of equal ones the later line counts.
    table = table.sort_values("time", kind="stable").drop_duplicates(key, keep="last")
    return table.sort_values(key, ignore_index=True)


def _read(path: Path) -> list[dict[str, Any]]:
    """Read one file."""
    if path.stat().st_size > MAX_BYTES:
        raise ChoicesError(f"{path}: larger than {MAX_BYTES >> 20} MiB, which no blind page exports")
    try:
        # A spreadsheet that saved the file again may have put a byte-order mark before it.
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise ChoicesError(
                    f"{path}: not the export of a blind page (no column {', '.join(missing)}); "
                    "'bench report EXPERIMENT --blind' writes the page"
                )
            return [_choice(row, f"{path}, line {reader.line_num}") for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ChoicesError(f"{path}: not readable as CSV ({error})") from error


def _choice(row: Mapping[str, str | None], where: str) -> dict[str, Any]:
    """Check a line and return it with its two models in one order."""
    given = {name: _plain(row.get(name) or "") for name in COLUMNS}
    left, right, choice = given["left"], given["right"], given["choice"]
    if choice not in ("left", "right", "tie"):
        raise ChoicesError(f"{where}: choice {choice!r} is not left, right or tie")
    if not (left and right and given["reader"] and given["image_id"]) or left == right:
        raise ChoicesError(f"{where}: a reader, an image and two different models are needed")
    # The page draws sides at random, and one pair must be one pair whichever side a model was on.
    a, b = sorted((left, right))
    value = 0.5 if choice == "tie" else float((left if choice == "left" else right) == a)
    kept = {name: given[name] for name in ("experiment", "reader", "mask", "image_id", "time")}
    return {**kept, "a": a, "b": b, "value": value}


def _plain(text: str) -> str:
    """Take away the apostrophe that the page puts before what a spreadsheet would take for a formula."""
    return text[1:] if text[:1] == "'" and text[1:2] in ("=", "+", "-", "@", "\t", "\r") else text


def win_rates(choices: pd.DataFrame, labels: Sequence[str]) -> pd.DataFrame:
    """Compute how often each model was chosen, ties counting half, with 95 % intervals over readers and images.

    Args:
        choices: of :func:`read_choices`.
        labels: models, in the order wanted.

    Returns:
        Columns ``label, rate, low, high, choices``.
    """
    lines = []
    for label in labels:
        own = choices[(choices["a"] == label) | (choices["b"] == label)]
        won = np.where(own["a"] == label, own["value"], 1 - own["value"])
        lines.append({"label": label, **_rate(own, won)})
    return pd.DataFrame(lines)


def pair_rates(choices: pd.DataFrame, labels: Sequence[str]) -> pd.DataFrame:
    """Compute how often the first of every two models was chosen over the second.

    Returns:
        Columns ``a, b, rate, low, high, choices``, in the order of ``labels``; pairs that nobody saw are left out.
    """
    lines = []
    for a, b in itertools.combinations(labels, 2):
        own = choices[(choices["a"].isin((a, b))) & (choices["b"].isin((a, b)))]
        if len(own):
            lines.append(
                {"a": a, "b": b, **_rate(own, np.where(own["a"] == a, own["value"], 1 - own["value"]))}
            )
    return pd.DataFrame(lines)


def _rate(choices: pd.DataFrame, values: NDArray[Any]) -> dict[str, Any]:
    # The same image under another mask is another thing to choose on.
    low, high = rate_interval(values, choices["reader"], choices["mask"] + "\0" + choices["image_id"])
    rate = float(np.mean(values)) if len(values) else math.nan
    return {"rate": rate, "low": low, "high": high, "choices": len(values)}


def rate_interval(values: NDArray[Any], readers: pd.Series, images: pd.Series) -> tuple[float, float]:
    """Compute the 95 % interval of a mean of values in [0, 1] over readers and images.

    Percentiles of resamples have no width where everybody chose alike, and too little with a handful of readers: the
    interval is never narrower than Wilson's for as many independent choices.

    Args:
        values: ``(N,)``.
        readers: ``(N,)`` who chose.
        images: ``(N,)`` on which image.

    Returns:
        Lower and upper end; NaN for no value.

    Examples:
        >>> low, high = rate_interval(np.ones(10), pd.Series(["r"] * 10), pd.Series(list("abcdefghij")))
        >>> round(low, 2), high
        (0.72, 1.0)
    """
    if not len(values):
        return math.nan, math.nan
    mean, n = float(np.mean(values)), len(values)
    # Wilson's score interval: unlike mean +- z * error it has a width where all choices agree.
    middle = (mean + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z * math.sqrt(mean * (1 - mean) / n + _Z**2 / (4 * n**2)) / (1 + _Z**2 / n)
    drawn = _resample(np.asarray(values, dtype=np.float64), readers, images)
    low, high = np.quantile(drawn, [0.025, 0.975]) if drawn.size else (mean, mean)
    # The wider of the two at either end.
    return max(0.0, min(float(low), middle - half)), min(1.0, max(float(high), middle + half))


def _resample(values: Floats, readers: pd.Series, images: pd.Series) -> Floats:
    """Draw means under resampled readers and images; resamples in which no choice is left are dropped."""
    generator = np.random.default_rng(0)
    reader, image = (pd.factorize(names)[0] for names in (readers, images))
    means = []
    # In parts, so that no more than some tens of megabytes are held.
    part = max(1, min(_RESAMPLES, 4_000_000 // len(values)))
    for start in range(0, _RESAMPLES, part):
        count = min(part, _RESAMPLES - start)
        weights = np.ones((count, len(values)))
        for codes in (reader, image):
            groups = int(codes.max()) + 1
            drawn = generator.multinomial(groups, np.full(groups, 1 / groups), size=count)
            # How often its reader and how often its image was drawn.
            weights *= drawn[:, codes]
        total = weights.sum(axis=1)
        means.append((weights @ values)[total > 0] / total[total > 0])
    return np.concatenate(means)


def metric_agreement(choices: pd.DataFrame, context: ReportContext) -> pd.DataFrame:
    """Compute how often each metric prefers the completion that readers chose, with intervals over readers and images.

    Choices of no difference, and pairs in which a metric prefers neither, are left out of that metric's line.

    Args:
        choices: of :func:`read_choices`.
        context: the experiment that the choices are about, with its stored images.

    Returns:
        Columns ``metric, among, rate, low, high, choices``; ``among`` is ``all`` pairs, or ``disputed``: those in which
        two metrics prefer different completions.
    """
    metrics, preferred = _preferences(choices, context)
    # Zero is no preference, and disputes nothing.
    disputed = np.array([len({p for p in row if p}) > 1 for row in preferred], dtype=bool)
    chosen = np.sign(choices["value"].to_numpy() - 0.5)
    lines = []
    for position, metric in enumerate(metrics):
        for among, wanted in (("all", np.ones(len(choices), dtype=bool)), ("disputed", disputed)):
            column = preferred[:, position] if len(preferred) else np.zeros(0)
            kept = wanted & (chosen != 0) & (column != 0)
            agreed = (chosen == column)[kept].astype(float)
            lines.append({"metric": metric.title, "among": among, **_rate(choices[kept], agreed)})
    return pd.DataFrame(lines)


def _preferences(choices: pd.DataFrame, context: ReportContext) -> tuple[list[MetricView], NDArray[np.int64]]:
    """Return the metrics of the stored images and ``(N, M)``: 1 where a metric prefers ``a``, -1 ``b``, 0 neither."""
    samples = {
        mask: sample for mask in context.masks if (sample := load_shown_images(context, mask)) is not None
    }
    metrics: list[MetricView] = next((list(sample.metrics) for sample in samples.values()), [])
    table = np.zeros((len(choices), len(metrics)), dtype=np.int64)
    places = {mask: {name: i for i, name in enumerate(s.stored.ids)} for mask, s in samples.items()}
    for row, choice in enumerate(choices.to_dict("records")):
        sample, place = samples.get(choice["mask"]), places.get(choice["mask"], {}).get(choice["image_id"])
        if sample is None or place is None or not {choice["a"], choice["b"]} <= set(sample.scores):
            continue
        for column, metric in enumerate(metrics):
            one, other = (sample.scores[choice[side]][place][column] for side in ("a", "b"))
            sign = int(one > other) - int(one < other)  # 0 where a score is missing
            table[row, column] = sign if metric.higher_is_better else -sign
    return metrics, table


def mean_scores(context: ReportContext, labels: Sequence[str], masks: Sequence[str]) -> pd.DataFrame:
    """Return the experiment's means of every primary metric, over all its images: ``label`` and a column a metric.

    Args:
        context: the experiment.
        labels: models; one that the experiment does not have has no values.
        masks: over which the means are averaged.
    """
    metrics = [m for m in context.measured if m.group == "primary"] or context.measured[:1]
    lines = []
    for label in labels:
        line: dict[str, str] = {"label": label}
        for metric in metrics:
            found = [float(v["mean"]) for mask in masks if (v := context.value(mask, label, metric.name))]
            line[metric.title] = metric.show(sum(found) / len(found) if found else None)
        lines.append(line)
    return pd.DataFrame(lines)
