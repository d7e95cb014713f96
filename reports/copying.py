"""A small table as text to paste elsewhere: CSV, Markdown, LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "−": "$-$",
    "–": "--",
}


def as_csv(table: Sequence[Sequence[str]]) -> str:
    """RFC 4180 with plain line ends; the first row is the header.

    A cell that a spreadsheet would take for a formula is preceded by an apostrophe.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerows([[_harmless(cell) for cell in row] for row in table])
    return buffer.getvalue()


def as_markdown(table: Sequence[Sequence[str]], alignment: str = "") -> str:
    """A pipe table. ``alignment`` has ``l`` or ``r`` for each column; by default all but the first to the right."""
    header, *rows = [[_markdown(cell) for cell in row] for row in table]
    rule = ["--:" if a == "r" else ":--" for a in alignment or _alignment_of_cells(table)]
    return "".join("| " + " | ".join(row) + " |\n" for row in (header, rule, *rows))


def as_latex(table: Sequence[Sequence[str]], alignment: str = "") -> str:
    """A ``tabular`` with the rules of ``booktabs``; ``alignment`` as in :func:`as_markdown`."""
    header, *rows = [" & ".join(_latex(cell) for cell in row) + r" \\" for row in table]
    lines = [
        rf"\begin{{tabular}}{{{alignment or _alignment_of_cells(table)}}}",
        r"\toprule",
        header,
        r"\midrule",
        *rows,
        r"\bottomrule",
    ]
    return "\n".join([*lines, r"\end{tabular}", ""])


def _alignment_of_cells(table: Sequence[Sequence[str]]) -> str:
    return "l" + "r" * (len(table[0]) - 1)


def _harmless(cell: str) -> str:
    is_number = cell.replace(".", "", 1).replace("-", "", 2).replace("+", "", 1).replace("e", "", 1).isdigit()
    return "'" + cell if cell[:1] in "=+-@\t\r" and cell and not is_number else cell


def _markdown(cell: str) -> str:
    for mark in "\\|`*_<>":
        cell = cell.replace(mark, "\\" + mark)
    cell = cell.replace("](", "\\](")  # a link; an interval's brackets stand as they are
    return " ".join(cell.split())


def _latex(cell: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in " ".join(cell.split()))
