"""Render the numbers of ``docs/results.md`` and the README's results from the kept files.

    python benchmarks/results_page.py keep table4-64-6400 table4-64-3200 ...
    python benchmarks/results_page.py
    python benchmarks/results_page.py --check

``keep`` packs experiments of ``runs/`` as bundles into ``docs/measurements/`` (manifest, rows and curves, without paths
of the machine). Without it every block between ``<!-- KIND: NAMES -->`` and ``<!-- end -->`` on the pages is made anew
from those bundles by the rules of this version, and the learning curves are drawn; ``--check`` compares the pages
only. Kinds of block:

- ``table``: means with 95 % intervals of one or more experiments in one table, as ``NAME, NAME | METRIC METRIC``;
- ``one-change``: a table of experiments that differ in one thing each, as ``NAME = words; NAME = words``;
- ``findings``: the opening of the report;
- ``bar``: which models of the first experiment clear the best baseline of the second, which may be the same, by metric,
  as ``NAME, NAME``;
- ``claims``: a table of the verdicts, and, folded, what ``bench claims NAME`` prints;
- ``cost``: seconds of every training.
"""

from __future__ import annotations

import argparse
import atexit
import functools
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
from click.testing import CliRunner

from bench.cli.commands.claims import claims_command
from bench.ledger.importing import import_experiment
from bench.ledger.kept_files import pack_bundle
from reports.context import ReportContext
from reports.export import as_markdown, readable_summary
from reports.page import with_minus_signs
from reports.results.experiment import Experiment, load_experiment
from reports.sections.headline import headline_sentences
from reports.sections.verdicts import build_verdicts
from reports.statistics.ranking import compare_with_baseline, describe_clearance

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "docs" / "measurements"
PAGES = (ROOT / "docs" / "results.md", ROOT / "README.md")
#: Columns of the pages' tables; every metric is in the bundles.
METRICS = ("psnr_db", "ssim", "lpips_alex", "raw_psnr_db")
_BLOCK = re.compile(r"(<!-- ([a-z-]+): ([^>]+?) -->\n).*?(<!-- end -->)", re.DOTALL)
# For as long as the process: imported experiments are shared by all blocks.
_RUNS = tempfile.TemporaryDirectory()
atexit.register(_RUNS.cleanup)


@functools.cache
def kept_folder(name: str) -> Path:
    """Import an experiment's kept files into a temporary folder."""
    bundle = KEPT / f"{name}.zip"
    # Evidence of earlier versions was kept as loose files.
    files = [bundle] if bundle.is_file() else sorted(KEPT.glob(f"{name}-manifest.json"))
    files += [] if bundle.is_file() else sorted(KEPT.glob(f"{name}-rows.parquet"))
    return import_experiment(files, runs=Path(_RUNS.name))


@functools.cache
def kept_experiment(name: str) -> Experiment:
    return load_experiment(kept_folder(name))


