"""The CUDA path without a GPU: every model, phase and preset on fake CUDA tensors, through the project's own code.

A step may neither mix devices nor make the host wait. What this cannot show is arithmetic: that is ``nox -s gpu``.
"""

from __future__ import annotations

import os
import queue
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import distributed
from torch.utils._pytree import tree_map

from bench.data import DataSpec, open_data
from bench.data.dataset import ImageSet
from bench.evaluation import evaluator
from bench.evaluation.lpips import lpips_distance
from bench.evaluation.metrics import prepare_distribution_metrics, prepare_metrics
from bench.perf.gpu_estimates import count_phases
from bench.profiling.rehearsal import OperatorTrace, rehearse_cuda
from bench.runner import batch_size, local_jobs, prepare
from bench.runner.context import RunContext
from bench.runner.plan import load_models
from bench.runner.run_folder import RunFolder
from bench.runner.work import open_units
from bench.training import checkpoint
from bench.training.data_loader import StepBatches, TrainingDataLoader
from bench.training.device import Compute
from bench.training.distributed import ProcessGroup, SyncedBatchNorm2d
from bench.training.model_setup import move_to_device
from bench.training.phase_schedule import Intervals, Schedule
from bench.training.trainer import Trainer, TrainerHooks
from models.base import Batch, Box, Budget, InpaintingModel, Phase, Task
from models.discovery import find_models, load_model
from models.errors import MissingWeightsError
from models.layers import spectral_norm
from tests.bench.runner.test_run import Recorder, request
from tests.bench.runner.toy_model import SIZE, Toy, ToyConfig

#: The versions of torch on which the rehearsal is known to work: the pinned one, and the one before it.
REHEARSED = (
    re.search(r"^torch==(\S+)", (Path(__file__).parents[3] / "constraints.txt").read_text(), re.MULTILINE)[1],  # type: ignore[index]
    "2.14.1",
)
HERE = torch.__version__.split("+")[0]
needs_rehearsed_torch = pytest.mark.skipif(
    HERE not in REHEARSED,
    reason=f"the rehearsal relies on internals of torch {' and '.join(REHEARSED)}; this is {HERE}",
)
pytestmark = needs_rehearsed_torch
CUDA = torch.device("cuda", 0)
TRAINED = [
    name for name, found in find_models().items() if not {"untrained", "classical"} & set(found.card.groups)
]
#: Stages of a training in which the host may wait; everything else is a step.
MAY_WAIT = ("build", "report", "validate", "sample", "checkpoint", "enter phase")


