"""The paper's claims, each with a verdict from the data at hand."""

from __future__ import annotations

from collections import Counter
from typing import Any

from reports.claims.claim_verdicts import Outcome, Verdict, shared_shortfalls
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
    headings = {m.name: m.heading for m in context.metrics}
    return {
        "reasons": {v.claim.key: _in_words(v.summary or v.reason, headings) for v in verdicts},
        "evidence": {v.claim.key: _evidence(v, headings) for v in verdicts},
        "tested": [v for v in verdicts if v.outcome != "not tested"],
        "untested": [v for v in verdicts if v.outcome == "not tested"],
        "counts": [(outcome, counts[outcome]) for outcome in MEANINGS if counts[outcome]],
        "meanings": [(o, m) for o, m in MEANINGS.items() if counts[o]],
        "shortfalls": shared_shortfalls(verdicts),
        # One reason for all is said once, not beside every claim.
        "common": reasons.pop() if len(reasons) == 1 else "",
    }


def _in_words(text: str, headings: dict[str, str]) -> str:
    """Name metrics as tables do, not by their columns; whole sentences begin with a capital letter."""
    for name in sorted(headings, key=len, reverse=True):
        # Followed by a verdict: a metric's column may be a word of a sentence too.
        text = text.replace(f"{name}: ", f"{headings[name]}: ")
    return text[:1].upper() + text[1:]


def _evidence(verdict: Verdict, headings: dict[str, str]) -> list[tuple[str, str, str]]:
    """List each comparison's relation to the claim, metric and sentence, where the claim's reason lacks some."""
    if not verdict.summary:
        return []
    several = len({f.metric for f in verdict.findings}) > 1
    return [
        (f.relation, headings.get(f.metric, f.metric) if several else "", f.reason) for f in verdict.findings
    ]


SECTION = ReportSection("verdicts", "The paper’s claims", 40, build_verdicts)
