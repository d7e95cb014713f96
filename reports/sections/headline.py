"""The report's opening: what was compared, what was found, and how far it can be trusted, in words made from data."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from importlib import metadata
from typing import Any

from reports.claims.paper import MASK as PAPER_MASK
from reports.claims.paper import PAPER
from reports.context import MethodView, MetricView, ReportContext
from reports.results.manifest import trained_seeds
from reports.sections.verdicts import MEANINGS
from reports.statistics.intervals import MIN_SEEDS
from reports.statistics.ranking import compare_with_baseline, describe_clearance, rank_trained

#: Words of this suite that a reader may not know, each explained once, at the top of the page.
TERMS = (
    ("cell", "one number of a table: a trained model on one mask with one seed, over all test images"),
    ("composite", "the input with only its hole taken from the model’s output; all scores are of composites"),
    (
        "baseline",
        "a completion that needs no training, such as the mean image of the training split or linear "
        "regression: the bar that a trained model must clear",
    ),
    (
        "track",
        "the recipe of the training: <em>uniform</em> gives every model the same optimizer, learning rate, batch "
        "and number of images; <em>faithful</em> gives each the recipe of its paper",
    ),
    (
        "preset",
        "a bundle of settings: <em>smoke</em>, <em>quick</em> or <em>paper</em>, from seconds to days",
    ),
    (
        "seed",
        "one training; several trainings of one model differ in nothing else, and their spread is the noise",
    ),
)


def build_headline(context: ReportContext) -> dict[str, Any]:
    """Build the view of ``sections/headline.html.j2``."""
    return {
        "subject": _subject(context),
        "beside_paper": _stands_beside_paper(context),
        "paper": PAPER,
        "date": format_date(str(context.manifest.get("updated") or context.manifest["created"])),
        "version": context.manifest.get("software", {}).get("inpaint-bench"),
        "project": project_url(),
        "answer": _answer(context),
        "sentences": headline_sentences(context),
        "cautions": headline_cautions(context),
        "facts": _facts(context),
        "terms": TERMS,
        "trained": any(m.trained for m in context.methods),
    }


def format_date(text: str) -> str:
    """Write an ISO 8601 time as a day in words; what cannot be read stays as it is.

    >>> format_date("2024-05-01T11:00:00Z")
    '1 May 2024'
    >>> format_date("unknown")
    'unknown'
    """
    try:
        day = datetime.fromisoformat(text)
    except ValueError:
        return text
    return f"{day.day} {day:%B %Y}"


def project_url() -> str:
    """Return the project's address from the metadata of the installed package; empty where it names none."""
    try:
        lines = metadata.metadata("inpaint-bench").get_all("Project-URL") or []
    except metadata.PackageNotFoundError:
        lines = []
    urls = dict(line.split(", ", 1) for line in lines if ", " in line)
    for name in ("Homepage", "Repository", "Source"):
        if name in urls:
            return str(urls[name])
    return ""


def _subject(context: ReportContext) -> str:
    """Say what was compared, on which images: the first half of the page's first sentence."""
    trained = sum(m.trained for m in context.methods if m.done)
    baselines = sum(not m.trained for m in context.methods if m.done)
    parts = []
    if trained:
        parts.append(f"{trained} inpainting model{'' if trained == 1 else 's'}")
    if baselines:
        parts.append(f"{baselines} training-free baseline{'' if baselines == 1 else 's'}")
    return (
        f"Compares {_list(parts or ['no model'])} on {_images(context)} of {context.data['title']} "
        f"at {context.settings['size']} × {context.settings['size']} px"
    )


def _stands_beside_paper(context: ReportContext) -> bool:
    """Return whether any number of the paper's Table 4 stands on the page."""
    return PAPER_MASK in context.masks and any(m.group == "paper" for m in context.methods_on(PAPER_MASK))


def _answer(context: ReportContext) -> str:
    """Say in a few words which model won, and whether by more than noise; empty where nothing was compared."""
    mask, metric = context.main_mask, _headline_metric(context)
    if mask is None or metric is None:
        return ""
    ranking = rank_trained(context.rows, metric.name, mask, higher_is_better=metric.higher_is_better)
    if ranking and ranking.few_seeds and ranking.standing != "alone":
        return f"By {metric.heading}, no winner can be named: that takes {MIN_SEEDS} trainings of each model."
    match ranking and ranking.standing:
        case "leads":
            assert ranking is not None
            return f"By {metric.heading}, {ranking.labels[0]} wins, by more than noise."
        case "highest" | "noise":
            return f"By {metric.heading}, no model wins by more than noise."
        case _:
            return ""


