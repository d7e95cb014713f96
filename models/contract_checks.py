"""Check the contract that every model keeps, as far as a model alone can show it.

``bench check-model`` and the tests run :data:`CHECKS` on a small batch. A check takes a freshly built
:class:`ContractCase` and returns a sentence that says what is wrong, or ``None``.

Those named ``DDP`` check in one process what data parallelism relies on.
``torch.nn.parallel.DistributedDataParallel`` gives each process a part of the batch, enters a network through its
``forward`` alone, waits in every step for a gradient of each parameter, averages those, and broadcasts buffers. A model
that passes takes with two processes the step that it takes with one; ``tests/models/test_parallel.py`` shows that with
two real processes.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from models.base import Batch, Box, Budget, Completion, FitData, InpaintingModel, Phase, Task
from models.registry import ModelEntry

#: Relative to a network's largest gradient: a bound on what float32 sums in another order differ by.
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class ContractCase:
    """A freshly built model, and a batch of two random images with the center hole."""

    model: InpaintingModel
    batch: Batch
    phases: list[Phase]


@dataclass(frozen=True)
class CheckResult:
    """The outcome of one check.

    Attributes:
        check: its name.
        problem: what is wrong, or ``None``.
        where: ``file:line`` of the author's code that the problem is about.
        skipped: the check was not run, since an earlier problem would only show again.
    """

    check: str
    problem: str | None
    where: str = ""
    skipped: bool = False

    @property
    def passed(self) -> bool:
        """Whether the check was run and found nothing."""
        return self.problem is None and not self.skipped


def build_case(entry: ModelEntry, size: int, preset: str = "smoke", **changes: Any) -> ContractCase:
    """Build the model at ``size`` with weights from a fixed seed, and fit it if it is a training-free baseline."""
    config = entry.config(preset, **changes)
    entry.model.validate(config, size)
    # Fixed seeds: a check must not pass by luck on one run and fail on the next.
    random = torch.Generator().manual_seed(7)
    box = Box(size // 4, size // 4, size // 2, size // 2)
    mask = torch.zeros(2, 1, size, size)
    mask[:, :, box.top : box.top + box.height, box.left : box.left + box.width] = 1
    # Channels-last as the data loader delivers, so that layers see the strides of a real run.
    image = torch.rand(2, 3, size, size, generator=random).contiguous(memory_format=torch.channels_last)
    task = Task(
        size=size,
        fixed_hole_box=box,
        mean_pixel=(0.5, 0.4, 0.3),
        mean_image=torch.rand(3, size, size, generator=random),
    )
    # Forked, so that a check leaves the caller's random numbers where they were.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = entry.model(config, task)
    if model.needs_fit:
        # Ten images to fit to and two to choose settings on.
        pixels = torch.randint(0, 256, (12, size, size, 3), generator=random, dtype=torch.uint8).numpy()
        holes = mask[:, 0].byte().numpy()
        model.fit(FitData(images=pixels[:10], validation=pixels[10:], validation_masks=holes))
    batch = Batch(image, mask, torch.arange(2), 0, torch.Generator().manual_seed(5))
    return ContractCase(model, batch, model.phases(Budget(num_steps=10)))


def _complete(case: ContractCase, batch: Batch | None = None) -> Completion:
    return case.model.complete(batch or case.batch)


def interface(case: ContractCase) -> str | None:
    """Check that networks, phases, completions and losses have the types that the trainer relies on."""
    networks: Any = case.model.networks
    if not isinstance(networks, nn.ModuleDict):
        return (
            f"self.networks is a {type(networks).__name__}; fill the nn.ModuleDict that the base class makes"
        )
    if case.model.trained and "generator" not in networks:
        return 'self.networks has no "generator"'
    phases: list[Any] = case.phases
    if wrong := [p for p in phases if not isinstance(p, Phase)]:
        return f"phases() returns a list with a {type(wrong[0]).__name__}; give Phase(name=..., num_steps=..., ...)"
    completion: Any = _complete(case)
    if not isinstance(completion, Completion):
        return (
            f"complete() returns a {type(completion).__name__}; "
            "return Completion(raw, composite(batch.image, raw, batch.mask))"
        )
    if completion.raw.shape != case.batch.image.shape:
        return None  # the check of shapes says so; a loss would only fail on it
    for phase in case.phases:
        for network in phase.networks:
            if network not in networks:
                continue  # the check of phases says so
            terms: Any = case.model.loss(network, case.batch, completion, phase)
            if not isinstance(terms, dict) or not all(isinstance(v, Tensor) for v in terms.values()):
                return f'loss() returns a {type(terms).__name__}; return a dict of tensors, {{"loss": ...}}'
            if "loss" not in terms or terms["loss"].ndim != 0:
                return f"loss({network!r}) must return a scalar under the key 'loss'"
    return None


def batch_unchanged(case: ContractCase) -> str | None:
    """Check that neither the forward nor a loss writes into the batch."""
    image, mask = case.batch.image.clone(), case.batch.mask.clone()
    case.model.networks.train()

    def changed(what: str) -> str | None:
        for name, before in (("image", image), ("mask", mask)):
            if not torch.equal(getattr(case.batch, name), before):
                return (
                    f"{what} changes batch.{name} in place (x *= y, x.mul_(y), x[...] = y); write to a copy"
                )
        return None

    completion = _complete(case)
    if problem := changed("complete()"):
        return problem
    for phase in case.phases:
        for network in phase.networks:
            if network in case.model.networks:
                case.model.loss(network, case.batch, completion.detach(), phase)
                if problem := changed(f"loss({network!r})"):
                    return problem
    return None


def finite_loss(case: ContractCase) -> str | None:
    """Check that every term of every loss is finite on an untrained network."""
    case.model.networks.train()
    for phase in case.phases:
        for network in phase.networks:
            if network not in case.model.networks:
                continue
            completion = _complete(case)
            for name, value in case.model.loss(network, case.batch, completion.detach(), phase).items():
                if not torch.isfinite(value).all():
                    return f"loss({network!r}) is not finite in phase {phase.name!r}: {name} is {value.mean().item()}"
    return None


def output_shapes(case: ContractCase) -> str | None:
    """Require raw output and composite in the shape of the image, float32."""
    done = _complete(case)
    for name in ("raw", "composite"):
        value: Tensor = getattr(done, name)
        if value.shape != case.batch.image.shape or value.dtype != torch.float32:
            return (
                f"complete() returns {name} of shape {tuple(value.shape)} and {value.dtype}; "
                f"it must be {tuple(case.batch.image.shape)} and float32"
            )
    return None


def known_pixels(case: ContractCase) -> str | None:
    """Require a composite that equals the image bit for bit where the mask is 0."""
    done, known = _complete(case), case.batch.mask.expand_as(case.batch.image) == 0
    if not torch.equal(done.composite[known], case.batch.image[known]):
        return "the composite changes known pixels; build it with models.base.composite(image, raw, mask)"
    return None


def hole_independence(case: ContractCase) -> str | None:
    """Require an output that does not change with the pixels under the hole."""
    case.model.networks.eval()
    with torch.no_grad():
        first = _complete(case)
        # Inverted, not noise: any dependence shows, and known pixels stay the same bits.
        other = torch.where(case.batch.mask > 0.5, 1 - case.batch.image, case.batch.image)
        second = _complete(case, replace(case.batch, image=other))
    hole = case.batch.mask.expand_as(case.batch.image) > 0.5
    if not torch.equal(first.composite[hole], second.composite[hole]):
        return "the output depends on the pixels under the hole: the network sees the truth that it has to predict"
    return None


def finite_range(case: ContractCase) -> str | None:
    """Require a finite raw output of the order of [0, 1]; a linear output may overshoot, [0, 255] may not."""
    case.model.networks.eval()
    with torch.no_grad():
        raw = _complete(case).raw
    if not torch.isfinite(raw).all():
        return "the raw output is not finite on an untrained network"
    # A linear output layer may overshoot [0, 1] before training; factors of 255 or 127.5 may not.
    if raw.abs().max() > 50:
        low, high = raw.min().item(), raw.max().item()
        return f"the raw output spans {low:.1f} to {high:.1f}; images are in [0, 1], not in [0, 255]"
    return None


def phases_valid(case: ContractCase) -> str | None:
    """Require phases that name existing networks, the generator last; none for a training-free baseline."""
    if case.model.trained != bool(case.phases):
        return "a model with trained = True needs phases, and one with trained = False has none"
    for phase in case.phases:
        unknown = [p for p in phase.networks if p not in case.model.networks]
        if unknown:
            return f"phase {phase.name!r} trains {unknown[0]!r}, which is not in networks"
        if "generator" in phase.networks[:-1]:
            return f"phase {phase.name!r}: the generator must come last, against the updated discriminator"
    # Budgets below, at and above the number of phases, where rounding goes wrong.
    for size in (1, 3, 50):
        steps = [p.num_steps for p in case.model.phases(Budget(num_steps=size))]
        if case.phases and sum(steps) != max(size, len(steps)):
            return f"phases of a budget of {size} steps have {sum(steps)} steps; use budget.split()"
    return None


def gradients_reach_parameters(case: ContractCase) -> str | None:
    """Require a gradient for every parameter of every network in some phase."""
    reached: set[str] = set()
    case.model.networks.train()
    for phase in case.phases:
        for network in phase.networks:
            completion = _complete(case)
            # As in the trainer: a discriminator must not send gradients into the generator.
            seen = completion if network == "generator" else completion.detach()
            terms = case.model.loss(network, case.batch, seen, phase)
            parameters = dict(case.model.networks[network].named_parameters())
            case.model.networks.zero_grad(set_to_none=True)
            # As in the trainer: the generator's loss leaves no gradient in the discriminator.
            terms["loss"].backward(inputs=list(parameters.values()))  # type: ignore[no-untyped-call]
            reached |= {
                f"{network}.{n}" for n, p in parameters.items() if p.grad is not None and p.grad.any()
            }
    every = {n for n, p in case.model.networks.named_parameters() if p.requires_grad}
    missing = sorted(every - reached)
    if missing:
        return f"{len(missing)} parameters never get a gradient, {missing[0]} among them"
    return None


def bfloat16_finite(case: ContractCase) -> str | None:
    """Require a finite loss and a float32 output under bf16 autocast."""
    case.model.networks.train()
    for phase in case.phases:
        for network in phase.networks:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                completion = _complete(case)
                seen = completion if network == "generator" else completion.detach()
                loss = case.model.loss(network, case.batch, seen, phase)["loss"]
            if completion.raw.dtype != torch.float32:
                return f"under bf16 autocast complete() returns {completion.raw.dtype}; end with .float()"
            if not torch.isfinite(loss):
                return f"under bf16 autocast the loss of {network} is not finite in phase {phase.name!r}"
    return None


def repeatable_outputs(case: ContractCase) -> str | None:
    """Require equal outputs of equal batches in evaluation mode, and of each image alone."""
    case.model.networks.eval()
    with torch.no_grad():
        whole, again = _complete(case).composite, _complete(case).composite
        single = torch.cat([_complete(case, part).composite for part in case.batch.split(1)])
    if not torch.equal(whole, again):
        return "two forwards in evaluation mode differ: something is drawn at random"
    # Not bit for bit: kernels sum in another order for another batch size.
    if not torch.allclose(whole, single, atol=1e-4):
        return (
            "an image's completion depends on the others in its batch (batch statistics in evaluation mode?)"
        )
    return None


class _Wrapped(nn.Module):
    """A network of which, as of DistributedDataParallel, nothing but the call is available."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module, self.calls = module, 0

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Count the call and return the network's own result."""
        self.calls += 1
        return self.module(*args, **kwargs)


