"""Options under the names that people type, names that are checked first, and code that is run only when asked for."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from bench.cli import COMMANDS, SECTIONS, cli, main
from bench.cli.commands.run import run_command
from bench.cli.options import ALIASES, with_own_names
from bench.errors import UsageError
from models.errors import InvalidModelError
from models.registry import check_model_name
from models.template import template_source
from tests.bench.cli.test_cli import bench, error_of


@pytest.mark.parametrize(
    ("typed", "ours"),
    [
        (["--masks", "center"], ["--mask", "center"]),
        (["--masks=center,half"], ["--mask=center,half"]),
        (["--seed", "1", "--lr", "1e-3"], ["--seeds", "1", "--learning-rate", "1e-3"]),
        (["--batch-size", "8", "--model", "pconv"], ["--batch", "8", "--models", "pconv"]),
        (["--models", "pconv", "--mask", "half"], ["--models", "pconv", "--mask", "half"]),
        (["--name", "x", "--", "--masks"], ["--name", "x", "--", "--masks"]),
    ],
)
def test_aliases_stand_for_our_options(typed: list[str], ours: list[str]) -> None:
    assert with_own_names(run_command, typed) == ours


def test_an_alias_never_hides_an_option_that_a_command_has() -> None:
    for name in COMMANDS:
        command = cli.get_command(None, name)  # type: ignore[arg-type]
        for each in [command, *getattr(command, "commands", {}).values()]:
            assert each is not None
            known = [o for p in each.params for o in p.opts if o in ALIASES]
            if not isinstance(each, click.Group):
                assert with_own_names(each, known) == known


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        (["--epochs", "3"], "an epoch is all training images, so give --images-seen"),
        (["--num-workers", "3"], "data are decoded once and need no workers"),
        (["--steps", "3"], "--steps-per-phase"),
    ],
)
def test_options_of_other_programs_are_answered(typed: list[str], says: str) -> None:
    assert says in error_of("run", *typed)


def test_every_command_stands_under_one_heading() -> None:
    shown = bench("--help").output
    for heading, commands in SECTIONS.items():
        assert f"{heading}:" in shown
        for name in commands:
            assert f"\n  {name} " in shown
    assert sum(map(len, SECTIONS.values())) == len(COMMANDS)


@pytest.mark.parametrize("columns", [80, 120])
def test_help_and_lists_fit_the_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    for words in (["--help"], ["run", "--help"], ["list"]):
        output = bench(*words).output
        assert max(map(len, output.splitlines())) <= columns, words


@pytest.mark.parametrize(
    "name", ["a/b", "a b", "../a", "", "-a", "x" * 101, "results", "recycled", "RECYCLER", "lost+found"]
)
def test_a_name_is_checked_before_anything_is_read(workplace: Path, name: str) -> None:
    message = error_of("run", "--data", "no/such/folder", "--name", name)
    assert message.startswith(f"--name {name!r}")
    assert not (workplace / "runs").exists()


@pytest.mark.parametrize("name", ["my/unet", "my unet", "../x", "", "-x"])
def test_a_model_name_is_checked_when_its_file_is_read(workplace: Path, name: str) -> None:
    with pytest.raises(InvalidModelError, match="give letters, digits"):
        check_model_name(name)
    Path("unet.py").write_text(template_source("test-unet").replace("test-unet", name))
    assert f"model name {name!r}: give letters" in error_of("list", "models", "--models-from", "unet.py")


@pytest.mark.parametrize(
    "ending",
    [
        "import sys\nsys.exit()\n",
        "import sys\nsys.exit(0)\n",
        "raise SystemExit('usage')\n",
        "import argparse\nargparse.ArgumentParser().parse_args(['--unknown'])\n",
        "import argparse\nargparse.ArgumentParser().add_argument('x')\nargparse.ArgumentParser().parse_args(['y'])\n",
    ],
)
def test_a_model_file_that_ends_the_program_is_a_broken_model(workplace: Path, ending: str) -> None:
    Path("unet.py").write_text(template_source("test-unet") + ending)
    message = error_of("check-model", "test-unet", "--models-from", "unet.py")
    assert "failed to import: it ends the program while it is imported" in message
    checked = bench("list", "models", "--check", "--models-from", "unet.py")
    assert checked.exit_code == 1
    assert "it ends the program while it is imported" in checked.stderr


@pytest.mark.parametrize("words", [[], ["data"], ["masks"], ["weights"]])
def test_a_group_without_its_command_prints_its_help(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(words)
    told = capsys.readouterr()
    lines = (told.out + told.err).splitlines()
    assert lines[0].startswith(" ".join(["Usage: bench", *words]))
    assert len(lines) > 5
    assert "\\n" not in told.out + told.err


def test_two_models_under_one_label_are_refused_before_training(workplace: Path, pictures_dir: Path) -> None:
    """In one command, or where a later one would add the second: tables tell methods apart by their labels."""
    for name, label in (("a", "Mine"), ("b", "Mine"), ("c", "Mean pixel")):
        Path(f"{name}.toml").write_text(
            f"command = ['cp', '{{input}}', '{{output}}', '{{mask}}']\nmode = 'image'\nlabel = '{label}'\n"
        )
    common = ("--mask", "center", "--data", str(pictures_dir), "--preset", "smoke", "--size", "32", "--quiet")
    for models in ("exec:a.toml,exec:b.toml", "mean,exec:c"):
        said = error_of("run", "--models", models, *common)
        assert "two models are called" in said
        assert f"{' and '.join(models.split(','))}; give one of them another label" in said
    assert bench("run", "--models", "mean", *common, "--name", "x").exit_code == 0
    assert "exec:c and mean" in error_of("run", "--models", "exec:c", *common, "--name", "x")


def test_a_config_file_runs_no_code_unasked(workplace: Path) -> None:
    Path("unet.py").write_text(
        template_source("test-unet") + "from pathlib import Path\nPath('ran').touch()\n"
    )
    Path("evil.toml").write_text("command = ['touch', 'ran']\n")
    for text, says in (
        ("models = ['test-unet']\nmodels-from = ['unet.py']", "--models-from unet.py"),
        ("models = ['mean', 'exec:evil.toml']", "--models exec:evil.toml"),
        ("callback = ['tensorboard', 'wandb']", "--callback tensorboard,wandb"),
    ):
        Path("a.toml").write_text(text)
        for extra in ([], ["--dry-run"]):
            message = error_of("run", "--config", "a.toml", *extra)
            assert f"give {says} on the command line, or --allow-code" in message
    assert not Path("ran").exists()


def test_code_that_is_given_on_the_command_line_is_run(workplace: Path, pictures_dir: Path) -> None:
    Path("unet.py").write_text(
        template_source("test-unet") + "from pathlib import Path\nPath('ran').touch()\n"
    )
    Path("a.toml").write_text("models = ['test-unet']\nmodels-from = ['other.py']\npreset = 'smoke'\n")
    Path("other.py").touch()
    words = [
        "run",
        "--config",
        "a.toml",
        "--models-from",
        "unet.py",
        "--data",
        str(pictures_dir),
        "--dry-run",
    ]
    assert bench(*words).exit_code == 0
    assert Path("ran").exists()


@pytest.mark.parametrize(
    "options",
    [
        ["--batch", "1"],
        pytest.param(["--micro-batch", "1"], marks=pytest.mark.long),
        pytest.param(["--batch", "5", "--micro-batch", "2"], marks=pytest.mark.long),
    ],
)
def test_a_batch_of_one_that_batch_normalization_refuses_is_said_before(
    workplace: Path, pictures_dir: Path, options: list[str]
) -> None:
    words = ["run", "--data", str(pictures_dir), "--preset", "smoke", "--dry-run", *options]
    message = error_of(*words, "--models", "context-encoder")
    assert "context-encoder: its batch normalization needs at least 2 images" in message
    both = bench(*words, "--models", "context-encoder,pconv")
    assert both.exit_code == 0
    assert "not applicable" in both.output or "needs at least 2" in both.output


def test_own_names_of_a_group_are_those_of_its_command() -> None:
    masks = cli.get_command(None, "masks")  # type: ignore[arg-type]
    assert masks is not None
    assert with_own_names(masks, ["export", "--masks", "center"]) == ["export", "--mask", "center"]
    with pytest.raises(UsageError, match="--images-seen"):
        with_own_names(run_command, ["--epochs=3"])