def short_headline(context: ReportContext) -> str:
    """Say the headline in one line, by the same rules as the page: who leads, or is highest, or noise."""
    mask, metric = context.main_mask, _headline_metric(context)
    if mask is None or metric is None:
        return "No results yet."
    # Trained models first: a baseline leads only where nothing was trained.
    best = next(iter(context.ranking(mask, metric, trained=True)), None)
    if best is None:
        baselines = context.ranking(mask, metric, trained=False)
        if not baselines:
            return "No results yet."
        return (
            f"{baselines[0].label} is the best baseline with {_score(context, mask, baselines[0], metric)}."
        )
    ranking = rank_trained(context.rows, metric.name, mask, higher_is_better=metric.higher_is_better)
    assert ranking is not None
    verb = {"leads": "leads with", "alone": "has"}.get(ranking.standing, "is highest with")
    doubt = "; the ranking is noise" if ranking.standing == "noise" else ""
    if ranking.standing == "highest":
        doubt = f", not decided better than {_list(list(ranking.tied))}"
    text = f"{best.label} {verb} {_score(context, mask, best, metric)}{doubt}."
    first = context.ranking(mask, metric)[0]
    return text if first.trained else text + baseline_above(first.label, _score(context, mask, first, metric))


def baseline_above(label: str, score: str) -> str:
    """Add to a headline that a model without training has the better mean."""
    return f" The baseline {label} is above it with {score}."


def headline_sentences(context: ReportContext) -> list[str]:
    """List the findings, most important first."""
    mask, metric = context.main_mask, _headline_metric(context)
    if mask is None or metric is None:
        return ["Nothing has been evaluated: no cell of this experiment is finished."]
    trained = context.ranking(mask, metric, trained=True)
    baselines = context.ranking(mask, metric, trained=False)
    where = f"With the mask “{mask}”"
    if not trained:
        if not baselines:
            return [f"{where}, no {metric.heading} could be computed."]
        best = baselines[0]
        return [
            f"{where}, only training-free baselines were evaluated; the best is {best.label} with "
            f"{_score(context, mask, best, metric)}."
        ]
    found = [_leader(context, where, mask, metric, trained)]
    up = metric.higher_is_better
    if ranking := rank_trained(context.rows, metric.name, mask, higher_is_better=up):
        found += filter(None, [ranking.sentence])
    if baselines:
        clearances = compare_with_baseline(context.rows, metric.name, mask, higher_is_better=up)
        found += filter(None, [describe_clearance(clearances, metric.unit, metric.digits)])
    found += filter(None, [_other_metrics(context, mask, metric)])
    others = [m for m in context.masks if m != mask]
    if others:
        found += filter(None, [_elsewhere(context, metric, trained[0], others)])
    return [*found, *_claims(context)]


def _claims(context: ReportContext) -> list[str]:
    """Count how the paper's claims stand, where any was tested."""
    counts = Counter(v.outcome for v in context.verdicts)
    tested = [f"{_are(counts[o])} {o}" for o in MEANINGS if counts[o] and o != "not tested"]
    if not tested:
        return []
    text = f"Of the paper's {_count(len(context.verdicts))} claims, {_list(tested)}"
    return [text + (f"; {_are(counts['not tested'])} not tested." if counts["not tested"] else ".")]


def _leader(
    context: ReportContext, where: str, mask: str, metric: MetricView, trained: list[MethodView]
) -> str:
    """Say which trained model has the best mean, and how far the next one is."""
    best = trained[0]
    lead = f"{where}, {best.label} has "
    if len(trained) == 1:
        return lead + f"{_score(context, mask, best, metric)}; no other trained model was evaluated."
    second = trained[1]
    pair = context.difference(mask, metric.name, best.label, second.label)
    among = f"of {_count(len(trained))} trained models"
    superlative = "highest" if metric.higher_is_better else "lowest"
    text = f"{lead}the {superlative} {metric.heading} {among}, {_score(context, mask, best, metric)}"
    if pair is None:
        return text + "."
    beside = "over" if metric.higher_is_better else "against"
    text += f": {metric.show(pair['difference'], sign=True)} {metric.unit} {beside} {second.label}".rstrip()
    if pair["interval"] != "none":
        text += f" (95 % interval {metric.show(pair['low'], sign=True)} to {metric.show(pair['high'], sign=True)})"
    return text + "."


