"""The report's opening: what was found, in words made from the data, and how far it can be trusted."""

from __future__ import annotations

from collections import Counter
from typing import Any

from reports.context import MethodView, MetricView, ReportContext
from reports.sections.verdicts import MEANINGS
from reports.statistics.intervals import MIN_SEEDS


def build_headline(context: ReportContext) -> dict[str, Any]:
    """Context of ``sections/headline.html.j2``."""
    return {
        "sentences": headline_sentences(context),
        "cautions": headline_cautions(context),
        "facts": _facts(context),
        "short": short_headline(context),
    }


def short_headline(context: ReportContext) -> str:
    """The headline in one line, for lists of experiments. From plain means, so that long lists are quick."""
    metric = _psnr(context)
    if context.main_mask is None or metric is None:
        return "No results yet."
    rows = context.rows[context.rows["mask"] == context.main_mask]
    means = (
        rows.groupby(["label", "seed"], observed=True)[metric.name]
        .mean()
        .groupby("label", observed=True)
        .mean()
        .dropna()
    )
    trained = [m.label for m in context.methods if m.trained and m.label in means.index]
    means = means.loc[trained] if trained else means
    if means.empty:
        return "No results yet."
    best = str(means.idxmax() if metric.higher_is_better else means.idxmin())
    what = "leads" if len(trained) > 1 else "has" if trained else "is the best untrained fill"
    number = f"{metric.show(means[best])} {metric.unit}".strip()
    text = f"{best} {what} with {number}" if what != "has" else f"{best} has {number}"
    noise = " At this budget the ranking is noise." if context.budget_is_small and len(trained) > 1 else ""
    return f"{text} in {metric.heading} on the mask “{context.main_mask}”.{noise}"


def headline_sentences(context: ReportContext) -> list[str]:
    """Findings, most important first."""
    mask, metric = context.main_mask, _psnr(context)
    if mask is None or metric is None:
        return ["Nothing has been evaluated: no cell of this experiment is finished."]
    trained = context.ranking(mask, metric, trained=True)
    fills = context.ranking(mask, metric, trained=False)
    where = f"On {_images(context)} of {context.data['title']} at {context.settings['size']} px with the mask “{mask}”"
    if not trained:
        if not fills:
            return [f"{where}, no {metric.heading} could be computed."]
        best = fills[0]
        return [
            f"{where}, only untrained fills were evaluated; the best is {best.label} with "
            f"{_score(context, mask, best, metric)}."
        ]
    found = [_leader(context, where, mask, metric, trained)]
    if fills:
        found.append(_bar(context, mask, metric, trained, fills[0]))
    others = [m for m in context.masks if m != mask]
    if others:
        found += filter(None, [_elsewhere(context, metric, trained[0], others)])
    found += _claims(context)
    return found


def _claims(context: ReportContext) -> list[str]:
    """How the paper's claims stand, where any was tested."""
    counts = Counter(v.outcome for v in context.verdicts)
    told = [f"{_are(counts[o])} {o}" for o in MEANINGS if counts[o] and o != "not tested"]
    if not told:
        return []
    text = f"Of the paper's {_count(len(context.verdicts))} claims, {_list(told)}"
    return [text + (f"; {_are(counts['not tested'])} not tested." if counts["not tested"] else ".")]


def _leader(
    context: ReportContext, where: str, mask: str, metric: MetricView, trained: list[MethodView]
) -> str:
    best = trained[0]
    lead = f"{where}, {best.label} has "
    if len(trained) == 1:
        return lead + f"{_score(context, mask, best, metric)}; no other trained model was evaluated."
    second = trained[1]
    pair = context.difference(mask, metric.name, best.label, second.label)
    among = f"of {_count(len(trained))} trained models"
    text = f"{lead}the highest {metric.heading} {among}, {_score(context, mask, best, metric)}"
    if pair is None:
        return text + "."
    text += f", {metric.show(pair['difference'])} {metric.unit} above {second.label}"
    if pair["interval"] != "none":
        text += f" (95 % interval {metric.show(pair['low'])} to {metric.show(pair['high'])} {metric.unit})"
    if pair["verdict"] == "a better":
        return text + ": decided, by seeds and images and corrected for all pairs of trained models."
    if pair["low"] <= 0 <= pair["high"]:
        return text + ": a difference that cannot be told from zero."
    return text + f": not decided ({pair['reason']})."


def _bar(
    context: ReportContext, mask: str, metric: MetricView, trained: list[MethodView], fill: MethodView
) -> str:
    """How the trained models stand to the best fill that needs no training."""
    bar = context.value(mask, fill.label, metric.name)
    assert bar is not None
    gaps = {}
    for method in trained:
        line = context.value(mask, method.label, metric.name)
        assert line is not None
        gaps[method.label] = float(line["mean"] - bar["mean"])
    named = f"the best untrained fill ({fill.label}, {metric.show(bar['mean'])} {metric.unit})"
    below = [label for label, gap in gaps.items() if gap <= 0]
    if below:
        return f"{_list(below)} {'does' if len(below) == 1 else 'do'} not clear {named}."
    least = f"{metric.show(min(gaps.values()))} {metric.unit}"
    if len(gaps) == 1:
        return f"It clears {named} by {least}."
    return f"Every trained model clears {named} by at least {least}."


