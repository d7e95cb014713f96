"""Training batches: pure functions of (seed, position)."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.training.data_loader import Prefetcher, TrainingDataLoader, seeded_permutation
from bench.training.device import Compute

PIXELS = np.random.default_rng(0).integers(0, 256, (7, 8, 8, 3), dtype=np.uint8)
MASKS = np.random.default_rng(1).integers(0, 2, (5, 8, 8), dtype=np.uint8)
PACKED = np.packbits(MASKS.reshape(5, -1), axis=1)


def batches(
    batch_size: int = 4, seed: int = 0, flips: bool = True, resident: bool | None = None
) -> TrainingDataLoader:
    cpu = Compute(torch.device("cpu"), "fp32")
    return TrainingDataLoader(
        PIXELS, PACKED, batch_size=batch_size, seed=seed, flips=flips, compute=cpu, resident=resident
    )


def walk(batch_size: int, images: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    source = batches(batch_size, seed)
    drawn = [source(step) for step in range(images // batch_size)]
    return torch.cat([b.image for b in drawn]), torch.cat([b.mask for b in drawn])


@given(batch_size=st.sampled_from([1, 2, 3, 4, 6, 12]), seed=st.integers(0, 5))
@settings(deadline=None, max_examples=20)
def test_sequence_does_not_depend_on_the_batch_size(batch_size: int, seed: int) -> None:
    image, mask = walk(batch_size, 24, seed)
    expected_image, expected_mask = walk(24, 24, seed)
    assert torch.equal(image, expected_image)
    assert torch.equal(mask, expected_mask)


@given(steps=st.permutations(range(6)))
@settings(deadline=None, max_examples=20)
def test_a_step_does_not_depend_on_the_steps_before(steps: list[int]) -> None:
    ordered, shuffled = batches(), batches()
    expected = {step: ordered(step).image for step in range(6)}
    for step in steps:
        assert torch.equal(shuffled(step).image, expected[step])


def test_an_epoch_shows_every_image_once() -> None:
    source = batches(batch_size=7)
    for epoch in range(3):
        assert sorted(source(epoch).ids.tolist()) == list(range(7))


def test_images_are_the_pixels_and_masks_come_from_the_bank() -> None:
    batch = batches(flips=False)(0)
    expected = torch.from_numpy(PIXELS[batch.ids.numpy()]).permute(0, 3, 1, 2) / 255
    torch.testing.assert_close(batch.image, expected, rtol=0, atol=1e-7)
    assert batch.image.is_contiguous(memory_format=torch.channels_last)
    bank = {m.tobytes() for m in MASKS}
    assert all(m.numpy().astype(np.uint8).tobytes() in bank for m in batch.mask[:, 0])


def test_flips_mirror_about_half() -> None:
    plain, flipped = batches(batch_size=7, flips=False), batches(batch_size=7)
    count = 0
    for step in range(20):
        a, b = plain(step).image, flipped(step).image
        for left, right in zip(a, b, strict=True):
            mirrored = torch.equal(left.flip(-1), right)
            assert mirrored or torch.equal(left, right)
            count += mirrored
    assert 45 < count < 95  # of 140


@pytest.mark.parametrize("count", [1, 2, 50])
def test_permutation_is_one(count: int) -> None:
    assert sorted(seeded_permutation(count, "x", 1).tolist()) == list(range(count))
    assert seeded_permutation(50, "x", 1).tolist() != seeded_permutation(50, "x", 2).tolist()


def test_permutation_golden() -> None:
    assert seeded_permutation(8, "order", 0, 0).tolist() == [3, 0, 5, 4, 1, 6, 2, 7]


@given(steps=st.lists(st.integers(0, 6), min_size=1, max_size=8))
@settings(deadline=None, max_examples=20)
def test_fetched_ahead_or_resident_gives_the_same_batches(steps: list[int]) -> None:
    resident, fetched = batches(resident=True), batches(resident=False)
    for start in steps:  # jumps, as a resumed training makes one, and the steps that follow
        for step in (start, start + 1):
            left, right = resident(step), fetched(step)
            for name in ("image", "mask", "ids"):
                assert torch.equal(getattr(left, name), getattr(right, name)), name
            assert torch.equal(left.generator.get_state(), right.generator.get_state())


def test_the_next_step_is_fetched_while_this_one_is_computed() -> None:
    asked: list[int] = []
    begun = threading.Event()

    def rows(step: int) -> tuple[np.ndarray, ...]:
        asked.append(step)
        if step == 1:
            begun.set()
        return (np.full(2, step),)

    prefetcher = Prefetcher(rows, torch.device("cpu"))
    assert prefetcher(0)[0].tolist() == [0, 0]
    assert begun.wait(timeout=60)  # nobody has asked for step 1 yet
    assert prefetcher(1)[0].tolist() == [1, 1]
    assert asked[:2] == [0, 1]


def test_a_step_that_cannot_be_fetched_says_so_when_it_is_asked_for() -> None:
    def rows(step: int) -> tuple[np.ndarray, ...]:
        if step == 1:
            raise OSError("the pack is gone")
        return (np.zeros(1),)

    prefetcher = Prefetcher(rows, torch.device("cpu"))
    prefetcher(0)
    with pytest.raises(OSError, match="the pack is gone"):
        prefetcher(1)