def _other_metrics(context: ReportContext, mask: str, headline: MetricView) -> str:
    """Say which trained model the other primary metrics put first, where every model has enough trainings."""
    parts = []
    for metric in context.measured:
        if metric is headline or metric.group != "primary":
            continue
        ranking = rank_trained(context.rows, metric.name, mask, higher_is_better=metric.higher_is_better)
        # With too few trainings the order is noise by rule, whatever the metric; that is said once.
        if ranking is None or ranking.standing == "alone" or ranking.few_seeds:
            continue
        first = ranking.labels[0]
        if ranking.standing == "leads":
            parts.append(f"by {metric.heading}, {first} leads")
        else:
            tied = _list(list(ranking.tied))
            parts.append(f"by {metric.heading}, {first} has the best mean, not decided better than {tied}")
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _elsewhere(context: ReportContext, metric: MetricView, leader: MethodView, masks: list[str]) -> str:
    """Say which trained model is best on the other masks, and where a baseline is above all of them."""
    best_on: dict[str, list[str]] = {}
    above: dict[str, list[str]] = {}
    for mask in masks:
        order = context.ranking(mask, metric)
        trained = next((m for m in order if m.trained), None)
        if trained:
            best_on.setdefault(trained.label, []).append(mask)
            if not order[0].trained:
                above.setdefault(order[0].label, []).append(mask)
    if not best_on:
        return ""
    if list(best_on) == [leader.label]:
        other = "the other masks" if len(masks) > 1 else "the other mask"
        text = f"{leader.label} has the best mean of the trained models on {other} too ({_list(best_on[leader.label])})"
    else:
        where = _list([f"{label} on {_list(on)}" for label, on in best_on.items()])
        text = f"On other masks the best mean of the trained models is that of {where}"
    for baseline, on in above.items():
        text += f"; the baseline {baseline} is above all of them on {_list(on)}"
    return text + "."


def headline_cautions(context: ReportContext) -> list[str]:
    """List what a reader must know before quoting a number."""
    found = []
    if context.data["procedural"]:
        found.append(
            "These are procedural faces, drawn by this program: a test bed, not real results. The paper's "
            "claims are not tested on them."
        )
    if context.evaluated_on != "test":
        found.append(
            f"These are {context.evaluated_on} images, for choosing settings by: whatever was chosen on them looks "
            "better on them than it is. Results are numbers of test images."
        )
    fewest, most = _seeds(context)
    if context.budget_is_small:
        seen = context.images_seen[0]
        found.append(
            f"{seen:,} images seen are far from the end of training: with a longer one the ranking may be "
            "another, whatever the intervals say of this one."
        )
    if 0 < fewest < MIN_SEEDS:
        trainings = "is only one training" if fewest == 1 else f"are only {_count(fewest)} trainings"
        found.append(
            f"There {trainings} of {'each model' if fewest == most else 'some models'}. Below "
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
        found.append(f"{number} {cells} failed: no numbers. See “Failed and skipped”.")
    return found


def _facts(context: ReportContext) -> list[tuple[str, str]]:
    """List the run's settings in a few words, above the fold."""
    seen = context.images_seen
    facts = [
        ("data", context.data["title"]),
        ("size", f"{context.settings['size']} × {context.settings['size']} px"),
        ("masks", ", ".join(context.settings["masks"])),
        (
            "preset",
            ", track ".join(filter(None, (context.settings["preset"], context.settings.get("track")))),
        ),
        (f"{context.evaluated_on} images", f"{context.data['evaluated']:,}"),
    ]
    if protocol := context.manifest.get("protocol"):
        facts.insert(0, ("protocol", protocol["name"]))
    if seen:
        # Models may have been trained for different numbers of images.
        shown = f"{seen[0]:,}" if len(seen) == 1 else f"{seen[0]:,} to {seen[-1]:,}"
        facts.append(("images seen", shown))
        facts.append(("trainings of each model", _trainings(context)))
    return facts


def _trainings(context: ReportContext) -> str:
    """Say how many trainings a model has, and of which seeds: a number alone could be either."""
    seeds = trained_seeds(context.experiment.manifest)
    fewest, most = _seeds(context)
    count = str(fewest) if fewest == most else f"{fewest} to {most}"
    return f"{count} (seed{'' if len(seeds) == 1 else 's'} {', '.join(str(s) for s in seeds)})"


def _headline_metric(context: ReportContext) -> MetricView | None:
    """Return PSNR, or the first metric that has values."""
    measured = context.measured
    return next((m for m in measured if m.name == "psnr_db"), measured[0] if measured else None)


def _seeds(context: ReportContext) -> tuple[int, int]:
    """Return the fewest and most trainings of a model."""
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
