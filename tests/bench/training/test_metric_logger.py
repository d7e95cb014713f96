"""Sample pictures, TensorBoard, and the time left: they show a training and change nothing in it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bench.errors import UsageError
from bench.runner.callbacks import CallbackGroup, load_callbacks
from bench.runner.run import run_experiment
from bench.training.metric_logger import MetricLogger, Progress
from bench.training.phase_schedule import Schedule
from bench.training.train_log import TrainLog
from models.base import OptimizerSpec, Phase
from tests.bench.runner.test_run import Recorder, request, rows


def test_samples_show_the_same_images_and_change_no_number(
    workplace: Path, pictures_dir: Path, unet: Path
) -> None:
    plain = request(pictures_dir, ("test-unet",), models_from=(str(unet),), name="plain")
    expected = rows(run_experiment(plain, Recorder()).store)
    store = run_experiment(replace(plain, name="watched", samples_every=2), Recorder()).store
    pd.testing.assert_frame_equal(rows(store), expected, check_exact=True)
    (folder,) = store.folder.glob("trainings/*/samples")
    sheets = {p.name: np.array(Image.open(p)) for p in sorted(folder.iterdir())}
    assert list(sheets) == ["step-000000002.png", "step-000000004.png"]
    first, last = sheets.values()
    size, images = 64, first.shape[1] // 64
    assert first.shape == (3 * size, images * size, 3)
    for row in (0, 2):  # masked images and truths stay, completions move
        assert (first[row * size : (row + 1) * size] == last[row * size : (row + 1) * size]).all()
    middle = first[size : 2 * size], last[size : 2 * size]
    assert (middle[0] != middle[1]).any()
    # Known pixels are the truth's.
    assert (middle[1][:16] == last[2 * size : 2 * size + 16]).all()
    assert (first[16:48, 16:48] == 128).all()


def test_tensorboard_is_told_what_the_log_is_told(workplace: Path, pictures_dir: Path, unet: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    asked = request(pictures_dir, ("test-unet",), models_from=(str(unet),))
    callbacks = CallbackGroup([Recorder(), *load_callbacks(["tensorboard"])])
    store = run_experiment(replace(asked, samples_every=4), callbacks).store
    (training,) = store.folder.glob("trainings/*")
    events = accumulator.EventAccumulator(str(training / "tensorboard"))
    events.Reload()
    lines = TrainLog(training / "train.jsonl").read()
    told = [(e.step, e.value) for e in events.Scalars("generator/loss")]
    wanted = [(line["step"], line["terms"]["generator/loss"]) for line in lines if "terms" in line]
    assert [step for step, _ in told] == [step for step, _ in wanted]
    assert [value for _, value in told] == pytest.approx([value for _, value in wanted], rel=1e-6)
    assert [e.step for e in events.Images("samples")] == [4]


def test_without_the_package_tensorboard_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UsageError, match=r"pip install 'inpaint-bench\[tensorboard\]'"):
        load_callbacks(["tensorboard"])


def test_the_time_left_is_told_from_a_smoothed_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten steps a report, one second a step; one report hiccups tenfold: the time left does not leap with it."""
    clock = [0.0]
    monkeypatch.setattr("bench.training.metric_logger.time.perf_counter", lambda: clock[0])
    told: list[Progress] = []
    adam = OptimizerSpec(name="adam", learning_rate=1e-3)
    schedule = Schedule([Phase(name="train", num_steps=100, optimizers={"generator": adam})])
    metric_logger = MetricLogger(schedule, tmp_path, batch_size=4, report_every=10, on_progress=told.append)
    for report, pace in enumerate([1.0, 1.0, 1.0, 10.0, 1.0], 1):
        clock[0] += 10 * pace
        metric_logger.report(10 * report)
    assert [p.seconds_left for p in told[:3]] == pytest.approx([90, 80, 70])
    assert told[3].images_per_second == pytest.approx(0.4)
    assert told[3].seconds_left == pytest.approx(60 * 2.8)  # 600 from the last report alone
    assert told[4].seconds_left < told[3].seconds_left
