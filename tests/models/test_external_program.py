"""A program as a model: what it is given, what it may get wrong, and that nothing is computed twice."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import tomli_w
import torch
from torch import Tensor

from models.base import Batch, Task
from models.errors import InvalidModelError, MissingPackageError, ModelError
from models.external_program import ExternalProgram, load_program

_COPY = """
import sys
from pathlib import Path
import numpy as np
from PIL import Image
source, mask, target, seed = sys.argv[1:]
files = sorted(Path(source).iterdir()) if Path(source).is_dir() else [Path(source)]
with open("calls.log", "a") as log:
    log.write("call\\n")
for file in files:
    image = np.asarray(Image.open(file)).copy()
    hole = np.asarray(Image.open(Path(mask) / file.name if Path(mask).is_dir() else mask)) > 127
    assert not image[hole].any(), "the truth is visible"
    image[hole] = int(seed) + 100
    image[~hole] = 7  # a program may spoil known pixels
    Image.fromarray(image).save(Path(target) / file.name if Path(target).is_dir() else target)
"""


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(3)
    image = (torch.rand(3, 3, 32, 32, generator=generator) * 255).round() / 255
    mask = torch.zeros(3, 1, 32, 32)
    mask[:, :, 8:24, 8:24] = 1
    return Batch(image, mask, torch.arange(3), 0, generator)


def program(workplace: Path, code: str = _COPY, **settings: object) -> ExternalProgram:
    """Build the model of a script as a run builds it."""
    (workplace / "fill.py").write_text(code)
    command = settings.pop("command", [sys.executable, "fill.py", "{input}", "{mask}", "{output}", "{seed}"])
    (workplace / "fill.toml").write_text(tomli_w.dumps({"command": command, **settings}))
    entry = load_program("exec:fill")
    config = entry.config("quick")
    entry.model.requirements(config)
    return ExternalProgram(config, Task(size=32, seed=5))


def calls(workplace: Path) -> int:
    log = workplace / "calls.log"
    return len(log.read_text().splitlines()) if log.exists() else 0


@pytest.mark.parametrize(("mode", "expected_calls"), [("image", 3), ("folder", 1)])
def test_the_hole_is_the_programs_and_the_rest_is_the_truth(
    workplace: Path, batch: Batch, mode: str, expected_calls: int
) -> None:
    model = program(workplace, mode=mode)
    completion = model.complete(batch)
    hole = batch.mask.bool().expand_as(batch.image)
    assert torch.equal(completion.composite[~hole], batch.image[~hole])
    assert torch.allclose(completion.composite[hole], torch.tensor(105 / 255))
    assert calls(workplace) == expected_calls
    assert [len(record["output"]) for record in model.records()] == [64, 64, 64]


def test_an_interrupted_evaluation_resumes_image_by_image(workplace: Path, batch: Batch) -> None:
    part = Batch(batch.image[:2], batch.mask[:2], batch.ids[:2], 0, batch.generator)
    whole = program(workplace).complete(part).raw
    assert calls(workplace) == 2
    again = program(workplace).complete(batch).raw
    assert calls(workplace) == 3
    assert torch.equal(again[:2], whole)


def test_a_changed_program_seed_or_mask_is_computed_again(workplace: Path, batch: Batch) -> None:
    program(workplace).complete(batch)
    program(workplace, _COPY + "\n# changed\n").complete(batch)
    assert calls(workplace) == 6
    model = program(workplace, _COPY + "\n# changed\n")
    model.seed = 6
    assert torch.allclose(model.complete(batch).raw[0, :, 16, 16], torch.tensor(106 / 255))
    assert calls(workplace) == 9


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("raise SystemExit('no weights found')", "ended with exit code 1: no weights found"),
        ("pass", "wrote no image"),
        ("import sys; open(sys.argv[3], 'w').write('text')", "something that is no image"),
        (
            "import sys; from PIL import Image; Image.new('RGB', (16, 16)).save(sys.argv[3])",
            "16 x 16 pixels instead of 32 x 32",
        ),
        ("import time; time.sleep(60)", "took longer than 1 seconds"),
    ],
)
def test_what_a_program_gets_wrong_is_one_line(workplace: Path, batch: Batch, code: str, says: str) -> None:
    limit = 1.0 if "sleep" in code else 60.0
    with pytest.raises(ModelError, match=says):
        program(workplace, code, timeout_seconds=limit).complete(batch)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("command = 'x {input} {mask}'", "must contain {output}"),
        ("comand = 'x'", "unknown key 'comand'; did you mean 'command'?"),
        ("command = 3", "must be a string or a list of strings"),
        ("command = ", "not readable as TOML"),
        ("command = 'x {input} {mask} {output}'\nmode = 'video'", "mode must be"),
        ("command = 'x {input} {mask} {output}'\ntimeout_seconds = 0", "must be positive"),
    ],
)
def test_a_wrong_description_is_one_line(workplace: Path, text: str, says: str) -> None:
    (workplace / "p.toml").write_text(text)
    with pytest.raises(InvalidModelError) as raised:
        load_program("exec:p.toml")
    assert says in str(raised.value)


def test_missing_files_and_programs(workplace: Path) -> None:
    with pytest.raises(InvalidModelError, match=r"no file nowhere or nowhere\.toml"):
        load_program("exec:nowhere")
    (workplace / "p.toml").write_text("command = 'no-such-program {input} {mask} {output}'")
    entry = load_program("exec:p")
    with pytest.raises(MissingPackageError, match="'no-such-program' is not found"):
        entry.model.requirements(entry.config("quick"))


_OPENCV = """
import sys, cv2
source, mask, target = sys.argv[1:]
cv2.imwrite(target, cv2.inpaint(cv2.imread(source), cv2.imread(mask, 0), 3, cv2.INPAINT_TELEA))
"""


def _smooth(batch: Batch) -> Batch:
    ramp = torch.linspace(0, 1, 32)
    image = (ramp[None, :] * 0.5 + ramp[:, None] * 0.5).expand(3, 3, 32, 32).contiguous()
    return Batch((image * 255).round() / 255, batch.mask, batch.ids, 0, batch.generator)


def _hole_error(raw: Tensor, batch: Batch) -> float:
    return float(((raw - batch.image).abs() * batch.mask).sum() / batch.mask.sum() / 3)


@pytest.mark.skipif(shutil.which("gmic") is None, reason="needs G'MIC (Debian: apt-get install gmic)")
def test_gmic_completes_a_smooth_image(workplace: Path, batch: Batch) -> None:
    smooth = _smooth(batch)
    command = "gmic -v -1 {input} {mask} channels[1] 0 inpaint_pde[0] [1],75%,2,20 keep[0] -o {output}"
    model = program(workplace, command=command, environment={"OMP_NUM_THREADS": "1"})
    assert _hole_error(model.complete(smooth).raw, smooth) < 0.03


def test_an_opencv_script_equals_opencv(workplace: Path, batch: Batch) -> None:
    cv2 = pytest.importorskip("cv2")
    command = [sys.executable, "fill.py", "{input}", "{mask}", "{output}"]
    found = program(workplace, _OPENCV, command=command).complete(batch).raw
    for index in range(3):
        known = (batch.image[index] * (1 - batch.mask[index]) * 255).round().byte().permute(1, 2, 0).numpy()
        hole = batch.mask[index, 0].byte().numpy()
        expected = cv2.inpaint(np.ascontiguousarray(known[..., ::-1]), hole, 3, cv2.INPAINT_TELEA)[..., ::-1]
        assert np.array_equal((found[index].permute(1, 2, 0) * 255).round().byte().numpy(), expected)
