"""The tables of the pages that are made from the code. Run to write them anew: ``python docs/tables.py``.

A page holds a table between the comments ``<!-- table: NAME -->`` and ``<!-- end of table -->``; a test compares.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

DOCS = Path(__file__).resolve().parent
BLOCK = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def metrics_table() -> str:
    """Every metric: its convention, unit, range, direction and oracle."""
    from bench.evaluation.metrics import list_metrics

    lines = [
        "| name | convention | unit | range | better | oracle | source |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| `{m.name}` | {_cell(m.convention)} | {m.unit} | {m.range_text} "
        f"| {'higher' if m.higher_is_better else 'lower'} | {_cell(m.oracle)} | {_cell(m.source)} |"
        for m in list_metrics().values()
    ]
    return "\n".join(lines) + "\n"


def metric_weights_table() -> str:
    """Which metrics need weights, and under which license those are."""
    from bench.evaluation.metrics import list_metrics

    lines = ["| metric | weights and license |", "|---|---|"]
    lines += [f"| `{m.name}` | {_cell(m.weights)} |" for m in list_metrics().values() if m.weights]
    return "\n".join(lines) + "\n"


def conventions_table() -> str:
    """One set of pictures under the conventions of other programs; needs torchmetrics, AlexNet and VGG16."""
    sys.path.insert(0, str(DOCS.parent / "benchmarks"))
    import conventions

    return str(conventions.conventions_table(conventions.example_completions(48, 64)))


TABLES: dict[str, Callable[[], str]] = {
    "metrics": metrics_table,
    "metric_weights": metric_weights_table,
    "conventions": conventions_table,
}


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def with_tables(page: str) -> str:
    """Fill every table of a page."""
    return BLOCK.sub(lambda found: found[1] + TABLES[found[2]]() + found[3], page)


if __name__ == "__main__":
    for path in sorted(DOCS.rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        path.write_text(with_tables(text), encoding="utf-8")
