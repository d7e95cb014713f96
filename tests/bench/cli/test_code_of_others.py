"""Nothing that a file of somebody else names is run, unless the command line names it too or allows it.

Config files, requests of ``bench work``, experiments, manifests, bundles: each of them names model files, programs,
Slurm files and callbacks here, and all of these leave a trace where they are run.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any

import click
import pytest
from click.core import ParameterSource

from bench import api
from bench.cli import COMMANDS, cli
from bench.cli.commands.run import run_command
from bench.cli.config_file import _CODE_OPTIONS, option_keys, refuse_code_from_file
from bench.cli.paths import GivenPath
from bench.config import Request, RunConfig
from bench.errors import UsageError
from bench.runner.slurm import _Watch
from bench.runner.slurm_jobs import SlurmConfig
from bench.runner.work import request_as_json, request_from_json
from models.errors import ModelError
from models.pretrained import load_pretrained
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


@pytest.mark.parametrize(
    "text",
    [
        "models-from = ''",
        "models-from = ['']",
        "models_from = ['', '']",
        "models-from = ['unet.py', '']",
        "on = ''",
        "data = ''",
    ],
)
@pytest.mark.parametrize("command", ["run", "ablate"])
def test_an_empty_path_in_a_config_file_is_no_path(spies: Path, text: str, command: str) -> None:
    """To Python it is the current folder, where ``unet.py`` lies."""
    Path("a.toml").write_text(f"{text}\nmodels = ['test-unet']\npreset = 'smoke'\nmask = ['center']\n")
    for extra in ([], ["--dry-run"], ["--plan-only"], ["--allow-code"]):
        assert "an empty path" in error_of(command, "--config", "a.toml", *extra)
    assert not RAN.exists()


@pytest.mark.parametrize(
    ("option", "given"),
    [
        ("--models-from", ("",)),
        ("--models-from", ("", "")),
        ("--on", ""),
        ("--callback", ("",)),
        ("--callback", (("",),)),
        ("--set", ("exec:",)),
    ],
)
def test_a_program_without_a_name_is_one_all_the_same(option: str, given: object) -> None:
    """The check asks whether the file gives something, not whether its text is empty; types are not relied on."""
    [name] = [name for name, known in _CODE_OPTIONS.items() if known == option]
    ctx = click.Context(run_command)
    ctx.params = {name: given}
    ctx.set_parameter_source(name, ParameterSource.DEFAULT_MAP)
    with pytest.raises(UsageError, match=f"names code to run .*then give {option} "):
        refuse_code_from_file(ctx)


def _path_parameters() -> list[tuple[str, click.Parameter]]:
    commands = [(name, cli.get_command(None, name)) for name in COMMANDS]  # type: ignore[arg-type]
    nested = [(f"{n} {sub.name}", sub) for n, c in commands for sub in getattr(c, "commands", {}).values()]
    return [
        (name, param)
        for name, command in [*commands, *nested]
        for param in getattr(command, "params", [])
        if isinstance(param.type, click.Path)
    ]


def test_no_command_takes_an_empty_path() -> None:
    found = _path_parameters()
    for name, param in found:
        with pytest.raises(click.BadParameter, match="an empty path"):
            param.type.convert("", param, click.Context(run_command))
        assert isinstance(param.type, GivenPath), (name, param.name)
    takers = {name for name, param in found if param.name == "models_from"}
    assert takers >= {"run", "work", "list", "show", "check-model", "inpaint", "demo", "perf", "reproduce"}
    assert {name for name, param in found if param.name == "data"} >= {"run", "score", "demo", "data prepare"}


@pytest.mark.parametrize(
    "words",
    [
        ["run", "--models", "test-unet"],
        ["list", "models", "--check"],
        ["show", "test-unet"],
        ["check-model", "test-unet"],
        ["work", "--request", "a.toml", "--what", "x"],
    ],
)
def test_the_command_line_takes_no_empty_path_for_model_files(spies: Path, words: list[str]) -> None:
    Path("a.toml").touch()
    for more in (
        ["--models-from", ""],
        ["--models-from="],
        ["--models-from", "unet.py", "--models-from", ""],
    ):
        assert "an empty path" in error_of(*words, *more)
    assert not RAN.exists()


def test_python_takes_no_empty_path_for_model_files(spies: Path) -> None:
    import numpy as np

    image, hole = np.zeros((8, 8, 3), np.uint8), np.eye(8, dtype=bool)
    for call in (
        lambda: api.run("test-unet", models_from=[""]),
        lambda: api.models([""]),
        lambda: api.inpaint(image, hole, "test-unet", models_from=[""]),
        lambda: api.expand_model_names(["test-unet"], ["unet.py", ""]),
        lambda: Request(models=("test-unet",), masks=("center",), models_from=("",)),
        lambda: Request(models=("mean",), masks=("center",), data=""),
        lambda: request_from_json(_request_json(models_from=[""])),
    ):
        with pytest.raises(UsageError, match="an empty path"):
            call()
    with pytest.raises(ModelError, match="an empty path"):
        load_pretrained("x.safetensors", [""])
    assert not RAN.exists()


def _request_json(**fields: Any) -> dict[str, Any]:
    whole = json.loads(json.dumps(request_as_json(Request(models=("mean",), masks=("center",), name="x"))))
    return {**whole, **fields}


#: JSON of every kind, and texts that name no file.
_JSON = [
    None,
    True,
    0,
    -1,
    3.5,
    1e308,
    "x",
    "",
    [],
    [1],
    [None],
    [[]],
    {},
    {"a": 1},
    ["x", 2],
    10**30,
    math.nan,
]


#: Field of a request -> the types that its value may have.
_TYPES: dict[str, tuple[type, ...]] = {
    "models": (tuple,),
    "masks": (tuple,),
    "data": (str,),
    "settings": (RunConfig,),
    "model_options": (dict,),
    "models_from": (tuple,),
    "name": (str, type(None)),
    "device": (str,),
    "pictures": (bool,),
    "allow_unreadable": (bool,),
    "jobs": (int,),
    "jobs_per_gpu": (int,),
    "recompute": (bool,),
    "samples_every": (int, type(None)),
    "protocol": (str, type(None)),
    "command": (tuple,),
    "options": (dict,),
}


def _refusal(whole: dict[str, Any]) -> str:
    """What is said of a request; nothing where it is accepted."""
    try:
        request_from_json(whole)
    except UsageError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(Request)])
def test_a_request_of_wrong_types_is_refused_in_one_line(field: str) -> None:
    said = {repr(value): _refusal(_request_json(**{field: value})) for value in _JSON}
    assert all(re.fullmatch("(the request is not readable: .+)?", text) for text in said.values()), said
    accepted = [value for value in _JSON if not said[repr(value)]]
    for value in accepted:
        read = getattr(request_from_json(_request_json(**{field: value})), field)
        assert type(read) in _TYPES[field], (field, value)
        assert not isinstance(read, tuple) or all(isinstance(part, str) for part in read), (field, value)
    assert len(accepted) < len(_JSON) / 2, accepted


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(RunConfig)])
def test_settings_of_a_request_of_wrong_types_are_refused_in_one_line(field: str) -> None:
    whole = _request_json()
    said = [_refusal({**whole, "settings": {**whole["settings"], field: value}}) for value in _JSON]
    assert all(re.fullmatch("(the request is not readable: .+)?", text) for text in said), said
    assert said.count("") < len(_JSON) / 2


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"data": 5}, "data must be a string, not 5"),
        ({"data": ["faces"]}, "data must be a string, not ['faces']"),
        ({"name": True}, "name must be a string or None, not True"),
        ({"name": -1}, "name must be a string or None, not -1"),
        ({"masks": [1]}, "masks must be a tuple, each entry a string, not (1,)"),
        ({"masks": "center"}, "masks must be a tuple, each entry a string, not 'center'"),
        ({"models": {"mean": 1}}, "models must be a tuple"),
        ({"model_options": ["x"]}, "model_options must be a mapping, not ['x']"),
        (
            {"model_options": {"mean": 3}},
            "model_options must map each model to a mapping of fields, not to 3",
        ),
        ({"jobs": "many"}, "jobs must be an integer or one of 'auto', not 'many'"),
        ({"settings": []}, "it is no object that holds an object 'settings'"),
        ({"settings": {}}, "it has no 'seeds'"),
        ({"strange": 1}, "this version knows no field 'strange'"),
        ({"name": "../../x"}, "--name '../../x': give letters"),
        ({"name": "/elsewhere/x"}, "--name '/elsewhere/x': give letters"),
    ],
)
def test_what_is_wrong_in_a_request_is_named(workplace: Path, fields: dict[str, Any], says: str) -> None:
    Path("request.json").write_text(json.dumps(_request_json(**fields)))
    message = error_of("work", "--request", "request.json", "--what", "x")
    assert message.startswith("the request is not readable: ")
    assert says in message


@pytest.mark.parametrize("text", ["null", "[]", "3", '"x"', "{}", '{"settings": "x"}', '{"models": []}'])
def test_what_is_no_request_is_refused(workplace: Path, text: str) -> None:
    Path("request.json").write_text(text)
    assert "the request is not readable" in error_of("work", "--request", "request.json", "--what", "x")


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
