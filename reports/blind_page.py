"""``bench report --blind``: two completions side by side without names, for people to choose between.

The page holds the pairs, shows them in an order and on sides that each reader's browser draws, keeps the choices there,
and exports them as rows. When a reader asks, it shows how often each model was chosen, with an interval, beside the
metrics, and how often each metric would have chosen as the reader did.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from reports.context import ReportContext
from reports.images import ShownImages, load_shown_images
from reports.page import render_page, write_page
from reports.results.experiment import load_experiment

FILE_NAME = "blind.html"

#: Pairs on the page: about ten minutes of a reader's time.
NUM_PAIRS = 60


class BlindPageError(ValueError):
    """There is nothing to choose between. The message says why."""


@dataclass(frozen=True)
class Pair:
    """Two completions of one image.

    Attributes:
        mask: of the sample.
        place: position of the image in the sample.
        a, b: labels of the two methods, in table order.
        disagreement: whether two metrics prefer different ones.
    """

    mask: str
    place: int
    a: str
    b: str
    disagreement: bool


def render_blind_page(experiment_folder: Path, report_folder: Path, *, num_pairs: int = NUM_PAIRS) -> Path:
    """Write ``report_folder/blind.html``, atomically.

    Args:
        experiment_folder: holds ``manifest.json`` and the stored images; only read.
        report_folder: created where it is missing.
        num_pairs: number of pairs at most.

    Returns:
        The page's path.

    Raises:
        BlindPageError: the run stored no images, or those of fewer than two models.
        ExperimentError: the folder cannot be read as an experiment.
        OSError: the page cannot be written.
    """
    context = ReportContext(load_experiment(experiment_folder))
    samples = {mask: sample for mask in context.masks if (sample := load_shown_images(context, mask))}
    if not samples:
        raise BlindPageError(
            f"{context.experiment.name} stored no images: run it again without --no-pictures"
        )
    pairs = choose_pairs(samples, num_pairs)
    if not pairs:
        raise BlindPageError(
            f"{context.experiment.name} has images of only one model: nothing to choose between"
        )
    content = _content(context, samples, pairs)
    # In a script element "<" could only end it; JSON may write it as an escape.
    text = json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")
    values = {
        "context": context,
        "pairs": len(pairs),
        "content": Markup(text),  # nosec B704
    }
    return write_page(report_folder / FILE_NAME, render_page("blind.html.j2", values))


def choose_pairs(samples: dict[str, ShownImages], num_pairs: int) -> list[Pair]:
    """Choose the pairs to show: half of them where metrics disagree, every pair of models equally often.

    Trained models are compared with each other; where there are fewer than two, baselines join them.

    Args:
        samples: stored images by mask.
        num_pairs: number of pairs at most.
    """
    found: dict[tuple[str, str], list[Pair]] = {}
    for mask, sample in samples.items():
        trained = [m.label for m, _ in sample.methods if m.trained]
        labels = trained if len(trained) > 1 else [m.label for m, _ in sample.methods]
        for a, b in itertools.combinations(labels, 2):
            places = range(len(sample.stored.ids))
            pairs = [Pair(mask, place, a, b, _disagree(sample, place, a, b)) for place in places]
            found.setdefault((a, b), []).extend(pairs)
    # The order is drawn from digests of names: the same on every machine, and tied to no score.
    for pairs in found.values():
        pairs.sort(key=_digest)
        disagreeing = [p for p in pairs if p.disagreement]
        agreeing = [p for p in pairs if not p.disagreement]
        # Alternately, as long as both last, so that half of the pairs are contested ones.
        pairs[:] = [p for both in itertools.zip_longest(disagreeing, agreeing) for p in both if p is not None]
    # One pair of every two models in turn, so that a cut anywhere leaves all of them equally often.
    in_turns = (pair for turn in itertools.zip_longest(*found.values()) for pair in turn if pair is not None)
    return list(itertools.islice(in_turns, num_pairs))


def _digest(pair: Pair) -> str:
    return hashlib.sha256(f"{pair.mask}|{pair.place}|{pair.a}|{pair.b}".encode()).hexdigest()


def _disagree(sample: ShownImages, place: int, a: str, b: str) -> bool:
    """Return whether two metrics prefer different completions of an image."""
    preferred = {
        sign if metric.higher_is_better else -sign
        for metric, one, other in zip(
            sample.metrics, sample.scores[a][place], sample.scores[b][place], strict=True
        )
        if (sign := (one > other) * 1 - (one < other) * 1)
    }
    return len(preferred) > 1


def _content(
    context: ReportContext, samples: dict[str, ShownImages], pairs: Sequence[Pair]
) -> dict[str, Any]:
    """Build what the page's script reads: every image once, its completions, and the pairs by their positions."""
    images: dict[tuple[str, int], dict[str, Any]] = {}
    for pair in pairs:
        sample = samples[pair.mask]
        if (pair.mask, pair.place) not in images:
            # Completions that no pair shows would only make the page larger.
            wanted = {
                label for p in pairs if (p.mask, p.place) == (pair.mask, pair.place) for label in (p.a, p.b)
            }
            row = sample.row(pair.place, [], only=wanted)
            scores = {
                label: [
                    # JSON has no NaN.
                    None if value != value else float(value)
                    for value in sample.scores[label][pair.place]
                ]
                for label in wanted
            }
            images[pair.mask, pair.place] = {
                "id": row.id,
                "mask": pair.mask,
                "truth": row.truth,
                "input": row.input,
                "completions": {output.method.label: output.src for output in row.outputs},
                "scores": scores,
            }
    order = list(images)
    # In table order, whatever the order of the pairs.
    labels = [m.label for m in context.methods if any(m.label in (p.a, p.b) for p in pairs)]
    metrics = next(iter(samples.values())).metrics
    return {
        "experiment": context.experiment.name,
        # Choices are kept in the browser under this key: those of other pairs are not mistaken for them.
        "key": hashlib.sha256("|".join(map(_digest, pairs)).encode()).hexdigest()[:12],
        "metrics": [{"title": m.title, "digits": m.digits, "up": m.higher_is_better} for m in metrics],
        "labels": labels,
        "means": {label: [_mean(context, list(samples), label, m.name) for m in metrics] for label in labels},
        "images": list(images.values()),
        "pairs": [[order.index((p.mask, p.place)), p.a, p.b] for p in pairs],
    }


def _mean(context: ReportContext, masks: Sequence[str], label: str, metric: str) -> float | None:
    """Return a method's mean over the masks of the page; ``None`` where it has no value."""
    lines = [line for mask in masks if (line := context.value(mask, label, metric))]
    return sum(float(line["mean"]) for line in lines) / len(lines) if lines else None
