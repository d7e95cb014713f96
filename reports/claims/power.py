"""Power: how many trainings would decide a comparison, before a run and after one.

A spread, measured on a pilot or assumed, says how far trainings and images scatter. From it follow the interval
that any number of trainings and images would give, and how often a true difference would be decided.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from reports.statistics.bootstrap import CONFIDENCE, Floats, cluster_codes, cluster_sums
from reports.statistics.intervals import MIN_SEEDS, Estimate, seed_interval, tail_share
from reports.statistics.multiplicity import ALPHA
from reports.statistics.scores import Scores

#: A difference counts as found where it would be decided this often.
POWER = 0.8
#: More trainings of each model than this are no plan.
MAX_SEEDS = 200
_QUANTILES = 12  # of the chi-square distribution, for each of two models


@dataclass(frozen=True)
class Spread:
    """Variances of one comparison, in squared units of the metric.

    Attributes:
        offset_a, offset_b: between trainings of each model, beyond chance over images; 0 for a baseline.
        interaction_a, interaction_b: of a training's mean, from how trainings deal with single images.
        images: of the difference, from images that are harder for one model than for the other.
        n_images: images that ``interaction`` and ``images`` are for.
        clusters: people among them.
    """

    offset_a: float
    offset_b: float
    interaction_a: float
    interaction_b: float
    images: float
    n_images: int
    clusters: int

    def scaled_to(self, n_images: int) -> Spread:
        """Return the spread for another number of images of as many images a person."""
        factor = self.n_images / n_images
        return Spread(
            self.offset_a,
            self.offset_b,
            # Both fall with the number of images, as variances of means do; the offsets of trainings do not.
            self.interaction_a * factor,
            self.interaction_b * factor,
            self.images * factor,
            n_images,
            # There is no interval below two people.
            max(2, round(self.clusters / factor)),
        )


#: Without a pilot: trainings 0.1 dB apart, 1,500 test images of 300 people, as in a trial at 64 px
#: (``docs/statistics.md``). In dB of PSNR; no other metric has an assumed spread.
ASSUMED_SPREAD = Spread(0.1**2, 0.1**2, 0.0002, 0.0002, 0.0002, 1500, 300)


def measure_spread(a: Scores, b: Scores) -> Spread | None:
    """Measure the spread of one comparison; ``None`` where a trained side has a single training.

    Args:
        a: one model.
        b: the other, or a baseline.
    """
    images = a.images.intersection(b.images, sort=False)
    if not len(images) or any(side.trained and len(side.seeds) < 2 for side in (a, b)):
        return None
    a, b = a.on(images), b.on(images)
    codes, clusters = cluster_codes(a.identities)
    if clusters < 2:
        return None
    estimate = seed_interval(a.values, codes, b.values)
    offset_a, interaction_a = _seed_variances(a, codes, clusters)
    offset_b, interaction_b = _seed_variances(b, codes, clusters)
    return Spread(offset_a, offset_b, interaction_a, interaction_b, estimate.images[0], len(images), clusters)


def _seed_variances(scores: Scores, codes: NDArray[np.int64], clusters: int) -> tuple[float, float]:
    """Split the variance of the trainings' means into their offsets and the chance of these images."""
    if len(scores.seeds) < 2:
        return 0.0, 0.0
    means = scores.values.mean(axis=1)
    residual = scores.values - scores.values.mean(axis=0) - (means - means.mean())[:, None]
    sums = cluster_sums(residual, codes, clusters) / scores.values.shape[1]
    few = clusters / (clusters - 1)
    # The variance that the means of trainings would show from interaction
    # alone; what they show beyond it is offset.
    interaction = few * float(np.square(sums).sum()) / (len(scores.seeds) - 1)
    return max(0.0, float(means.var(ddof=1)) - interaction), interaction


def mean_spread(spreads: Sequence[Spread]) -> Spread:
    """Average the variances of several comparisons on the same images.

    Examples:
        >>> one, other = Spread(1, 1, 0, 0, 0, 10, 5), Spread(3, 1, 0, 0, 2, 10, 5)
        >>> mean_spread([one, other])
        Spread(offset_a=2.0, offset_b=1.0, interaction_a=0.0, interaction_b=0.0, images=1.0, n_images=10, clusters=5)
    """
    fields = ("offset_a", "offset_b", "interaction_a", "interaction_b", "images")
    means = {name: float(np.mean([getattr(s, name) for s in spreads])) for name in fields}
    return Spread(**means, n_images=spreads[0].n_images, clusters=spreads[0].clusters)


