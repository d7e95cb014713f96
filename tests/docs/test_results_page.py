"""The results page and the README say what the kept files give under this version's rules."""

from __future__ import annotations

import re

import pytest

from benchmarks.results_page import PAGES, render


@pytest.mark.long
@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_the_page_is_what_the_kept_files_give(path) -> None:  # type: ignore[no-untyped-def]
    page = path.read_text(encoding="utf-8")
    assert re.search(r"<!-- (table|claims): [^>]+ -->\n.+?<!-- end -->", page, re.DOTALL)
    assert render(page) == page
