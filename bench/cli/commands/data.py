"""``bench data``: prepare, inspect and download images."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.cli.options import OutputPath, data_option, square_options, with_preset
from bench.cli.paths import GivenPath
from bench.cli.wrapping import echo_line, echo_notes
from bench.errors import BenchError, DataError
from bench.wording import format_count
from masks.file_names import real_path

if TYPE_CHECKING:
    from bench.data import Dataset

_LISTED = 5  # skipped images and duplicates that are shown without --all


@click.group()
def data_command() -> None:
    """Prepare, inspect and download images.

    An image is decoded, cropped and cached once; 'bench run' does so by itself when needed.
    """


@data_command.command(epilog="\b\nExample:\n  bench data prepare --data ~/celeba --preset paper")
@data_option
@square_options
def prepare(data: str, **choice: Any) -> None:
    """Decode all images into the cache folder. An interrupted command continues where it stopped."""
    dataset = _open(data, choice)
    echo_notes(dataset.warnings)
    echo_line(
        f"{dataset.title}: {format_count(_count(dataset), 'picture')} ready at {dataset.size} x {dataset.size}"
    )


@data_command.command(
    epilog="\b\nExamples:\n"
    "  bench data info --data ~/celeba\n"
    "  bench data info --data ~/celeba --split identity --preset paper --sheet sheet.png"
)
@data_option
@square_options
@click.option("--sheet", type=OutputPath(), help="Write some images of each split on one PNG.")
@click.option("--verify", is_flag=True, help="Recompute the checksums of all cached pixels.")
@click.option("--all", "everything", is_flag=True, help="List every skipped image and duplicate.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with every skipped image and duplicate.")
def info(data: str, sheet: Path | None, verify: bool, everything: bool, as_json: bool, **choice: Any) -> None:
    """Show counts, splits, fingerprint, and what was skipped and why."""
    dataset = _open(data, choice, verify)
    if as_json:
        click.echo(json.dumps(_as_values(dataset), indent=1))
    else:
        _print(dataset, everything)
    if verify:
        echo_line("verified: every pixel is as it was packed", err=as_json)
    if sheet:
        from bench.data.contact_sheet import contact_sheet

        try:
            contact_sheet(dataset, sheet)
        except OSError as error:
            raise DataError(f"--sheet {sheet}: {error.strerror or error}") from error
        echo_line(f"wrote {sheet}", err=as_json)


def _as_values(dataset: Dataset) -> dict[str, Any]:
    """Return everything as plain values."""
    return {
        "name": dataset.name,
        "title": dataset.title,
        "licence": dataset.license,
        "homepage": dataset.kind.homepage,
        "size": dataset.size,
        "crop": dataset.crop,
        "split": dataset.split_name,
        "train": len(dataset.train),
        "validation": len(dataset.validation),
        "test": len(dataset.test),
        "shared_identities": dataset.shared_identities,
        "shared_images": dataset.shared_images,
        "unnamed_images": dataset.unnamed_images,
        "attributes": sorted(dataset.attributes),
        "fingerprint": dataset.fingerprint,
        "notes": dataset.notes,
        "duplicates": dataset.duplicates,
        "skipped": [asdict(s) for s in dataset.skipped],
    }


def _print(dataset: Dataset, everything: bool) -> None:
    lines = {
        "data": dataset.title,
        "license": dataset.license,
        "pictures": f"{_count(dataset):,}",
        "squares": f"{dataset.size} x {dataset.size} pixels, crop {dataset.crop}",
        "split": f"{dataset.split_name}: {len(dataset.train):,} training, {len(dataset.validation):,} validation, "
        f"{len(dataset.test):,} test",
        "shared": _shared_people(dataset),
        "fingerprint": dataset.fingerprint,
        "duplicates": f"{len(dataset.duplicates):,} pairs across splits",
        "skipped": f"{len(dataset.skipped):,}",
    }
    for name, value in lines.items():
        echo_line(f"{name:<12} {value}")
    for note in dataset.notes:
        echo_line(f"{'note':<12} {note}")
    _list("duplicate", [f"{a} = {b}" for a, b in dataset.duplicates], everything)
    _list("skipped", [f"{s.id}: {s.reason}" for s in dataset.skipped], everything)


def _shared_people(dataset: Dataset) -> str:
    """Say who of the test split is in training too, counting images with a named person only."""
    unnamed = dataset.unnamed_images
    if dataset.shared_identities is None or unnamed is None:
        return "unknown: no list of identities"
    named = len(dataset.test) - unnamed["test"]
    without = f" ({unnamed['test']:,} more have no name)" if unnamed["test"] else ""
    return (
        f"{dataset.shared_identities:,} people of the test split are in the training split too, on "
        f"{dataset.shared_images:,} of its {named:,} pictures of named people{without}"
    )


@data_command.command(epilog="\b\nExample:\n  bench data download celeba --to ~/data")
@click.argument("what", type=click.Choice(["celeba"]))
@click.option(
    "--to",
    "folder",
    default="data",
    show_default=True,
    type=GivenPath(file_okay=False),
    help="Folder to fill.",
)
def download(what: str, folder: str) -> None:
    """Fetch CelebA (1.4 GB) from its authors' Google Drive, by torchvision.

    CelebA is for non-commercial research only; by downloading you accept its terms.
    """
    place = real_path(folder, home=True)
    by_hand = (
        "download img_align_celeba.zip, list_eval_partition.txt and identity_CelebA.txt by hand into one folder "
        "(https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html) and give it as --data"
    )
    if importlib.util.find_spec("gdown") is None:  # torchvision asks for it too late to say so in one line
        raise BenchError(f"downloading needs gdown: 'pip install gdown'; or {by_hand}")
    from torchvision.datasets import CelebA

    try:
        place.mkdir(parents=True, exist_ok=True)
        # torchvision checks the files' digests itself, and takes a folder that is complete as it is.
        CelebA(str(place), split="all", target_type="identity", download=True)
    except Exception as error:  # gdown and torchvision raise what their servers make them
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BenchError(f"CelebA could not be downloaded ({first[:200]}); {by_hand}") from error
    echo_line(f"CelebA is in {place / what}: give --data {place / what}")


def _open(data: str, choice: dict[str, Any], verify: bool = False) -> Dataset:
    from bench.data import DataSpec, open_data
    from bench.progress import ConsoleCallbacks

    spec = DataSpec(source=data, **with_preset(**choice))
    with ConsoleCallbacks() as callbacks:
        return open_data(spec, progress=callbacks.preparing, verify=verify)


def _count(dataset: Dataset) -> int:
    return sum(len(images) for images in (dataset.train, dataset.validation, dataset.test))


def _list(what: str, lines: Sequence[str], everything: bool) -> None:
    shown = lines if everything else lines[:_LISTED]
    for line in shown:
        echo_line(f"  {what}: {line}")
    if len(shown) < len(lines):
        echo_line(f"  ... and {len(lines) - len(shown):,} more; --all lists them, --json holds them")