class _Step(NamedTuple):
    """The update of one network: its gradients by parameter, and whether its loss drew random numbers."""

    phase: str
    network: str
    gradients: dict[str, Tensor | None]
    drew: bool


def networks_are_called(case: ContractCase) -> str | None:
    """Require that a step calls the networks and uses none of their methods, layers or attributes."""
    advice = (
        "processes share gradients only through a call of networks[...]: move that work into its forward()"
    )
    # Like DistributedDataParallel, the wrapper hides everything but the call.
    for name, network in list(case.model.networks.items()):
        case.model.networks[name] = _Wrapped(network)
    try:
        for step in _steps(case):
            network = case.model.networks[step.network]
            assert isinstance(network, _Wrapped)
            if not network.calls:
                return (
                    f"phase {step.phase!r} trains {step.network} without calling "
                    f"networks[{step.network!r}]; {advice}"
                )
            network.calls = 0
    except AttributeError as error:
        return f"a step reaches past a network's forward() ({error}); {advice}"
    return None


def every_parameter_every_step(case: ContractCase) -> str | None:
    """Require a gradient for each parameter of a network in every phase that trains the network."""
    for step in _steps(case):
        idle = [name for name, gradient in step.gradients.items() if gradient is None]
        if idle:
            return (
                f"in phase {step.phase!r} {len(idle)} parameters of {step.network} take no part in the loss, {idle[0]} "
                "among them; other processes would wait for their gradients: set requires_grad = False for them"
            )
    return None


