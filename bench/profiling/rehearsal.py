"""Rehearse the CUDA path on a machine without a GPU: devices, shapes and operators are real, numbers are not.

:func:`rehearse_cuda` runs any code with fake tensors on device ``cuda``. Mixing devices raises, as it does on a GPU; an
:class:`OperatorTrace` counts operators and notes what would make the host wait for the device. Autograd's C++ engine
needs a CUDA context, so its graph is walked in Python, node by node: the backward formulas are torch's own.

This relies on torch's internals: it is tested with the torch that the project pins, and may fail on another.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch._dynamo.config  # must be imported before torch.cuda is patched
from numpy.typing import NDArray
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from torch.utils.flop_counter import flop_registry

_ROOT = Path(__file__).parents[2]
#: Memory that the rehearsed device claims to have.
REHEARSED_BYTES = 24 * 2**30

#: Operators that read a number of the device, so that the host waits for everything before it.
_READS = {"_local_scalar_dense", "is_nonzero", "nonzero", "equal", "masked_select", "_unique2", "unique_dim"}
#: Operators that neither read nor write memory, besides views.
_FREE = {"empty", "empty_like", "empty_strided", "new_empty", "detach", "alias", "_unsafe_view", "lift_fresh"}


@dataclass(frozen=True)
class Operator:
    """One operator that ran on the rehearsed device.

    Attributes:
        name: torch's name (``convolution_backward``).
        dtype: type of its result.
        flops: floating-point operations, counted for matrix products and convolutions.
        num_bytes: bytes read and written, each tensor once.
    """

    name: str
    dtype: torch.dtype
    flops: float
    num_bytes: float

    @property
    def is_half(self) -> bool:
        """Whether it computes in 16 bits."""
        return self.dtype in (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class HostWait:
    """A place where the host would wait for the device.

    Attributes:
        stage: what was running, as set by :meth:`OperatorTrace.during`.
        reason: the operator or copy.
        location: file and line in this project.
    """

    stage: str
    reason: str
    location: str


class OperatorTrace(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Collects the operators of each stage and the waits of the host."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.stage = "setup"
        self.operators: dict[str, list[Operator]] = defaultdict(list)
        self.waits: list[HostWait] = []

    @contextlib.contextmanager
    def during(self, stage: str) -> Iterator[None]:
        """Attribute what happens inside to ``stage``."""
        before, self.stage = self.stage, stage
        try:
            yield
        finally:
            self.stage = before

    def note_wait(self, reason: str) -> None:
        """Record that the host would wait here."""
        # The line in this project that led to the operator, not the one in torch that ran it.
        frames = reversed(traceback.extract_stack(limit=60))
        ours = ((Path(f.filename), f.lineno) for f in frames if f.filename != __file__)
        file, line = next(((f, n) for f, n in ours if f.is_relative_to(_ROOT)), (_ROOT / "torch", 0))
        location = f"{file.relative_to(_ROOT)}:{line}"
        self.waits.append(HostWait(self.stage, reason, location))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run ``func``, count it, and note whether the host would wait for it."""
        kwargs = kwargs or {}
        if torch.is_inference_mode_enabled() and func.namespace == "aten":
            # Autograd is what usually splits composite operators.
            with self:
                result: Any = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        name = func.overloadpacket.__name__
        inputs = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)]
        on_gpu = any(x.device.type == "cuda" for x in inputs)
        # Noted before it runs, while the stack still shows who asked.
        if name in _READS and on_gpu:
            self.note_wait(name)
        # A number must come back, or the code under rehearsal could not go on.
        if name == "_local_scalar_dense":
            return _plausible_number(inputs[0])
        if name == "_to_copy" and kwargs.get("device") is not None:
            inputs[0].constant = None  # type: ignore[attr-defined]  # or its known value would be copied for real
        on_host = any(x.device.type == "cpu" and x.dim() for x in inputs)
        # Indexing by an index on the host copies it to the device first.
        if name in ("index", "index_put", "index_put_") and on_gpu and on_host:
            self.note_wait(f"{name} with an index on the host")
        result = None
        # Fused optimizers have no fake implementation: their arguments are checked, and nothing is computed.
        if name.startswith("_fused_"):
            _check_fused(name, inputs)
        else:
            result = func(*args, **kwargs)
        outputs = [x for x in tree_flatten(result)[0] if isinstance(x, Tensor)]
        if name in ("_to_copy", "copy_"):
            self._note_copy(name, args, kwargs, outputs)
        # A read returns nothing on the device, but it did run there.
        if any(x.device.type == "cuda" for x in outputs) or (on_gpu and not outputs):
            self._count(func, name, args, kwargs, inputs, outputs, result)
        return result

    def _note_copy(self, name: str, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
        source, target = (args[0], outputs[0]) if name == "_to_copy" else (args[1], args[0])
        if not isinstance(source, Tensor) or source.device.type == target.device.type:
            return
        waits_not = kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2])
        if target.device.type == "cpu":
            # A copy to pageable memory waits, whatever was asked for.
            self.note_wait("copy to the host")
        elif not (waits_not and getattr(source, "_rehearsed_pinned", False)):
            self.note_wait("copy from pageable memory")

    def _count(
        self,
        func: Any,
        name: str,
        args: Any,
        kwargs: Any,
        inputs: list[Tensor],
        outputs: list[Tensor],
        result: Any,
    ) -> None:
        # Views and allocations launch no kernel, and move no bytes.
        returns = func._schema.returns
        is_view = bool(returns) and all(
            r.alias_info is not None and not r.alias_info.is_write for r in returns
        )
        if is_view or name in _FREE or func.namespace == "prim":
            return
        count_flops = flop_registry.get(func.overloadpacket)
        flops = float(count_flops(*args, **kwargs, out_val=result)) if count_flops else 0.0
        # By identity, so that a tensor that is read and written in place counts once.
        tensors = {id(x): x for x in [*inputs, *outputs]}.values()
        num_bytes = sum(x.numel() * x.element_size() for x in tensors)
        dtype = (outputs or inputs)[0].dtype
        self.operators[self.stage].append(Operator(name, dtype, flops, float(num_bytes)))


