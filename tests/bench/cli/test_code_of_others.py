"""Nothing that a file of somebody else names is run, unless the command line names it too or allows it.

Config files, requests of ``bench work``, experiments, manifests, bundles: each of them names model files, programs,
Slurm files and callbacks here, and all of these leave a trace where they are run.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.cli.commands.run import run_command
from bench.cli.config_file import option_keys
from bench.runner.slurm import _Watch
from bench.runner.slurm_jobs import SlurmConfig
from models.template import template_source
from reports.results.manifest import SEAL, manifest_checksum
from tests.bench.cli.test_cli import bench, error_of
from tests.reports.synthetic import make_experiment

RAN = Path("ran")


@pytest.fixture
def spies(workplace: Path) -> Path:
    """A model file, a program and a Slurm file that touch ``ran``."""
    source = template_source("test-unet")
    Path("unet.py").write_text(
        f"{source}from pathlib import Path\nPath({str(workplace / 'ran')!r}).touch()\n"
    )
    Path("spy.toml").write_text(
        f"command = ['touch', '{workplace / 'ran'}', '{{input}}', '{{mask}}', '{{output}}']\n"
    )
    Path("honest.toml").write_text("command = ['cp', '{input}', '{output}', '{mask}']\n")
    Path("slurm.toml").write_text(f"setup = ['touch {workplace / 'ran'}']\n")
    return workplace


def test_the_spies_leave_a_trace(spies: Path, pictures_dir: Path) -> None:
    """What follows could fail."""
    bench("list", "models", "--check", "--models-from", "unet.py")
    assert RAN.exists()
    RAN.unlink()
    run = [
        "run",
        "--models",
        "exec:spy.toml",
        "--data",
        str(pictures_dir),
        "--preset",
        "smoke",
        "--name",
        "x",
    ]
    bench(*run, "--test-images", "1", "--quiet", "--mask", "center")
    assert RAN.exists()


@pytest.mark.parametrize(
    ("text", "words", "says"),
    [
        ("models-from = ['unet.py']\nmodels = ['test-unet']", [], "--models-from unet.py"),
        ("models = ['mean', ' exec:spy.toml']", [], "--models exec:spy.toml"),
        ("models = 'mean,exec:spy'", [], "--models exec:spy"),
        ("callback = ['wandb']", ["--models", "mean"], "--callback wandb"),
        ("on = 'slurm.toml'", ["--models", "mean"], "--on slurm.toml"),
        (
            "[set.'exec:honest']\ncommand = ['touch', 'ran']",
            ["--models", "exec:honest"],
            "--set exec:honest.command=",
        ),
        (
            "[set.'exec:honest']\nenvironment = [['LD_PRELOAD', 'x.so']]",
            ["--models", "exec:honest"],
            "--set exec:honest.",
        ),
        ("set = ['exec:honest.mode=folder']", ["--models", "exec:honest"], "--set exec:honest.mode=folder"),
    ],
)
def test_a_config_file_runs_nothing_that_only_it_names(
    spies: Path, pictures_dir: Path, text: str, words: list[str], says: str
) -> None:
    Path("a.toml").write_text(text)
    run = [
        "run",
        "--config",
        "a.toml",
        "--data",
        str(pictures_dir),
        "--preset",
        "smoke",
        "--mask",
        "center",
        *words,
    ]
    for extra in ([], ["--dry-run"], ["--plan-only"]):
        message = error_of(*run, *extra)
        assert "the config file names code to run" in message
        assert says in message
    assert not RAN.exists()
    allowed = bench(*run, "--dry-run", "--allow-code")
    assert "the config file names code" not in str(allowed.exception or "")


@pytest.mark.parametrize("text", ["on = 'local'", "[set.mean]\n", "models = ['mean']", "tensorboard = true"])
def test_a_config_file_without_code_needs_no_leave(spies: Path, pictures_dir: Path, text: str) -> None:
    Path("a.toml").write_text(text)
    run = ["run", "--config", "a.toml", "--data", str(pictures_dir), "--preset", "smoke", "--dry-run"]
    result = bench(*run, "--models", "mean") if "models" not in text else bench(*run)
    assert result.exit_code == 0, result.output


def test_every_option_that_takes_a_program_is_known_to_the_check() -> None:
    """An option added later is looked at here: what it names must be data, or stand in ``_CODE_OPTIONS``."""
    data = {
        "mask", "resize-masks", "protocol", "preset", "name", "size", "track", "images-seen", "steps-per-phase",
        "batch", "micro-batch", "learning-rate", "schedule", "flips", "train-mask", "train-images", "evaluate-on",
        "seeds", "test-images", "metrics", "split", "crop", "allow-unreadable", "precision", "deterministic", "compile",
        "cuda-graphs", "checkpoint-every", "jobs", "jobs-per-gpu", "mixed", "recompute", "samples", "tensorboard",
        "pictures", "quiet", "verbose", "json", "data", "device", "samples-per-image", "gpus", "gpu-price",
    }  # fmt: skip
    assert set(option_keys(run_command)) - data == {"models", "models-from", "callback", "on", "set"}


@pytest.mark.parametrize(
    ("models", "named", "leave"),
    [
        (["--models", "exec:spy.toml"], "names programs to run (exec:spy.toml)", ["--allow-code"]),
        (
            ["--models", "test-unet", "--models-from", "unet.py"],
            "names model files; give them too: --models-from unet.py",
            ["--models-from", "unet.py"],
        ),
    ],
)
def test_a_request_runs_nothing_that_only_it_names(
    spies: Path, pictures_dir: Path, models: list[str], named: str, leave: list[str]
) -> None:
    run = [
        "run",
        *models,
        "--data",
        str(pictures_dir),
        "--preset",
        "smoke",
        "--mask",
        "center",
        "--name",
        "planned",
    ]
    planned = bench(*run, "--images-seen", "8", "--test-images", "1", "--plan-only", "--json")
    assert planned.exit_code == 0, planned.output
    RAN.unlink(missing_ok=True)  # planning imports the model file, which the command line names
    told = json.loads(planned.stdout)
    work = ["work", "--request", told["request"], "--what", told["units"][0]["what"]]
    assert named in error_of(*work)
    assert not RAN.exists()
    bench(*work, *leave)
    assert RAN.exists() or "unet.py" in leave  # imported once a process


def test_slurm_jobs_get_leave_for_what_the_command_line_named(spies: Path) -> None:
    from types import SimpleNamespace
    from typing import Any

    for models, models_from, expected in (
        (("mean",), (), []),
        (("test-unet",), ("unet.py",), ["--models-from", "unet.py"]),
        (("mean", "exec:spy.toml"), (), ["--allow-code"]),
    ):
        asked = SimpleNamespace(models=models, models_from=models_from)
        watch: Any = SimpleNamespace(
            prepared=SimpleNamespace(context=SimpleNamespace(request=asked)), config=SlurmConfig()
        )
        command = _Watch._command(watch, SimpleNamespace(key="k"), Path("request.json"), Path())  # type: ignore[arg-type]
        assert command[command.index("--root") + 2 :] == expected


def make_hostile(name: str) -> Path:
    """An experiment whose manifest names code wherever it can, sealed by whoever made it."""
    folder = make_experiment(
        Path("runs"), name=name, models=("mgs-iim", "glcic", "mean"), images=6, pictures=2
    )
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    named = {
        "models-from": ["unet.py"], "callback": ["wandb"], "on": "slurm.toml", "config": "a.toml",
        "models": ["test-unet"],
        "set": {"exec:spy": {"command": ["touch", "ran"]}},
    }  # fmt: skip
    manifest["options"] = [named]
    manifest["command"] = ["touch", "ran"]
    manifest["commands"] = [["touch", "ran"]]
    for cell in manifest["cells"]:
        cell["config"] = {"command": ["touch", "ran"], "environment": [["LD_PRELOAD", "x.so"]]}
        if cell["trained"]:
            cell["model"] = {"mgs-iim": "exec:spy.toml", "glcic": "test-unet"}[cell["model"]]
            training = folder / cell["training"]["folder"]
            (training / "config.json").write_text(
                json.dumps(
                    {
                        "key": cell["training"]["key"],
                        "config": cell["config"],
                        "model": cell["model"],
                        "task": {},
                    }
                )
            )
        from reports.results.schema import read_rows, write_rows

        rows = folder / cell["folder"] / "results.parquet"
        write_rows(read_rows(rows).assign(model=cell["model"]), rows)
    manifest[SEAL] = manifest_checksum(manifest)
    path.write_text(json.dumps(manifest))
    return folder


def test_reading_an_experiment_or_a_bundle_runs_nothing(spies: Path, pictures_dir: Path) -> None:
    make_hostile("theirs")
    make_hostile("other")
    image = next(iter(sorted(pictures_dir.glob("*.png"))))
    commands = [
        ["status", "theirs"],
        ["report", "theirs"],
        ["claims", "theirs"],
        ["export", "theirs", "--format", "bundle", "-o", "theirs.zip"],
        ["import", "theirs.zip", "--name", "imported"],
        ["report", "imported"],
        ["merge", "theirs", "other", "--name", "joined"],
        ["compare", "theirs", "other"],
        ["leaderboard", "runs", "theirs.zip"],
        ["export-weights", "theirs"],
        *(
            ["inpaint", str(image), "--mask", str(image), "--from", experiment, "--model", model]
            for experiment in ("theirs", "imported")
            for model in ("exec:spy.toml", "test-unet")
        ),
        ["reproduce", "runs/theirs/manifest.json"],
        ["reproduce", "runs/imported"],
        ["reproduce", "runs/joined", "--tolerance", "0.1"],
        ["plan", "--pilot", "theirs", "--detect", "0.2"],
        ["clean", "theirs", "--dry-run"],
        ["show", "test-unet"],
    ]
    done = {}
    for words in commands:
        done[" ".join(words[:2])] = bench(*words).exit_code
        assert not RAN.exists(), words
    read = (
        "report theirs",
        "claims theirs",
        "import theirs.zip",
        "report imported",
        "merge theirs",
    )
    assert [done[name] for name in read] == [0] * len(read)