def predict_estimate(spread: Spread, seeds: int, difference: float = 0.0) -> Estimate:
    """Predict the interval of a comparison with ``seeds`` trainings of each model.

    Args:
        spread: of the comparison.
        seeds: trainings of each trained model, at least two.
        difference: the value that the interval is put around.

    Examples:
        >>> wide, narrow = (predict_estimate(ASSUMED_SPREAD, seeds) for seeds in (3, 12))
        >>> f"{wide.half_width(0.05):.2f} {narrow.half_width(0.05):.2f}"
        '0.23 0.09'
    """
    sides = _side_variances(spread, seeds)
    v_seeds = sum(sides)
    variance = spread.images + v_seeds
    if variance == 0.0:
        return Estimate(difference, difference, difference, 0.0, math.inf)
    spread_of = spread.images**2 / (spread.clusters - 1) + sum(v**2 / (seeds - 1) for v in sides)
    df = variance**2 / spread_of
    df_seeds = v_seeds**2 / sum(v**2 / (seeds - 1) for v in sides) if v_seeds > 0 else math.inf
    images = (spread.images, spread.clusters - 1.0)
    fewest = min(seeds - 1.0, spread.clusters - 1.0)
    bare = Estimate(
        difference, math.nan, math.nan, math.sqrt(variance), df, images, (v_seeds, df_seeds), fewest
    )
    half = bare.half_width(ALPHA)
    return dataclasses.replace(bare, low=difference - half, high=difference + half)


def detection_probability(spread: Spread, seeds: int, difference: float, p: float = ALPHA) -> float:
    """Compute how often a true difference would be decided in its own direction.

    Averaged over the variances that few trainings may show by chance, each a chi-square quantile: with three seeds
    the width of the interval varies more than anything else.

    Args:
        spread: of the comparison.
        seeds: trainings of each trained model.
        difference: the true one, in the metric's unit.
        p: threshold of the p-value: 5 % divided by the number of comparisons, at worst.

    Examples:
        >>> [round(detection_probability(ASSUMED_SPREAD, seeds, 0.2), 1) for seeds in (3, 5, 10)]
        [0.4, 0.8, 1.0]
    """
    true_a, true_b = _side_variances(spread, seeds)
    error = math.sqrt(spread.images + true_a + true_b)
    if error == 0.0:
        return 1.0 if difference else 0.0
    # The middles of equally likely parts of the chi-square distribution, as multiples of the true variance.
    shown = special.chdtri(seeds - 1, 1 - (np.arange(_QUANTILES) + 0.5) / _QUANTILES) / (seeds - 1)
    shown_a, shown_b = (side.ravel() for side in np.meshgrid(true_a * shown, true_b * shown))
    half = _half_widths(spread, seeds, shown_a, shown_b, p)
    # In its own direction only: the other tail would be a wrong decision.
    return float(special.ndtr((abs(difference) - half) / error).mean())


def _side_variances(spread: Spread, seeds: int) -> tuple[float, float]:
    """Variance of each model's mean over ``seeds`` trainings."""
    return (
        (spread.offset_a + spread.interaction_a) / seeds,
        (spread.offset_b + spread.interaction_b) / seeds,
    )


def _half_widths(spread: Spread, seeds: int, side_a: Floats, side_b: Floats, p: float) -> Floats:
    """Half widths of :func:`reports.statistics.intervals.seed_interval` for many pairs of variances."""
    # The steps of Estimate.half_width for arrays.
    v_seeds = np.maximum(side_a + side_b, np.finfo(float).tiny)
    variance = spread.images + v_seeds
    # Either sum of squares vanishes without a spread between trainings, where the quantile is the images'.
    squares = np.maximum((side_a**2 + side_b**2) / (seeds - 1), np.finfo(float).tiny)
    df = variance**2 / (spread.images**2 / (spread.clusters - 1) + squares)
    seeds_quantile = -special.stdtrit(np.maximum(v_seeds**2 / squares, seeds - 1), p / 2)
    images_quantile = -special.stdtrit(spread.clusters - 1, p / 2)
    weighted = (spread.images * images_quantile + v_seeds * seeds_quantile) / variance
    quantile = (weighted - special.stdtrit(df, p / 2)) / 2
    fewest = -special.stdtrit(min(seeds - 1, spread.clusters - 1), p / 2)
    quantile += tail_share(p) * np.maximum(0.0, fewest - quantile)
    halves: Floats = quantile * np.sqrt(variance)
    return halves


