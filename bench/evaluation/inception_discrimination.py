"""P-IDS and U-IDS (Zhao et al. 2021, arXiv:2103.10428): how often a linear classifier takes completions for truths."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.evaluation.feature_sets import FeatureSets, SetScore
from bench.evaluation.fid import inception_features
from bench.evaluation.metrics import distribution_metric
from reports.results.metric_info import MetricInfo

_NEWTON_STEPS = 100


@distribution_metric(
    MetricInfo(
        name="p_ids",
        heading="P-IDS",
        digits=4,
        value_range=(0.0, 1.0),
        higher_is_better=True,
        convention="share of images whose composite a linear SVM (squared hinge, C = 1, fitted on the same Inception "
        "features) finds more real than its own truth",
        source="Zhao et al. 2021 (arXiv:2103.10428), as MAT's evaluation computes it",
        oracle="scikit-learn's LinearSVC(dual=False)",
        of="set",
        weights="Inception weights of 2015 (torch-fidelity, Apache-2.0)",
        few_images="it falls towards 0, which two sets of fewer images than 2,048 features give",
    ),
    features=inception_features,
)
def p_ids(sets: FeatureSets) -> SetScore:
    """Compute the paired inception discriminative score.

    Examples:
        >>> truth = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
        >>> p_ids(FeatureSets(truth, truth + 0.1)).value  # each completion is a little further along the only axis
        0.0
    """
    truth, composite = _decisions(sets)
    return SetScore(float((composite > truth).double().mean()))


@distribution_metric(
    MetricInfo(
        name="u_ids",
        heading="U-IDS",
        digits=4,
        value_range=(0.0, 0.5),
        higher_is_better=True,
        convention="share of truths and composites that a linear SVM (squared hinge, C = 1, fitted on the same "
        "Inception features) puts on the wrong side",
        source="Zhao et al. 2021 (arXiv:2103.10428), as MAT's evaluation computes it",
        oracle="scikit-learn's LinearSVC(dual=False)",
        of="set",
        weights="Inception weights of 2015 (torch-fidelity, Apache-2.0)",
        few_images="it falls towards 0, which two sets of fewer images than 2,048 features give",
    ),
    features=inception_features,
)
def u_ids(sets: FeatureSets) -> SetScore:
    """Compute the unpaired inception discriminative score.

    Examples:
        >>> truth = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
        >>> u_ids(FeatureSets(truth, truth + 10)).value  # a threshold separates them
        0.0
    """
    truth, composite = _decisions(sets)
    # Zero counts as wrong for a truth only, so that a classifier that decides nothing is wrong on half of
    # all.
    wrong = (truth <= 0).double().mean() + (composite > 0).double().mean()
    return SetScore(float(wrong / 2))


def _decisions(sets: FeatureSets) -> tuple[Tensor, Tensor]:
    """Fit the classifier to both sets; return its decisions on truths and composites, positive for *real*."""
    # In float64, as the oracle's solver computes.
    features = torch.cat([sets.truth, sets.composite]).double()
    labels = torch.cat([torch.ones(len(sets.truth)), -torch.ones(len(sets.composite))]).double()
    weights = fit_linear_svm(features, labels)
    decisions = features @ weights[:-1] + weights[-1]
    return decisions[: len(sets.truth)], decisions[len(sets.truth) :]


def fit_linear_svm(features: Tensor, labels: Tensor, c: float = 1.0) -> Tensor:
    """Minimize ``|w|^2 / 2 + C sum max(0, 1 - y w x)^2`` by Newton's method; a constant feature is the intercept.

    The problem of scikit-learn's ``LinearSVC(dual=False)``, whose intercept is penalized too. With the active set (the
    images inside the margin) known, the minimum is the solution of a linear system; a few steps find the set (Keerthi
    and DeCoste 2005, "A modified finite Newton method").

    Args:
        features: ``(N, D)`` float64.
        labels: ``(N,)`` float64, 1 or -1.
        c: weight of the errors.

    Returns:
        ``(D + 1,)``, the intercept last.
    """
    # A column of ones, whose weight is penalized like the others, as liblinear does.
    inputs = torch.cat([features, features.new_ones(len(features), 1)], dim=1)
    weights = features.new_zeros(inputs.shape[1])
    identity = torch.eye(inputs.shape[1], dtype=features.dtype, device=features.device)
    # All images at first: the first solution is that of least squares.
    active = torch.ones(len(inputs), dtype=torch.bool, device=features.device)
    for _ in range(_NEWTON_STEPS):
        x, y = inputs[active], labels[active]
        # The regularization keeps the system solvable with fewer images than features.
        solution = torch.linalg.solve(identity + 2 * c * x.T @ x, 2 * c * x.T @ y)
        weights = _line_search(weights, solution - weights, inputs, labels, c)
        found = labels * (inputs @ weights) < 1
        # The set alone may repeat while the line search still cuts steps short.
        if torch.equal(found, active) and torch.allclose(weights, solution, rtol=1e-10, atol=1e-12):
            break
        active = found
    return weights


def _line_search(weights: Tensor, step: Tensor, inputs: Tensor, labels: Tensor, c: float) -> Tensor:
    """Halve the step until the objective falls; near the minimum the whole step is taken."""

    def objective(at: Tensor) -> float:
        return float(at @ at / 2 + c * (1 - labels * (inputs @ at)).clamp(min=0).square().sum())

    before = objective(weights)
    for halvings in range(30):
        moved = weights + step * 0.5**halvings
        if objective(moved) <= before:
            return moved
    # No step lowers the objective any more: this is the minimum, up to rounding.
    return weights
