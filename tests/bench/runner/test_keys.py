"""What is in a key, and what is not: edits in a copy of the sources, and the digests before and after."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import bench
from bench.code_digest import PACKAGES, SourceTree, closure, source_tree
from bench.evaluation.metrics import list_metrics, load_metric
from bench.runner.keys import (
    Key,
    describe_changes,
    describe_where,
    evaluation_code,
    metric_code,
    training_code,
)
from models.base import InpaintingModel
from models.discovery import load_model
from models.template import template_source

#: Of the models and masks whose keys are watched.
MODELS = ("glcic", "mgs-iim", "pconv")
MASKS = ("center", "random-rect", "shapes")


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the four packages."""
    folder = tmp_path_factory.mktemp("sources")
    for name in PACKAGES:
        root = Path(bench.__file__).parents[1] / name
        shutil.copytree(root, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


class Sources:
    """A copy of the sources that a test may edit, and the digests made from it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._kept: dict[Path, str | None] = {}

    def edit(self, path: str, old: str, new: str) -> None:
        file = self.folder / path
        text = file.read_text(encoding="utf-8")
        assert old in text, f"{path} does not hold {old!r} any more"
        self.write(path, text.replace(old, new, 1))

    def write(self, path: str, text: str | None) -> None:
        file = self.folder / path
        self._kept.setdefault(file, file.read_text(encoding="utf-8") if file.is_file() else None)
        if text is None:
            file.unlink()
        else:
            file.write_text(text, encoding="utf-8")

    def restore(self) -> None:
        for file, text in self._kept.items():
            file.unlink(missing_ok=True)
            if text is not None:
                file.write_text(text, encoding="utf-8")
        self._kept.clear()

    def trainings(self, masks: tuple[str, ...] = MASKS) -> dict[str, str]:
        tree = SourceTree([self.folder])
        return {m: training_code(_model(m), masks, ["linear"], tree).digest for m in MODELS}

    def cells(self) -> dict[str, str]:
        tree = SourceTree([self.folder])
        return {mask: evaluation_code(mask, tree).digest for mask in ("center", "freeform")}

    def metrics(self) -> dict[str, str]:
        tree = SourceTree([self.folder])
        return {name: metric_code(load_metric(name), tree).digest for name in list_metrics()}

    def everything(self) -> dict[str, dict[str, str]]:
        return {"trainings": self.trainings(), "cells": self.cells(), "metrics": self.metrics()}


def _model(name: str) -> type[InpaintingModel]:
    return load_model(name).model


@pytest.fixture
def sources(pristine: Path) -> Iterator[Sources]:
    copy = Sources(pristine)
    yield copy
    copy.restore()


@pytest.fixture(scope="module")
def before(pristine: Path) -> dict[str, dict[str, str]]:
    return Sources(pristine).everything()


def _comment(sources: Sources) -> None:
    sources.edit("models/three_phase.py", "from __future__", "# why\nfrom __future__")
    sources.edit("bench/training/train_step.py", "from __future__", "# why\nfrom __future__")


def _docstring(sources: Sources) -> None:
    sources.edit("models/losses.py", '"""', '"""Other words. ')
    sources.edit("bench/training/optimizers.py", '    """', '    """Other words. ')
    sources.edit("bench/evaluation/ssim.py", '"""', '"""Other words. ')


def _annotation(sources: Sources) -> None:
    sources.edit("models/base.py", "def composite(image: Tensor", 'def composite(image: "Tensor"')


def _new_model(sources: Sources) -> None:
    sources.write("models/brand_new.py", template_source("brand-new"))


def _new_metric(sources: Sources) -> None:
    sources.write(
        "bench/evaluation/brand_new.py",
        "from bench.evaluation.metrics import image_metric\n"
        "from reports.results.metric_info import MetricInfo\n\n\n"
        "@image_metric(MetricInfo(name='brand_new', heading='new', digits=2, convention='', higher_is_better=True))\n"
        "def brand_new(batch):\n    return batch.truth.mean()\n",
    )


def _new_mask(sources: Sources) -> None:
    sources.edit("masks/kinds/lama.py", "from __future__", "BRAND_NEW = 7\nfrom __future__")


def _moved_file(sources: Sources) -> None:
    text = (sources.folder / "models/layers/local_crop.py").read_text(encoding="utf-8")
    sources.write("models/layers/crop_of_the_hole.py", text)
    sources.write("models/layers/local_crop.py", None)
    for path in (sources.folder / "models").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if "models.layers.local_crop" in text:
            name = str(path.relative_to(sources.folder))
            sources.write(name, text.replace("models.layers.local_crop", "models.layers.crop_of_the_hole"))


def _in(
    path: str, old: str = "from __future__", new: str = "SOMETHING = 7\nfrom __future__"
) -> Callable[[Sources], None]:
    def change(sources: Sources) -> None:
        sources.edit(path, old, new)

    return change


#: Edits that change no number. Together they must leave every key as it is.
HARMLESS: dict[str, Callable[[Sources], None]] = {
    "a comment": _comment,
    "a docstring": _docstring,
    "an annotation": _annotation,
    "a new model": _new_model,
    "a new metric": _new_metric,
    "a new mask": _new_mask,
    "a moved file": _moved_file,
    "a label": _in("models/mgs_iim.py", 'label="MGS-IIM"', 'label="MGS"'),
    "a new learning-rate schedule": _in(
        "models/learning_rate_schedules.py",
        "def schedule_factor",
        "@_register\ndef brand_new(step: int, num_steps: int) -> float:\n    return 1.0\n\n\ndef schedule_factor",
    ),
    **{
        path: _in(path)
        for path in (
            "bench/data/open_dataset.py",
            "bench/data/name_lists.py",
            "bench/data/sources/folder.py",
            "bench/runner/tensorboard.py",
            "bench/runner/callbacks.py",
            "bench/runner/estimate.py",
            "bench/runner/run.py",
            "bench/runner/sample_grid.py",
            "bench/training/checkpoint.py",
            "bench/training/metric_logger.py",
            "bench/training/signals.py",
            "bench/training/train_log.py",
            "bench/profiling/flops.py",
            "bench/cli/console.py",
            "models/context_encoder.py",
            "models/discovery.py",
            "models/export.py",
            "models/pretrained.py",
            "models/registry.py",
            "masks/kinds/irregular.py",
            "masks/image_files.py",
            "reports/plots.py",
        )
    },
}


def test_what_decides_no_number_is_in_no_key(sources: Sources, before: dict[str, dict[str, str]]) -> None:
    for change in HARMLESS.values():
        change(sources)
    if sources.everything() == before:
        return
    for name, change in HARMLESS.items():  # which one was it?
        sources.restore()
        change(sources)
        assert sources.everything() == before, name
    pytest.fail("no single edit changes a key, but all of them together do")


@pytest.mark.parametrize(
    ("change", "models"),
    [
        (_in("models/losses.py", "F.softplus(-real)", "F.softplus(-2 * real)"), {"glcic", "mgs-iim"}),
        (_in("models/layers/spectral_norm.py", "_EPS = ", "_EPS = 2 * "), {"glcic", "mgs-iim"}),
        (_in("models/layers/partial_conv.py", "def forward(", "def forward2("), {"pconv"}),
        (_in("models/pconv.py", "hole_weight: float = 6.0", "hole_weight: float = 5.0"), {"pconv"}),
        (
            _in(
                "models/learning_rate_schedules.py",
                "return 1.0 - step / num_steps",
                "return 1.0 - step / (num_steps + 1)",
            ),
            None,
        ),
        (_in("models/learning_rate_schedules.py", "0.5 * (1.0 + math.cos", "0.4 * (1.0 + math.cos"), set()),
        (_in("bench/training/data_loader.py", "div_(255)", "div_(256)"), None),
        (_in("bench/training/train_step.py", "network = remaining[0]", "network = remaining[-1]"), None),
        (_in("bench/training/optimizers.py", "set_to_none=True", "set_to_none=False"), None),
        (
            _in("bench/training/distributed.py", "flat /= self.world_size", "flat /= 1 + self.world_size"),
            None,
        ),
        (_in("masks/raster.py", "_QUARTER", "_QUARTER = 1\n_QUARTERS"), None),
        (_in("masks/seeding.py", "2.0**-53", "2.0**-52"), None),
    ],
)
def test_what_decides_a_training_is_in_its_key(
    sources: Sources,
    before: dict[str, dict[str, str]],
    change: Callable[[Sources], None],
    models: set[str] | None,
) -> None:
    """``models``: those whose key changes; all of them for ``None``."""
    change(sources)
    after = sources.trainings()
    changed = {name for name in MODELS if after[name] != before["trainings"][name]}
    assert changed == (set(MODELS) if models is None else models)


def test_a_mask_counts_for_the_trainings_that_draw_from_it(sources: Sources) -> None:
    alone, mixed = sources.trainings(("center",)), sources.trainings(("center", "freeform"))
    sources.edit("masks/kinds/freeform.py", "12.0", "13.0")
    assert sources.trainings(("center",)) == alone
    assert sources.trainings(("center", "freeform")) != mixed


@pytest.mark.parametrize(
    ("path", "old", "new", "changed"),
    [
        (
            "bench/evaluation/ssim.py",
            "_K1, _K2 = 0.01",
            "_K1, _K2 = 0.02",
            {"ssim", "hole_ssim", "ssim_uniform7", "ssim_y"},
        ),
        (
            "bench/evaluation/ssim.py",
            "sigma: float = 1.5",
            "sigma: float = 1.4",
            {"ssim", "hole_ssim", "ssim_y", "ssim_uniform7"},
        ),
    ],
)
def test_a_metric_counts_for_itself_alone(
    sources: Sources, before: dict[str, dict[str, str]], path: str, old: str, new: str, changed: set[str]
) -> None:
    sources.edit(path, old, new)
    after = sources.everything()
    assert (after["trainings"], after["cells"]) == (before["trainings"], before["cells"])
    assert {name for name in after["metrics"] if after["metrics"][name] != before["metrics"][name]} <= changed
    assert after["metrics"]["ssim"] != before["metrics"]["ssim"]
    assert after["metrics"]["psnr_db"] == before["metrics"]["psnr_db"]


def test_a_constant_in_psnr_changes_psnr_alone(sources: Sources, before: dict[str, dict[str, str]]) -> None:
    sources.edit("bench/evaluation/pixel_errors.py", "/ 255", "/ 254")  # of hole_mae
    after = sources.metrics()
    assert {n for n in after if after[n] != before["metrics"][n]} == {"hole_mae"}


def test_what_a_users_model_imports_is_in_its_key(tmp_path: Path) -> None:
    (tmp_path / "layers_of_mine.py").write_text("WIDTH = 4\nOTHER = 5\n")
    model = tmp_path / "mine.py"
    source = template_source("of-mine").replace(
        "import torch\n", "import torch\nfrom layers_of_mine import WIDTH\n", 1
    )
    model.write_text(source.replace("def phases(self", "wide = WIDTH\n\n    def phases(self", 1))

    def digest() -> str:
        tree, module = SourceTree().with_file(model)
        names = [n for n, nodes in tree.module(module).frames.items() if nodes[0].bases]  # type: ignore[union-attr]
        return closure(tree, [(module, names[-1])], ["phases", "complete", "loss"]).digest

    first = digest()
    (tmp_path / "layers_of_mine.py").write_text("WIDTH = 4\nOTHER = 6\n")
    assert digest() == first
    (tmp_path / "layers_of_mine.py").write_text("WIDTH = 5\nOTHER = 5\n")
    assert digest() != first
    model.write_text(model.read_text().replace("import torch\n", "# a comment\nimport torch\n", 1))
    (tmp_path / "layers_of_mine.py").write_text("WIDTH = 4\n")
    assert digest() == first


def installed(folder: Path, packages: dict[str, str]) -> Path:
    """A folder like ``site-packages``: packages of several projects side by side."""
    (folder / "somebody-1.0.dist-info").mkdir(parents=True)
    for name, text in packages.items():
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(text)
    return folder


def test_libraries_installed_beside_the_program_are_none_of_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = installed(tmp_path / "site", {"bench": "", "models": "", "numpy": "from numpy._core import zeros"})
    monkeypatch.setattr(source_tree, "_package_root", lambda: site)
    tree = SourceTree()
    assert tree.module("bench") is not None
    assert tree.module("models") is not None
    assert tree.module("numpy") is None
    assert SourceTree([site]).module("numpy") is not None, "folders that are given are read as they are"


def test_of_an_installed_model_its_own_package_counts_alone(tmp_path: Path) -> None:
    source = template_source("of-mine").replace(
        "import torch\n", "import torch\nfrom library import WIDTH\n", 1
    )
    source = source.replace("def phases(self", "wide = WIDTH\n\n    def phases(self", 1)
    site = installed(tmp_path / "site", {"mine": "", "library": "from library.hidden import WIDTH"})
    (site / "mine" / "model.py").write_text(source)
    tree, module = SourceTree().with_file(site / "mine" / "model.py")
    assert module == "mine.model"
    assert tree.module("library") is None
    assert tree.module("bench.code_digest") is not None
    names = [n for n, nodes in tree.module(module).frames.items() if nodes[0].bases]  # type: ignore[union-attr]
    assert closure(tree, [(module, names[-1])], ["phases", "complete", "loss"]).digest


def test_changes_are_said_in_words() -> None:
    was = Key(
        {"seed": 0, "data": "a", "config": {"width": 1}, "code": "1"},
        {"models.glcic": "a", "masks.bank": "b"},
    )
    now = Key(
        {"seed": 1, "data": "b", "config": {"width": 2}, "code": "2"},
        {"models.glcic": "c", "masks.bank": "b"},
    )
    assert describe_changes(was.as_json(), now) == [
        "code of models.glcic",
        "seed (1, was 0)",
        "data",
        "config width (2, was 1)",
    ]
    assert describe_changes(now.as_json(), now) == []
    assert describe_where({"torch": "2.5.0", "threads": 2}, {"torch": "2.6.0", "threads": 2}) == [
        "torch 2.5.0, here 2.6.0"
    ]
