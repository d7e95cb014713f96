"""``bench blind``: what several readers chose on a blind page, joined."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.cli import options
from bench.cli.options import json_option, output_option
from bench.cli.paths import GivenPath
from bench.cli.wrapping import echo_line
from bench.errors import UsageError
from bench.wording import format_count
from masks.file_names import one_line

if TYPE_CHECKING:
    import pandas as pd

    from reports.context import ReportContext


@click.command(
    epilog="\b\nExamples:\n"
    "  bench report all-center-celeba-quick --blind     # the page to send round\n"
    "  bench blind choices-*.csv\n"
    "  bench blind choices-*.csv --output joined.csv --json"
)
@click.argument(
    "choices", nargs=-1, required=True, metavar="CHOICES...", type=GivenPath(exists=True, path_type=Path)
)
@click.option(
    "--experiment",
    shell_complete=options.complete_experiments,
    help="Where the metrics are (a name in runs/, or a path).  [default: the one that the files name]",
)
@output_option("Write the joined choices there as CSV, one a line.")
@json_option
def blind_command(
    choices: tuple[Path, ...], experiment: str | None, output: Path | None, as_json: bool
) -> None:
    """Join CHOICES, files that readers exported from blind.html ('bench report EXPERIMENT --blind').

    Prints how often each model was chosen, beside its metrics; how often the first of every two was chosen over the
    second; and how often each metric would have chosen as the readers did. Intervals are of 95 %, over readers and
    images.
    """
    from reports import blind_choices as joining
    from reports.context import ReportContext
    from reports.export import as_csv
    from reports.results.experiment import ExperimentError, load_experiment

    try:
        table = joining.read_choices(choices)
    except joining.ChoicesError as error:
        raise UsageError(str(error)) from error
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror or error}") from error
    folder = _find(experiment, str(table["experiment"].iloc[0]))
    try:
        context = None if folder is None else ReportContext(load_experiment(folder))
        found = _join(table, context)
    except ExperimentError as error:
        raise UsageError(str(error)) from error
    if output is not None:
        from bench.runner.run_folder import atomic_write

        text = as_csv(
            [list(table.columns), *([str(v) for v in row] for row in table.itertuples(index=False))]
        )
        atomic_write(output, lambda path: path.write_text(text, encoding="utf-8"))
    if as_json:
        click.echo(json.dumps(_as_values(table, found), indent=1, allow_nan=False))
    else:
        _print(table, found, known=context is not None)
        if output is not None:
            echo_line(f"joined choices: {output}")


def _find(experiment: str | None, name: str) -> Path | None:
    """Return the experiment's folder; ``None`` where the files' own is not here."""
    from bench.experiments import find_experiment

    if experiment is not None:
        return find_experiment(experiment)
    try:
        return find_experiment(name)
    except UsageError:
        return None


def _join(table: pd.DataFrame, context: ReportContext | None) -> dict[str, pd.DataFrame]:
    """Return the tables of the command: models, pairs and, where the experiment is here, metrics."""
    from reports import blind_choices as joining

    there = dict.fromkeys([*table["a"], *table["b"]])
    labels = [m.label for m in context.methods if m.label in there] if context else []
    labels += sorted(label for label in there if label not in labels)
    found = {"models": joining.win_rates(table, labels), "pairs": joining.pair_rates(table, labels)}
    if context is not None:
        means = joining.mean_scores(context, labels, list(dict.fromkeys(table["mask"])))
        found["models"] = found["models"].merge(means, on="label", how="left")
        found["metrics"] = joining.metric_agreement(table, context)
    return found


def _as_values(table: pd.DataFrame, found: dict[str, pd.DataFrame]) -> dict[str, Any]:
    """Return everything as plain values, ``null`` where there is none."""
    return {
        "experiment": str(table["experiment"].iloc[0]),
        "readers": int(table["reader"].nunique()),
        "images": int(table[["mask", "image_id"]].drop_duplicates().shape[0]),
        "choices": len(table),
        **{
            name: lines.astype(object).where(lines.notna(), None).to_dict("records")
            for name, lines in found.items()
        },
    }


def _print(table: pd.DataFrame, found: dict[str, pd.DataFrame], *, known: bool) -> None:
    """Print one table a question."""
    from reports.blind_choices import FEW_READERS

    facts = _as_values(table, {})
    echo_line(
        f"{facts['experiment']}: {format_count(facts['choices'], 'choice')} of "
        f"{format_count(facts['readers'], 'reader')} on {format_count(facts['images'], 'image')}; no difference counts "
        "half"
    )
    models = found["models"]
    means = list(models.columns[5:])
    _table(
        "how often each model was chosen",
        ["model", "chosen", "choices", *means],
        [[r["label"], _share(r), f"{r['choices']:,}", *(r[m] for m in means)] for r in _records(models)],
    )
    _table(
        "how often the first was chosen over the second",
        ["first", "second", "chosen", "choices"],
        [[r["a"], r["b"], _share(r), f"{r['choices']:,}"] for r in _records(found["pairs"])],
        left=2,
    )
    if known:
        among = {"all": "all pairs", "disputed": "where metrics disagree"}
        _table(
            "how often a metric would have chosen as the readers did",
            ["metric", "among", "alike", "choices"],
            [
                [r["metric"], among[r["among"]], _share(r), f"{r['choices']:,}"]
                for r in _records(found["metrics"])
            ],
            left=2,
        )
    else:
        echo_line("no metrics: that experiment is not in runs/; give --experiment PATH", err=True)
    if facts["readers"] < FEW_READERS:
        echo_line(f"With fewer than {FEW_READERS} readers the intervals say little about other readers.")


def _records(lines: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table, by column."""
    return [{str(column): value for column, value in line.items()} for line in lines.to_dict("records")]


def _share(line: dict[str, Any]) -> str:
    """``62 % [51, 72]``, or a dash where nobody chose."""
    if line["rate"] != line["rate"]:
        return "–"
    return f"{100 * line['rate']:.0f} % [{100 * line['low']:.0f}, {100 * line['high']:.0f}]"


def _table(title: str, headings: list[str], rows: list[list[str]], left: int = 1) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=one_line(title), title_justify="left")
    for position, heading in enumerate(headings):
        table.add_column(heading, justify="left" if position < left else "right")
    for row in rows:
        table.add_row(*map(one_line, row))
    Console(highlight=False, markup=False).print(table)