def halves_average_to_the_whole(case: ContractCase) -> str | None:
    """Require that the gradients of the two images average to that of the batch, given running statistics.

    A loss that draws random numbers is exempt: parts may draw them in another order than the whole.
    """
    # Batch statistics of parts differ from those of the whole, which synchronized batch-norm takes care of.
    case.model.networks.eval()
    for whole, *parts in zip(_steps(case), _steps(case, 0), _steps(case, 1), strict=True):
        # A gradient that is tiny beside the others consists of rounding errors,
        # hence one scale for the whole network.
        largest = max((float(g.abs().max()) for g in whole.gradients.values() if g is not None), default=0.0)
        for name, gradient in whole.gradients.items():
            both = [g for part in parts if (g := part.gradients[name]) is not None]
            if gradient is None or len(both) < 2 or whole.drew:
                continue
            if float((torch.stack(both).mean(0) - gradient).abs().max()) > _TOLERANCE * largest:
                return (
                    f"in phase {whole.phase!r} the gradients of parts of a batch do not average to the whole's "
                    f"({whole.network}.{name}): make the loss a mean over images, not a sum or a ratio over the batch"
                )
    return None


def state_is_registered(case: ContractCase) -> str | None:
    """Require that every tensor of a network is a parameter or a buffer."""
    for name, module in case.model.networks.named_modules():
        for attribute, value in vars(module).items():
            # Parameters and buffers lie in dictionaries of their own, so a tensor
            # right among the attributes is neither.
            if isinstance(value, Tensor):
                return (
                    f"{name}.{attribute} is a tensor but neither parameter nor buffer, so that it reaches no device, "
                    "no other process and no checkpoint: use register_buffer()"
                )
    return None


