"""Export tables as CSV, Parquet, JSON, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import pandas as pd

from reports.claims.claim_verdicts import evaluate_claims
from reports.context import table_place
from reports.results.experiment import Experiment
from reports.results.metric_info import MetricInfo
from reports.results.recorded_files import ATTRIBUTES
from reports.results.schema import metric_columns
from reports.statistics.attributes import summarize_by_attribute
from reports.statistics.paired_differences import paired_differences
from reports.statistics.stochastic_samples import sample_spread, summarize_samples
from reports.statistics.summary import (
    distribution_note,
    distribution_scores,
    method_name,
    summarize,
    summarize_distribution_metrics,
)

#: A number as programs write it.
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
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
    """Format CSV (RFC 4180 with plain line ends); the first row is the header.

    A cell that a spreadsheet would take for a formula is preceded by an apostrophe.

    Examples:
        >>> as_csv([["image", "psnr_db"], ["=cmd|A1", "-1.5"], ["-1+2", "-1e-5"]])
        "image,psnr_db\\n'=cmd|A1,-1.5\\n'-1+2,-1e-5\\n"
    """
    buffer = io.StringIO()
    harmless = [[_harmless(cell) for cell in row] for row in table]
    csv.writer(buffer, lineterminator="\n", quoting=_quoting(harmless)).writerows(harmless)
    return buffer.getvalue()


def _quoting(rows: Iterable[Iterable[object]]) -> Literal[0, 2]:
    """Choose what CSV quotes: Python leaves a carriage return bare (up to 3.12), which ends a record for readers."""
    returns = any("\r" in cell for row in rows for cell in row if isinstance(cell, str))
    return csv.QUOTE_NONNUMERIC if returns else csv.QUOTE_MINIMAL


def as_markdown(table: Sequence[Sequence[str]], alignment: str = "") -> str:
    """Format a pipe table.

    Args:
        table: rows of cells; the first row is the header.
        alignment: ``l`` or ``r`` for each column; by default all but the first to the right.

    Examples:
        >>> print(as_markdown([["model", "PSNR"], ["GLCIC", "24.1"]]), end="")
        | model | PSNR |
        | :-- | --: |
        | GLCIC | 24.1 |
    """
    header, *rows = [[_markdown(cell) for cell in row] for row in table]
    rule = ["--:" if a == "r" else ":--" for a in alignment or _alignment_of_cells(table)]
    return "".join("| " + " | ".join(row) + " |\n" for row in (header, rule, *rows))


def as_latex(table: Sequence[Sequence[str]], alignment: str = "") -> str:
    """Format a ``tabular`` with the rules of ``booktabs``; ``alignment`` as in :func:`as_markdown`."""
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


def looks_like_formula(cell: str) -> bool:
    """Say whether a spreadsheet may take a text for a formula, or took its guard, an apostrophe, for its own.

    Examples:
        >>> [looks_like_formula(cell) for cell in ("=1+1", "  =1", "\uff1d1", "'=1", "a=1", "it's", "")]
        [True, True, True, True, False, False, False]
    """
    bare = cell.lstrip("'")
    # Full-width signs too: some spreadsheets read them as the plain ones.
    return bare[:1] in ("\t", "\r", "\n") or bare.lstrip()[:1] in tuple("=+-@\uff1d\uff0b\uff0d\uff20")


def _harmless(cell: str) -> str:
    # Negative numbers begin like a formula, and must stay numbers.
    return "'" + cell if looks_like_formula(cell) and not _NUMBER.fullmatch(cell) else cell


def _markdown(cell: str) -> str:
    # The backslash comes first, or it would escape those that follow.
    for mark in "\\|`*_<>":
        cell = cell.replace(mark, "\\" + mark)
    cell = cell.replace("](", "\\](")  # a link; an interval's brackets stand as they are
    return " ".join(cell.split())


def _latex(cell: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in " ".join(cell.split()))


FORMATS = ("csv", "parquet", "json", "markdown", "latex")
TABLES = ("summary", "rows", "curves", "differences", "claims", "samples")


def export_tables(
    experiment: Experiment, table: str = "summary", form: str = "csv", *, by_attribute: Sequence[str] = ()
) -> bytes:
    """Export one of :data:`TABLES` of an experiment in one of :data:`FORMATS`, as the bytes of a file.

    ``summary`` in Markdown and LaTeX is laid out for reading, a line a method; everything else is one record
    a line with every digit. JSON names the experiment, its data and its settings besides the records; missing
    values are ``null``. With ``by_attribute``, the summary is one for the images with each of these attributes and one
    for those without (:func:`reports.statistics.attributes.summarize_by_attribute`), a record a line in every format.

    Raises:
        ValueError: an unknown table or format, or an attribute that the experiment's images do not have.
    """
    if table not in TABLES:
        raise ValueError(f"unknown table {table!r}; there are {', '.join(TABLES)}")
    if form not in FORMATS:
        raise ValueError(f"unknown format {form!r}; there are {', '.join(FORMATS)}")
    if by_attribute:
        records = attribute_summary(experiment, by_attribute)
        return _as_file(experiment, "by attribute", records, form)
    if table == "summary" and form in ("markdown", "latex"):
        return readable_summary(experiment, form).encode()
    return _as_file(experiment, table, _records(experiment, table), form)


def _as_file(experiment: Experiment, table: str, records: pd.DataFrame, form: str) -> bytes:
    """Write records in one of :data:`FORMATS`."""
    match form:
        case "parquet":
            buffer = io.BytesIO()
            records.to_parquet(buffer, index=False)
            return buffer.getvalue()
        case "json":
            return _json(experiment, table, records).encode()
        # Written by pandas: every digit of a float that is needed to read it back.
        case "csv":
            guarded = _guarded(records)
            texts = (guarded[name] for name in guarded if not pd.api.types.is_numeric_dtype(guarded[name]))
            quoting = _quoting(column.unique() for column in texts)
            return guarded.to_csv(index=False, lineterminator="\n", quoting=quoting).encode()
        case _:
            cells = [[_plain(v) for v in row] for row in records.itertuples(index=False)]
            return _RENDER[form]([list(records.columns), *cells], _alignment(records)).encode()


def _guarded(records: pd.DataFrame) -> pd.DataFrame:
    """Guard every text that a spreadsheet would take for a formula, as :func:`as_csv` does.

    Names of images, models and masks come from files that anybody may have made.
    """
    texts = [name for name in records.columns if not pd.api.types.is_numeric_dtype(records[name])]
    return records.assign(
        **{
            str(name): [_harmless(value) if isinstance(value, str) else value for value in records[name]]
            for name in texts
        }
    )


def _records(experiment: Experiment, table: str) -> pd.DataFrame:
    rows = experiment.rows
    metrics = metric_columns(rows)
    match table:
        case "rows":
            return rows
        case "curves":
            return experiment.sound_curves
        case "summary":
            return _summary(experiment, metrics)
        case "differences":
            return paired_differences(rows, metrics, higher_is_better=experiment.higher_is_better)
        case "samples":
            return samples_table(experiment)
        case _:
            return claims_table(experiment)


def _summary(experiment: Experiment, metrics: Sequence[str]) -> pd.DataFrame:
    """Lines of metrics of images, then of metrics of sets; methods as in every table."""
    of_images = _in_table_order(experiment, summarize(experiment.rows, metrics))
    of_sets = _in_table_order(experiment, summarize_distribution_metrics(experiment.cells))
    if not len(of_sets):
        return of_images
    # Counts stay whole numbers where metrics of sets have none.
    counts = ["n_images", "n_identities", "n_seeds", "n_samples", "n_capped"]
    both = pd.concat([of_images.astype(dict.fromkeys(counts, "Int64")), of_sets], ignore_index=True)
    return both.astype({name: "Int64" for name in counts if name in both})


def _in_table_order(experiment: Experiment, lines: pd.DataFrame) -> pd.DataFrame:
    """Sort lines by mask in the order given, then by the place of their method in tables."""
    if lines.empty:
        return lines
    places = {
        (c["model"], c["train_mask"]): table_place(c) for c in experiment.cells if c["status"] == "done"
    }
    masks = {mask: at for at, mask in enumerate(lines["mask"].unique())}
    keys = [
        (masks[line.mask], places[line.model, line.train_mask])
        for line in lines[["mask", "model", "train_mask"]].itertuples(index=False)
    ]
    return lines.iloc[sorted(range(len(lines)), key=keys.__getitem__)].reset_index(drop=True)


def samples_table(experiment: Experiment) -> pd.DataFrame:
    """Describe methods with several samples of each image, by metric; empty where there are none.

    Columns: those of :func:`reports.statistics.stochastic_samples.summarize_samples`, then ``diversity`` (mean
    LPIPS between samples in the hole), ``inside`` (share of the hole where the truth lies between the samples) and
    ``expected_inside``, means over the trainings.
    """
    metrics = metric_columns(experiment.rows)
    table = summarize_samples(experiment.rows, metrics, experiment.higher_is_better)
    spread = sample_spread(experiment.cells)
    if table.empty or spread.empty:
        return table
    keys, values = ["mask", "model", "label", "train_mask"], ["diversity", "inside", "expected_inside"]
    means = spread.groupby(keys, sort=False, as_index=False)[values].mean()
    return table.astype(dict.fromkeys(keys, object)).merge(means, on=keys, how="left")


def attribute_summary(experiment: Experiment, names: Sequence[str]) -> pd.DataFrame:
    """Average every metric over the images with and without each attribute.

    Args:
        experiment: as read from its folder.
        names: attributes; ``all`` stands for every one.

    Raises:
        ValueError: none are known of these images, or not that one.
    """
    attributes = experiment.attributes
    if attributes.empty and ATTRIBUTES in experiment.missing_files:
        raise ValueError(
            f"{experiment.name}: {ATTRIBUTES}, in which the attributes of its images are kept, is empty or gone; give "
            "the command that made the experiment again, which writes it and computes nothing"
        )
    if attributes.empty:
        raise ValueError(
            f"{experiment.name}: no attributes of its images are known (CelebA has them in list_attr_celeba.txt; "
            "put it beside the images and run the command again, which computes nothing)"
        )
    chosen = list(attributes.columns) if list(names) == ["all"] else list(names)
    if unknown := [name for name in chosen if name not in attributes.columns]:
        raise ValueError(f"no attribute {unknown[0]!r}; there are {', '.join(attributes.columns)}")
    return summarize_by_attribute(experiment.rows, attributes, metric_columns(experiment.rows), chosen)


def claims_table(experiment: Experiment) -> pd.DataFrame:
    """List the verdicts, one row a claim.

    Columns: ``claim``, ``statement``, ``source``, ``outcome``, ``leaning``, ``reason``, ``shortfalls``, ``command``.
    """
    return pd.DataFrame(
        [
            {
                "claim": v.claim.key,
                "statement": v.claim.statement,
                "source": v.claim.source,
                "outcome": v.outcome,
                "leaning": v.leaning,
                "reason": v.reason,
                "shortfalls": "; ".join(v.shortfalls),
                "command": v.command,
            }
            for v in evaluate_claims(experiment)
        ]
    )


def readable_summary(
    experiment: Experiment, form: str, *, metrics: Mapping[str, MetricInfo] | None = None
) -> str:
    """Format the summary, one table a mask: a line for each method, ``mean [low, high]`` under each metric.

    Args:
        experiment: what to show.
        form: ``markdown`` or ``latex``.
        metrics: columns, all that were measured by default.
    """
    infos = experiment.metrics if metrics is None else metrics
    summary = _summary(experiment, [name for name in infos if name in experiment.rows.columns])
    there = set(summary["metric"])
    columns = [info for name, info in infos.items() if name in there]
    blocks = []
    for mask, part in summary.groupby("mask", sort=False, observed=True):
        lines = []
        for (label, train_mask), of in part.groupby(["label", "train_mask"], sort=False, observed=True):
            by_metric = of.set_index("metric")
            shown = method_name(part, label, train_mask)
            seeds = str(int(of["n_seeds"].max()))
            lines.append([shown, seeds, *(_with_interval(by_metric, m) for m in columns)])
        headings = ["model", "trainings", *(metric.title for metric in columns)]
        body = _RENDER[form]([headings, *lines], "l" + "r" * (1 + len(columns)))
        caption = f"Mask {mask}, {experiment.manifest['data']['title']}, {_images(part)} images."
        notes = [
            distribution_note(infos[name], n, interval=has_interval)
            for name, n, has_interval in _set_sizes(experiment, str(mask))
            if name in infos
        ]
        if form == "markdown":
            blocks.append("\n\n".join([caption, body.rstrip("\n"), *notes]) + "\n")
        else:
            # Comments of LaTeX, so that the table can be input as it is.
            blocks.append("\n".join([f"% {line}" for line in (caption, *notes)]) + f"\n{body}")
    return "\n".join(blocks)


def _set_sizes(experiment: Experiment, mask: str) -> list[tuple[str, int, bool]]:
    """List the metrics of sets on ``mask``: over how many images at least, and whether with an interval."""
    scores = distribution_scores(experiment.cells)
    groups = scores[scores["mask"] == mask].groupby("metric", sort=False)
    return [(str(name), int(of["images"].min()), bool(of["low"].notna().all())) for name, of in groups]


def _images(part: pd.DataFrame) -> int:
    return int(part["n_images"].max())


def _with_interval(by_metric: pd.DataFrame, metric: MetricInfo) -> str:
    digits = metric.digits
    mean, low, high = (float(by_metric[c].get(metric.name, float("nan"))) for c in ("mean", "low", "high"))
    if math.isnan(mean):
        return "n/a"
    if math.isnan(low):
        return f"{mean:.{digits}f}"
    return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _json(experiment: Experiment, table: str, records: pd.DataFrame) -> str:
    manifest = experiment.manifest
    content = {
        "experiment": experiment.name,
        "schema": manifest["schema"],
        "data": {k: manifest["data"].get(k) for k in ("name", "title", "fingerprint", "evaluated")},
        "settings": manifest["settings"],
        "metrics": manifest["metrics"],
        "table": table,
        # JSON has no NaN, and a column of floats cannot hold None.
        "records": records.astype(object).where(records.notna(), None).to_dict("records"),
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _plain(value: Any) -> str:
    if value is None or (not isinstance(value, str) and pd.isna(value)):
        return "n/a"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _alignment(records: pd.DataFrame) -> str:
    return "".join("r" if pd.api.types.is_numeric_dtype(t) else "l" for t in records.dtypes)


_RENDER: dict[str, Callable[[Sequence[Sequence[str]], str], str]] = {
    "markdown": as_markdown,
    "latex": as_latex,
}