class Checkpoints:
    """Keeps checkpoints as ``torch.load`` to the CPU gives them: a fake tensor has no bytes to write.

    Without ``resumable``, tensors are kept where they are: copies of hundreds of them, which nobody loads, would be a
    tenth of all operators here.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, resumable: bool = False) -> None:
        self.states: list[dict[str, Any]] = []
        self.resumable = resumable
        monkeypatch.setattr(checkpoint, "save_checkpoint", self.save)
        monkeypatch.setattr(checkpoint, "newest_checkpoint", lambda *_, **__: (self.states or [None])[-1])

    def save(self, folder: Path, step: int, state: dict[str, Any], *, keep: int = 2) -> None:
        if self.resumable:
            state = tree_map(lambda x: x.cpu() if isinstance(x, torch.Tensor) else x, state)
        self.states.append(state)


def staged(trace: OperatorTrace, stage: str, owner: Any, name: str) -> None:
    """Attribute what the method ``name`` of ``owner`` does to ``stage``."""
    method = getattr(owner, name)

    def inside(*args: Any, **kwargs: Any) -> Any:
        with trace.during(stage):
            return method(*args, **kwargs)

    setattr(owner, name, inside)


def images(size: int, count: int = 4) -> ImageSet:
    return ImageSet([str(i) for i in range(count)], np.zeros((count, size, size, 3), np.uint8))


def rehearsed_trainer(
    trace: OperatorTrace, model: InpaintingModel, folder: Path, *, precision: str, resident: bool, track: Any
) -> Trainer:
    """A trainer of one step per phase, each with a report and a checkpoint; then a validation and samples."""
    size, compute = model.task.size, Compute(CUDA, precision)
    with trace.during("build"):
        model = move_to_device(model, compute)
        batches = TrainingDataLoader(
            images(size).pixels,
            np.zeros((1, size * size // 8), np.uint8),
            batch_size=2,
            seed=0,
            flips=True,
            compute=compute,
            resident=resident,
        )
    held_out, holes = images(size, 2), np.ones((2, size, size), np.uint8)

    def validate() -> dict[str, float]:
        with trace.during("validate"):
            return evaluator.validation_score(model, held_out, holes, compute, ["psnr_db"])

    def sample(step: int) -> None:
        with trace.during("sample"):
            evaluator.evaluate_model(model, evaluator.TestSet(held_out, holes, np.arange(2)), compute, {})

    steps = len(model.phases(Budget(num_steps=1, steps_per_phase=1)))
    trainer = Trainer(
        model,
        Schedule(model.phases(Budget(num_steps=1, steps_per_phase=1, track=track))),
        batches,
        compute,
        folder,
        intervals=Intervals(report=1, sample=steps, checkpoint=1),
        hooks=TrainerHooks(validate=validate, sample=sample),
    )
    for method in ("report", "check_finite"):
        staged(trace, "report", trainer.metric_logger, method)
    for method in ("save_checkpoint", "restore_checkpoint"):
        staged(trace, "checkpoint", trainer, method)
    staged(trace, "enter phase", trainer.optimizers, "enter_phase")
    return trainer


def waits_in_steps(trace: OperatorTrace) -> list[str]:
    return [f"{w.reason} at {w.location}" for w in trace.waits if w.stage not in MAY_WAIT]


def trainings() -> list[Any]:
    """Every model and preset; those that take the steps of another once more are for the session ``long``.

    The ordinary tests have every model at one preset, in turn.
    """
    presets = ("smoke", "quick", "paper")
    return [
        pytest.param(
            name,
            preset,
            id=f"{name}-{preset}",
            marks=() if preset == presets[i % 3] else pytest.mark.long,
        )
        for i, name in enumerate(TRAINED)
        for preset in presets
    ]


@pytest.mark.parametrize(("name", "preset"), trainings())
def test_a_training_mixes_no_devices_and_no_step_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, preset: str
) -> None:
    """Presets alternate between prefetched and resident images, and between the precisions with autocast."""
    entry, states = load_model(name), Checkpoints(monkeypatch)
    size = 160 if preset == "paper" else 64
    hole = Box(size // 4, size // 4, size // 2, size // 2)
    config = entry.config(preset)
    if name == "diffusion":
        # The steps of its sampler are all alike, and a validation takes them twice.
        config = replace(config, sampling_steps=2)
    # As are the first steps of each layer's power iteration.
    monkeypatch.setattr(spectral_norm, "_INITIAL_ITERATIONS", 2)
    try:
        entry.model.requirements(config)
    except MissingWeightsError as error:
        pytest.skip(str(error))
    with rehearse_cuda() as trace:
        with trace.during("build"):
            model = entry.model(config, Task(size=size, fixed_hole_box=hole))
        trainer = rehearsed_trainer(
            trace,
            model,
            tmp_path,
            precision="fp32" if preset == "smoke" else "bf16",
            resident=preset == "quick",
            track="faithful" if preset == "paper" else "uniform",
        )
        trainer.train()
        assert trainer.step == len(trainer.schedule.phases)
        assert waits_in_steps(trace) == []
        assert {w.stage for w in trace.waits} >= {"report", "validate", "sample", "checkpoint"}
        assert states.states[-1]["complete"]
        on_device = {p.device for p in trainer.model.networks.parameters()}
    assert on_device == {CUDA}


def test_a_restored_training_has_all_its_state_on_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = Checkpoints(monkeypatch, resumable=True)
    with rehearse_cuda() as trace:

        def trainer() -> Trainer:
            with trace.during("build"):
                model = Toy(ToyConfig(), Task(size=SIZE))
            return rehearsed_trainer(
                trace, model, tmp_path, precision="fp16", resident=False, track="uniform"
            )

        first = trainer()
        batches = first.batches

        def killing(step: int) -> Batch:
            if step == 1:
                raise KeyboardInterrupt
            return batches(step)

        first.batches = StepBatches(2, killing)
        with pytest.raises(KeyboardInterrupt):
            first.train()
        assert [state["step"] for state in states.states] == [1]
        assert states.states[0]["train_step"]["scalers"]["generator"]
        second = trainer()
        second.train()
        assert waits_in_steps(trace) == []
        for optimizer in second.optimizers.optimizers.values():
            for group in optimizer.param_groups:
                assert group["lr"].device == CUDA
            for state in optimizer.state.values():
                assert {value.device for value in state.values()} == {CUDA}


def planted(monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Batch], torch.Tensor]) -> None:
    """Let the toy's loss multiply with what ``spoil`` returns."""
    loss = Toy.loss

    def spoiled(self: Toy, network: str, batch: Batch, *rest: Any) -> dict[str, torch.Tensor]:
        terms = loss(self, network, batch, *rest)
        return {**terms, "loss": terms["loss"] * spoil(batch)}

    monkeypatch.setattr(Toy, "loss", spoiled)


