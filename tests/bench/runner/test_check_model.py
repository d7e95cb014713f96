"""``bench check-model``: a model that cannot be resumed is found out, and the command's exit code says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.cli import cli
from bench.runner.check_model import check_model
from models import template
from models.discovery import load_model

LOSS = "        error = (completion.raw - batch.image).abs()\n"


def written(folder: Path, replacement: str) -> Path:
    """The example file with the first line of its loss replaced."""
    source = template.template_source("forgetful")
    assert LOSS in source
    path = folder / "forgetful.py"
    path.write_text(source.replace(LOSS, replacement), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "replacement",
    [
        # A draw from torch's own generator, whose state no checkpoint holds.
        LOSS + "        error = error * torch.rand(())\n",
        # A counter beside the networks.
        "        self.seen = getattr(self, 'seen', 0) + 1\n" + LOSS + "        error = error * self.seen\n",
    ],
    ids=["own randomness", "own state"],
)
def test_a_model_that_does_not_resume_is_found_and_explained(tmp_path: Path, replacement: str) -> None:
    entry = load_model("forgetful", [written(tmp_path, replacement)])
    problems = {f.check: f.problem for f in check_model(entry, 64)}
    assert "resumed training differs in" in (problems["resume"] or "")


def test_a_sound_model_passes_every_check(tmp_path: Path) -> None:
    path = written(tmp_path, LOSS)
    result = CliRunner().invoke(cli, ["check-model", "forgetful", "--models-from", str(path), "--size", "64"])
    assert result.exit_code == 0
    assert "FAIL" not in result.output
    assert "ok     64 px  resume" in result.output
    assert "ok     64 px  DDP: every parameter, every step" in result.output


def test_a_failure_is_one_sentence_and_exit_code_1(tmp_path: Path) -> None:
    path = written(tmp_path, "        error = (completion.raw - batch.image).abs() * len(batch)\n")
    result = CliRunner().invoke(cli, ["check-model", "forgetful", "--models-from", str(path), "--size", "64"])
    assert result.exit_code == 1
    failed = [line for line in result.output.splitlines() if line.startswith("FAIL")]
    assert len(failed) == 1
    assert "make the loss a mean over images" in failed[0]