def seeds_to_decide(
    spread: Spread, difference: float, p: float = ALPHA, *, power: float = POWER, at_least: int = MIN_SEEDS
) -> int | None:
    """Find the fewest trainings of each model with which a difference would be decided.

    Args:
        spread: of the comparison.
        difference: the true one; where it is the observed one, the answer shares its uncertainty.
        p: threshold of the p-value.
        power: how often it should be decided.
        at_least: trainings to start from.

    Returns:
        ``None`` where more than :data:`MAX_SEEDS` would be needed, or no number suffices on these images.

    Examples:
        >>> seeds_to_decide(ASSUMED_SPREAD, 0.2)
        6
        >>> seeds_to_decide(ASSUMED_SPREAD, 0.001) is None
        True
    """
    # Images set a floor to the error that no number of trainings lowers.
    if detection_probability(spread, MAX_SEEDS, difference, p) < power:
        return None
    # Power grows with the number of trainings, so it is bisected.
    # high always suffices and low never does: the answer is where they meet.
    low, high = at_least - 1, MAX_SEEDS
    while high - low > 1:
        middle = (low + high) // 2
        if detection_probability(spread, middle, difference, p) >= power:
            high = middle
        else:
            low = middle
    return high


def seeds_to_fit(spread: Spread, room: float, *, at_least: int = MIN_SEEDS) -> int | None:
    """Find the fewest trainings of each model whose 95 % interval has at most ``room`` to either side.

    Args:
        spread: of the comparison.
        room: half width allowed, in the metric's unit.
        at_least: trainings to start from.

    Examples:
        >>> seeds_to_fit(ASSUMED_SPREAD, 0.1), seeds_to_fit(ASSUMED_SPREAD, 0.0)
        (10, None)
    """
    if room <= 0 or predict_estimate(spread, MAX_SEEDS).half_width(1 - CONFIDENCE) > room:
        return None
    counts = range(at_least, MAX_SEEDS + 1)
    return next(n for n in counts if predict_estimate(spread, n).half_width(1 - CONFIDENCE) <= room)


@dataclass(frozen=True)
class PlanLine:
    """What a number of test images takes.

    Attributes:
        n_images: test images.
        seeds: fewest trainings of each model that find the difference; ``None`` beyond :data:`MAX_SEEDS`.
        noisiest: the same for the pair that scatters most.
        power: with ``seeds``.
        hours: of all trainings and evaluations; ``None`` where no cost is known.
    """

    n_images: int
    seeds: int | None
    noisiest: int | None
    power: float
    hours: float | None


def plan_experiment(
    spreads: Sequence[Spread],
    detect: float,
    image_counts: Sequence[int],
    *,
    comparisons: int,
    power: float = POWER,
    training_seconds: float | None = None,
    seconds_per_image: float = 0.0,
) -> list[PlanLine]:
    """Plan seeds and images that decide a difference of ``detect`` between any two models.

    Args:
        spreads: of the pairs of models, all on the same images.
        detect: the smallest difference that matters, in the metric's unit.
        image_counts: numbers of test images to plan for.
        comparisons: pairs in the family; the threshold is the strictest of Holm's steps.
        power: how often the difference should be decided.
        training_seconds: of one training of every model together; ``None`` where not known.
        seconds_per_image: of evaluating one image with every model.

    Examples:
        >>> (line,) = plan_experiment([ASSUMED_SPREAD], 0.2, [1500], comparisons=6, training_seconds=3600.0)
        >>> line.seeds, line.hours
        (9, 9.0)
    """
    p = ALPHA / comparisons
    lines = []
    for count in image_counts:
        scaled = [spread.scaled_to(count) for spread in spreads]
        typical = mean_spread(scaled)
        seeds = seeds_to_decide(typical, detect, p, power=power)
        counts = [seeds_to_decide(spread, detect, p, power=power) for spread in scaled]
        known = [n for n in counts if n is not None]
        hours = None
        if seeds is not None and training_seconds is not None:
            hours = seeds * (training_seconds + seconds_per_image * count) / 3600
        lines.append(
            PlanLine(
                count,
                seeds,
                # If one pair is out of reach, so is the noisiest.
                max(known) if len(known) == len(counts) else None,
                0.0 if seeds is None else detection_probability(typical, seeds, detect, p),
                hours,
            )
        )
    return lines


def pair_spreads(methods: Sequence[Scores]) -> list[Spread]:
    """Measure the spread of every pair of trained models with two trainings or more."""
    trained = [m for m in methods if m.trained and len(m.seeds) > 1]
    found = (measure_spread(a, b) for a, b in itertools.combinations(trained, 2))
    return [spread for spread in found if spread is not None]