@contextmanager
def toy_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[OperatorTrace, Trainer]]:
    Checkpoints(monkeypatch)
    with rehearse_cuda() as trace:
        with trace.during("build"):
            model = Toy(ToyConfig(), Task(size=SIZE))
        yield (
            trace,
            rehearsed_trainer(trace, model, tmp_path, precision="bf16", resident=True, track="uniform"),
        )


def test_a_planted_tensor_on_the_host_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted(monkeypatch, lambda batch: torch.ones(len(batch)).mean(0, keepdim=True))
    with (
        toy_training(tmp_path, monkeypatch) as (_, trainer),
        pytest.raises(RuntimeError, match="same device, but found at least two devices, cuda:0 and cpu"),
    ):
        trainer.train()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda batch: batch.image.mean().item(), "_local_scalar_dense"),
        (lambda batch: 1.0 if batch.mask.any() else 0.0, "_local_scalar_dense"),
        (lambda batch: torch.tensor([1.0], device=batch.image.device).sum(), "copy from pageable memory"),
        (lambda batch: batch.image.mean().cpu().to(batch.image.device), "copy to the host"),
        (lambda batch: batch.image[torch.arange(1)].mean(), "index with an index on the host"),
    ],
    ids=["item", "bool", "constant", "round trip", "index"],
)
def test_a_planted_wait_is_found_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Batch], torch.Tensor], reason: str
) -> None:
    planted(monkeypatch, spoil)
    with toy_training(tmp_path, monkeypatch) as (trace, trainer):
        trainer.train()
    found = waits_in_steps(trace)
    assert any(line.startswith(f"{reason} at tests/bench/training/test_cuda_rehearsal.py:") for line in found)


def test_backward_in_python_is_that_of_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """On real tensors, first and second derivatives, to the last bit."""
    from bench.profiling import rehearsal

    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Conv2d(4, 2, 3))
    image = torch.rand(2, 3, 8, 8, requires_grad=True)
    parameters = list(net.parameters())

    def penalty(grad: Callable[..., Any]) -> torch.Tensor:
        output = net(image)
        (slope,) = grad(output.square().sum(), [image], create_graph=True)
        return slope.square().mean() + output.mean()

    expected = torch.autograd.grad(penalty(torch.autograd.grad), parameters)
    found = rehearsal._grad(penalty(rehearsal._grad), parameters)
    for left, right in zip(expected, found, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-6, atol=1e-7)


def test_every_metric_scores_images_on_the_device(backbone_folder: Path) -> None:
    with rehearse_cuda() as trace:
        with trace.during("build"):
            entry = load_model("glcic")
            model = entry.model(entry.config("smoke"), Task(size=64))
            model = move_to_device(model, Compute(CUDA, "bf16"))
            lpips_distance.cache_clear()
            ready, missing = prepare_metrics(["all"], CUDA)
            sets, _ = prepare_distribution_metrics(["all"], CUDA)
        test = evaluator.TestSet(images(64, 2), np.ones((2, 64, 64), np.uint8), np.arange(2))
        result = evaluator.evaluate_model(model, test, Compute(CUDA, "bf16"), ready, sets=sets)
    lpips_distance.cache_clear()
    assert set(missing) <= {"identity_distance"}  # for CelebA's crop only
    assert set(ready) <= set(result.rows.columns)
    assert len(ready) >= 8


