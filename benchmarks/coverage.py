"""Coverage of intervals, family-wise error and power: the simulations behind ``docs/statistics.md``.

    python benchmarks/coverage.py --repeats 2000
    python benchmarks/coverage.py --repeats 2000 --tables hard,family

Synthetic scores with known truth: a training's offset, a person's and an image's difficulty, and how a
training deals with a person and with an image. Prints Markdown.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from reports.statistics.bootstrap import cluster_bootstrap_means, percentile_interval
from reports.statistics.intervals import seed_interval
from reports.statistics.multiplicity import ALPHA

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """Standard deviations in dB; the mean is 0.

    Attributes:
        seed: between trainings.
        person, image: difficulty, shared by all trainings.
        seed_person, seed_image: how a training deals with a person and an image.
        people, per_person: how many.
        seed_b: between trainings of the second method; as of the first by default.
        collapse: share of trainings that lose 1 dB.
        skewed: trainings' offsets are exponential instead of normal, with a long tail of bad ones.
        unequal: people have from one image to many (geometric), instead of as many each.
    """

    seed: float = 0.1
    person: float = 0.5
    image: float = 1.3
    seed_person: float = 0.1
    seed_image: float = 0.5
    people: int = 300
    per_person: int = 5
    seed_b: float | None = None
    collapse: float = 0.0
    skewed: bool = False
    unequal: bool = False

    @cached_property
    def codes(self) -> NDArray[np.int64]:
        """``(N,)`` person of each image."""
        images = np.full(self.people, self.per_person)
        if self.unequal:
            # A fixed seed: the sizes belong to the world, and do not change from repeat to repeat.
            images = np.random.default_rng(0).geometric(1 / self.per_person, self.people)
        return np.repeat(np.arange(self.people), images)

    @property
    def mean_offset(self) -> float:
        """What collapses take from a method's mean, in dB."""
        return -self.collapse

    def difficulty(self, rng: np.random.Generator) -> Floats:
        """``(N,)`` what all trainings share."""
        return rng.normal(0, self.person, self.people)[self.codes] + rng.normal(
            0, self.image, len(self.codes)
        )

    def trainings(self, rng: np.random.Generator, count: int, *, second: bool = False) -> Floats:
        """``(count, N)`` what each training of the first or second method adds."""
        spread = self.seed_b if second and self.seed_b is not None else self.seed
        offset = rng.normal(0, spread, (count, 1))
        if self.skewed:
            # Mean 0 and the same standard deviation as the normal one, with its tail below.
            offset = spread * (1 - rng.exponential(1.0, (count, 1)))
        if self.collapse:
            offset = offset - (rng.random((count, 1)) < self.collapse)
        own = offset + rng.normal(0, self.seed_image, (count, len(self.codes)))
        return own + rng.normal(0, self.seed_person, (count, self.people))[:, self.codes]


#: The paired difference of two trainings in a trial on faces had an intraclass correlation of 0.12.
TRIAL = World()
WORLDS = {
    "trial (seeds 0.1 dB)": TRIAL,
    "seeds 0.05 dB": World(seed=0.05),
    "seeds 0.2 dB": World(seed=0.2),
    "seeds 0.3 dB": World(seed=0.3),
    "seeds dominate (0.5 dB)": World(seed=0.5),
    "images dominate (seeds 0.01 dB)": World(seed=0.01, seed_person=0.02, seed_image=0.1),
    "interaction dominates": World(seed=0.0, person=0.0, image=0.05, seed_person=0.5, seed_image=1.0),
    "few people (40 x 5)": World(people=40),
    "few people, seeds 0.3 dB": World(seed=0.3, people=40),
}

#: What theory does not promise: trainings that are not normal, people and methods that are not alike.
HARD_WORLDS = {
    "normal (0.1 dB), for comparison": TRIAL,
    "one in five loses 1 dB": World(collapse=0.2),
    "skewed seeds (0.2 dB)": World(seed=0.2, skewed=True),
    "unequal clusters (1 to 30 images)": World(unequal=True),
    "unequal spreads (0.3 and 0.05 dB)": World(seed=0.3, seed_b=0.05),
}


