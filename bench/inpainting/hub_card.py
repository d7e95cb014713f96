"""A model card for the Hugging Face Hub: ``README.md`` beside exported weights, with YAML front matter.

Nothing is uploaded. A repository of the Hub has one card, so that a card describes every file of an export.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import UsageError
from bench.runner.run_folder import atomic_write
from bench.version import __version__
from reports.export import as_markdown
from reports.results.metric_info import MetricInfo

FILE_NAME = "README.md"
#: Metric columns -> names that the Hub knows; the others stand in the card's tables alone.
_HUB_METRICS = {"psnr_db": "psnr", "ssim": "ssim", "lpips_alex": "lpips", "fid": "fid"}
#: Below this many images seen a training shows that the program works, and no more.
_FEW_IMAGES = 100_000
#: First and last line of the front matter.
_FENCE = "---"


@dataclass(frozen=True)
class ExportedWeights:
    """A file of an export.

    Attributes:
        path: the file.
        card: what :func:`bench.inpainting.trained_weights.load_trained_model` says of it.
    """

    path: Path
    card: Mapping[str, Any]

    @property
    def title(self) -> str:
        """``MGS-IIM, trained on center, seed 0``."""
        training = self.card["training"]
        return f"{self.card['label']}, trained on {training['train_mask']}, seed {training['seed']}"


def write_hub_card(
    folder: Path, exported: Sequence[ExportedWeights], manifest: Mapping[str, Any], *, form: str
) -> Path:
    """Write the card of an export into ``folder``.

    Args:
        folder: where the files are.
        exported: at least one file, all of one experiment.
        manifest: the experiment's.
        form: ``safetensors``, ``torch-export`` or ``onnx``.

    Raises:
        UsageError: there is a ``README.md`` that this program did not write.
        DiskError: the folder cannot be written.
    """
    path = folder / FILE_NAME
    if path.exists() and f"library_name: {_scalar('inpaint-bench')}" not in _head(path):
        raise UsageError(
            f"--hub-card: {path} is not a card of this program; move it or give another --output"
        )
    text = hub_card(exported, manifest, form=form)
    atomic_write(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return path


def _head(path: Path) -> str:
    """Return the front matter of a file, empty where it has none."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    if not lines or lines[0] != _FENCE or _FENCE not in lines[1:]:
        return ""
    return "\n".join(lines[1 : lines.index(_FENCE, 1)])


def hub_card(exported: Sequence[ExportedWeights], manifest: Mapping[str, Any], *, form: str) -> str:
    """Return the text of the card; arguments as for :func:`write_hub_card`."""
    infos = {name: MetricInfo.from_record(name, record) for name, record in manifest["metrics"].items()}
    return "\n".join(
        [
            _FENCE,
            *_front_matter(exported, manifest["data"], infos),
            _FENCE,
            "",
            *_body(exported, manifest, infos, form),
            "",
        ]
    )


def _scalar(value: Any) -> str:
    """Write a scalar: every JSON scalar is one of YAML, however it is made up."""
    return json.dumps(value, ensure_ascii=False)


def _front_matter(
    exported: Sequence[ExportedWeights], data: Mapping[str, Any], infos: Mapping[str, MetricInfo]
) -> list[str]:
    """Return the lines of the YAML header."""
    names = list(dict.fromkeys(str(file.card["model"]) for file in exported))
    measured = {n for file in exported for of in file.card["metrics"].values() for n in of if n in infos}
    known = [_HUB_METRICS[name] for name in infos if name in measured and name in _HUB_METRICS]
    return [
        *_license(data),
        f"library_name: {_scalar('inpaint-bench')}",
        f"pipeline_tag: {_scalar('image-to-image')}",
        *_list("tags", ["image-inpainting", "inpaint-bench", *names]),
        *_list("datasets", [_dataset(data)]),
        *_list("metrics", known),
        "model-index:",
        *(line for file in exported for line in _results(file, data, infos)),
    ]


def _list(key: str, values: Sequence[str]) -> list[str]:
    return [f"{key}:", *(f"- {_scalar(value)}" for value in values)] if values else []


def _license(data: Mapping[str, Any]) -> list[str]:
    """State the license of the weights: what they were trained on may bind them."""
    if data["procedural"]:
        return [f"license: {_scalar('mit')}"]
    terms = data["licence"] or "terms unknown to the program that wrote this card"
    return [
        f"license: {_scalar('other')}",
        f"license_name: {_scalar(f'terms-of-{_dataset(data)}')}",
        f"# {' '.join(str(terms).split())}",
    ]


def _dataset(data: Mapping[str, Any]) -> str:
    """Return a name of the data set with none but letters, digits and dashes."""
    if data["procedural"]:
        return "inpaint-bench-procedural-faces"
    plain = "".join(c if c.isascii() and c.isalnum() else "-" for c in str(data["name"]).lower())
    return "-".join(part for part in plain.split("-") if part) or "images"