@pytest.mark.long
def test_batch_auto_steps_through_every_phase_beside_the_resident_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entry = load_model("glcic")
    task = Task(size=64)
    plan: Any = SimpleNamespace(
        entry=entry, config=entry.config("smoke"), task=task, seed=0, budget=Budget(num_steps=3)
    )
    with rehearse_cuda():
        assert batch_size.fits_in_memory(plan, 2, Compute(CUDA, "fp16"))


@pytest.mark.long
def test_batch_auto_divides_a_gpu_among_its_jobs(
    workplace: Path, pictures_dir: Path, unet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rehearsed device has room for 32 images; its allocator refuses what is beyond a process's fraction."""
    fractions, trial = [1.0], batch_size.fits_in_memory

    def fits(plan: Any, images: int, compute: Compute) -> bool:
        return images <= 32 * fractions[-1] and trial(plan, images, compute)

    monkeypatch.setattr(batch_size, "fits_in_memory", fits)
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda fraction, device: fractions.append(fraction)
    )
    asked = request(pictures_dir, ("test-unet",), models_from=(str(unet),), batch="auto", images_seen=10**6)
    data, entries = open_data(DataSpec(source=str(pictures_dir), size=64)), load_models(asked)
    found = {}
    for share in (1.0, 0.5, 0.25):
        compute = Compute(CUDA, "bf16", memory_share=share)
        context = RunContext(asked, data, compute, RunFolder("shared"), Recorder())
        with rehearse_cuda():
            found[share] = batch_size.resolve_auto_batch_size(context, entries).batch
    assert found == {1.0: 32, 0.5: 16, 0.25: 8}
    assert fractions == [1.0, 0.5, 1.0, 0.25, 1.0]  # given back each time


@pytest.mark.parametrize(
    ("jobs", "per_gpu", "share"), [("auto", 1, 1.0), ("auto", 3, 1 / 3), (4, 1, 0.5), (2, 1, 1.0)]
)
def test_the_launcher_gives_each_job_its_share_of_a_gpu(
    workplace: Path,
    pictures_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    jobs: Any,
    per_gpu: int,
    share: float,
) -> None:
    """Two rehearsed GPUs: jobs are dealt out over them, and each is told what it may plan with."""
    started: list[tuple[str | None, float]] = []

    class Process:
        pid, is_alive = 1, staticmethod(lambda: False)

        def __init__(self, target: object, args: tuple[Any, ...]) -> None:
            self.job = args[1]

        def start(self) -> None:
            started.append((os.environ.get("CUDA_VISIBLE_DEVICES"), self.job.memory_share))

    spawn = SimpleNamespace(Process=Process, Queue=queue.Queue)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(local_jobs.multiprocessing, "get_context", lambda _: spawn)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2**40, 2**40))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 0)
    monkeypatch.setattr(prepare, "select_device", lambda *_, **__: Compute(CUDA, "fp32"))
    monkeypatch.setattr(prepare, "prepare_metrics", lambda *_: ({}, {}))
    monkeypatch.setattr(prepare, "prepare_distribution_metrics", lambda *_: ([], {}))
    asked = replace(
        request(pictures_dir, ("context-encoder",), seeds=tuple(range(6))),
        jobs=jobs,
        jobs_per_gpu=per_gpu,
        device="cuda",
    )
    prepared = prepare.prepare_run(asked, Recorder())
    assert prepared.context.compute.memory_share == pytest.approx(share)
    units = open_units(prepared, dict.fromkeys([cell.key for cell in prepared.plan.cells]))
    local_jobs.run_in_slots(prepared, units)
    assert sorted(started) == [(gpu, pytest.approx(share)) for gpu in ("0", "1") for _ in range(3)]


