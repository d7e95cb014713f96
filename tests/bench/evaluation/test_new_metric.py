"""A metric added in one file of bench/evaluation is found in every output, with its own heading and digits."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

import bench.evaluation
from bench.cli import cli
from bench.evaluation import metrics
from bench.evaluation.metrics import InvalidMetricError, find_metrics, list_metrics, load_metric
from reports.results.experiment import load_experiment

IMAGE_METRIC = '''
"""A metric of a user's own."""

import torch

from bench.evaluation.metrics import {decorator}
from reports.results.metric_info import MetricInfo


@{decorator}(
    MetricInfo(
        name="hole_bias",
        heading="bias of the hole",
        digits=3,
        unit="levels",
        value_range=(0.0, 255.0),
        higher_is_better=False,
        convention="absolute mean error over the hole, in levels",
        source="a source",
        oracle="an oracle",
        group="{group}",
    ){more}
)
def hole_bias(images):
    """Compute it."""
    error = (images.composite.double() - images.truth.double()) * images.mask
    return error.sum(dim=(1, 2, 3)).abs() / (3 * images.mask.double().sum(dim=(1, 2, 3)))
'''


def one_file(folder: Path, name: str = "my_metric", **fields: str) -> Path:
    path = folder / f"{name}.py"
    path.write_text(
        IMAGE_METRIC.format(**{"decorator": "image_metric", "group": "primary", "more": "", **fields})
    )
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A second folder of the package, as if the file lay in bench/evaluation."""
    place = tmp_path / "more"
    place.mkdir()
    monkeypatch.setattr(bench.evaluation, "__path__", [*bench.evaluation.__path__, str(place)])
    yield place
    for path in place.glob("*.py"):
        sys.modules.pop(f"bench.evaluation.{path.stem}", None)
    metrics._REGISTERED.pop("hole_bias", None)


def test_one_file_is_all_that_a_metric_needs(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_file(folder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    runner = CliRunner()
    command = ["run", "--models", "mean,mean-image", "--mask", "center", "--preset", "smoke", "--name", "new"]
    result = runner.invoke(cli, command)
    assert result.exit_code == 0, result.output
    assert "bias of the hole (levels)" in " ".join(result.output.split()), "the terminal's table"

    manifest = json.loads((tmp_path / "runs/new/manifest.json").read_text())
    assert manifest["metrics"]["hole_bias"]["heading"] == "bias of the hole"
    assert manifest["metrics"]["hole_bias"]["value_range"] == [0.0, 255.0]
    experiment = load_experiment(tmp_path / "runs/new")
    mean = experiment.rows.groupby("model")["hole_bias"].mean()["mean"]
    assert mean > 0

    page = (tmp_path / "reports/new/index.html").read_text()
    assert "bias of the hole (levels)" in page
    assert "Absolute mean error over the hole, in levels" in page
    assert f"{mean:.3f}" in page

    def exported(*options: str) -> str:
        return runner.invoke(cli, ["export", "new", *options]).output

    (line,) = [
        line
        for line in csv.DictReader(io.StringIO(exported()))
        if (line["metric"], line["model"]) == ("hole_bias", "mean")
    ]
    assert float(line["mean"]) == pytest.approx(mean)
    for form in ("markdown", "latex"):
        text = exported("--format", form)
        assert "bias of the hole (levels)" in text, form
        assert f"{mean:.3f} [" in text, form
    assert "hole_bias" in exported("--table", "differences")
    listed = " ".join(runner.invoke(cli, ["list", "metrics"]).output.split())  # wrapped to the terminal
    convention = "absolute mean error over the hole, in levels; 0 to 255 levels, lower is better; primary"
    assert f"hole_bias bias of the hole (levels): {convention}" in listed
    compared = runner.invoke(cli, ["compare", "new", "new"]).output
    assert "hole_bias" in compared, "a primary metric is compared without being named"

    from tests.docs.test_tables import tables

    row = "| `hole_bias` | absolute mean error over the hole, in levels | levels | 0 to 255 | lower |"
    assert row in tables().metrics_table()


def test_a_secondary_metric_is_measured_when_it_is_named(folder: Path) -> None:
    one_file(folder, group="secondary")
    names = list(list_metrics())
    assert names.index("lpips_alex") < names.index("hole_bias") < names.index("fid")
    assert load_metric("hole_bias").function.__name__ == "hole_bias"


def test_what_cannot_be_read_is_named_with_its_line(folder: Path) -> None:
    path = one_file(folder)
    path.write_text(path.read_text().replace("digits=3", "digits=1 + int('2')"))
    with pytest.raises(InvalidMetricError, match=r"my_metric\.py:\d+: the argument must be MetricInfo"):
        find_metrics()


def test_one_name_twice_is_an_error_that_names_both_files(folder: Path) -> None:
    one_file(folder, "a_metric")
    one_file(folder, "b_metric")
    with pytest.raises(
        InvalidMetricError, match=r"'hole_bias' is registered twice: in .*a_metric\.py and in .*b_metric"
    ):
        find_metrics()


def test_a_metric_of_images_under_the_other_decorator_is_refused(folder: Path) -> None:
    one_file(folder, decorator="distribution_metric", more=", features=None")
    with pytest.raises(InvalidMetricError, match="of='image' under the other decorator"):
        find_metrics()


def test_listing_metrics_imports_neither_torch_nor_pandas() -> None:
    code = (
        "import sys; from bench.evaluation.metrics import list_metrics; list_metrics(); "
        "print(sorted({'torch', 'pandas', 'torchvision'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