def _results(file: ExportedWeights, data: Mapping[str, Any], infos: Mapping[str, MetricInfo]) -> list[str]:
    """Return a file's entry of ``model-index``: a result for each evaluated mask."""
    lines = [f"- name: {_scalar(file.title)}", "  results:"]
    size = file.card["task"]["size"]
    for mask, measured in file.card["metrics"].items():
        values = [(name, value) for name, value in measured.items() if name in infos]
        if not values:
            continue
        title = f"{data['title']}, {size} px, mask {mask}"
        lines += [
            "  - task:",
            f"      type: {_scalar('image-to-image')}",
            f"      name: {_scalar('Image inpainting')}",
            "    dataset:",
            f"      type: {_scalar(_dataset(data))}",
            f"      name: {_scalar(title)}",
            "    metrics:",
        ]
        for name, value in values:
            lines += [
                f"    - type: {_scalar(_HUB_METRICS.get(name, name))}",
                f"      name: {_scalar(infos[name].title)}",
                f"      value: {_scalar(value)}",
            ]
    return lines


def _body(
    exported: Sequence[ExportedWeights],
    manifest: Mapping[str, Any],
    infos: Mapping[str, MetricInfo],
    form: str,
) -> list[str]:
    """Return the lines below the header."""
    labels = list(dict.fromkeys(str(file.card["label"]) for file in exported))
    first, data = exported[0].card, manifest["data"]
    size, training = first["task"]["size"], first["training"]
    seen = min(int(file.card["training"]["images_seen"]) for file in exported)
    images = next((of["images"] for of in first["metrics"].values()), 0)
    papers = list(dict.fromkeys(file.card["paper"] for file in exported if file.card.get("paper")))
    table = [["file", "model", "training mask", "seed", "images seen", "batch", "parameters"]]
    for file in exported:
        own = file.card["training"]
        counts = (f"{int(n):,}" for n in (own["images_seen"], own["batch_size"], file.card["parameters"]))
        table.append([file.path.name, file.card["label"], own["train_mask"], str(own["seed"]), *counts])
    lines = [
        f"# Image inpainting: {', '.join(labels)}",
        "",
        f"Generators that complete holes in square images of {size} x {size} px, trained and scored by inpaint-bench "
        f"{__version__}, experiment `{manifest['experiment']}`.",
        "",
    ]
    if seen < _FEW_IMAGES:
        lines += [
            f"**Trained on {seen:,} images seen: far too few for good completions.** These weights show how the models "
            "train, and rank nothing.",
            "",
        ]
    lines += ["## Files", "", as_markdown(table, "lllrrrr"), "## Use", "", *_use(exported[0], form, size), ""]
    lines += [
        "## Training",
        "",
        f"Data: {data['title']}, {int(data['train']):,} training images, split `{data['split']}`, fingerprint "
        f"`{data['fingerprint']}`. Preset `{training['preset']}`, track `{training['track']}`, crop "
        f"`{training['crop']}`, precision {training['precision']}.",
        "",
        "## Evaluation",
        "",
        f"Means over {images:,} images; pixels outside the hole are those of the input.",
        "",
        *_scores(exported, infos),
        "## Limits and license",
        "",
        f"{first['licence']} The program is under the MIT license.",
        "",
        "## Citation",
        "",
        *(f"- {paper}" for paper in papers),
        "- inpaint-bench, with its `CITATION.cff`.",
    ]
    return lines


def _use(file: ExportedWeights, form: str, size: int) -> list[str]:
    """Return how a file is loaded, in code that runs once the package is installed."""
    if form == "safetensors":
        return [
            "```python",
            "import models  # of inpaint-bench",
            "",
            f"inpaint = models.load_pretrained({file.path.name!r})",
            f"filled = inpaint(image, mask)  # (N, 3, {size}, {size}) in [0, 1] and (N, 1, {size}, {size}), 1 = hole",
            "```",
        ]
    reader = {"torch-export": "`torch.export.load`", "onnx": "ONNX Runtime"}[form]
    return [
        f"One function `(image, mask) -> completed image`, read by {reader}: `(N, 3, {size}, {size})` in [0, 1] and "
        f"`(N, 1, {size}, {size})`, 1 = hole."
    ]


def _scores(exported: Sequence[ExportedWeights], infos: Mapping[str, MetricInfo]) -> list[str]:
    """Return the table of means, a line for every file and mask, and what the metrics mean."""
    shown = [n for n in infos if any(n in of for file in exported for of in file.card["metrics"].values())]
    table = [["model", "seed", "mask", *(infos[name].title for name in shown)]]
    for file in exported:
        for mask, of in file.card["metrics"].items():
            about = [file.card["label"], str(file.card["training"]["seed"]), mask]
            table.append([*about, *(infos[name].format_value(of.get(name)) for name in shown)])
    meanings = [
        f"- {infos[name].title}: {infos[name].convention}" for name in shown if infos[name].convention
    ]
    return [as_markdown(table, "lrl" + "r" * len(shown)), *meanings, ""]
