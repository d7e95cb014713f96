"""KID (Bińkowski et al. 2018, arXiv:1801.01401): an unbiased distance of two sets, with its interval."""

from __future__ import annotations

from statistics import NormalDist

import torch
from torch import Tensor

from bench.evaluation.feature_sets import FeatureSets, SetScore
from bench.evaluation.fid import inception_features
from bench.evaluation.metrics import distribution_metric
from reports.results.metric_info import MetricInfo

#: Rows of the kernel matrices that are held at a time: a block of 20,000 images is 160 MB.
_ROWS = 1024


@distribution_metric(
    MetricInfo(
        name="kid",
        heading="KID",
        digits=5,
        value_range=(None, None),
        higher_is_better=False,
        convention="squared MMD between the Inception features of truths and 8-bit RGB composites, kernel "
        "(x y / 2048 + 1)^3, over all images at once (no subsets); unbiased, without pairs of an image with its own "
        "completion, so that it may be slightly negative; interval over people",
        source="Bińkowski et al. 2018 (arXiv:1801.01401)",
        oracle="torch-fidelity's u-statistic",
        of="set",
        weights="Inception weights of 2015 (torch-fidelity, Apache-2.0)",
    ),
    features=inception_features,
)
def kid(sets: FeatureSets) -> SetScore:
    """Compute the kernel Inception distance with its 95 % interval.

    Truth and composite of one image are not independent, so pairs of an image with its own completion are left out of
    the mixed term: the estimator is the U-statistic over pairs of different images (Gretton et al. 2012, lemma 6),
    unbiased for paired sets too. The interval is value +- 1.96 standard errors by the delete-one-person jackknife.

    Examples:
        >>> features = torch.eye(4)
        >>> score = kid(FeatureSets(features, features))
        >>> round(score.value, 6), round(score.low, 6), round(score.high, 6)
        (0.0, 0.0, 0.0)
    """
    count = len(sets.truth)
    if count < 2:
        return SetScore(float("nan"))
    clusters = torch.arange(count) if sets.clusters is None else sets.clusters
    _, codes = torch.unique(clusters, return_inverse=True)
    people = int(codes.max()) + 1
    by_row, within = _kernel_sums(sets.truth.double(), sets.composite.double(), codes, people)
    total = by_row.sum()
    value = float(total / (count * (count - 1)))
    # The spread between people cannot be told from fewer than three.
    if people < 3:
        return SetScore(value)
    # Leaving out a person takes away the pairs of that person's images with all others, twice, and those among them.
    of_person = torch.zeros(people, dtype=torch.float64).index_add_(0, codes, by_row)
    size = torch.bincount(codes, minlength=people).double()
    left = count - size
    without = (total - 2 * of_person + within) / (left * (left - 1))
    error = float(((people - 1) / people * (without - without.mean()).square().sum()).sqrt())
    reach = NormalDist().inv_cdf(0.975) * error
    return SetScore(value, value - reach, value + reach)


def _kernel_sums(x: Tensor, y: Tensor, codes: Tensor, people: int) -> tuple[Tensor, Tensor]:
    """Sum ``h(i, j) = k(x_i, x_j) + k(y_i, y_j) - k(x_i, y_j) - k(y_i, x_j)`` over j other than i.

    Returns:
        ``(N,)`` sums by i, and ``(people,)`` sums over pairs within a person.
    """
    by_row = torch.empty(len(x), dtype=torch.float64)
    within = torch.zeros(people, dtype=torch.float64)
    for start in range(0, len(x), _ROWS):
        rows = slice(start, min(start + _ROWS, len(x)))
        pairs = _kernel(x[rows], x) + _kernel(y[rows], y) - _kernel(x[rows], y) - _kernel(y[rows], x)
        # An image with itself, and with its own completion, is no pair of the U-statistic.
        pairs[torch.arange(len(pairs)), torch.arange(rows.start, rows.stop)] = 0
        by_row[rows] = pairs.sum(dim=1)
        same = codes[rows, None] == codes[None, :]
        within.index_add_(0, codes[rows], (pairs * same).sum(dim=1))
    return by_row, within


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    """Evaluate the polynomial kernel of degree 3 (section 3.1 of the paper)."""
    return (a @ b.T / a.shape[1] + 1) ** 3
