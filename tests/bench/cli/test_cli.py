"""The command line as a person meets it: help, names, errors in one line, exit codes."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bench.cli import COMMANDS, cli, main
from bench.errors import BenchError
from tests.forked_command import ForkedCommand

ROOT = Path(__file__).parents[3]


def bench(*args: str) -> Result:
    return CliRunner().invoke(cli, list(args))


def error_of(*args: str) -> str:
    """The message a user sees; its exit code must be 2."""
    result = bench(*args)
    if isinstance(result.exception, BenchError):
        assert result.exception.exit_code == 2
        return str(result.exception)
    assert result.exit_code == 2, result.output
    return result.output


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str) -> None:
    result = bench(name, "--help")
    assert result.exit_code == 0
    pages = [result.output]
    command = cli.get_command(None, name)  # type: ignore[arg-type]
    pages += [bench(name, sub, "--help").output for sub in getattr(command, "commands", {})]
    assert any("Example" in page for page in pages)


def test_every_command_is_explained_on_a_page() -> None:
    """The README names the main ones only; the generated reference has all, and counts for nothing here."""
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages if page.name != "commands.md")
    assert [name for name in COMMANDS if f"bench {name}" not in text] == []


def test_help_and_list_import_no_torch() -> None:
    code = (
        "import sys\nfrom bench.cli import main\n"
        "for args in (['--help'], ['list']):\n"
        "    try: main(args)\n"
        "    except SystemExit as done: assert done.code in (0, None), done.code\n"
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_list_shows_models_masks_presets_and_metrics() -> None:
    output = bench("list").output
    for name in (
        "mgs-iim",
        "biharmonic",
        "center",
        "irregular-10-20-border",
        "quick",
        "psnr_db",
        "lpips_alex",
    ):
        assert re.search(rf"^  {name} ", output, re.MULTILINE), name


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["rnu"], "did you mean 'run'"),
        (["run", "--models", "glcci"], "unknown model 'glcci'; did you mean 'glcic'"),
        (["run", "--mask", "centre"], "unknown mask 'centre'; did you mean 'center'"),
        (["run", "--preset", "papr"], "--preset papr: unknown; did you mean 'paper'"),
        (["run", "--seeds", "a"], "--seeds a: give numbers"),
        (["run", "--batch", "0"], "'0' is neither a positive number nor 'auto'"),
        (["run", "--size", "7"], "--size 7: must lie between"),
        (["run", "--test-images", "none"], "neither a positive number nor 'all'"),
        (["run", "--set", "pconv"], "give MODEL.FIELD=VALUE"),
        (["run", "--data", "no/such/folder"], "--data no/such/folder: no such file or folder"),
        (["run", "--device", "quantum"], "--device quantum"),
        (["run", "--name", "a/b", "--models", "mean"], "--name 'a/b'"),
        (["report", "nothing"], "no experiment 'nothing'"),
        (["show", "glcci"], "did you mean 'glcic'"),
        (["show", "pconv", "--size", "100"], "100"),
        (["new-model", "My Model"], "lower-case words joined by dashes"),
        (["new-model", "glcic"], "is taken"),
        (["masks", "preview", "--mask", "nope"], "unknown mask 'nope'"),
        (["masks", "verify", "."], "not readable as a manifest"),
    ],
)
def test_wrong_usage_is_one_clear_line(workplace: Path, args: list[str], says: str) -> None:
    message = error_of(*args)
    assert says in message
    assert "Traceback" not in message


def test_a_mistake_ends_without_a_traceback_unless_asked(workplace: Path) -> None:
    mistaken = ["run", "--models", "glcci"]
    plain = ForkedCommand(mistaken)
    _, said = plain.communicate()
    assert plain.returncode == 2
    assert said.startswith("error: unknown model 'glcci'")
    assert len(said.splitlines()) == 1
    assert "Traceback" in ForkedCommand(["--debug", *mistaken]).communicate()[1]


def test_show_prints_the_papers_tables() -> None:
    """Tables 1, 2 and 3 of the MGS-IIM paper, row by row; sizes, cost, phases, losses, sources, ambiguities."""
    output = bench("show", "mgs-iim", "--preset", "paper").output
    rows = re.findall(r"^ *\d+ +(\w+) +(\dx\d|-) +(\dx\d|-) +(\d+) +(\d+)", output, re.MULTILINE)
    encoder = [("Gateconv", "5x5", "1x1", "4", "64"), ("Gateconv", "3x3", "2x2", "64", "128")]
    encoder += [("Gateconv", "3x3", "1x1", "128", "128"), ("Conv", "3x3", "2x2", "128", "256")]
    same = [("Conv", "3x3", "1x1", "256", "256")] * 2
    dilated = [("Dilatedconv", "3x3", "1x1", "256", "256")] * 4
    decoder = [("Deconv", "4x4", "2x2", "256", "128"), ("Conv", "3x3", "1x1", "128", "128")]
    decoder += [("Deconv", "4x4", "2x2", "128", "64"), ("Conv", "3x3", "1x1", "64", "32")]
    table_1 = [*encoder, *same, *dilated, *same, *decoder, ("Output", "3x3", "1x1", "32", "3")]
    assert rows[:17] == table_1
    channels = [4, 64, 128, 256, 512, 512, 512]
    spectral = [("Spectralconv", "5x5", "2x2", str(a), str(b)) for a, b in pairwise(channels)]
    convolutions = [row for row in rows[17:] if row[0] == "Spectralconv"]
    assert convolutions == spectral[:5] + spectral  # Table 2, local, then Table 3, global
    for field, value in (
        ("local_size", "96"),
        ("momentum", "0.9"),
        ("leaky_slope", "0.2"),
        ("skip_places", "last"),
    ):
        assert re.search(rf"^ *{field} +{value} *$", output, re.MULTILINE), field
    assert "momentum 0.9" in output
    for text in (
        "generator: 6,300,035 parameters",
        "discriminator: 37,719,937 parameters",
        "14.30 G multiply-accumulates per image",
        "24.0 MiB of weights",
        "MiB per image kept for its gradient",
        "completion",
        "joint",
        "mse + 0.0004",
        "adversarial_weight",
        "Image Inpainting based on Gated Convolution and Spectral Normalization",
        "skip connections",
    ):
        assert text in output, text


@pytest.mark.long
@pytest.mark.usefixtures("drawings")
def test_documentation_of_adding_a_model_is_true(workplace: Path, pictures_dir: Path) -> None:
    """Runs the first code block of docs/add-a-model.md as written, with small data added to the last command."""
    text = (ROOT / "docs" / "add-a-model.md").read_text(encoding="utf-8")
    block = re.search(r"```\n(.*?)```", text, re.DOTALL)
    assert block
    for line in block[1].splitlines():
        args = line.split()[1:]
        if args[0] == "run":
            args += ["--data", str(pictures_dir), "--preset", "smoke", "--quiet"]
        result = bench(*args)
        assert result.exit_code == 0, (line, result.output, result.exception)
    page = (workplace / "reports" / "my-first" / "index.html").read_text(encoding="utf-8")
    assert "My Unet" in page
    assert "Mean image" in page
    assert "my-first" in (workplace / "reports" / "index.html").read_text(encoding="utf-8")


def test_report_renders_again_without_training(workplace: Path, pictures_dir: Path) -> None:
    run = (
        "run",
        "--models",
        "mean",
        "--data",
        str(pictures_dir),
        "--preset",
        "smoke",
        "--name",
        "again",
        "-q",
    )
    assert bench(*run).exit_code == 0
    page = workplace / "reports" / "again" / "index.html"
    page.unlink()
    assert bench("report", "again").exit_code == 0
    assert page.is_file()
    assert bench("report", "again", "--no-pictures").exit_code == 0
    assert "again" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("signum", "code"), [pytest.param(signal.SIGINT, 130, marks=pytest.mark.long), (signal.SIGTERM, 143)]
)
def test_a_signal_in_training_ends_with_its_code_after_a_checkpoint(
    workplace: Path, pictures_dir: Path, signum: signal.Signals, code: int
) -> None:
    model = workplace / "unet.py"
    assert bench("new-model", "slow-unet", "--output", str(model)).exit_code == 0
    command = ["run", "--models", "slow-unet", "--models-from", str(model)]
    command += [
        "--data",
        str(pictures_dir),
        "--preset",
        "smoke",
        "--steps-per-phase",
        "100000",
        "--name",
        "stopped",
    ]
    process = ForkedCommand([*command, "--checkpoint-every", "2"], stdout=subprocess.DEVNULL)
    while process.poll() is None and not list(workplace.glob("runs/stopped/trainings/*/checkpoint-*.pt")):
        time.sleep(0.01)
    process.send_signal(signum)
    _, said = process.communicate()
    assert process.returncode == code
    assert "give the same command again to continue" in said.splitlines()[-1]


def test_ctrl_c_outside_of_training_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "main", interrupted)
    with pytest.raises(SystemExit) as stop:
        main([])
    assert stop.value.code == 130
