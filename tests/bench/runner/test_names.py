"""Folders and images whose names are not UTF-8, from the data to the overview."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import tomli_w
from PIL import Image

from bench.cli import main
from bench.config import Request
from bench.data.procedural_faces import render_faces
from bench.experiments import list_experiments
from masks.file_names import escape_name, resolve_path
from models.discovery import find_models, find_user_file
from models.errors import InvalidModelError
from models.external_program import load_program
from models.template import template_source
from reports.index_page import render_index
from reports.results.experiment import load_experiment
from tests.bench.cli.test_cli import error_of
from tests.reports.synthetic import make_experiment

pytestmark = pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX only")


def test_a_run_on_names_that_are_not_utf8_ends_well_and_harms_no_other(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = workplace / os.fsdecode(b"bilder-\xfc")
    folder.mkdir()
    for i, face in enumerate(render_faces(list(range(60)), 40)):
        Image.fromarray(face).save(folder / os.fsdecode(b"gr\xf6\xdfe-%d.png" % i))
    for _ in range(2):  # the second time, the first experiment lies in the overview
        with pytest.raises(SystemExit) as stop:
            main(["run", "--models", "mean", "--data", str(folder), "--size", "32", "--name", "odd"])
        assert stop.value.code == 0
    manifest = json.loads((workplace / "runs" / "odd" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["data"]["title"] == "Folder bilder-%FC"
    assert manifest["data"]["source"] == str(workplace / "bilder-%FC")
    json.dumps(manifest, ensure_ascii=False).encode("utf-8")
    assert "bilder-%FC" in (workplace / "reports" / "index.html").read_text(encoding="utf-8")
    capsys.readouterr()


@pytest.mark.parametrize("odd", ["caf\udce9", "\ud800"])
def test_one_experiment_with_an_odd_name_does_not_break_the_overview(tmp_path: Path, odd: str) -> None:
    runs = tmp_path / "runs"
    folder = make_experiment(runs, models=("mean",), pictures=0)
    other = runs / "other"
    shutil.copytree(folder, other)
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["data"]["title"] = odd
    manifest.pop("sha256", None)
    path.write_text(json.dumps(manifest), encoding="utf-8")
    page = render_index(list_experiments(runs), tmp_path / "reports").read_text(encoding="utf-8")
    assert odd.encode("utf-8", "backslashreplace").decode() in page
    assert "other" in page


def test_an_experiment_that_cannot_be_shown_is_a_line_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tmp_path / "runs"
    make_experiment(runs, models=("mean",), pictures=0)

    def fail(manifest: object) -> None:
        raise RuntimeError("not foreseen")

    monkeypatch.setattr("reports.index_page._from_numbers", fail)
    page = render_index(list_experiments(runs), tmp_path / "reports").read_text(encoding="utf-8")
    assert "RuntimeError: not foreseen" in page


#: Files of programs and models: Latin-1, Shift-JIS, a folder, and UTF-8 with a real percent sign before Latin-1.
FILES = [b"caf\xe9.toml", b"\x83e\x83X\x83g.toml", b"d\xe9/a.toml", "weiß 5%".encode() + b"/no\xebl.toml"]


def bench(*words: str, code: int = 0) -> None:
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    assert stop.value.code == code


def test_programs_described_in_files_of_any_name_are_models_like_others(
    workplace: Path, pictures_dir: Path, no_page: None, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = "import shutil, sys; shutil.copy(*sys.argv[1:3])"
    command = [sys.executable, "-S", "-c", copy, "{input}", "{output}", "{mask}"]
    for place, raw in enumerate(FILES):
        path = Path(os.fsdecode(raw))
        path.parent.mkdir(exist_ok=True, parents=True)
        # A label of the file's own, which is ASCII, saves nothing where the model is named after the file.
        path.write_text(tomli_w.dumps({"command": command, **({"label": "Own"} if place == 2 else {})}))
    Path("100%41.toml").write_text(tomli_w.dumps({"command": command}))  # a real percent sign
    # With and without the suffix.
    given = [
        *(f"exec:{os.fsdecode(raw)}" for raw in FILES[:-1]),
        f"exec:{os.fsdecode(FILES[-1])[:-5]}",
        "exec:100%41",
    ]
    run = ["run", "--data", str(pictures_dir), "--size", "32", "--preset", "smoke", "--mask", "center"]
    run += ["--test-images", "1", "--name", "odd"]
    bench(*run, "--models", ",".join(given))
    experiment = load_experiment(workplace / "runs" / "odd")
    models = [escape_name(name) for name in given]
    assert sorted(set(experiment.rows["model"])) == sorted(models)
    labels = {cell["model"]: cell["label"] for cell in experiment.done()}
    assert list(labels.values()) == ["caf%E9", "%83e%83X%83g", "Own", "no%EBl", "100%41"]
    times = {path: path.stat().st_mtime_ns for path in Path("runs/odd/cells").rglob("results.parquet")}
    assert len(times) == len(given)
    # The same again in the other spelling, and from the file of options: nothing is left to compute.
    bench(*run, "--models", ",".join(models))
    bench("run", "--config", "runs/odd/config.toml", "--allow-code")
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert len(load_experiment(workplace / "runs" / "odd").cells) == len(given)
    capsys.readouterr()


def test_a_model_file_of_any_name_is_used_and_recorded(
    workplace: Path, pictures_dir: Path, no_page: None, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(os.fsdecode(b"d\xe9"))
    folder.mkdir()
    path = folder / os.fsdecode(b"\x83e.py")
    path.write_text(template_source("my-unet"))
    run = ["run", "--data", str(pictures_dir), "--size", "32", "--preset", "smoke", "--mask", "center"]
    run += ["--test-images", "1", "--images-seen", "4", "--models", "my-unet", "--name", "odd"]
    bench(*run, "--models-from", str(path))
    manifest = json.loads((workplace / "runs" / "odd" / "manifest.json").read_text(encoding="utf-8"))
    assert [options["models-from"] for options in manifest["options"]] == [["d%E9/%83e.py"]]
    assert [cell["status"] for cell in manifest["cells"]] == ["done"]
    json.dumps(manifest, ensure_ascii=False).encode()
    # What is recorded names the file: for the option, for the file of options, and after consent for a reproduction.
    bench(*run, "--models-from", "d%E9", "--dry-run")
    assert "1 cell, 1 done" in capsys.readouterr().out
    bench("run", "--config", "runs/odd/config.toml", "--allow-code")
    bench("run", "--config", "runs/odd/config.toml", code=2)
    assert "--models-from d%E9/%83e.py" in capsys.readouterr().err
    for words in (["check-model", "my-unet", "--size", "32"], ["show", "my-unet"], ["list", "models"]):
        bench(*words, "--models-from", str(path))


def test_a_request_holds_names_that_every_file_can_hold() -> None:
    raw = "exec:caf\udce9.toml"
    request = Request(
        models=(raw, "mean"),
        masks=("center",),
        models_from=("d\udce9/m.py",),
        model_options={raw: {"mode": "image"}},
    )
    assert request.models == ("exec:caf%E9.toml", "mean")
    assert request.models_from == ("d%E9/m.py",)
    assert request.model_options == {"exec:caf%E9.toml": {"mode": "image"}}


def test_of_two_programs_that_one_text_may_name_none_is_taken(workplace: Path) -> None:
    for raw, label in ((b"caf\xe9.toml", "latin"), (b"caf%E9.toml", "percent")):
        text = tomli_w.dumps({"command": ["x", "{input}", "{mask}", "{output}"], "label": label})
        Path(os.fsdecode(raw)).write_text(text)
    with pytest.raises(InvalidModelError, match="rename one of them"):
        load_program("exec:caf%E9.toml")
    Path(os.fsdecode(b"caf\xe9.toml")).rename("away")
    assert load_program("exec:caf%E9.toml").card.label == "percent"
    Path("caf%E9.toml").unlink()
    Path("away").rename(os.fsdecode(b"caf\xe9.toml"))
    assert load_program("exec:caf%E9").card.label == "latin"
    assert find_user_file(Path("gone%E9")) == Path("gone%E9")


def test_a_text_of_a_model_that_is_no_text_is_refused_when_it_is_read(workplace: Path) -> None:
    source = template_source("my-unet").replace('label="My Unet"', 'label="\\udce9"')
    assert "udce9" in source
    Path("my.py").write_text(source)
    with pytest.raises(InvalidModelError, match=r"my\.py:\d+: .*surrogates not allowed"):
        find_models([Path("my.py")])


@pytest.mark.parametrize("name", [b"n\xe9t.py", b"100%-\xe9.py"])
def test_of_two_files_that_one_text_may_name_none_is_run(workplace: Path, name: bytes) -> None:
    """A file called ``n%E9t.py``, and one whose name is not UTF-8 and is written so."""
    raw = Path(os.fsdecode(name))
    literal = Path(escape_name(str(raw)))
    raw.write_text(template_source("my-unet"))
    assert find_user_file(literal) == raw
    literal.write_text("from pathlib import Path\nPath('ran').touch()\n")
    assert find_user_file(raw) == raw
    with pytest.raises(InvalidModelError, match="rename one of them"):
        find_user_file(literal)
    said = error_of(
        "run", "--models", "my-unet", "--models-from", str(raw), "--data", "faces", "--preset", "smoke"
    )
    assert "rename one of them" in said
    assert not Path("ran").exists()


def test_only_bytes_that_are_no_utf8_are_written_with_percent_signs(workplace: Path) -> None:
    Path("my prog.toml").write_text("command = ['touch', 'ran', '{input}', '{mask}', '{output}']\n")
    assert find_user_file(Path("my%20prog.toml")) == Path("my%20prog.toml")
    assert resolve_path("my%20prog.toml") == Path("my%20prog.toml")
    assert "my%20prog.toml" in error_of("run", "--models", "exec:my%20prog.toml", "--preset", "smoke")
    assert not Path("ran").exists()
