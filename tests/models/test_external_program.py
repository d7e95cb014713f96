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
from models.external_program import ExternalProgram, load_program, program_seed

_COPY = """
import sys
from pathlib import Path
import numpy as np
from PIL import Image
source, mask, target, given = sys.argv[1:]
files = sorted(Path(source).iterdir()) if Path(source).is_dir() else [Path(source)]
listed = Path(given).read_text().splitlines() if Path(given).is_file() else []
seeds = dict(line.split() for line in listed) or {file.name: given for file in files}
with open("calls.log", "a") as log:
    log.write("call\\n")
for file in files:
    image = np.asarray(Image.open(file)).copy()
    hole = np.asarray(Image.open(Path(mask) / file.name if Path(mask).is_dir() else mask)) > 127
    assert not image[hole].any(), "the truth is visible"
    image[hole] = int(seeds[file.name]) % 251
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


def program(workplace: Path, code: str = _COPY, *, seed: int = 5, **settings: object) -> ExternalProgram:
    """Build the model of a script as a run builds it."""
    (workplace / "fill.py").write_text(code)
    command = settings.pop("command", [sys.executable, "fill.py", "{input}", "{mask}", "{output}", "{seed}"])
    (workplace / "fill.toml").write_text(tomli_w.dumps({"command": command, **settings}))
    entry = load_program("exec:fill")
    config = entry.config("quick")
    entry.model.requirements(config)
    return ExternalProgram(config, Task(size=32, seed=seed))


def calls(workplace: Path) -> int:
    log = workplace / "calls.log"
    return len(log.read_text().splitlines()) if log.exists() else 0


def level(seed: int, sample: int, name: str) -> float:
    """The value that the script of these tests writes into the hole of an image."""
    return program_seed(seed, sample, name) % 251 / 255


@pytest.mark.parametrize(
    ("mode", "seed", "expected_calls"),
    [("image", "{seed}", 3), ("folder", "{seeds}", 1), ("folder", "{seed}", 3)],
)
def test_the_hole_is_the_programs_and_the_rest_is_the_truth(
    workplace: Path, batch: Batch, mode: str, seed: str, expected_calls: int
) -> None:
    command = [sys.executable, "fill.py", "{input}", "{mask}", "{output}", seed]
    model = program(workplace, mode=mode, command=command)
    completion = model.complete(batch)
    hole = batch.mask.bool().expand_as(batch.image)
    assert torch.equal(completion.composite[~hole], batch.image[~hole])
    for place in range(3):
        filled = completion.composite[place][hole[place]]
        assert torch.allclose(filled, torch.tensor(level(5, 0, str(place))))
    assert calls(workplace) == expected_calls
    assert [len(record["output"]) for record in model.records()] == [64, 64, 64]
    assert [record["seed"] for record in model.records()] == [program_seed(5, 0, str(i)) for i in range(3)]


@pytest.mark.parametrize("seed", ["{seed}", "{seeds}"])
def test_a_sample_is_a_function_of_seed_number_and_image_whatever_the_batch(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, batch: Batch, seed: str
) -> None:
    names = ("a.png", "b.png", "c.png")
    named = Batch(batch.image, batch.mask, batch.ids, 0, batch.generator, image_ids=names)
    mode = "image" if seed == "{seed}" else "folder"
    command = [sys.executable, "fill.py", "{input}", "{mask}", "{output}", seed]
    model = program(workplace, mode=mode, command=command)
    assert model.draws_samples(model.config)
    drawn = torch.stack([model.sample(named, number).raw for number in range(3)])
    expected = torch.tensor([[level(5, number, name) for name in names] for number in range(3)])
    assert torch.allclose(drawn[:, :, 0, 16, 16], expected)
    assert len(set(expected.flatten().tolist())) == 9
    assert torch.equal(model.complete(named).raw, drawn[0])
    # Anew, in batches of one in another order, and without the completions that are kept.
    monkeypatch.setenv("XDG_CACHE_HOME", str(workplace / "another-cache"))
    again = program(workplace, mode=mode, command=command)
    before = calls(workplace)
    for place in (2, 0, 1):
        (part,) = named.piece(place, place + 1).split(1)
        assert torch.equal(again.sample(part, 2).raw[0], drawn[2, place])
    assert calls(workplace) == before + 3


def test_a_program_without_a_seed_has_one_completion(workplace: Path, batch: Batch) -> None:
    fixed = _COPY.replace("target, given = sys.argv[1:]", "target = sys.argv[1:]; given = '7'")
    command = [sys.executable, "fill.py", "{input}", "{mask}", "{output}"]
    model = program(workplace, fixed, command=command)
    assert not model.draws_samples(model.config)
    assert torch.equal(model.sample(batch, 3).raw, model.complete(batch).raw)
    assert "seed" not in model.records()[0]
    # Kept once for the trainings of every seed.
    assert torch.equal(
        program(workplace, fixed, command=command, seed=6).complete(batch).raw, model.complete(batch).raw
    )
    assert calls(workplace) == 3


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
    model = program(workplace, _COPY + "\n# changed\n", seed=6)
    assert torch.allclose(model.complete(batch).raw[0, :, 16, 16], torch.tensor(level(6, 0, "0")))
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


_WHOLE = "command = 'x {input} {mask} {output}'\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("command = 'x {input} {mask}'", "must contain {output}"),
        ("comand = 'x'", "unknown key 'comand'; did you mean 'command'?"),
        ("command = 3", "must be a string or a list of strings"),
        ("command = ", "not readable as TOML"),
        ("command = 'x {input} {mask} {output}'\nmode = 'video'", "mode must be"),
        (
            "command = 'x {input} {mask} {output}'\ntimeout_seconds = 0",
            "must be a number above 0, up to 31,536,000; found 0",
        ),
        (f"{_WHOLE}timeout_seconds = 1e300", "must be a number above 0, up to 31,536,000; found 1e+300"),
        (f"{_WHOLE}timeout_seconds = inf", "must be a number above 0, up to 31,536,000; found inf"),
        (f"{_WHOLE}timeout_seconds = nan", "must be a number above 0, up to 31,536,000; found nan"),
        (f"{_WHOLE}timeout_seconds = true", "must be a number above 0, up to 31,536,000; found True"),
        (f"{_WHOLE}timeout_seconds = '5'", "must be a number above 0, up to 31,536,000; found '5'"),
        (f"{_WHOLE}timeout_seconds = [5]", "must be a number above 0, up to 31,536,000; found [5]"),
        ("command = 'x {input} {mask} {output} {seeds}'", "the seed of a single image is {seed}"),
        (
            'command = "x \'a {input} {mask} {output}"',
            "'command' cannot be split into words: No closing quotation",
        ),
        (
            "command = 'x {input} {mask} {output} \\'",
            "'command' cannot be split into words: No escaped character",
        ),
        ("command = [\"x\\u0000\", '{input}', '{mask}', '{output}']", "'command' holds a null character"),
        ("command = [['x'], '{input}', '{mask}', '{output}']", "must be a string or a list of strings"),
        (f"{_WHOLE}environment = ['a']", "'environment' must be a table of names and values, not ['a']"),
        (f"{_WHOLE}environment = 5", "'environment' must be a table of names and values, not 5"),
        (f"{_WHOLE}environment = 'A=1'", "'environment' must be a table"),
        (f"{_WHOLE}environment = [['A', '1']]", "'environment' must be a table"),
        (f"{_WHOLE}[environment]\na = {{b = 1}}", "'environment.a' must be a text, not {'b': 1}"),
        (f"{_WHOLE}[environment]\na = ['b']", "'environment.a' must be a text, not ['b']"),
        (f'{_WHOLE}[environment]\nA = "a\\u0000"', "'environment.A' holds a null character"),
        (f"{_WHOLE}[environment]\n'A=B' = '1'", "'A=B' is no name of a variable"),
        (f"{_WHOLE}[environment]\n'' = '1'", "'' is no name of a variable"),
        (f"{_WHOLE}label = ['a']", "'label' must be a text, not ['a']"),
        (f"{_WHOLE}[summary]\na = 1", "'summary' must be a text"),
    ],
)
def test_a_wrong_description_is_one_line(workplace: Path, text: str, says: str) -> None:
    (workplace / "p.toml").write_text(text)
    with pytest.raises(InvalidModelError) as raised:
        load_program("exec:p.toml")
    assert says in str(raised.value)


def test_numbers_of_a_description_are_texts(workplace: Path) -> None:
    (workplace / "p.toml").write_text(f"{_WHOLE}label = 5\n[environment]\nB = 1\nA = true")
    entry = load_program("exec:p")
    assert entry.card.label == "5"
    assert entry.config("quick").environment == (("A", "True"), ("B", "1"))


def test_a_program_without_a_name_is_no_file(workplace: Path) -> None:
    (workplace / ".toml").write_text(_WHOLE)
    with pytest.raises(InvalidModelError, match="give the file that describes the program"):
        load_program("exec:")


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
