"""How hard each term of a trained model's losses pulls at its generator, and whether it pulls towards less error.

    python benchmarks/loss_terms.py runs/EXPERIMENT/trainings/TRAINING --data PATH/TO/celeba [--images 16]

For each term: its value, its weight in the loss, the norm of its weighted gradient with respect to the generator's
weights as a share of the sum over all terms, and the cosine of that gradient with the gradient of the squared error
inside the hole, which is what PSNR of the composite measures (1: the same direction; 0: indifferent; below: against).
float32, networks in training mode, training images, center hole; the finished weights.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch

from bench.data.dataset import DataSpec
from bench.data.open_dataset import open_data
from bench.training import checkpoint
from masks.registry import draw_masks
from models import discovery
from models.base import Batch, Box, Budget, Task
from models.losses import mse_over_weights
from models.pretrained import restore_fields


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("training", type=Path, help="folder of a finished training")
    parser.add_argument("--data", required=True)
    parser.add_argument("--images", type=int, default=16)
    options = parser.parse_args()

    record = json.loads((options.training / "config.json").read_text(encoding="utf-8"))
    about = record["task"]
    box = about["fixed_hole_box"]
    task = Task(
        size=about["size"],
        fixed_hole_box=Box(*box) if box else None,
        mean_pixel=tuple(about["mean_pixel"]),
    )
    entry = discovery.load_model(record["model"])
    config = entry.model.Config(**restore_fields(record["config"]))
    model = entry.model(config, task)
    state = checkpoint.newest_checkpoint(options.training)
    assert state is not None, "no checkpoint"
    model.networks.load_state_dict(state["networks"])
    # As while training: batch-norm with the statistics of the batch.
    model.networks.train()

    data = open_data(DataSpec(source=options.data, size=task.size))
    pixels = torch.from_numpy(data.train.pixels[: options.images].copy())
    image = pixels.permute(0, 3, 1, 2).float() / 255
    mask = torch.from_numpy(draw_masks("center", [str(i) for i in range(len(image))], task.size)).float()
    batch = Batch(
        image, mask.view(-1, 1, task.size, task.size), torch.arange(len(image)), 0, torch.Generator()
    )

    weights = [w for w in model.networks["generator"].parameters() if w.requires_grad]
    # The last phase, in which every term is there.
    phase = model.phases(Budget(num_steps=100))[-1]
    completion = model.complete(batch)
    terms = dict(model.loss("generator", batch, completion, replace(phase)))
    loss = terms.pop("loss")

    def pull(value: torch.Tensor) -> torch.Tensor:
        # The graph is kept, since all terms share one forward.
        found = torch.autograd.grad(value, weights, retain_graph=True, allow_unused=True)
        # A term that does not reach a weight pulls at it with zero.
        return torch.cat(
            [(torch.zeros_like(w) if g is None else g).flatten() for g, w in zip(found, weights, strict=True)]
        )

    error = pull(mse_over_weights(completion.raw, image, batch.mask))
    pulls = {}
    for name, value in terms.items():
        # The loss is linear in its terms, so its derivative is the weight.
        # Terms that are only logged have none.
        (weight,) = torch.autograd.grad(loss, value, retain_graph=True, allow_unused=True)
        pulls[name] = (value.item(), 0.0 if weight is None else weight.item(), pull(value))
    total = sum(abs(weight) * float(g.norm()) for _, weight, g in pulls.values())
    print("| term | value | weight | share of the pull | cosine with squared error |")
    print("| :-- | --: | --: | --: | --: |")
    for name, (value, weight, gradient) in pulls.items():
        share = abs(weight) * float(gradient.norm()) / total
        cosine = torch.nn.functional.cosine_similarity(gradient, error, dim=0).item()
        print(f"| {name} | {value:.4f} | {weight:g} | {share:.0%} | {cosine:+.2f} |")


if __name__ == "__main__":
    main()
