"""Each of the paper's four can learn: eight faces by heart, above 30 dB in the hole.

Steps and learning rate are each model's own; the threshold is one. GLCIC crops real pictures at random places, where
no completed one is while the hole stays in the centre: its discriminator then judges the place, at once and for good,
and pulls the generator to and fro (24 to 36 dB in two attempts). Here it sees both at the hole.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bench.data.procedural_faces import render_faces
from bench.training.data_loader import TrainingDataLoader
from bench.training.device import select_device
from bench.training.phase_schedule import Intervals, Schedule
from bench.training.trainer import Trainer
from masks import bank
from models import discovery
from models.base import Batch, Box, Budget, OptimizerSpec, Task
from tests.masks.packing import unpack_masks

SIZE, FACES = 64, 8
#: Name -> steps, learning rate of Adam (linear decay to zero), what is changed in its config.
TRAININGS: dict[str, tuple[int, float, dict[str, str]]] = {
    "context-encoder": (400, 1e-3, {}),
    "glcic": (400, 3e-4, {"real_crop": "hole"}),
    "pconv": (1200, 1e-3, {}),
    "mgs-iim": (400, 1e-3, {}),
}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", TRAININGS)
def test_overfits_eight_faces(name: str, tmp_path: Path) -> None:
    num_steps, learning_rate, changes = TRAININGS[name]
    faces = render_faces(list(range(FACES)), SIZE)
    entry, compute = discovery.load_model(name), select_device("cpu")
    quarter = SIZE // 4
    task = Task(size=SIZE, fixed_hole_box=Box(quarter, quarter, SIZE // 2, SIZE // 2))
    torch.manual_seed(0)
    model = entry.model(entry.config("quick", **changes), task)
    model.networks.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    adam = OptimizerSpec(name="adam", learning_rate=learning_rate, betas=(0.5, 0.999), schedule="linear")
    schedule = Schedule(model.phases(Budget(num_steps=num_steps, uniform_optimizer=adam)))
    masks = bank.draw_bank(["center"], 1, SIZE, 0)
    batches = TrainingDataLoader(faces, masks.packed, batch_size=FACES, seed=0, flips=False, compute=compute)
    Trainer(model, schedule, batches, compute, tmp_path, intervals=Intervals(report=50)).train()

    model.networks.eval()
    mask = (
        torch.from_numpy(unpack_masks(masks.packed, SIZE)).float().unsqueeze(1).expand(FACES, 1, SIZE, SIZE)
    )
    image = torch.from_numpy(faces).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        raw = model.complete(Batch(image, mask, torch.arange(FACES), 0, torch.Generator())).composite
    hole = np.s_[:, :, quarter : quarter + SIZE // 2, quarter : quarter + SIZE // 2]
    psnr_db = -10 * (raw.clamp(0, 1) - image)[hole].square().flatten(1).mean(1).log10()
    assert psnr_db.mean() > 30, psnr_db