@contextlib.contextmanager
def rehearse_cuda() -> Iterator[OperatorTrace]:
    """Run the code inside with fake tensors, a pretended CUDA device and Python's own backward.

    >>> with rehearse_cuda() as trace:
    ...     weight = torch.ones(4, 4, device="cuda", requires_grad=True)
    ...     (weight @ weight).sum().backward()
    >>> weight.grad.device.type, trace.waits
    ('cuda', [])
    """
    trace = OperatorTrace()
    with contextlib.ExitStack() as stack:
        # Entered first: it prepares device guards for a machine without a GPU.
        stack.enter_context(FakeTensorMode())
        # Patched after the fake mode is entered and undone before it is left, in reverse.
        for owner, name, value in _replacements(trace):
            stack.enter_context(mock.patch.object(owner, name, value))
        stack.enter_context(trace)
        yield trace


def _replacements(trace: OperatorTrace) -> list[tuple[Any, str, Any]]:
    """List what of torch asks for a driver, and what stands for it: (owner, name, value)."""
    from bench.training import data_loader

    def synchronize(device: object = None) -> None:
        trace.note_wait("synchronize")

    cuda = torch.cuda
    return [
        (torch.cuda.amp.common, "amp_definitely_not_available", lambda: False),
        (cuda, "is_available", lambda: True),
        (cuda, "device_count", lambda: 1),
        (cuda, "current_device", lambda: 0),
        (cuda, "set_device", lambda device: None),
        (cuda, "is_bf16_supported", lambda including_emulation=True: True),
        (cuda, "get_device_name", lambda device=None: "rehearsed CUDA device"),
        (cuda, "get_device_capability", lambda device=None: (8, 0)),
        (cuda, "mem_get_info", lambda device=None: (REHEARSED_BYTES, REHEARSED_BYTES)),
        (cuda, "memory_reserved", lambda device=None: 0),
        (cuda, "max_memory_allocated", lambda device=None: 0),
        (cuda, "reset_peak_memory_stats", lambda device=None: None),
        (cuda, "empty_cache", lambda: None),
        (cuda, "synchronize", synchronize),
        (cuda, "Stream", _Stream),
        (cuda, "current_stream", _Stream),
        (cuda, "stream", lambda stream: contextlib.nullcontext()),
        # A thread has its own dispatch modes; the rehearsal keeps to one.
        (data_loader, "ThreadPoolExecutor", _SameThread),
        (Tensor, "pin_memory", _pin_memory),
        (Tensor, "record_stream", lambda self, stream: None),
        (Tensor, "numpy", _numpy),
        (Tensor, "backward", _tensor_backward),
        (torch.autograd, "grad", _grad),
        (nn.Module, "_apply", _apply),
    ]