def _steps(case: ContractCase, image: int | None = None) -> Iterator[_Step]:
    """Yield the update of every network in every phase, on the batch or on one of its images."""
    batch = case.batch if image is None else case.batch.split(1)[image]
    for phase in case.phases:
        for network in phase.networks:
            # The same draws for the whole batch and for its parts.
            batch.generator.manual_seed(11)
            before = batch.generator.get_state()
            completion = case.model.complete(batch)
            seen = completion if network == "generator" else completion.detach()
            loss = case.model.loss(network, batch, seen, phase)["loss"]
            named = {n: p for n, p in case.model.networks[network].named_parameters() if p.requires_grad}
            # Not backward(), which would add to .grad from one network to the next.
            gradients = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
            drew = not torch.equal(before, batch.generator.get_state())
            yield _Step(phase.name, network, dict(zip(named, gradients, strict=True)), drew)


#: Name -> check, in the order of running.
CHECKS: dict[str, Callable[[ContractCase], str | None]] = {
    "interface": interface,
    "shapes": output_shapes,
    "batch unchanged": batch_unchanged,
    "finite range": finite_range,
    "known pixels": known_pixels,
    "hole independence": hole_independence,
    "phases": phases_valid,
    "finite loss": finite_loss,
    "gradients": gradients_reach_parameters,
    "bfloat16": bfloat16_finite,
    "repeatable": repeatable_outputs,
    "DDP: networks are called": networks_are_called,
    "DDP: every parameter, every step": every_parameter_every_step,
    "DDP: halves average to the whole": halves_average_to_the_whole,
    "DDP: state is registered": state_is_registered,
}


