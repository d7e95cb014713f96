"""The results page says what ``bench claims`` prints of the kept evidence."""

from __future__ import annotations

import re

from benchmarks.results_claims import PAGE, render


def test_the_verdicts_on_the_page_are_those_of_the_kept_evidence() -> None:
    page = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"<!-- claims: (\S+) -->\n```text\n(.+?)```", page, re.DOTALL)
    assert [name for name, _ in blocks] == ["table4-64-6400", "table4-64"]
    assert all("order-psnr" in text for _, text in blocks)
    assert render(page) == page
