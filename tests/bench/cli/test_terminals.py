"""What any terminal gets: completion of words, JSON, colours only where wanted, ASCII, and a quick start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from reports.claims.paper import CLAIMS
from tests.bench.cli.test_cli import bench, error_of
from tests.places import shown_on_a_terminal
from tests.reports.synthetic import make_experiment


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """A process of its own, as a shell starts it."""
    command = [sys.executable, "-m", "bench", *words]
    return subprocess.run(command, capture_output=True, check=False, env={**os.environ, **environment})


@pytest.mark.parametrize(
    ("shell", "words"),
    [
        ("bash", ("_BENCH_COMPLETE=bash_complete", "complete -o nosort -F _bench_completion bench")),
        ("zsh", ("_BENCH_COMPLETE=zsh_complete", "#compdef bench")),
        ("fish", ("_BENCH_COMPLETE=fish_complete", "complete --no-files --command bench")),
    ],
)
def test_the_script_of_each_shell_asks_bench_for_words(shell: str, words: tuple[str, ...]) -> None:
    result = bench("completion", shell)
    assert result.exit_code == 0
    assert all(word in result.output for word in words)


def test_bash_takes_the_script() -> None:
    script = bench("completion", "bash").output
    told = subprocess.run(
        ["bash", "-c", f"{script}\ncomplete -p bench"], capture_output=True, text=True, check=True
    )
    assert "_bench_completion bench" in told.stdout
    assert "'basj' is not one of" in error_of("completion", "basj")


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("bench do", {"doctor"}),
        ("bench run --prec", {"--precision"}),
        ("bench run --precision b", {"bf16"}),
        ("bench run --models mgs-iim,gl", {"mgs-iim,glcic"}),
        ("bench run --mask cent", {"center"}),
        ("bench weights f", {"fetch"}),
        ("bench status k", {"kept"}),
        ("bench compare kept k", {"kept"}),
        ("bench show mgs-iim-no-sn", {"mgs-iim-no-sn"}),
    ],
)
def test_completion_offers_what_there_is(workplace: Path, line: str, offered: set[str]) -> None:
    """The protocol of the scripts: words and position in the environment, one ``TYPE,VALUE`` a line."""
    make_experiment(workplace / "runs", name="kept", models=("mean",), pictures=0)
    where = str(len(line.split()) - 1)
    told = run(_BENCH_COMPLETE="bash_complete", COMP_WORDS=line, COMP_CWORD=where)
    assert {text.split(",", 1)[1] for text in told.stdout.decode().splitlines()} == offered


def test_what_should_be_quick_imports_no_torch(workplace: Path) -> None:
    make_experiment(workplace / "runs", name="kept", models=("mean",), pictures=0)
    for cell in (workplace / "runs" / "kept" / "cells").iterdir():
        (cell / "cell.json").write_text("{}")  # that it is there is all that a status asks
    code = (
        "import sys\nfrom bench.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as done: assert done.code in (0, None), done.code\n"
        "heavy = {'torch', 'pandas', 'matplotlib', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    for words in (["--help"], ["--version"], ["list"], ["status"], ["completion", "bash"], ["run", "--help"]):
        subprocess.run([sys.executable, "-c", code, *words], check=True, capture_output=True)
    asked = {"_BENCH_COMPLETE": "bash_complete", "COMP_WORDS": "bench run --models g", "COMP_CWORD": "3"}
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env={**os.environ, **asked})


def test_list_claims_and_data_as_json(workplace: Path, pictures_dir: Path) -> None:
    everything = json.loads(bench("list", "--json").output)
    assert list(everything) == ["models", "masks", "data", "protocols", "presets", "metrics"]
    assert "center" in json.loads(bench("list", "masks", "--json").output)["masks"]
    make_experiment(workplace / "runs", name="kept", models=("mean",), pictures=0)
    verdicts = json.loads(bench("claims", "kept", "--json").output)
    assert [v["key"] for v in verdicts] == [claim.key for claim in CLAIMS]
    assert {v["outcome"] for v in verdicts} == {"not tested"}
    facts = json.loads(bench("data", "info", "--data", str(pictures_dir), "--json").stdout)
    assert facts["train"] + facts["validation"] + facts["test"] == 60
    assert len(facts["fingerprint"]) == 64


def test_colours_only_on_a_terminal_that_wants_them(workplace: Path) -> None:
    """A pseudo-terminal stands for the screen."""

    def on_a_terminal(**environment: str) -> bytes:
        return shown_on_a_terminal(["list", "presets"], {"TERM": "xterm-256color", **environment})

    assert b"\x1b[" in on_a_terminal()
    assert b"\x1b[" not in on_a_terminal(NO_COLOR="1")
    assert b"\x1b[" not in run("list", "presets").stdout


@pytest.mark.long
@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
def test_an_ascii_terminal_gets_all_of_it(
    workplace: Path, pictures_dir: Path, environment: dict[str, str]
) -> None:
    listed = run("list", **environment)
    assert listed.returncode == 0
    assert listed.stdout.isascii()
    assert b"Fr\\xe9chet" in listed.stdout
    words = ("run", "--models", "mean", "--data", str(pictures_dir), "--preset", "smoke", "--name", "plain")
    ran = run(*words, **environment)
    assert ran.returncode == 0, ran.stderr
    assert (ran.stdout + ran.stderr).isascii()
    assert b"Mean pixel" in ran.stdout
