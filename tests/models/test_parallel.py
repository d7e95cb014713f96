"""What models.contract_checks shows in one process holds in two: DistributedDataParallel over gloo."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing
from torch.nn.parallel import DistributedDataParallel

from models.contract_checks import ContractCase, build_case
from models.discovery import load_model


def _gradients(case: ContractCase, part: int | None) -> dict[str, torch.Tensor]:
    """Of MGS-IIM's first two phases, on the batch or one of its images, wrapped where a part is given."""
    networks, gradients = case.model.networks.eval(), {}
    batch = case.batch if part is None else case.batch.split(1)[part]
    for phase in case.phases[:2]:
        (network,) = phase.networks
        plain = networks[network]
        if part is not None:
            networks[network] = DistributedDataParallel(plain)
        completion = case.model.complete(batch)
        seen = completion if network == "generator" else completion.detach()
        case.model.loss(network, batch, seen, phase)["loss"].backward()
        networks[network] = plain
        gradients |= {
            f"{network}.{n}": p.grad.clone() for n, p in plain.named_parameters() if p.grad is not None
        }
        networks.zero_grad(set_to_none=True)
    return gradients


def _worker(rank: int, meeting: str, results: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    gradients = _gradients(build_case(load_model("mgs-iim"), 64), rank)
    if rank == 0:
        torch.save(gradients, results)
    distributed.barrier()
    distributed.destroy_process_group()
    # Gloo's threads now and then abort the interpreter's own way out, long after the answer is kept.
    os._exit(0)


@pytest.mark.long
def test_two_processes_make_the_gradients_of_one(tmp_path: Path) -> None:
    results = tmp_path / "gradients.pt"
    multiprocessing.spawn(_worker, args=(str(tmp_path / "meeting"), str(results)), nprocs=2)  # type: ignore[no-untyped-call]
    shared, alone = (
        torch.load(results, weights_only=True),
        _gradients(build_case(load_model("mgs-iim"), 64), None),
    )
    assert shared.keys() == alone.keys()
    assert {name.split(".")[0] for name in alone} == {"generator", "discriminator"}
    for name, gradient in alone.items():
        torch.testing.assert_close(shared[name], gradient, rtol=1e-3, atol=1e-6)
