"""``bench masks``: preview, export and verify."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.cli.options import (
    NameList,
    cut_options,
    data_option,
    flatten_names,
    output_option,
    preset_option,
    scored_images_option,
    size_option,
    unreadable_option,
    with_preset,
)
from bench.cli.paths import GivenPath
from bench.cli.wrapping import echo_line, echo_notes
from bench.config import RunConfig, resolve_mask_names
from bench.errors import UsageError
from masks.file_names import real_path

if TYPE_CHECKING:
    from masks.mask_images import Masks


@click.group()
def masks_command() -> None:
    """Preview the mask suite, export it for any other program, verify an export.

    A mask is a pure function of (version of its family, name, base seed, image id, size); white is hole.
    """


@masks_command.command(epilog="\b\nExample:\n  bench masks preview --mask all --size 160 --output masks.png")
@click.option(
    "--mask",
    "names",
    multiple=True,
    type=NameList(),
    default=("all",),
    show_default="all",
    help="Mask names, 'paper' or 'all'.",
)
@click.option(
    "--size",
    default=RunConfig().size,
    show_default=True,
    type=click.IntRange(32, 1024),
    help="Side of the masks in pixels.",
)
@click.option("--count", default=8, show_default=True, type=click.IntRange(1, 64), help="Masks of each kind.")
@output_option("PNG to write.", default="masks.png", show_default=True)
def preview(names: Any, size: int, count: int, output: Path) -> None:
    """Write a sheet of masks as PNG, with the hole's share under each."""
    from masks.mask_images import mask_preview
    from reports.results.atomic_io import atomic_write

    try:
        resolved = resolve_mask_names(flatten_names(names))
        ids = [f"preview-{i}" for i in range(count)]
        content = mask_preview([(name, _draw_preview(name, ids, size)) for name in resolved])
        atomic_write(output, lambda path: path.write_bytes(content))
    except (ValueError, OSError) as error:
        raise UsageError(str(error)) from error
    echo_line(f"wrote {output}")


def _draw_preview(name: str, ids: list[str], size: int) -> Masks:
    from masks import folder, registry

    # As for training, by digest: what is previewed is no image whose name a folder could have.
    stream: registry.Stream = "training" if name.startswith(folder.PREFIX) else "evaluation"
    return registry.draw_masks(name, ids, size, stream=stream)


@masks_command.command(
    epilog="\b\nExamples:\n"
    "  bench masks export --data ~/celeba --mask center --preset paper masks-center\n"
    "  bench masks export --mask lama-thick --size 256 --with-images --layout lama for-lama"
)
@data_option
@click.option("--mask", "name", required=True, help="One mask name.")
@preset_option
@size_option(click.IntRange(32, 1024))
@scored_images_option
@cut_options
@unreadable_option
@click.option(
    "--seed",
    default=0,
    show_default=True,
    type=click.IntRange(0),
    help="Base seed; 'bench run' evaluates on the masks of 0.",
)
@click.option("--with-images", is_flag=True, help="Write the images too, whole and with the hole in gray.")
@click.option(
    "--layout",
    type=click.Choice(["plain", "lama", "mat", "repaint", "diffusers", "iopaint"]),
    default="plain",
    show_default=True,
    help="File names that a program reads, with --with-images; prints its command.",
)
@click.argument("folder", type=GivenPath(file_okay=False))
def export(
    data: str,
    name: str,
    preset: str,
    size: int | None,
    test_images: Any,
    crop: str | None,
    split: str | None,
    allow_unreadable: bool,
    seed: int,
    with_images: bool,
    layout: str,
    folder: str,
) -> None:
    """Write the test images' masks to FOLDER as PNG, with a manifest of digests.

    With the options of a 'bench run' they are the masks of that run. FOLDER must be new; it is written completely or
    not at all. 'bench score' reads what another program makes of it.
    """
    from bench.data import DataSpec, open_data
    from bench.evaluation.evaluator import sample_subset
    from bench.progress import ConsoleCallbacks
    from bench.runner.prepare import pairing_rule
    from bench.scoring.export_test_set import LAYOUTS, export_test_set, program_command
    from masks import registry

    given = {"size": size, "crop": crop, "split": split, "test_images": test_images}
    chosen = with_preset(preset, **given)
    num_images, side = chosen.pop("test_images"), chosen["size"]
    with ConsoleCallbacks() as callbacks:
        spec = DataSpec(source=data, allow_unreadable=allow_unreadable, **chosen)
        dataset = open_data(spec, progress=callbacks.preparing)
    echo_notes(dataset.warnings)
    images = sample_subset(dataset.test, num_images)
    settings: dict[str, object] = {
        "base_seed": seed,
        "size": side,
        "crop": dataset.crop,
        "split": dataset.split_name,
        "data": dataset.name,
        "data_fingerprint": dataset.fingerprint,
    }
    try:
        # One mask a folder: names of files are those of the images.
        (name,) = resolve_mask_names([name])
        if rule := pairing_rule(name, images, dataset):
            echo_line(rule, err=True)
        masks = registry.draw_masks(name, images.ids, side, base_seed=seed)
        settings |= {"mask": name, "mask_version": registry.mask_info(name).version}
        pixels = images.pixels if with_images else None
        export_test_set(Path(folder), images.ids, masks, settings, images=pixels, layout=LAYOUTS[layout])
    except ValueError as error:
        raise UsageError(str(error)) from error
    echo_line(f"wrote {len(masks):,} masks{' with their images' * with_images} to {folder}")
    if with_images:
        if not dataset.procedural:
            echo_line(f"images: {dataset.license}")
        echo_line(f"run: {program_command(LAYOUTS[layout], Path(folder), side)}")
        same = {"preset": None if preset == RunConfig().preset else preset, **given}
        # Of the whole path, since "." and "a/.." have no name to add to.
        words = [
            "bench",
            "score",
            f"{real_path(folder, home=True)}-results",
            "--data",
            data,
            "--mask",
            name,
        ]
        for key, value in same.items():
            words += [f"--{key.replace('_', '-')}", str(value)] if value is not None else []
        # Quoted, since a path may hold a space, and the parameters of files: an ampersand.
        echo_line(f"then: {shlex.join(words)}")


@masks_command.command(epilog="\b\nExample:\n  bench masks verify masks-center")
@click.argument("folder", type=GivenPath(file_okay=False))
def verify(folder: str) -> None:
    """Check an exported FOLDER against its manifest; exit code 1 if anything differs."""
    from masks import folder as files

    try:
        problems = list(files.verify_export(Path(folder)))
    except ValueError as error:
        raise UsageError(str(error)) from error
    for problem in problems:
        echo_line(problem, err=True)
    echo_line(f"{folder}: " + (f"{len(problems)} problems" if problems else "as written"))
    sys.exit(1 if problems else 0)