def _check_fused(name: str, inputs: list[Tensor]) -> None:
    """Stand for a fused optimizer step, which torch cannot fake: it changes its arguments, all on one device."""
    devices = {str(x.device) for x in inputs}
    if len(devices) > 1:
        raise RuntimeError(f"{name}: tensors on {' and '.join(sorted(devices))}")


def _plausible_number(tensor: Tensor) -> Any:
    """Return what a read gives: a finite loss, a true condition, the step -1 of "no loss that is not finite"."""
    known = getattr(tensor, "constant", None)
    if known is not None:
        return known.item()
    if tensor.dtype == torch.bool:
        return True
    return 0.5 if tensor.dtype.is_floating_point else -1


class _Stream:
    """Stands for :class:`torch.cuda.Stream` and its events."""

    def __init__(self, device: object = None) -> None:
        pass

    def record_event(self) -> _Stream:
        return self

    def wait_event(self, event: object) -> None:
        pass


class _SameThread:
    """Stands for a thread pool; runs what is submitted at once."""

    def __init__(self, workers: int, name: str) -> None:
        pass

    def submit(self, call: Callable[..., Any], *args: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(call(*args))
        return future


def _pin_memory(self: Tensor, device: object = None) -> Tensor:
    # A view, so that the mark is on this tensor alone.
    pinned = self.view_as(self)
    pinned._rehearsed_pinned = True  # type: ignore[attr-defined]
    return pinned


def _numpy(self: Tensor, *, force: bool = False) -> NDArray[Any]:
    if self.device.type == "cuda" and not force:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")
    # Zeros of the right kind, since a fake tensor has no memory to look into.
    return np.zeros(self.shape, str(self.dtype).removeprefix("torch."))


def _apply(self: nn.Module, call: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """Replace parameters instead of changing them in place, which fake tensors do not allow."""
    for child in self.children() if recurse else ():
        child._apply(call)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        for name, parameter in self._parameters.items():
            if parameter is not None:
                self._parameters[name] = nn.Parameter(call(parameter), parameter.requires_grad)
        for name, buffer in self._buffers.items():
            if buffer is not None:
                self._buffers[name] = call(buffer)
    return self


def _tensor_backward(self: Tensor, gradient: Tensor | None = None, **options: Any) -> None:
    """Stand for :meth:`torch.Tensor.backward`."""
    # Without inputs, gradients go to every leaf, as in torch.
    inputs: Sequence[Tensor] = options.get("inputs") or _leaves(self)
    for tensor, gradient in zip(inputs, _walk_backward([self], inputs, create_graph=False), strict=True):
        if gradient is not None:
            tensor.grad = gradient if tensor.grad is None else tensor.grad + gradient


def _leaves(root: Tensor) -> list[Tensor]:
    """Return the tensors at which the graph of ``root`` ends."""
    seen, stack = set(), [torch.autograd.graph.get_gradient_edge(root).node]
    while stack:
        node = stack.pop()
        if node is not None and node not in seen:
            seen.add(node)
            stack += [following for following, _ in node.next_functions if following is not None]
    return [node.variable for node in seen if hasattr(node, "variable")]


def _grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: object = None,
    *,
    create_graph: bool = False,
    **options: object,
) -> tuple[Tensor | None, ...]:
    """Stand for :func:`torch.autograd.grad`."""
    roots = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    return tuple(
        _walk_backward(roots, [inputs] if isinstance(inputs, Tensor) else inputs, create_graph=create_graph)
    )


def _walk_backward(
    roots: Sequence[Tensor], inputs: Sequence[Tensor], *, create_graph: bool
) -> list[Tensor | None]:
    """Return the gradients of the sum of ``roots``, by calling autograd's nodes in the engine's order."""
    edge = torch.autograd.graph.get_gradient_edge
    targets: list[tuple[Any, int]] = [(e.node, e.output_nr) for e in map(edge, inputs)]
    starts: list[tuple[Any, int]] = [(e.node, e.output_nr) for e in map(edge, roots)]
    # Only nodes on the way to an input are run, as the engine does for backward(inputs=...).
    needed = _nodes_leading_to({node for node, _ in targets}, [node for node, _ in starts])
    waiting_for: dict[Any, int] = defaultdict(int)
    for node in needed:
        for following, _ in node.next_functions:
            if following in needed:
                # A node runs when all gradients that flow into it have arrived.
                waiting_for[following] += 1
    arriving: dict[Any, dict[int, Tensor]] = defaultdict(dict)
    for (node, slot), root in zip(starts, roots, strict=True):
        arriving[node][slot] = torch.ones_like(root)
    order = itertools.count()
    # A root to which other roots lead must wait for them.
    ready: list[tuple[int, int, Any]] = [
        (0, next(order), node) for node in {node for node, _ in starts} if not waiting_for[node]
    ]
    # With create_graph, the formulas are recorded themselves: gradient penalties differentiate them again.
    with torch.set_grad_enabled(create_graph):
        while ready:
            _, _, node = heapq.heappop(ready)
            # An input's own node is where the walk ends.
            if not any(following in needed for following, _ in node.next_functions):
                continue
            gradients = _call(node, arriving[node])
            for (following, slot), gradient in zip(node.next_functions, gradients, strict=True):
                if following not in needed:
                    continue
                if gradient is not None:
                    gradient, sums = _fit(gradient, following, slot), arriving[following]
                    sums[slot] = sums[slot] + gradient if slot in sums else gradient
                # Also where no gradient came: otherwise the node would wait for it forever.
                waiting_for[following] -= 1
                if not waiting_for[following]:
                    # The engine runs the latest forward operator first.
                    heapq.heappush(ready, (-following._sequence_nr(), next(order), following))
    return [arriving[node].get(slot) for node, slot in targets]


def _fit(gradient: Tensor, node: Any, slot: int) -> Tensor:
    """Give a gradient the shape and type that ``node`` expects, as the engine does; refuse another device."""
    if slot >= len(expected := getattr(node, "_input_metadata", ())):
        return gradient
    if gradient.device.type != expected[slot].device.type:
        raise RuntimeError(f"a gradient on {gradient.device} for {node.name()} on {expected[slot].device}")
    # Broadcasting in the forward is undone by a sum, which the engine does between nodes.
    if gradient.shape != expected[slot].shape:
        gradient = gradient.sum_to_size(expected[slot].shape)
    return gradient if gradient.dtype == expected[slot].dtype else gradient.to(expected[slot].dtype)


def _nodes_leading_to(targets: set[Any], starts: list[Any]) -> set[Any]:
    """Return the nodes on a path from ``starts`` to ``targets``."""
    leads: dict[Any, bool] = {}
    # With a stack of its own: graphs of deep networks exceed Python's limit for recursion.
    stack = [(node, False) for node in starts]
    while stack:
        node, expanded = stack.pop()
        following = [n for n, _ in node.next_functions if n is not None]
        # Second visit: everything that follows has been decided.
        if expanded:
            leads[node] = node in targets or any(leads.get(n, False) for n in following)
        elif node not in leads:
            leads[node] = False
            stack.append((node, True))
            stack += [(n, False) for n in following if n not in leads]
    return {node for node, lead in leads.items() if lead}


def _call(node: Any, arriving: dict[int, Tensor]) -> tuple[Tensor | None, ...]:
    """Run one backward formula; a slot without a gradient is ``None``, as the engine has it."""
    metadata = getattr(node, "_input_metadata", ())
    slots = [arriving.get(i) for i in range(max([len(metadata), *(i + 1 for i in arriving)]))]
    # A function written in Python has no call of its own from Python; the engine would materialize its gradients.
    in_python = isinstance(node, torch.autograd.function.BackwardCFunction)
    result: Any = node.apply(*slots) if in_python else node(*slots)
    return result if isinstance(result, tuple) else (result,)
