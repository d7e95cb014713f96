"""Registering and finding models: everything wrong is loud, nothing is imported unasked."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from bench.cli.process import TerminatedError
from models import discovery
from models.errors import (
    BrokenModelError,
    DuplicateModelError,
    InvalidModelError,
    UnknownModelError,
)
from models.registry import register

MODEL = """
from dataclasses import dataclass
from models.base import InpaintingModel
from models.registry import register


@dataclass(frozen=True, kw_only=True)
class Config:
    depth: int = 2

    def __post_init__(self):
        if self.depth < 1:
            raise ValueError("depth must be at least 1")


@register("NAME", label="Name", summary="A model.", groups=("mine",))
class Model(InpaintingModel):
    Config = Config

    def phases(self, budget): ...
    def complete(self, batch): ...
    def loss(self, network, batch, completion, phase): ...
"""


def write(folder: Path, name: str, text: str = MODEL) -> Path:
    path = folder / f"{name.replace('-', '_')}.py"
    path.write_text(text.replace("NAME", name))
    return path


def test_the_papers_four_are_found_without_torch() -> None:
    code = (
        "import sys; from models.discovery import find_models; names = set(find_models());"
        "all = {'context-encoder', 'glcic', 'pconv', 'mgs-iim', 'mean', 'mean-image', 'linear', 'biharmonic'};"
        "assert all <= names, names;"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_all_is_the_papers_four_and_four_baselines_in_table_order() -> None:
    assert discovery.expand_models(["all"]) == [
        "context-encoder",
        "glcic",
        "pconv",
        "mgs-iim",
        "mean",
        "mean-image",
        "linear",
        "biharmonic",
    ]


def test_names_and_groups_expand_once_in_order() -> None:
    assert discovery.expand_models(["mean", "all", "mean"])[0] == "mean"
    assert len(discovery.expand_models(["mean", "all"])) == 8


def test_unknown_names_get_suggestions() -> None:
    with pytest.raises(UnknownModelError, match="did you mean 'glcic'"):
        discovery.load_model("glcci")
    with pytest.raises(UnknownModelError, match="did you mean 'pconv'"):
        discovery.expand_models(["pcomv"])


def test_a_users_file_is_found_and_loaded(tmp_path: Path) -> None:
    path = write(tmp_path, "own-model")
    for given in (path, tmp_path):
        entry = discovery.load_model("own-model", [given])
        assert entry.card.label == "Name"
        assert entry.config(depth=3).depth == 3
    assert "own-model" in discovery.expand_models(["mine"], [path])


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, **entry_points: str) -> None:
    """Write what ``pip install`` of a package ``my_package`` with these entry points leaves behind."""
    info = folder / "my_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    lines = [f"{name} = {module}" for name, module in entry_points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[inpaint_bench.models]", *lines]))
    (folder / "my_package").mkdir()
    (folder / "my_package" / "__init__.py").touch()
    monkeypatch.syspath_prepend(folder)


def test_an_installed_package_brings_its_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, anything="my_package.nets")
    (tmp_path / "my_package" / "nets.py").write_text(MODEL.replace("NAME", "packaged"))
    listing = discovery.find_models()["packaged"]
    assert (listing.module, listing.card.groups) == ("my_package.nets", ("mine",))
    assert "my_package.nets" not in sys.modules, "listing imports no model"
    assert discovery.load_model("packaged").config().depth == 2


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("my_package.broken", "import there_is_no_such_package\n" + MODEL.replace("NAME", "broken")),
        ("my_package.broken", "this is not Python"),
        ("my_package.broken", "nothing = 'registered'"),
        ("my_package.gone", ""),
        ("no_such_package.nets", ""),
        ("my_package.exits.nets", ""),
    ],
    ids=["import fails", "syntax error", "nothing registered", "no module", "no package", "package exits"],
)
def test_a_broken_package_stays_listed_and_fails_only_when_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, text: str
) -> None:
    install(tmp_path, monkeypatch, broken=module)
    (tmp_path / "my_package" / "broken.py").write_text(text)
    (tmp_path / "my_package" / "exits.py").write_text("raise SystemExit(3)")
    assert {"broken", "glcic"} <= set(discovery.find_models())
    discovery.load_model("mean")
    with pytest.raises(BrokenModelError, match="model 'broken' cannot be used"):
        discovery.load_model("broken")


def test_config_errors_are_explained(tmp_path: Path) -> None:
    entry = discovery.load_model("config-model", [write(tmp_path, "config-model")])
    with pytest.raises(InvalidModelError, match="no option 'depht'; did you mean 'depth'"):
        entry.config(depht=3)
    with pytest.raises(InvalidModelError, match="config-model: depth must be at least 1"):
        entry.config(depth=0)


def test_a_file_that_fails_to_import_stays_listed_and_fails_when_chosen(tmp_path: Path) -> None:
    path = write(tmp_path, "broken-model", "import no_such_module\n" + MODEL)
    assert discovery.find_models([path])["broken-model"].card.summary == "A model."
    with pytest.raises(BrokenModelError, match=r"(?s)no_such_module.*Traceback"):
        discovery.load_model("broken-model", [path])


def test_duplicates_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DuplicateModelError, match="glcic"):
        discovery.find_models([write(tmp_path, "glcic")])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("class Broken(:\n", "not readable as Python"),
        ("x = 1\n", "nothing there is decorated"),
        (MODEL.replace('"NAME"', "name()"), "must be literals"),
    ],
)
def test_files_without_readable_models_are_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InvalidModelError, match=says):
        discovery.find_models([write(tmp_path, "some", text)])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("groups=5", "groups must be a tuple, each entry a string, not 5"),
        ("groups=None", "groups must be a tuple, each entry a string, not None"),
        ("groups='mine'", "groups must be a tuple, each entry a string, not 'mine'"),
        ("groups=[['a']]", "groups must be a tuple, each entry a string"),
        ("label=5", "label must be a string, not 5"),
        ("label=None", "label must be a string, not None"),
        ("label=['l']", "label must be a string"),
        ("summary=b'x'", "summary must be a string"),
        ("paper=1.5", "paper must be a string"),
        ("overrides=[('depth', 3)]", "overrides must be a dictionary"),
        ("overrides=" + "[" * 90 + "]" * 90, "overrides must be a dictionary"),
        ("overrides=" + "-" * 900 + "1", "register|not readable as Python"),
    ],
)
def test_arguments_of_wrong_types_are_named(tmp_path: Path, arguments: str, says: str) -> None:
    given = {"label": "label='L'", "summary": "summary='S'"} | {arguments.split("=")[0]: arguments}
    text = f"from models.registry import register\n\n@register('odd', {', '.join(given.values())})\nclass Odd: ...\n"
    with pytest.raises(InvalidModelError, match=says):
        discovery.find_models([write(tmp_path, "odd", text)])


@pytest.mark.parametrize(
    "text",
    ["x = a" + ".b" * 50_000, "x = " + "-" * 100_000 + "1", "x = " + "(" * 5000 + ")" * 5000],
    ids=["attributes", "signs", "parentheses"],
)
def test_a_file_nested_too_deep_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidModelError, match=r"not readable as Python: .+"):
        discovery.find_models([write(tmp_path, "deep", MODEL + text)])


@pytest.mark.parametrize(
    "text",
    [
        "raise BaseException('says why')",
        "raise BaseException",
        "raise GeneratorExit",
        "raise SystemExit",
        "class Own(BaseException): ...\nraise Own('says why')",
        "import asyncio\nraise asyncio.CancelledError",
        "import pytest\npytest.skip('says why', allow_module_level=True)",
        "def f(): f()\nf()",
    ],
)
def test_whatever_a_file_raises_is_its_own_failure(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, "raises", MODEL + text)
    with pytest.raises(BrokenModelError, match=r"failed to import: \S") as raised:
        discovery.load_model("raises", [path])
    assert ("why" in str(raised.value).splitlines()[0]) == ("why" in text)


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), TerminatedError(15)])
def test_a_signal_during_the_import_ends_the_program(
    tmp_path: Path, stop: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stop", stop, raising=False)
    path = write(tmp_path, "slow", MODEL + "import sys\nraise sys.stop")
    with pytest.raises(type(stop)):
        discovery.load_model("slow", [path])


@pytest.mark.parametrize("given", [[""], ["own.py", ""]])
def test_an_empty_path_is_not_the_current_folder(given: list[str]) -> None:
    with pytest.raises(InvalidModelError, match="an empty path"):
        discovery.user_paths(given)


def test_a_missing_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidModelError, match="no such file"):
        discovery.find_models([tmp_path / "none.py"])


@pytest.mark.parametrize(
    "name", ["._mine.py", ".#mine.py", ".mine.py", ".ipynb_checkpoints/mine-checkpoint.py"]
)
@pytest.mark.parametrize("kind", ["companion of a file", "lock", "copy"])
def test_hidden_files_of_a_folder_are_left_out(tmp_path: Path, name: str, kind: str) -> None:
    write(tmp_path, "mine")
    hidden = tmp_path / name
    hidden.parent.mkdir(exist_ok=True)
    if kind == "lock":  # Emacs's, which leads nowhere
        hidden.symlink_to("user@host.123:45")
    else:
        hidden.write_bytes(
            b"\0\5\x16\7" if kind == "companion of a file" else (tmp_path / "mine.py").read_bytes()
        )
    (tmp_path / "folder.py").mkdir()
    assert discovery.find_models([tmp_path])["mine"].path == (tmp_path / "mine.py").resolve()
    (tmp_path / "mine.py").unlink()
    with pytest.raises(InvalidModelError, match="a folder without Python files"):
        discovery.find_models([tmp_path])


def test_hidden_files_beside_the_models_of_the_package_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "mine")
    (tmp_path / "._mine.py").write_bytes(b"\0\5\x16\7")
    monkeypatch.setattr(discovery, "_PACKAGE", tmp_path)
    monkeypatch.setattr(discovery.importlib.metadata, "entry_points", lambda **_: [])
    assert list(discovery.find_models()) == ["mine"]


def test_a_link_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    write(tmp_path, "mine")
    (tmp_path / "gone.py").symlink_to("nowhere")
    with pytest.raises(InvalidModelError, match=r"gone\.py: no such file"):
        discovery.find_models([tmp_path])


def test_what_is_not_a_model_is_refused() -> None:
    with pytest.raises(InvalidModelError, match="not a subclass"):
        register("wrong", label="", summary="")(int)  # type: ignore[type-var]


@pytest.mark.parametrize("name", sorted(discovery.find_models()))
def test_a_value_of_the_wrong_type_is_named_before_anything_else(name: str) -> None:
    entry = discovery.load_model(name)
    for field in dataclasses.fields(entry.config()):
        with pytest.raises(ValueError, match=rf"\b{field.name}\b.*object object"):
            entry.config(**{field.name: object()})