def hierarchical(
    a: Floats, codes: NDArray[np.int64], b: Floats, rng: np.random.Generator
) -> tuple[float, float]:
    """Compute the plain hierarchical bootstrap, for comparison: trainings, then people, percentile limits."""
    people = int(codes.max()) + 1
    # A multinomial draw is how often each person comes up among as many draws as there are people.
    weights = rng.multinomial(people, np.full(people, 1 / people), size=500) / people
    means = []
    for side in (a, b):
        by_person = np.stack([np.bincount(codes, row) for row in side]) / np.bincount(codes)
        # Trainings are drawn anew in every resample, people are shared by both methods, which pairs them.
        drawn = rng.integers(0, len(side), (500, len(side)))
        means.append(np.take_along_axis(weights @ by_person.T, drawn, axis=1).mean(axis=1))
    low, high = np.quantile(means[0] - means[1], [0.025, 0.975])
    return float(low), float(high)


def one_training(world: World, repeats: int, seed: int = 0) -> tuple[float, float]:
    """Coverage of the cluster bootstrap, and of the bootstrap over images, for a paired difference."""
    rng = np.random.default_rng(seed)
    covered = np.zeros(2)
    for repeat in range(repeats):
        values = world.difficulty(rng)
        for place, codes in enumerate((world.codes, np.arange(len(values)))):
            low, high = percentile_interval(
                cluster_bootstrap_means(values, codes, resamples=1000, seed=repeat), int(codes.max()) + 1
            )
            # The truth is 0: difficulty has mean zero.
            covered[place] += low[0] <= 0 <= high[0]
    return covered[0] / repeats, covered[1] / repeats


def between_trainings(
    world: World, seeds: int, repeats: int, *, difference: float = 0.0, seed: int = 0, compare: bool = True
) -> dict[str, float]:
    """Shares over ``repeats`` comparisons of two methods whose true difference is ``difference`` dB.

    ``covered``: the two-component interval holds the truth. ``mean``: the interval for the mean of one method does.
    ``minus a baseline``: the interval for its difference from a training-free baseline does. ``excludes zero``: the
    comparison is decided. ``hierarchical``, ``images only``: coverage of two other intervals.
    """
    rng = np.random.default_rng(seed)
    codes, mean = world.codes, world.mean_offset
    shares = dict.fromkeys(
        ("covered", "mean", "minus a baseline", "excludes zero", "hierarchical", "images only"), 0.0
    )
    for _ in range(repeats):
        hard, harder = world.difficulty(rng), world.difficulty(rng)
        a = difference + hard + world.trainings(rng, seeds)
        # The methods share most of an image's difficulty, not all of it.
        b = hard + 0.3 * harder + world.trainings(rng, seeds, second=True)
        estimate = seed_interval(a, codes, b)
        shares["covered"] += estimate.low <= difference <= estimate.high
        shares["excludes zero"] += not estimate.low <= 0 <= estimate.high
        alone = seed_interval(a, codes)
        shares["mean"] += alone.low <= difference + mean <= alone.high
        # A baseline has the images' difficulty and no trainings.
        over = seed_interval(a, codes, (hard + 0.3 * harder)[None])
        shares["minus a baseline"] += over.low <= difference + mean <= over.high
        if compare:
            low, high = hierarchical(a, codes, b, rng)
            shares["hierarchical"] += low <= difference <= high
            # Averages in the place of trainings: a single row each, whose
            # spread between seeds cannot be seen.
            paired = seed_interval(a.mean(axis=0), codes, b.mean(axis=0))
            shares["images only"] += paired.low <= difference <= paired.high
    return {name: count / repeats for name, count in shares.items()}


def family_wise_error(
    world: World, models: int, seeds: int, repeats: int, *, seed: int = 0
) -> tuple[float, float]:
    """Share of experiments with equal models in which some pair is decided: with Holm's correction, and without.

    Where no model is better, Holm's procedure rejects something exactly where the smallest p-value is below
    the level divided by the number of pairs; that p-value need not be computed to see it.
    """
    rng = np.random.default_rng(seed)
    pairs = list(itertools.combinations(range(models), 2))
    errors = np.zeros(2)
    for _ in range(repeats):
        hard = world.difficulty(rng)
        # Each model finds some images harder than the others do.
        scores = [
            hard + 0.2 * world.difficulty(rng) + world.trainings(rng, seeds, second=bool(i % 2))
            for i in range(models)
        ]
        found = np.zeros(2, dtype=bool)
        for a, b in pairs:
            estimate = seed_interval(scores[a], world.codes, scores[b])
            gap = abs(estimate.value)
            found |= [gap > estimate.half_width(ALPHA / len(pairs)), gap > estimate.half_width(ALPHA)]
        errors += found
    return errors[0] / repeats, errors[1] / repeats


