"""``bench compare``: two experiments, paired."""

from __future__ import annotations

from typing import Any

import click

from bench.cli.options import Names, flatten
from bench.errors import UsageError


@click.command(
    epilog="\b\nExample:\n  bench compare all-center-celeba-quick my-change --metrics psnr_db,ssim"
)
@click.argument("first")
@click.argument("second")
@click.option(
    "--metrics",
    multiple=True,
    type=Names(),
    default=("psnr_db,ssim,lpips_alex",),
    show_default="psnr_db,ssim,lpips_alex",
    help="Metric columns to compare.",
)
def command(first: str, second: str, metrics: Any) -> None:
    """Compare experiments FIRST and SECOND (names in runs/, or paths), method by method.

    Differences are FIRST less SECOND, paired by image, with 95 % intervals. What was not measured on the same
    images and masks is refused, with the reason.
    """
    from rich.console import Console
    from rich.table import Table

    from bench.cli.experiments import open_experiment
    from reports.compare import ComparisonError, compare_experiments

    try:
        compared = compare_experiments(open_experiment(first), open_experiment(second), flatten(metrics))
    except ComparisonError as error:
        raise UsageError(str(error)) from error
    table = Table(title=f"{first} less {second}", title_justify="left")
    for name in ("mask", "model", "metric", "difference", "95 % interval", "verdict"):
        table.add_column(name, justify="right" if name in ("difference", "95 % interval") else "left")
    names = {"a better": f"{first} better", "b better": f"{second} better"}
    for row in compared.differences.to_dict("records"):
        table.add_row(
            str(row["mask"]),
            str(row["label"]),
            str(row["metric"]),
            f"{row['difference']:+.4f}",
            f"[{row['low']:+.4f}, {row['high']:+.4f}]",
            names.get(row["verdict"], str(row["verdict"])),
        )
    Console(highlight=False, markup=False).print(table)
    for reason, rows in compared.differences.groupby("reason", sort=False):
        if reason:
            of = ", ".join(
                f"{label} ({metric})" for label, metric in zip(rows["label"], rows["metric"], strict=True)
            )
            click.echo(f"inconclusive since {reason!s}: {of}")
    for refusal in compared.refused:
        click.echo(f"not compared: {refusal}", err=True)
