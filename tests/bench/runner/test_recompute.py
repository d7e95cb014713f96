"""What is computed again: results of another machine, a new metric, code that changed; what a plan says of each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from bench.code_digest import CodeDigest
from bench.config import Request, resolve_config
from bench.errors import UsageError
from bench.runner import keys, plan
from bench.runner.callbacks import RunCallbacks
from bench.runner.prepare import PreparedRun
from bench.runner.preview import preview_run
from bench.runner.run import run_experiment
from bench.runner.run_folder import RunFolder, read_checked_json
from tests.bench.runner.test_recovery import Warned
from tests.bench.runner.test_run import request, rows


class Watched(Warned):
    """Remembers trainings and what was measured."""

    def __init__(self) -> None:
        super().__init__()
        self.evaluated: list[str] = []

    def cell_done(self, label: str, mask: str, means: dict[str, float]) -> None:
        self.evaluated.append(label)


@pytest.fixture
def asked(workplace: Path, pictures_dir: Path, unet: Path) -> Request:
    """One training and one baseline."""
    return request(pictures_dir, ("test-unet", "mean"), models_from=(str(unet),), name="kept")


@pytest.fixture
def other_threads() -> Iterator[None]:
    """Another machine, as far as keys can see."""
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    yield
    torch.set_num_threads(before)


def names(asked: Request, states: str) -> list[str]:
    return [getattr(cell, states) for cell in preview_run(asked, RunCallbacks()).cells]


@pytest.mark.long
def test_results_of_another_machine_are_kept_and_named_until_asked(finished: Request) -> None:
    asked, first = finished, rows(RunFolder("kept"))
    folders = sorted(p.name for p in Path("runs/kept/trainings").iterdir())
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        callbacks = Watched()
        pd.testing.assert_frame_equal(rows(run_experiment(asked, callbacks).store), first)
        assert (callbacks.trained, callbacks.evaluated) == ([], [])
        (warning,) = [w for w in callbacks.warnings if "other software or hardware" in w]
        assert "Mean pixel, Test Unet" in warning
        assert "--recompute" in warning
        assert names(asked, "state") == ["done", "done"]
        said = f"threads {threads}, here {threads + 1}"
        assert all(said in cell[0] for cell in names(asked, "changes"))

        callbacks = Watched()
        again = replace(asked, recompute=True)
        assert names(again, "state")[0].startswith("to evaluate again here (threads")
        store = run_experiment(again, callbacks).store
        assert (callbacks.trained, callbacks.evaluated) == (["Test Unet"], ["Test Unet", "Mean pixel"])
        assert not [w for w in callbacks.warnings if "other software" in w]
        assert (
            sorted(p.name for p in store.folder.glob("trainings/*")) == folders
        )  # planned by what, not by where
        manifest = store.read_manifest()
        assert manifest is not None
        for cell in manifest["cells"]:
            assert cell["where"]["threads"] == threads + 1
        assert manifest["cells"][0]["training"]["where"] == [manifest["cells"][0]["where"]]
        callbacks = Watched()
        run_experiment(again, callbacks)
        assert (callbacks.trained, callbacks.evaluated) == ([], [])  # all is of here by now
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: None,
        Path.unlink,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text(path.read_text().replace('"threads"', '"thread"')),
        lambda path: path.write_text(json.dumps({**read_checked_json(path), "where": []})),
    ],
    ids=["whole", "gone", "empty", "edited", "edited, without its checksum"],
)
def test_a_training_resumed_elsewhere_says_so(
    asked: Request, other_threads: None, damage: Callable[[Path], object]
) -> None:
    """Whatever becomes of ``config.json``: the checkpoint knows where it was computed."""

    class Stopping(RunCallbacks):
        def training_step(self, label: str, step: int, num_steps: int) -> None:
            if step == 2:
                raise KeyboardInterrupt

    asked = replace(asked, models=("test-unet",), settings=replace(asked.settings, checkpoint_every=1))
    threads = torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt):
        run_experiment(asked, Stopping())
    torch.set_num_threads(threads - 1)
    (config,) = Path("runs").glob("*/trainings/*/config.json")
    damage(config)
    callbacks = Watched()
    store = run_experiment(asked, callbacks).store
    (warning,) = [w for w in callbacks.warnings if "resumed on other" in w]
    assert f"threads {threads}, here {threads - 1}" in warning
    manifest = store.read_manifest()
    assert manifest is not None
    where = manifest["cells"][0]["training"]["where"]
    assert [place["threads"] for place in where] == [threads, threads - 1]


def test_a_new_metric_is_measured_alone(finished: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, store = finished, RunFolder("kept")
    before = rows(store)
    measured: list[list[str]] = []
    from bench.evaluation import evaluator

    evaluate = evaluator.evaluate_model

    def watching(model: Any, test: Any, compute: Any, ready: dict[str, Any], **options: Any) -> Any:
        measured.append(list(ready))
        return evaluate(model, test, compute, ready, **options)

    monkeypatch.setattr(evaluator, "evaluate_model", watching)
    more = replace(asked, settings=replace(asked.settings, metrics=("hole_psnr_db", "hole_mae", "hole_ssim")))
    assert names(more, "state") == ["to measure hole_ssim"] * 2
    callbacks = Watched()
    run_experiment(more, callbacks)
    assert callbacks.trained == []
    assert measured == [["hole_ssim"]] * 2
    after = rows(store)
    assert after["hole_ssim"].between(-1, 1).all()
    pd.testing.assert_frame_equal(after[before.columns], before)
    fewer = replace(asked, settings=replace(asked.settings, metrics=("hole_mae",)))
    run_experiment(fewer, callbacks)
    assert len(measured) == 2  # what is there is enough
    assert "hole_ssim" in rows(store)


def test_a_metric_whose_code_changed_is_measured_again_alone(
    finished: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = replace(finished, models=("mean",))
    code = dict(PreparedRun.metric_code.func(_prepared(asked)))  # type: ignore[attr-defined]
    changed = {**code, "ssim": CodeDigest("0" * 64, {**code["ssim"].modules, "bench.evaluation.ssim": "1"})}
    monkeypatch.setattr(PreparedRun, "metric_code", property(lambda self: changed))
    assert names(asked, "state") == ["to measure ssim (code of bench.evaluation.ssim)"]
    callbacks = Watched()
    run_experiment(asked, callbacks)
    assert callbacks.evaluated == ["Mean pixel"]
    assert names(asked, "state") == ["done"]


def _prepared(asked: Request) -> PreparedRun:
    from bench.runner.prepare import prepare_run

    return prepare_run(asked, RunCallbacks())


def test_a_plan_says_which_part_changed(finished: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = finished
    assert names(asked, "changes") == [[], []]
    wider = replace(asked, model_options={"test-unet": {"width": 6}})
    (changes, unchanged) = names(wider, "changes")
    assert (
        changes == ["changed since it was computed: config width (6, was 32)"]
        or "config width (6" in changes[0]
    )
    assert unchanged == []

    real = keys.training_code

    def edited(*arguments: Any, **options: Any) -> CodeDigest:
        code = real(*arguments, **options)
        name = "models.base"
        return CodeDigest("1" * 64, {**code.modules, name: "edited"})

    monkeypatch.setattr(plan, "training_code", edited)
    plan._training_code.cache_clear()
    try:
        (changes, _) = names(asked, "changes")
        assert changes == ["changed since it was computed: code of models.base"]
        assert names(asked, "state")[0].startswith("to train, ")
    finally:
        plan._training_code.cache_clear()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"track": "banana"}, "--track banana: must be one of 'uniform', 'faithful'"),
        ({"size": 64.5}, "--size 64.5: must be an integer"),
        ({"precision": "int8"}, "--precision int8: must be one of"),
        ({"flips": 1}, "--flips 1: must be True or False"),
        ({"seeds": (0, "one")}, "--seeds 0,one"),
        ({"schedule": "linaer"}, "--schedule linaer: unknown; did you mean 'linear'"),
        ({"metrics": "psnr_db"}, "--metrics psnr_db"),
        ({"batch": "all"}, "--batch all: must be"),
    ],
)
def test_settings_of_a_wrong_type_are_refused_for_python_users_too(
    changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        resolve_config("quick", changes)


def test_a_schedule_is_recorded_and_is_another_training(asked: Request) -> None:
    first = {p.what.digest for p in _prepared(asked).plan.trainings}
    cosine = replace(asked, settings=replace(asked.settings, schedule="cosine"), name="cosine")
    prepared = _prepared(cosine)
    assert first.isdisjoint(p.what.digest for p in prepared.plan.trainings)
    store = run_experiment(replace(cosine, models=("test-unet",)), Watched()).store
    manifest = store.read_manifest()
    assert manifest is not None
    assert manifest["settings"]["schedule"] == "cosine"
    with pytest.raises(UsageError, match=r"another set-up \(schedule differ"):
        run_experiment(replace(asked, name="cosine"), Watched())


def test_a_checkpoint_says_what_it_is_of_and_another_training_is_not_resumed(finished: Request) -> None:
    from bench.training import checkpoint

    asked, store = replace(finished, models=("test-unet",)), RunFolder("kept")
    (folder,) = store.folder.glob("trainings/*")
    state = checkpoint.newest_checkpoint(folder)
    assert state is not None
    (training,) = _prepared(asked).plan.trainings
    assert state["origin"] == {"what": training.key, "where": [_prepared(asked).context.where]}
    del state["format"]
    checkpoint.save_checkpoint(folder, state.pop("step"), {**state, "origin": {"what": "other"}}, keep=1)
    for path in store.folder.glob("cells/*/cell.json"):
        path.unlink()
    callbacks = Watched()
    run_experiment(asked, callbacks)
    assert callbacks.trained == ["Test Unet"]
    assert any("holds a checkpoint of another training" in warning for warning in callbacks.warnings)
