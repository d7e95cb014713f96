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


def failures(tmp_path: Path, edit: dict[str, str]) -> tuple[list[str], str]:
    """Lines that fail for the example with parts of its source replaced, and the last line."""
    source = template.template_source("forgetful")
    for old, new in edit.items():
        assert source.count(old) >= 1, old
        source = source.replace(old, new, 1)
    path = tmp_path / "forgetful.py"
    path.write_text(source, encoding="utf-8")
    words = ["check-model", "forgetful", "--models-from", str(path), "--size", "64"]
    result = CliRunner().invoke(cli, words)
    lines = result.output.splitlines()
    assert result.exit_code == (1 if any(line.startswith("FAIL") for line in lines) else 0)
    return [line for line in lines if line.startswith("FAIL")], lines[-1]


COMPLETE = next(
    line for line in template.template_source("forgetful").splitlines() if "return Completion(" in line
)
DEF_LOSS = next(line for line in template.template_source("forgetful").splitlines() if "def loss(" in line)


AT_LOSS, AT_COMPLETE = "forgetful.py:{loss}: ", "forgetful.py:{complete}: "
NAN = " * float('nan')\n"
FAULTS: dict[str, tuple[dict[str, str], str]] = {
    "no method": (
        {DEF_LOSS: DEF_LOSS.replace("def loss", "def lost")},
        "interface: forgetful.py:{class}: class Model has no loss()",
    ),
    "tensor": (
        {COMPLETE: "        return raw"},
        f"interface: {AT_COMPLETE}complete() returns a Tensor; return Completion(raw",
    ),
    "loss tensor": (
        {LOSS: "        return (completion.raw - batch.image).abs().mean()\n"},
        f"interface: {AT_LOSS}loss() returns a Tensor; return a dict",
    ),
    "nan": (
        {COMPLETE: "        raw = raw" + NAN + COMPLETE},
        f"finite range: {AT_COMPLETE}the raw output is not finite",
    ),
    "in place loss": (
        {LOSS: LOSS + "        batch.image.mul_(0.5)\n"},
        f"batch unchanged: {AT_LOSS}loss('generator') changes batch.image in place",
    ),
    "in place": (
        {COMPLETE: "        batch.image[:, :, 0] = 0\n" + COMPLETE},
        f"batch unchanged: {AT_COMPLETE}complete() changes batch.image in place",
    ),
    "nan loss": (
        {LOSS: LOSS + "        error = error" + NAN},
        f"finite loss: {AT_LOSS}loss('generator') is not finite",
    ),
    "later": (
        {LOSS: LOSS + "        error = error / (batch.step < 4)\n"},
        f"training stays finite: {AT_LOSS}loss of the generator is not finite at step 4",
    ),
    "no loss in the terms": (
        {'"loss": ': '"total": '},
        f"interface: {AT_LOSS}loss('generator') must return a scalar under the key 'loss'",
    ),
    "raises": (
        {LOSS: "        error = (completion.raw - batch.imagination).abs()\n"},
        "interface: forgetful.py:{error}: AttributeError: 'Batch' object has no attribute 'imagination'",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_one_cause_is_one_line_with_its_place(tmp_path: Path, fault: str) -> None:
    edit, says = FAULTS[fault]
    found, last = failures(tmp_path, edit)
    source = (tmp_path / "forgetful.py").read_text().splitlines()
    marks = {
        "class": "@register(",
        "complete": "def complete(",
        "loss": "def loss(",
        "error": "imagination",
    }
    for key, mark in marks.items():
        if f"{{{key}}}" in says:
            (number,) = [i for i, line in enumerate(source, 1) if mark in line]
            says = says.replace(f"{{{key}}}", str(number))
    assert len(found) == 1, found
    assert found[0].split("px  ")[1].startswith(says)
    assert "checks passed" in last
    if "training" in says:
        assert last.endswith("1 was not run, since it would meet the same problem")
    else:
        assert "were not run, since they would meet the same problem" in last


def test_a_sound_model_ends_with_the_number_of_checks(tmp_path: Path) -> None:
    found, last = failures(tmp_path, {})
    assert (found, last) == ([], "17 of 17 checks passed")
