"""``bench export-weights``: trained generators as files to share."""

from __future__ import annotations

from pathlib import Path

import click

from bench.cli import options
from bench.cli.options import NameList, flatten_names, models_from_option
from bench.cli.paths import GivenPath
from bench.cli.wrapping import echo_line


@click.command(
    epilog="\b\nExamples:\n"
    "  bench export-weights all-center-faces-quick --models mgs-iim\n"
    "  bench export-weights all-center-faces-quick --format onnx --output exported\n"
    "  bench export-weights all-center-celeba-paper --models mgs-iim --seed 0 --hub-card"
)
@click.argument("experiment", shell_complete=options.complete_experiments)
@click.option(
    "--models",
    multiple=True,
    type=NameList(),
    help="Only these models, by name.  [default: all]",
)
@click.option("--seed", type=int, help="Only trainings with this seed.")
@click.option("--train-mask", help="Only trainings on this mask or mixture.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["safetensors", "torch-export", "onnx"]),
    default="safetensors",
    show_default=True,
    help="safetensors loads with models.load_pretrained; torch-export (.pt2) and ONNX need nothing of this package.",
)
@click.option(
    "--output",
    "-o",
    type=GivenPath(file_okay=False, path_type=Path),
    help="The folder to write to.  [default: weights/EXPERIMENT]",
)
@click.option(
    "--hub-card",
    is_flag=True,
    help="Also write a model card for the Hugging Face Hub (README.md) there; nothing is uploaded.",
)
@models_from_option
def export_weights_command(
    experiment: str,
    models: tuple[tuple[str, ...], ...],
    seed: int | None,
    train_mask: str | None,
    form: str,
    output: Path | None,
    hub_card: bool,
    models_from: tuple[str, ...],
) -> None:
    """Export the trained generators of EXPERIMENT (a name in runs/, or a path).

    Each becomes one file, and a readable card beside it (.json): model, configuration, data with fingerprint,
    metrics, license note. Each file is read back and must compute the same images. With --hub-card the folder can be
    pushed to the Hugging Face Hub as it is.
    """
    from bench.experiments import open_experiment
    from bench.inpainting import trained_weights
    from bench.inpainting.hub_card import ExportedWeights, write_hub_card
    from bench.progress import format_bytes

    source = open_experiment(experiment)
    exported = []
    folder = output or Path("weights") / source.name
    for training in trained_weights.stored_trainings(source, flatten_names(models), seed, train_mask):
        loaded = trained_weights.load_trained_model(source, training, [Path(p) for p in models_from])
        path, difference = trained_weights.export_weights(loaded, folder / training.name, form)
        exported.append(ExportedWeights(path, loaded.card))
        same = (
            "the same images, bit for bit" if difference == 0 else f"the same images within {difference:.0e}"
        )
        echo_line(f"{path}  {training.label}, {format_bytes(path.stat().st_size)}; {same}")
    if hub_card:
        echo_line(
            f"{write_hub_card(folder, exported, source.manifest, form=form)}  card for the Hugging Face Hub"
        )
