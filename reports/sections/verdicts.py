"""The paper's claims, each with a verdict from the data at hand."""

from __future__ import annotations

from collections import Counter
from typing import Any

from reports.claims.claim_verdicts import Outcome, shared_shortfalls
from reports.context import ReportContext
from reports.sections import ReportSection

#: Outcomes in the order in which they are counted, with what they mean.
MEANINGS: dict[Outcome, str] = {
    "reproduced": "every comparison that the claim needs is decided as claimed",
    "not reproduced": "a comparison is decided the other way",
    "inconclusive": "not decided, or there are fewer than three seeds",
    "indicative": "decided, but with departures from the paper's set-up",
    "not tested": "the data or the models that it needs are not here",
}


def build_verdicts(context: ReportContext) -> dict[str, Any]:
    """Build the view of ``sections/verdicts.html.j2``."""
    verdicts = context.verdicts
    counts = Counter(v.outcome for v in verdicts)
    reasons = {v.reason for v in verdicts}
    return {
        "tested": [v for v in verdicts if v.outcome != "not tested"],
        "untested": [v for v in verdicts if v.outcome == "not tested"],
        "counts": [(outcome, counts[outcome]) for outcome in MEANINGS if counts[outcome]],
        "meanings": [(o, m) for o, m in MEANINGS.items() if counts[o]],
        "shortfalls": shared_shortfalls(verdicts),
        # One reason for all is said once, not beside every claim.
        "common": reasons.pop() if len(reasons) == 1 else "",
    }


SECTION = ReportSection("verdicts", "The paper’s claims", 40, build_verdicts)