#: Where one of these fails, the later ones would only repeat it.
_FOUNDATIONS = frozenset({"interface", "batch unchanged", "shapes", "finite range", "phases", "finite loss"})
#: Check -> method of the model that it is about; the others are about ``complete``.
_METHODS = {"phases": "phases", "gradients": "loss", "bfloat16": "loss", "finite loss": "loss"} | {
    name: "loss"
    if "average" in name or "every step" in name
    else "__init__"
    if "registered" in name
    else "complete"
    for name in CHECKS
    if name.startswith("DDP")
}


def run_checks(entry: ModelEntry, size: int, preset: str = "smoke", **changes: Any) -> Iterator[CheckResult]:
    """Run every check on a model of its own, so that none sees the state another left behind.

    One cause is one problem: checks that would meet it again are skipped.
    """
    if missing := sorted(getattr(entry.model, "__abstractmethods__", ())):
        lacks = f"class {entry.model.__name__} has no {'(), '.join(missing)}()"
        yield CheckResult("interface", lacks, source_line(entry.model))
        yield from (CheckResult(name, None, skipped=True) for name in CHECKS if name != "interface")
        return
    broken, places = False, set()
    for name, check in CHECKS.items():
        if broken:
            yield CheckResult(name, None, skipped=True)
            continue
        problem: str | None = None
        where = ""
        try:
            problem = check(build_case(entry, size, preset, **changes))
        except Exception as error:  # a check that raises has found a problem; report the model's own message
            problem, where = f"{type(error).__name__}: {error}".splitlines()[0], failing_line(entry, error)
            # The same line raised in an earlier check.
            if where in places:
                yield CheckResult(name, None, skipped=True)
                continue
            places.add(where)
        if problem and not where:
            where = source_line(_subject(entry, name, problem))
        yield CheckResult(name, problem, where if problem else "")
        broken = problem is not None and name in _FOUNDATIONS


def _subject(entry: ModelEntry, check: str, problem: str) -> Any:
    """Return the method that a problem is about; problems that name one begin with it."""
    method = next((m for m in ("complete", "loss", "phases") if problem.startswith(f"{m}(")), None)
    if problem.startswith("self.networks"):
        method = "__init__"
    return getattr(entry.model, method or _METHODS.get(check, "complete"))


def source_line(code: Any) -> str:
    """``file:line`` where a class or function begins, or ``""`` where that is not known."""
    try:
        return f"{Path(inspect.getsourcefile(code) or '').name}:{inspect.getsourcelines(code)[1]}"
    except (OSError, TypeError):
        return ""


def failing_line(entry: ModelEntry, error: BaseException) -> str:
    """``file:line`` of the innermost frame of ``error`` in the model's own file, or ``""``."""
    try:
        own = Path(inspect.getfile(entry.model)).resolve()
    except (OSError, TypeError):
        return ""
    # An exception may come from deep inside torch; the author can act on the last line of the model itself.
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).resolve() == own]
    return f"{own.name}:{frames[-1].lineno}" if frames else ""
