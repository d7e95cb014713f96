"""Write the verdicts on ``docs/results.md`` from the kept files, as ``bench claims`` prints them.

    python benchmarks/results_claims.py
    python benchmarks/results_claims.py --check

Each block of the page between ``<!-- claims: NAME -->`` and ``<!-- end -->`` is the output of ``bench claims NAME`` on
``docs/measurements/NAME-manifest.json`` with its rows and, where they were kept, its curves.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from pathlib import Path

from click.testing import CliRunner

from bench.cli.commands.claims import claims_command
from bench.ledger.importing import import_experiment

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "results.md"
_BLOCK = re.compile(r"(<!-- claims: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def kept_files(name: str) -> list[Path]:
    """Manifest, rows and, where they were kept, curves of an experiment on the page."""
    folder = DOCS / "measurements"
    files = [
        folder / f"{name}-{part}"
        for part in ("manifest.json", "rows.parquet", "curves.parquet", "curves.csv")
    ]
    return [file for file in files if file.is_file()]


def claims_text(name: str) -> str:
    """Return what ``bench claims`` prints of the kept evidence."""
    with tempfile.TemporaryDirectory() as runs:
        folder = import_experiment(kept_files(name), runs=Path(runs))
        result = CliRunner().invoke(claims_command, [str(folder)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def render(page: str) -> str:
    """Make every block of verdicts on the page anew."""
    return _BLOCK.sub(lambda m: f"{m[1]}```text\n{claims_text(m[2])}```\n{m[3]}", page)


def main() -> None:
    """Write the page, or compare it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="exit with 1 where the page is not up to date")
    check = parser.parse_args().check
    page = PAGE.read_text(encoding="utf-8")
    rendered = render(page)
    if check:
        sys.exit(int(rendered != page))
    PAGE.write_text(rendered, encoding="utf-8")


if __name__ == "__main__":
    main()
