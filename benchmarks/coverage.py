"""How often do the intervals cover the truth? The full simulation behind ``docs/statistics.md``.

    python benchmarks/coverage.py --repeats 4000

Synthetic scores with known truth: a training's offset, a person's and an image's difficulty, and how a
training deals with a person and with an image. Prints Markdown.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reports.statistics.bootstrap import cluster_bootstrap_means, percentile_interval
from reports.statistics.intervals import seed_interval

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """Standard deviations in dB; the mean is 0.

    Attributes:
        seed: between trainings.
        person, image: difficulty, shared by all trainings.
        seed_person, seed_image: how a training deals with a person and an image.
        people, per_person: how many.
    """

    seed: float = 0.1
    person: float = 0.5
    image: float = 1.3
    seed_person: float = 0.1
    seed_image: float = 0.5
    people: int = 300
    per_person: int = 5

    @property
    def codes(self) -> NDArray[np.int64]:
        """``(N,)`` person of each image."""
        return np.repeat(np.arange(self.people), self.per_person)

    def difficulty(self, rng: np.random.Generator) -> Floats:
        """``(N,)`` what all trainings share."""
        return rng.normal(0, self.person, self.people)[self.codes] + rng.normal(
            0, self.image, len(self.codes)
        )

    def trainings(self, rng: np.random.Generator, count: int) -> Floats:
        """``(count, N)`` what each training adds."""
        own = rng.normal(0, self.seed, (count, 1)) + rng.normal(0, self.seed_image, (count, len(self.codes)))
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


def hierarchical(
    a: Floats, codes: NDArray[np.int64], b: Floats, rng: np.random.Generator
) -> tuple[float, float]:
    """The plain hierarchical bootstrap, for comparison: trainings, then people, percentile limits."""
    people = int(codes.max()) + 1
    weights = rng.multinomial(people, np.full(people, 1 / people), size=500) / people
    means = []
    for side in (a, b):
        by_person = np.stack([np.bincount(codes, row) for row in side]) / np.bincount(codes)
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
            covered[place] += low[0] <= 0 <= high[0]
    return covered[0] / repeats, covered[1] / repeats


def between_trainings(
    world: World, seeds: int, repeats: int, *, difference: float = 0.0, seed: int = 0, compare: bool = True
) -> dict[str, float]:
    """Shares over ``repeats`` comparisons of two methods whose true difference is ``difference`` dB.

    ``covered``: the two-component interval holds the truth. ``mean``: that for the mean of one method. ``less a
    fill``: that for its difference to something untrained.
    ``excludes zero``: the comparison is decided. ``hierarchical``, ``images only``: coverage of two other
    intervals.
    """
    rng = np.random.default_rng(seed)
    codes = world.codes
    shares = dict.fromkeys(
        ("covered", "mean", "less a fill", "excludes zero", "hierarchical", "images only"), 0.0
    )
    for _ in range(repeats):
        hard, harder = world.difficulty(rng), world.difficulty(rng)
        a = difference + hard + world.trainings(rng, seeds)
        b = hard + 0.3 * harder + world.trainings(rng, seeds)
        estimate = seed_interval(a, codes, b)
        shares["covered"] += estimate.low <= difference <= estimate.high
        shares["excludes zero"] += not estimate.low <= 0 <= estimate.high
        alone = seed_interval(a, codes)
        shares["mean"] += alone.low <= difference <= alone.high
        over = seed_interval(a, codes, (hard + 0.3 * harder)[None])
        shares["less a fill"] += over.low <= difference <= over.high
        if compare:
            low, high = hierarchical(a, codes, b, rng)
            shares["hierarchical"] += low <= difference <= high
            paired = seed_interval(a.mean(axis=0), codes, b.mean(axis=0))
            shares["images only"] += paired.low <= difference <= paired.high
    return {name: count / repeats for name, count in shares.items()}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=2000)
    repeats = parser.parse_args().repeats
    error = 100 * np.sqrt(0.95 * 0.05 / repeats)
    print(f"{repeats} repeats; the standard error of 95 % is {error:.1f} points.\n")
    print("| one training | cluster bootstrap | bootstrap over images |\n|---|---|---|")
    for people, per_person in ((300, 5), (1000, 20), (40, 5), (12, 5), (5, 5), (2, 5)):
        world = World(people=people, per_person=per_person)
        clustered, naive = one_training(world, repeats if people < 1000 else max(1, repeats // 4))
        print(f"| {people} people x {per_person} | {clustered:.1%} | {naive:.1%} |", flush=True)
    print("\n| world | seeds | difference | less a fill | mean | hierarchical bootstrap | images only |")
    print("|---|---|---|---|---|---|---|")
    for name, world in WORLDS.items():
        for seeds in (3, 5, 10):
            s = between_trainings(world, seeds, repeats)
            print(
                f"| {name} | {seeds} | {s['covered']:.1%} | {s['less a fill']:.1%} | {s['mean']:.1%} "
                f"| {s['hierarchical']:.1%} | {s['images only']:.1%} |",
                flush=True,
            )
    print("\n| true difference | 3 seeds | 5 seeds | 10 seeds |\n|---|---|---|---|")
    for difference in (0.0, 0.1, 0.2, 0.5):
        found = [
            between_trainings(TRIAL, s, repeats, difference=difference, compare=False)["excludes zero"]
            for s in (3, 5, 10)
        ]
        print(f"| {difference} dB | " + " | ".join(f"{f:.1%}" for f in found) + " |", flush=True)


if __name__ == "__main__":
    main()
