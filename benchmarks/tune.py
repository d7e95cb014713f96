"""Tune the learning rate of each model on validation images, then score each at its own: a second column.

    python benchmarks/tune.py --data PATH/TO/celeba --images-seen 6400 --name table4-64
    python benchmarks/tune.py --data PATH/TO/celeba --images-seen 6400 --trial-images-seen 1600 --name table4-64

Every model is tried on the same grid with a seed of its own and scored on validation images. Where the best is at an
end of the grid, the grid is extended by a factor of two for every model, until the best of each lies inside. The
trials are written to ``runs/NAME-tuned/tuning.json``; trainings with the chosen learning rates are scored on the test
images and joined as ``NAME-tuned``. ``bench claims`` says of such an experiment that each model has a learning rate of
its own. Given again it continues where it was: finished cells are kept.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.ledger.merging import merge_experiments
from reports.results.experiment import load_experiment

FOUR = "context-encoder,glcic,pconv,mgs-iim"
GRID = (2e-4, 4e-4, 8e-4)
#: The seed of trials: none of those that are reported.
TRIAL_SEED = 100
#: Doublings or halvings of the grid before a model counts as without an optimum.
MAX_EXTENSIONS = 4


def tune(
    models: Sequence[str], grid: Sequence[float], score: Callable[[str, float], float]
) -> dict[str, dict[float, float]]:
    """Score every model at every learning rate of one grid, extended until the best of each lies inside.

    Args:
        models: registry names.
        grid: learning rates to begin with.
        score: (model, learning rate) -> validation score, higher is better.

    Returns:
        Model -> learning rate -> score; the grid is the same for all models.
    """
    rates = sorted(grid)
    scores: dict[str, dict[float, float]] = {model: {} for model in models}
    for _ in range(MAX_EXTENSIONS + 1):
        for model in models:
            for rate in rates:
                if rate not in scores[model]:
                    scores[model][rate] = score(model, rate)
        # All models get the extended grid, or one of them would have been given more tries than the others.
        best = {max(of, key=lambda rate, of=of: of[rate]) for of in scores.values()}  # type: ignore[misc]
        ends = [rates[0] / 2] * (rates[0] in best) + [rates[-1] * 2] * (rates[-1] in best)
        if not ends:
            return scores
        rates = sorted([*rates, *ends])
    raise ValueError(f"after {MAX_EXTENSIONS} extensions a model is still best at an end of {rates}")


def record(model: str, scores: dict[float, float], images_seen: int) -> dict[str, Any]:
    """Describe how a learning rate was chosen, for its trainings to keep."""
    return {
        "learning_rate": max(scores, key=lambda rate: scores[rate]),
        "model": model,
        "metric": "psnr_db",
        "images": "validation",
        "seed": TRIAL_SEED,
        "images_seen": images_seen,
        "scores": {f"{rate:g}": value for rate, value in sorted(scores.items())},
    }


def bench_run(arguments: Sequence[str], *, dry_run: bool = False) -> None:
    """Run ``bench run`` and stop where it fails; of a dry run, print the command alone."""
    command = ["bench", "run", *arguments, "--quiet"]
    print(shlex.join(command), flush=True)
    if dry_run:
        return
    if code := subprocess.run([sys.executable, "-P", "-m", *command], check=False).returncode:
        sys.exit(code)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="faces", help="CelebA: its folder")
    parser.add_argument("--models", default=FOUR)
    parser.add_argument("--grid", default=",".join(f"{rate:g}" for rate in GRID))
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--images-seen", type=int, default=6400, help="budget of each training")
    parser.add_argument("--trial-images-seen", type=int, help="budget of each trial: that of a training")
    parser.add_argument("--mask", default="center")
    parser.add_argument("--seeds", default="0,1,2", help="of the trainings that are reported")
    parser.add_argument("--test-images", default="all")
    parser.add_argument("--metrics", default="secondary", help="of the trainings that are reported")
    parser.add_argument("--jobs", default="1", help="trainings of one model side by side")
    parser.add_argument("--name", default="table4-64")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print the commands only, as if the middle of the grid were best",
    )
    options = parser.parse_args()
    grid = [float(rate) for rate in options.grid.split(",")]
    trial_images_seen = options.trial_images_seen or options.images_seen
    models, name = options.models.split(","), f"{options.name}-tuned"
    common = ["--data", options.data, "--preset", options.preset, "--size", str(options.size)]
    common += ["--mask", options.mask, "--no-pictures", "--jobs", options.jobs]

    def score(model: str, rate: float) -> float:
        # An experiment for each trial, so that a repeated command finds what is done.
        trial = f"{name}-trial-{model}-{rate:g}"
        words = [
            "--models",
            model,
            "--learning-rate",
            f"{rate:g}",
            "--images-seen",
            str(trial_images_seen),
            "--seeds",
            str(TRIAL_SEED),
            "--name",
            trial,
        ]
        words += ["--evaluate-on", "validation", "--test-images", options.test_images]
        bench_run([*words, *common], dry_run=options.dry_run)
        if options.dry_run:
            return -abs(rate - sorted(grid)[len(grid) // 2])
        return float(load_experiment(Path("runs") / trial).rows["psnr_db"].mean())

    scores = tune(models, grid, score)
    tuning = {model: record(model, of, trial_images_seen) for model, of in scores.items()}
    parts = []
    for model, chosen in tuning.items():
        # An experiment has one learning rate, so each model gets its own, and they are merged afterwards.
        parts.append(Path("runs") / f"{name}-{model}")
        words = [
            "--models",
            model,
            "--learning-rate",
            f"{chosen['learning_rate']:g}",
            "--seeds",
            options.seeds,
        ]
        words += [
            "--images-seen",
            str(options.images_seen),
            "--metrics",
            options.metrics,
            "--test-images",
            options.test_images,
            "--name",
            parts[-1].name,
        ]
        bench_run([*words, *common], dry_run=options.dry_run)
    if options.dry_run:
        return
    folder = merge_experiments(parts, name, tuning=tuning)
    (folder / "tuning.json").write_text(json.dumps(tuning, indent=1) + "\n", encoding="utf-8")
    for model, chosen in tuning.items():
        print(f"{model}: {chosen['learning_rate']:g} of {chosen['scores']}")
    print(f"merged: {folder}")


if __name__ == "__main__":
    main()