@pytest.mark.parametrize("name", ["glcic", "pconv"])
def test_weights_are_cast_once_per_update_and_frozen_ones_never(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backbone_folder: Path, name: str
) -> None:
    """A joint step casts the discriminator's weights before and after its update, and all others once."""
    casts: Counter[str] = Counter()
    dispatch = OperatorTrace.__torch_dispatch__

    def counting(self: OperatorTrace, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ == "_to_copy" and self.stage == "cast" and args[0].dim() == 4:
            casts[names.get(id(args[0]), "")] += 1
        return dispatch(self, func, types, args, kwargs)

    monkeypatch.setattr(OperatorTrace, "__torch_dispatch__", counting)
    entry = load_model(name)
    with rehearse_cuda() as trace:
        with trace.during("build"):
            model = entry.model(
                entry.config("smoke", **({"vgg_losses": "required"} if name == "pconv" else {})),
                Task(size=64),
            )
        trainer = rehearsed_trainer(trace, model, tmp_path, precision="bf16", resident=True, track="uniform")
        frozen = {f"frozen {n}": p for n, p in model.frozen.named_parameters()}
        names = {id(p): n for n, p in {**dict(model.networks.named_parameters()), **frozen}.items()}
        with trace.during("build"):
            last = trainer.schedule.num_steps - 1
            batch, phase = trainer.batches(last), trainer.optimizers.enter_phase(last)
        with trace.during("cast"):
            trainer.train_step.run(phase, batch)
    assert {n: c for n, c in casts.items() if n and c > 1 + n.startswith("discriminator")} == {}
    assert not any(n.startswith("frozen") for n in casts)
    assert any(n.startswith("generator") for n in casts)


@pytest.mark.long
@pytest.mark.parametrize(("track", "waits"), [("faithful", [1, 1, 2]), ("uniform", [0, 0, 0])])
def test_fp16_waits_once_per_network_that_adadelta_updates(track: Any, waits: list[int]) -> None:
    """Torch's Adadelta has no fused kernel that reads the scaler's verdict on the device; Adam has."""
    entry = load_model("glcic")
    task, budget = Task(size=64), Budget(num_steps=300, track=track)
    counted = count_phases(entry, entry.config("smoke"), task, 4, budget, "fp16")
    assert [found for *_, found in counted] == waits


def test_several_gpus_use_torchs_own_batch_norm() -> None:
    def layers(device: torch.device) -> set[type]:
        entry = load_model("glcic")
        model = entry.model(entry.config("smoke"), Task(size=64))
        ProcessGroup(0, 2).synchronize_batch_norm(model.networks, device)
        return {
            type(m) for m in model.networks.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)
        }

    # The networks are on the CPU still: the device decides.
    assert layers(CUDA) == {torch.nn.SyncBatchNorm}
    assert layers(torch.device("cpu")) == {SyncedBatchNorm2d}


def test_gradients_of_several_gpus_are_averaged_in_one_message_and_copied_back_in_one_operator(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[tuple[int, torch.device, Any]] = []
    monkeypatch.setattr(
        distributed, "all_reduce", lambda tensor, op: sent.append((tensor.numel(), tensor.device, op))
    )
    with rehearse_cuda() as trace:
        with trace.during("build"):
            parameters = [torch.nn.Parameter(torch.ones(shape, device=CUDA)) for shape in ((4, 3), (5,), ())]
            for parameter in parameters[:2]:
                parameter.grad = torch.ones_like(parameter)
        with trace.during("average"):
            ProcessGroup(0, 2).average_gradients(parameters)
    assert sent == [(17, CUDA, distributed.ReduceOp.AVG)]
    # NCCL divides, and no gradient is copied by itself; the third parameter has none.
    assert [operator.name for operator in trace.operators["average"]] == ["cat", "_foreach_copy_"]
    assert trace.waits == []


def test_phases_are_all_rehearsed() -> None:
    """The models' phases, so that a new one cannot be missed silently."""
    entry = load_model("glcic")
    phases: list[Phase] = entry.model(entry.config("smoke"), Task(size=64)).phases(Budget(num_steps=9))
    assert [phase.name for phase in phases] == ["completion", "discriminator", "joint"]