def summary_lines(name: str, columns: Sequence[str] = METRICS) -> list[list[str]]:
    """Return heading and lines of an experiment's table as cells of text."""
    metrics = {key: info for key, info in kept_experiment(name).metrics.items() if key in columns}
    text = readable_summary(kept_experiment(name), "markdown", metrics=metrics)
    lines = [line for line in text.splitlines() if line.startswith("|") and not line.startswith("| :--")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def render_table(names: str) -> str:
    """Join the tables of several experiments; a line that an earlier one has is left out."""
    names, _, columns = (part.strip() for part in names.partition("|"))
    tables = [summary_lines(name, columns.split() or METRICS) for name in re.split(r",\s*", names)]
    lines: dict[str, list[str]] = {}
    for line in (line for table in tables for line in table[1:]):
        # By name, so that a baseline that every experiment has stands once.
        lines.setdefault(line[0], line)
    return _markdown([tables[0][0], *lines.values()])


def render_one_change(names: str) -> str:
    """Set the one trained model of several experiments side by side, each under the words for what was changed."""
    lines = []
    for part in names.split(";"):
        name, words = (text.strip() for text in part.split("=", 1))
        # NAME#LABEL names a line; the first line is the one trained model otherwise.
        name, _, label = name.partition("#")
        heading, *rows = summary_lines(name)
        chosen = [row for row in rows if row[0] == label] if label else rows[:1]
        lines += [[words, *row[1:]] for row in chosen]
    return _markdown([["", *heading[1:]], *lines])


def render_findings(name: str) -> str:
    """List the report's opening sentences."""
    # Bundles hold no images.
    context = ReportContext(kept_experiment(name), embed_images=False)
    return "\n".join(f"- {with_minus_signs(sentence)}" for sentence in headline_sentences(context)) + "\n"


def render_bar(names: str) -> str:
    """Compare the trained models of one experiment with the best baseline of another, on the same images."""
    trained, bar = (kept_experiment(name.strip()) for name in names.split(","))
    fills = bar.rows[bar.rows["train_mask"] == "-"]
    rows = pd.concat([trained.rows[trained.rows["train_mask"] != "-"], fills], ignore_index=True)
    lines = []
    for name, info in trained.metrics.items():
        if name in ("psnr_db", "ssim", "lpips_alex"):
            found = compare_with_baseline(rows, name, "center", higher_is_better=info.higher_is_better)
            sentence = describe_clearance(found, info.unit, info.digits)
            lines.append(f"- {info.heading}: {with_minus_signs(sentence)}")
    return "\n".join(lines) + "\n"


def render_claims(name: str) -> str:
    """Tabulate the verdicts on the kept evidence; what ``bench claims`` prints of it stands folded below."""
    printed = CliRunner().invoke(claims_command, [str(kept_folder(name))], catch_exceptions=False)
    assert printed.exit_code == 0, printed.output
    context = ReportContext(kept_experiment(name), embed_images=False)
    view = build_verdicts(context)
    lines = [["claim", "verdict", "what was found, and what is lacking"]]
    for verdict in context.verdicts:
        claim, leaning = verdict.claim, f", {verdict.leaning} it" if verdict.outcome == "indicative" else ""
        evidence = view["evidence"][claim.key]
        # Those of one metric; a claim on all conventions of SSIM has a dozen and more.
        several = [f"{relation}: {reason}" for relation, metric, reason in evidence if not metric]
        found = "<br>".join([view["reasons"][claim.key], *several])
        lines.append([f"{claim.statement}<br>{claim.source}", f"**{verdict.outcome}**{leaning}", found])
    # Cells are escaped as text; these two are meant.
    table = as_markdown(lines, "lll").replace(r"\<br\>", "<br>").replace(r"\*\*", "**")
    return (
        f"Every verdict carries these departures from the paper's set-up: {'; '.join(view['shortfalls'])}.\n\n"
        f"{with_minus_signs(table)}\n"
        '<details markdown="1">\n<summary>Every comparison, as <code>bench claims</code> prints it</summary>\n\n'
        f"```text\n{printed.output}```\n\n</details>\n"
    )


def render_cost(name: str) -> str:
    """List the seconds of every training by seed."""
    cells = pd.DataFrame(
        {"model": c["label"], "seed": c["seed"], "seconds": round(c["training"]["seconds"])}
        for c in kept_experiment(name).cells
        if c["status"] == "done" and c["training"]
    )
    by_model = cells.sort_values("seed").groupby("model", sort=False)["seconds"]
    return _markdown(
        [["model", "seconds by seed"], *([m, ", ".join(map(str, of))] for m, of in by_model)], right=False
    )


def _markdown(table: list[list[str]], *, right: bool = True) -> str:
    return as_markdown(table, "l" + ("r" if right else "l") * (len(table[0]) - 1)).rstrip("\n") + "\n"


RENDERERS: dict[str, Callable[[str], str]] = {
    "table": render_table,
    "one-change": render_one_change,
    "findings": render_findings,
    "bar": render_bar,
    "claims": render_claims,
    "cost": render_cost,
}


def render(page: str) -> str:
    """Make every block of a page anew."""
    # A function, since a replacement text would take backslashes in the output for references. Comments of
    # other kinds are left alone.
    return _BLOCK.sub(lambda m: f"{m[1]}{RENDERERS[m[2]](m[3])}{m[4]}" if m[2] in RENDERERS else m[0], page)


def keep(names: list[str]) -> None:
    """Pack experiments of ``runs/`` as bundles."""
    for name in names:
        (KEPT / f"{name}.zip").write_bytes(pack_bundle(load_experiment(Path("runs") / name)))


def draw_figures(name: str, page: str) -> None:
    """Draw the figures of an experiment that a page shows: learning curves, and every training as a dot."""
    from reports.render import save_figures

    with tempfile.TemporaryDirectory() as folder:
        written = save_figures(kept_folder(name), Path(folder))
        curves = sorted(path for path in written if path.suffix == ".svg" and "validation" in path.name)
        # The one beside the baseline tells more, where a fitted baseline was run.
        curve = next((path for path in curves if "beside" in path.name), curves[0] if curves else None)
        if curve:
            (KEPT / f"{name}-validation.svg").write_bytes(curve.read_bytes())
        seeds = next((path for path in written if path.name == "center-psnr-db-seeds.svg"), None)
        if seeds and f"measurements/{name}-seeds.svg" in page:
            (KEPT / f"{name}-seeds.svg").write_bytes(seeds.read_bytes())


def main() -> None:
    """Keep experiments, write the pages, or compare them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="keep NAME", help="pack these experiments")
    parser.add_argument("--check", action="store_true", help="exit with 1 where a page is not up to date")
    options = parser.parse_args()
    if options.names:
        if options.names[0] != "keep":
            parser.error("give 'keep NAME ...', or nothing")
        return keep(options.names[1:])
    stale = False
    for path in PAGES:
        page = path.read_text(encoding="utf-8")
        rendered = render(page)
        stale |= rendered != page
        if not options.check:
            path.write_text(rendered, encoding="utf-8")
            # Only those that a page shows.
            for name in re.findall(r"measurements/([\w-]+)-validation\.svg", page):
                draw_figures(name, page)
    sys.exit(int(stale and options.check))


if __name__ == "__main__":
    main()
