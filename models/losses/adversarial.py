"""Adversarial losses on logits, in float32 whatever the precision of the networks.

``bce``: Goodfellow et al. 2014, the generator's in its non-saturating form. ``hinge``: Lim & Ye 2017, Miyato
et al. 2018. All are means over the batch.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

AdversarialLoss = Literal["bce", "hinge"]


def discriminator_loss(real: Tensor, fake: Tensor, kind: AdversarialLoss) -> Tensor:
    """What a discriminator minimises; a scalar.

    ``bce``: ``-log D(real) - log(1 - D(fake))``, which is log 4 = 1.386 for one that cannot tell.
    ``hinge``: ``max(0, 1 - D(real)) + max(0, 1 + D(fake))``, then 2.

    Args:
        real: logits of true images, any shape.
        fake: logits of completed images.
        kind: see above.
    """
    real, fake = real.float(), fake.float()
    if kind == "bce":
        return F.softplus(-real).mean() + F.softplus(fake).mean()
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def generator_loss(fake: Tensor, kind: AdversarialLoss) -> Tensor:
    """What a generator minimises; a scalar. ``bce``: ``-log D(fake)``. ``hinge``: ``-D(fake)``."""
    fake = fake.float()
    return F.softplus(-fake).mean() if kind == "bce" else -fake.mean()


def score(logits: Tensor, kind: AdversarialLoss) -> Tensor:
    """Mean verdict for the log: a probability of being real (``bce``) or the mean logit (``hinge``)."""
    logits = logits.detach().float()
    return (torch.sigmoid(logits) if kind == "bce" else logits).mean()