def print_coverage(repeats: int) -> None:
    """Coverage of intervals over images, and over seeds and images."""
    print("| one training | cluster bootstrap | bootstrap over images |\n|---|---|---|")
    for people, per_person in ((300, 5), (1000, 20), (40, 5), (12, 5), (5, 5), (2, 5)):
        world = World(people=people, per_person=per_person)
        # A quarter of the repeats for the world with 20,000 images.
        clustered, naive = one_training(world, repeats if people < 1000 else max(1, repeats // 4))
        print(f"| {people} people x {per_person} | {clustered:.1%} | {naive:.1%} |", flush=True)
    print("\n| world | seeds | difference | minus a baseline | mean | hierarchical bootstrap | images only |")
    print("|---|---|---|---|---|---|---|")
    for name, world in WORLDS.items():
        for seeds in (3, 5, 10):
            s = between_trainings(world, seeds, repeats)
            print(
                f"| {name} | {seeds} | {s['covered']:.1%} | {s['minus a baseline']:.1%} | {s['mean']:.1%} "
                f"| {s['hierarchical']:.1%} | {s['images only']:.1%} |",
                flush=True,
            )


def print_power(repeats: int) -> None:
    """How often a comparison is decided."""
    print("| true difference | 3 seeds | 5 seeds | 10 seeds |\n|---|---|---|---|")
    for difference in (0.0, 0.1, 0.2, 0.5):
        found = [
            between_trainings(TRIAL, s, repeats, difference=difference, compare=False)["excludes zero"]
            for s in (3, 5, 10)
        ]
        print(f"| {difference} dB | " + " | ".join(f"{f:.1%}" for f in found) + " |", flush=True)


def print_hard_worlds(repeats: int) -> None:
    """Coverage and power where trainings, people or methods are not alike."""
    print("| world | seeds | difference | minus a baseline | mean | 0 dB decided | 0.2 dB | 0.5 dB |")
    print("|---|---|---|---|---|---|---|---|")
    for name, world in HARD_WORLDS.items():
        for seeds in (3, 5, 10):
            null = between_trainings(world, seeds, repeats, compare=False)
            power = [
                between_trainings(world, seeds, repeats, difference=d, compare=False)["excludes zero"]
                for d in (0.2, 0.5)
            ]
            print(
                f"| {name} | {seeds} | {null['covered']:.1%} | {null['minus a baseline']:.1%} | {null['mean']:.1%} "
                f"| {null['excludes zero']:.1%} | {power[0]:.1%} | {power[1]:.1%} |",
                flush=True,
            )


#: For families: 45 pairs of ten models are many, so there is one image of each of 200 people.
FAMILY_WORLDS = {
    "normal (0.1 dB)": World(people=200, per_person=1),
    "one in five loses 1 dB": World(people=200, per_person=1, collapse=0.2),
    "skewed seeds (0.2 dB)": World(people=200, per_person=1, seed=0.2, skewed=True),
    "unequal spreads (0.3 and 0.05 dB)": World(people=200, per_person=1, seed=0.3, seed_b=0.05),
}


def print_family_error(repeats: int) -> None:
    """Family-wise error of all pairs of equal models."""
    print("| world | models | pairs | seeds | with Holm's correction | without |\n|---|---|---|---|---|---|")
    for name, world in FAMILY_WORLDS.items():
        for models in (4, 6, 10):
            for seeds in (3, 5):
                corrected, plain = family_wise_error(world, models, seeds, repeats)
                pairs = models * (models - 1) // 2
                print(
                    f"| {name} | {models} | {pairs} | {seeds} | {corrected:.1%} | {plain:.1%} |", flush=True
                )


TABLES = {
    "coverage": print_coverage,
    "power": print_power,
    "hard": print_hard_worlds,
    "family": print_family_error,
}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=2000)
    parser.add_argument("--tables", default=",".join(TABLES), help="names with commas between")
    options = parser.parse_args()
    names = options.tables.split(",")
    if unknown := set(names) - set(TABLES):
        parser.error(f"no table {', '.join(sorted(unknown))}; there are {', '.join(TABLES)}")
    # Binomial, at the shares that are hoped for.
    error, family = (100 * np.sqrt(p * (1 - p) / options.repeats) for p in (0.95, 0.06))
    print(f"{options.repeats} repeats; standard error {error:.1f} points at 95 %, {family:.1f} at 6 %.")
    for name in names:
        print()
        TABLES[name](options.repeats)


if __name__ == "__main__":
    main()
