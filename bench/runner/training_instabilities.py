"""Signs of an unstable training, read from its log.

The paper claims that spectral normalization prevents them, so they are part of the results.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import groupby
from statistics import median
from typing import Any

#: A state is recorded if it lasts for this share of the training and for this many reports in a row.
SHARE, REPORTS = 0.1, 4
#: How near to a value the discriminator's loss counts as being there.
NEAR = 0.01
#: The generator's loss counts as diverged above this multiple of its median so far.
DIVERGED = 10.0

_STATES: tuple[tuple[str, Callable[[float], bool], str], ...] = (
    (
        "discriminator won",
        lambda loss: loss < NEAR,
        f"its loss is below {NEAR}: the generator learns nothing from it",
    ),
    (
        "discriminator undecided",
        lambda loss: abs(loss - math.log(4)) < NEAR,
        f"its loss is within {NEAR} of log 4: it tells real from completed no better than a coin",
    ),
)


def find_instabilities(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return ``{"step", "kind", "detail"}`` for each sign found in the lines of ``train.jsonl``, by step.

    Events that the trainer logged itself (memory that ran out) are among them.
    """
    # A log may be damaged: what is not of the kind that was written counts as not there.
    reports = [line for line in lines if isinstance(line.get("terms"), dict)]
    events = [line["event"] for line in lines if isinstance(line.get("event"), dict)]
    found = [event for event in events if isinstance(event.get("step"), int)]
    if not reports:
        return found
    last = reports[-1]["step"]
    losses_of_discriminator = [
        (r["step"], r["terms"]["discriminator/loss"])
        for r in reports
        if isinstance(r["terms"].get("discriminator/loss"), int | float)
    ]
    for kind, there, meaning in _STATES:
        # Runs of neighboring reports: a state that comes and goes is not the one that the paper speaks of.
        for inside, group in groupby(losses_of_discriminator, key=lambda pair: there(pair[1])):
            run = list(group)
            if inside and len(run) >= REPORTS and run[-1][0] - run[0][0] >= SHARE * last:
                detail = f"from step {run[0][0]} to {run[-1][0]} {meaning}"
                found.append({"step": run[0][0], "kind": kind, "detail": detail})
    losses: list[float] = []
    for report in reports:
        loss = report["terms"].get("generator/loss")
        if not isinstance(loss, int | float):
            continue
        # Losses may be negative or have a median of zero, so the magnitude is compared and zero left out.
        if len(losses) >= REPORTS and abs(loss) > DIVERGED * abs(median(losses)) > 0:
            detail = f"its loss is {loss:.3g}, more than {DIVERGED:.0f} times the median so far"
            found.append({"step": report["step"], "kind": "generator diverged", "detail": detail})
            # Once is enough: after it, the median is of a training that has failed already.
            break
        losses.append(loss)
    return sorted(found, key=lambda event: int(event["step"]))