def _elsewhere(context: ReportContext, metric: MetricView, leader: MethodView, masks: list[str]) -> str:
    """Which trained model leads on the other masks, and where an untrained fill is above it."""
    led: dict[str, list[str]] = {}
    above: dict[str, list[str]] = {}
    for mask in masks:
        order = context.ranking(mask, metric)
        trained = next((m for m in order if m.trained), None)
        if trained:
            led.setdefault(trained.label, []).append(mask)
            if not order[0].trained:
                above.setdefault(order[0].label, []).append(mask)
    if not led:
        return ""
    if list(led) == [leader.label]:
        other = "the other masks" if len(masks) > 1 else "the other mask"
        text = f"{leader.label} leads the trained models on {other} too ({_list(led[leader.label])})"
    else:
        where = _list([f"{label} on {_list(on)}" for label, on in led.items()])
        text = f"On other masks the leader of the trained models is {where}"
    for fill, on in above.items():
        text += f"; the untrained fill {fill} is above all of them on {_list(on)}"
    return text + "."


def headline_cautions(context: ReportContext) -> list[str]:
    """What a reader must know before quoting a number."""
    found = []
    if context.data["procedural"]:
        found.append(
            "These are procedural faces, drawn by this program: a test bed, not real results. The paper's "
            "claims are not tested on them."
        )
    if context.evaluated_on != "test":
        found.append(
            f"These are {context.evaluated_on} images, for choosing settings by: whatever was chosen on them styles "
            "better on them than it is. Results are numbers of test images."
        )
    fewest, most = _seeds(context)
    if context.budget_is_small:
        seen = min(m.training["images_seen"] for m in context.methods if m.training)
        found.append(
            f"At {seen:,} images seen the ranking of trained models is noise: another seed may reverse it."
            if fewest < MIN_SEEDS
            else f"{seen:,} images seen are far from the end of training: with a longer one the ranking may be "
            "another, whatever the intervals say of this one."
        )
    if 0 < fewest < MIN_SEEDS:
        trainings = "one training" if fewest == 1 else f"{_count(fewest)} trainings"
        found.append(
            f"There is only {trainings} of {'each model' if fewest == most else 'some models'}. Below "
            f"{_count(MIN_SEEDS)} seeds every comparison of methods is inconclusive by rule, whatever the "
            "intervals over images say."
        )
    found += [
        f"{metric.heading} is unavailable: {metric.unavailable.rstrip('.')}. No number is made up for it."
        for metric in context.metrics
        if metric.unavailable
    ]
    counts = {
        s: sum(c["status"] == s for c in context.experiment.cells) for s in ("failed", "not-applicable")
    }
    if counts["failed"]:
        cells = "cell" if counts["failed"] == 1 else "cells"
        number = _count(counts["failed"]).capitalize()
        found.append(f"{number} {cells} failed: no numbers. See “Cells without results”.")
    return found


def _facts(context: ReportContext) -> list[tuple[str, str]]:
    """The run in a few words, above the fold."""
    seen = sorted({m.training["images_seen"] for m in context.methods if m.training})
    facts = [
        ("data", context.data["title"]),
        ("size", f"{context.settings['size']} × {context.settings['size']} px"),
        ("masks", ", ".join(context.settings["masks"])),
        ("preset", f"{context.settings['preset']}, track {context.settings['track']}"),
        (f"{context.evaluated_on} images", f"{context.data['evaluated']:,}"),
    ]
    if seen:
        shown = f"{seen[0]:,}" if len(seen) == 1 else f"{seen[0]:,} to {seen[-1]:,}"
        facts.append(("images seen", shown))
        facts.append(("seeds", ", ".join(str(s) for s in context.settings["seeds"])))
    return facts


def _psnr(context: ReportContext) -> MetricView | None:
    """PSNR, or the first metric that has values."""
    measured = context.measured
    return next((m for m in measured if m.name == "psnr_db"), measured[0] if measured else None)


def _seeds(context: ReportContext) -> tuple[int, int]:
    """Fewest and most trainings of a model."""
    counts = context.rows[context.rows["train_mask"] != "-"].groupby("label", observed=True)["seed"].nunique()
    return (int(counts.min()), int(counts.max())) if len(counts) else (0, 0)


def _images(context: ReportContext) -> str:
    count = context.data["evaluated"]
    return f"{count:,} {context.evaluated_on} image{'' if count == 1 else 's'}"


def _score(context: ReportContext, mask: str, method: MethodView, metric: MetricView) -> str:
    line = context.value(mask, method.label, metric.name)
    assert line is not None
    return f"{metric.show(line['mean'])} {metric.unit}".strip()


def _count(number: int) -> str:
    words = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    return words[number] if number < len(words) else str(number)


def _are(number: int) -> str:
    return f"{_count(number)} {'is' if number == 1 else 'are'}"


def _list(names: list[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
