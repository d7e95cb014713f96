"""Ridge regression from the known pixels to the hole: the best linear prediction, in closed form.

Not from a paper: Hoerl and Kennard, "Ridge Regression", Technometrics 1970, and Saunders et al., "Ridge Regression
Learning Algorithm in Dual Variables", ICML 1998, applied to inpainting. A network that does not clear this baseline has
learnt nothing that is not linear.

With training images as rows, ``X`` (known pixels) and ``Y`` (hole), both less their means, an image ``x`` gets

    ``y = mean(Y) + (x - mean(X)) (X'X + lambda I)^-1 X'Y``       (primal: one equation per known value)
    ``  = mean(Y) + (x - mean(X)) X' (XX' + lambda I)^-1 Y``      (kernel: one equation per training image)

which are the same numbers.

* A fixed hole (:attr:`models.base.Task.fixed_hole_box`): one Cholesky factorization of the smaller of the two systems.
* A hole that changes from image to image: the kernel over the known pixels is the kernel over all pixels minus that
  over the hole, and each image has a factorization of its own.

| what | choices | here | field |
|---|---|---|---|
| training images, fixed hole | more are better, memory and time grow | 12,000; 2,000 in preset quick | ``images`` |
| training images, changing hole | one factorization an image | 1,600; 800 in preset quick | ``images_per_mask`` |
| lambda | 300 at 64 px in a trial | best on validation images of a grid, scaled by the pixels | ``ridge`` |
| images for that choice | | 500 of the validation split; 50 where the hole changes | ``validation_images``, \
``validation_images_per_mask`` |
| memory | | images are left out beyond 4 GiB | ``memory_gib`` |
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.base import Ambiguity, FitCost, FitData, Task
from models.classical import TrainingFreeBaseline
from models.config_fields import check_fields
from models.errors import ModelError
from models.registry import register

#: The side of the images for which the grid of lambdas is written; others scale it by their number of pixels.
REFERENCE_SIZE = 64
#: Values converted to float32 at a time: 128 MB.
_CHUNK_VALUES = 2**25
#: Rows of a symmetric product computed at a time, so that little of its upper triangle is.
_BLOCK_ROWS = 1024


@dataclass(frozen=True, kw_only=True)
class LinearConfig:
    """Options of the linear baseline; see the table at the head of this file.

    Attributes:
        images: training images at most, where the hole is fixed.
        images_per_mask: training images at most, where the hole changes from image to image.
        ridge: lambdas to choose from, for images of 64 pixels; multiplied by ``(size / 64)^2``.
        validation_images: images at most on which lambda is chosen, where the hole is fixed.
        validation_images_per_mask: the same where the hole changes.
        memory_gib: bound on the memory in use; fewer training images are taken where it would not do.
    """

    images: int = 12_000
    images_per_mask: int = 1_600
    ridge: tuple[float, ...] = (30.0, 100.0, 300.0, 1000.0, 3000.0)
    validation_images: int = 500
    validation_images_per_mask: int = 50
    memory_gib: float = 4.0

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("images", "images_per_mask", "validation_images", "validation_images_per_mask"):
            if getattr(self, name) < 2:
                raise ValueError(f"{name} must be at least 2, not {getattr(self, name)}")
        if not self.ridge or not all(0 < value < math.inf for value in self.ridge):
            raise ValueError(f"ridge must be one or more positive numbers, not {self.ridge}")
        if self.memory_gib <= 0:
            raise ValueError(f"memory_gib must be positive, not {self.memory_gib}")


@dataclass(frozen=True, kw_only=True)
class Solve:
    """The size of a fit, decided before anything is computed.

    Attributes:
        kind: ``primal``, ``kernel``, or ``kernel per image``.
        images: training images.
        values: values of an image, three a pixel.
        hole: of these, values in the hole; half of all where the hole changes.
        memory_bytes: largest memory in use.
    """

    kind: str
    images: int
    values: int
    hole: int
    memory_bytes: float


def plan_solve(config: LinearConfig, task: Task, num_images: int) -> Solve:
    """Choose the system to solve, and as many of ``num_images`` training images as fit into the memory.

    >>> from models.base import Box
    >>> task = Task(size=64, fixed_hole_box=Box(16, 16, 32, 32))
    >>> [plan_solve(LinearConfig(), task, count).kind for count in (1_600, 162_770)]
    ['kernel', 'primal']
    >>> plan_solve(LinearConfig(), Task(size=64), 162_770).images
    1600
    """
    values = 3 * task.size**2
    box = task.fixed_hole_box
    images = min(num_images, config.images_per_mask if box is None else config.images)

    def solve(images: int) -> Solve:
        if box is None:
            # All values in float32, the kernel, the one of the known pixels, its factor and a copy, the hole's values.
            memory = 4.0 * (images * values * 3 / 2 + 4 * images**2) + 8 * _CHUNK_VALUES
            return Solve(
                kind="kernel per image", images=images, values=values, hole=values // 2, memory_bytes=memory
            )
        hole = 3 * box.height * box.width
        known = values - hole
        # The system and its factor, bytes of the images, two chunks; the primal form also holds X'Y.
        primal = known < images
        memory = 8.0 * min(known, images) ** 2 + images * values + 8 * _CHUNK_VALUES
        memory += 4.0 * known * hole if primal else 0.0
        return Solve(
            kind="primal" if primal else "kernel",
            images=images,
            values=values,
            hole=hole,
            memory_bytes=memory,
        )

    while images > 2 and solve(images).memory_bytes > config.memory_gib * 2**30:
        # By steps, because the memory may fall by a jump where the solve changes from primal to kernel.
        images = max(2, images * 9 // 10)
    return solve(images)


@register(
    "linear",
    label="Linear (ridge)",
    summary="ridge regression from the known pixels to the hole, in closed form: the bar for every trained model",
    paper="Hoerl and Kennard, Technometrics 1970, https://doi.org/10.1080/00401706.1970.10488634",
    groups=("untrained",),
)
class Linear(TrainingFreeBaseline):
    """The linear prediction of the hole from the known pixels; see the head of this file."""

    Config: ClassVar[type] = LinearConfig
    config: LinearConfig
    needs_fit = True
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {"images": 256, "images_per_mask": 64, "validation_images_per_mask": 4},
        "quick": {"images": 2_000, "images_per_mask": 800, "validation_images_per_mask": 20},
    }
    ambiguities: ClassVar[tuple[Ambiguity, ...]] = (
        Ambiguity(
            topic="training images",
            published="as many as there are",
            resolved="12,000 for a fixed hole, 1,600 for one that changes; 2,000 and 800 in preset quick",
            field="images, images_per_mask",
        ),
        Ambiguity(
            topic="lambda",
            published="chosen by cross-validation",
            resolved="the best mean PSNR on validation images among 30 to 3,000 at 64 px, scaled by the pixels",
            field="ridge, validation_images, validation_images_per_mask",
        ),
    )

    def __init__(self, config: LinearConfig, task: Task) -> None:
        super().__init__(config, task)
        self._complete: Callable[[Tensor, Tensor], Tensor] | None = None

    @classmethod
    def fit_cost(cls, config: LinearConfig, task: Task, num_images: int) -> FitCost:
        """Count the products and factorizations of the fit, and of one completion."""
        solve = plan_solve(config, task, num_images)
        n, known, grid = solve.images, solve.values - solve.hole, len(config.ridge)
        per_image = 2.0 * n * (known + solve.hole)
        if solve.kind == "kernel per image":
            product, factor = 1.0 * n * n * solve.hole, n**3 / 3
            flops = 1.0 * n * n * solve.values + config.validation_images_per_mask * (product + grid * factor)
            per_image += product + factor
        else:
            side = min(n, known)
            flops = 1.0 * side * side * max(n, known) + grid * side**3 / 3
            flops += grid * config.validation_images * 2.0 * side * (side + solve.hole)
            if solve.kind == "primal":
                flops += 2.0 * known * solve.hole * (n + known)
                per_image = 2.0 * known * solve.hole
            else:
                per_image += 2.0 * side * side
        note = (
            f"{n:,} training images, {solve.kind} solve of {min(n, known):,} equations, "
            f"about {solve.memory_bytes / 2**30:.1f} GiB of memory"
        )
        return FitCost(flops=flops, flops_per_image=per_image, memory_bytes=solve.memory_bytes, note=note)

    def fit(self, data: FitData, chosen: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Factorize the system and choose lambda on the validation images.

        Returns:
            Number of images, kind of solve, the chosen lambda, the mean PSNR of each on how many images, and for a
            fixed hole the mean PSNR by number of training images.
        """
        solve = plan_solve(self.config, self.task, len(data.images))
        if solve.images < 2:
            raise ModelError("linear needs at least two training images")
        # Both forms share their eigenvalues, which are sums over pixels:
        # lambda grows with the number of pixels.
        scale = (self.task.size / REFERENCE_SIZE) ** 2
        grid = [value * scale for value in self.config.ridge] if chosen is None else [chosen["ridge"]]
        pixels = data.images[: solve.images].reshape(solve.images, -1)
        with torch.no_grad(), torch.autocast(data.device.type, enabled=False):
            if self.task.fixed_hole_box is None:
                system: FixedHoleRidge | ChangingHoleRidge = ChangingHoleRidge(pixels, data.device)
                count = self.config.validation_images_per_mask
            else:
                system = FixedHoleRidge(
                    pixels, self._fixed_hole(), primal=solve.kind == "primal", device=data.device
                )
                count = self.config.validation_images
            record = {"images": solve.images, "solve": solve.kind}
            if chosen is not None:
                # An earlier fit for the same key has chosen: a later one must not choose
                # otherwise, whatever the device rounds to.
                record = dict(chosen)
                best = grid[0]
            else:
                validation, holes = data.validation[:count], data.validation_masks[:count]
                best, scores = _choose_ridge(system, grid, validation, holes, data.device)
                record |= {
                    "ridge": best,
                    "validation_psnr_db": {f"{ridge:g}": round(score, 4) for ridge, score in scores.items()},
                    "validation_images": len(validation),
                }
                if scores and isinstance(system, FixedHoleRidge):
                    curve = self._learning_curve(pixels, grid, validation, holes, data.device)
                    record["validation_psnr_db_by_images"] = curve | {str(solve.images): scores[best]}
            system.factorize(best)
            system.finish()
        self._complete = system.predict
        return record

    def _learning_curve(
        self,
        pixels: NDArray[np.uint8],
        grid: Sequence[float],
        validation: NDArray[np.uint8],
        holes: NDArray[np.uint8],
        device: torch.device,
    ) -> dict[str, float]:
        """Return the validation PSNR (dB) of fits to a sixteenth and a quarter of the images, by their number.

        A report shows it beside the learning curves of the networks. It costs a tenth of the fit itself.
        """
        curve = {}
        hole = self._fixed_hole()
        for part in (16, 4):
            count = len(pixels) // part
            if count >= 16:
                system = FixedHoleRidge(
                    pixels[:count], hole, primal=3 * int((~hole).sum()) < count, device=device
                )
                _, scores = _choose_ridge(system, grid, validation, holes, device)
                curve[str(count)] = max(scores.values())
        return curve

    def fill(self, image: Tensor, mask: Tensor) -> Tensor:
        """Predict the hole; known pixels are returned as they are.

        Raises:
            ModelError: the baseline was not fitted, or was fitted to another fixed hole.
        """
        if self._complete is None:
            raise ModelError("linear must be fitted to training images before it can complete an image")
        holes = mask[:, 0] > 0.5
        if self.task.fixed_hole_box is not None:
            expected = torch.from_numpy(self._fixed_hole()).to(mask.device)
            if not bool((holes.flatten(1) == expected).all()):
                raise ModelError("linear was fitted to one fixed hole and cannot complete another")
        with torch.autocast(image.device.type, enabled=False):
            # Channels last, as the training images are stored.
            rows = image.float().permute(0, 2, 3, 1).flatten(1)
            # Zeroed, so that the prediction cannot depend on the truth even by mistake.
            rows = torch.where(holes.flatten(1).repeat_interleave(3, 1), 0.0, rows)
            filled = self._complete(rows, holes.flatten(1))
        return filled.view(len(image), *image.shape[2:], 3).permute(0, 3, 1, 2).contiguous()

    def _fixed_hole(self) -> NDArray[np.bool_]:
        """Return the fixed hole as ``(S * S,)`` booleans."""
        box = self.task.fixed_hole_box
        assert box is not None
        hole = np.zeros((self.task.size, self.task.size), dtype=bool)
        hole[box.top : box.top + box.height, box.left : box.left + box.width] = True
        return hole.ravel()


class FixedHoleRidge:
    """Ridge regression for one hole: one system, primal or kernel, for all images.

    Args:
        pixels: ``(n, V)`` uint8 training images.
        hole: ``(V / 3,)`` booleans, true in the hole.
        primal: solve one equation per known value rather than one per training image.
        device: where to compute.
    """

    def __init__(
        self, pixels: NDArray[np.uint8], hole: NDArray[np.bool_], *, primal: bool, device: torch.device
    ) -> None:
        inside = np.repeat(hole, 3)
        self.known_columns, self.hole_columns = np.flatnonzero(~inside), np.flatnonzero(inside)
        self.primal, self.factor, self.map = primal, torch.empty(0), torch.empty(0)
        mean = _mean(pixels, device)
        self.known_mean, self.hole_mean = mean[self.known_columns], mean[self.hole_columns]
        # Bytes, converted in pieces: float32 would take four times the memory.
        self.known = torch.from_numpy(pixels[:, self.known_columns]).to(device)
        self.hole = torch.from_numpy(pixels[:, self.hole_columns]).to(device)
        side = self.known.shape[1] if primal else len(pixels)
        self.system = torch.zeros(side, side, device=device)
        if primal:
            self.products = torch.zeros(side, len(self.hole_columns), device=device)
            for rows in _pieces(len(pixels), pixels.shape[1]):
                known = _centered(self.known[rows], self.known_mean).T.contiguous()
                _add_gram(self.system, known)
                self.products.addmm_(known, _centered(self.hole[rows], self.hole_mean))
        else:
            for columns in _pieces(self.known.shape[1], len(pixels)):
                _add_gram(self.system, _centered(self.known[:, columns], self.known_mean[columns]))

    def factorize(self, ridge: float) -> None:
        """Factorize the system plus ``ridge`` times the identity."""
        self.factor = torch.empty(0)  # free the previous one first
        self.factor = _cholesky(self.system, ridge)

    def finish(self) -> None:
        """Turn the factorization into what completes images fastest, and free what that does not need."""
        if self.primal:
            # One product an image from here on, instead of a solve. In the kernel form the map would be
            # larger than the images it comes from.
            self.map = torch.cholesky_solve(self.products, self.factor)
            self.factor = self.products = torch.empty(0)
            self.known = self.hole = torch.empty(0, dtype=torch.uint8)
        self.system = torch.empty(0)

    def predict(self, images: Tensor, holes: Tensor) -> Tensor:
        """Map ``(N, V)`` images in [0, 1] to the same with the hole predicted; ``holes`` is not looked at."""
        known = images[:, self.known_columns] - self.known_mean
        # finish() has made the map. While lambda is being chosen there is
        # none, since each would be used once.
        if len(self.map):
            hole = known @ self.map
        elif self.primal:
            hole = torch.cholesky_solve(known.T, self.factor).T @ self.products
        else:
            pieces = _pieces(len(self.known), self.known.shape[1])
            similarity = [_centered(self.known[rows], self.known_mean) @ known.T for rows in pieces]
            weights = torch.cholesky_solve(torch.cat(similarity), self.factor)
            hole = images.new_zeros(len(images), len(self.hole_columns))
            for rows in pieces:
                hole.addmm_(weights[rows].T, _centered(self.hole[rows], self.hole_mean))
        result = images.clone()
        result[:, self.hole_columns] = hole + self.hole_mean
        return result


class ChangingHoleRidge:
    """Ridge regression for a hole of its own in every image: one kernel, of which each image's hole is subtracted.

    Args:
        pixels: ``(n, V)`` uint8 training images.
        device: where to compute.
    """

    def __init__(self, pixels: NDArray[np.uint8], device: torch.device) -> None:
        self.mean = _mean(pixels, device)
        self.rows = _centered(_copy(pixels).to(device), self.mean)
        self.kernel = torch.zeros(len(pixels), len(pixels), device=device)
        _add_gram(self.kernel, self.rows)
        self.ridge = 0.0

    def factorize(self, ridge: float) -> None:
        """Remember ``ridge``; every image has a factorization of its own."""
        self.ridge = ridge

    def finish(self) -> None:
        """Do nothing: all is needed for the next image."""

    def predict(self, images: Tensor, holes: Tensor) -> Tensor:
        """Map ``(N, V)`` images in [0, 1] and ``(N, V / 3)`` holes to images with the hole predicted."""
        pairs = zip(images, holes, strict=True)
        return torch.stack([self.predict_one(image, hole, [self.ridge])[0] for image, hole in pairs])

    def predict_one(self, image: Tensor, hole: Tensor, ridges: Sequence[float]) -> list[Tensor]:
        """Predict the hole of one image for each of ``ridges``, which share its kernel."""
        inside = hole.repeat_interleave(3)
        if not bool(inside.any()):
            return [image for _ in ridges]
        # The kernel over known pixels is the kernel over all minus that over
        # the hole, which is the smaller product.
        hidden = self.rows[:, inside].contiguous()
        kernel = self.kernel.clone()
        _add_gram(kernel, hidden, sign=-1.0)
        # Values under the hole count as the mean, so that they add nothing to the products.
        known = torch.where(inside, 0.0, image - self.mean)
        products = (self.rows @ known).unsqueeze(1)
        results = []
        for ridge in ridges:
            weights = torch.cholesky_solve(products, _cholesky(kernel, ridge))
            result = image.clone()
            result[inside] = self.mean[inside] + (weights.T @ hidden)[0]
            results.append(result)
        return results


def _choose_ridge(
    system: FixedHoleRidge | ChangingHoleRidge,
    grid: Sequence[float],
    images: NDArray[np.uint8],
    holes: NDArray[np.uint8],
    device: torch.device,
) -> tuple[float, dict[float, float]]:
    """Return the lambda with the best mean PSNR of completed images, and the mean PSNR of each.

    Without validation images, or with a single lambda, nothing is compared: the middle of the grid is taken.
    """
    if len(grid) == 1 or not len(images):
        return grid[len(grid) // 2], {}
    truth = _copy(images).to(device).flatten(1).float() / 255
    masks = _copy(holes).to(device).flatten(1) > 0
    inside = masks.repeat_interleave(3, 1)
    known = torch.where(inside, 0.0, truth)
    scores = {}
    if isinstance(system, ChangingHoleRidge):
        filled = [system.predict_one(row, hole, grid) for row, hole in zip(known, masks, strict=True)]
        for position, ridge in enumerate(grid):
            scores[ridge] = _mean_psnr(torch.stack([each[position] for each in filled]), truth, inside)
    else:
        for ridge in grid:
            system.factorize(ridge)
            scores[ridge] = _mean_psnr(system.predict(known, masks), truth, inside)
    return max(scores, key=lambda ridge: scores[ridge]), scores


def _mean_psnr(filled: Tensor, truth: Tensor, inside: Tensor) -> float:
    """Average the PSNR of composites (dB, peak 1) over images."""
    # Over the whole composite, as the headline metric is; the bound stands for 100 dB.
    error = torch.where(inside, filled.clamp(0, 1) - truth, 0.0).square().mean(1).clamp(min=1e-10)
    return float((-10 * torch.log10(error)).mean())


def _mean(pixels: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Average ``(n, V)`` bytes over images, in [0, 1]."""
    # Whole numbers, so that the sum is exact however it is cut into pieces.
    total = np.zeros(pixels.shape[1], dtype=np.int64)
    for rows in _pieces(*pixels.shape):
        total += pixels[rows].sum(axis=0, dtype=np.int64)
    return torch.from_numpy(total / (255 * len(pixels))).float().to(device)


def _copy(array: NDArray[np.uint8]) -> Tensor:
    """Copy bytes, which may be a read-only memory map, to a tensor."""
    return torch.from_numpy(np.array(array))


def _centered(pixels: Tensor, mean: Tensor) -> Tensor:
    """Convert bytes to float32 in [0, 1], less ``mean``."""
    return pixels.float().div_(255).sub_(mean)


def _pieces(length: int, width: int) -> list[slice]:
    """Cut ``length`` rows of ``width`` values into slices of at most :data:`_CHUNK_VALUES` values."""
    step = max(1, _CHUNK_VALUES // width)
    return [slice(start, start + step) for start in range(0, length, step)]


def _add_gram(target: Tensor, rows: Tensor, sign: float = 1.0) -> None:
    """Add ``sign * rows rows'`` to the lower triangle of ``target``; what stands above it is undefined."""
    # Block by block: the upper triangle is the same numbers, and not computing it halves the time.
    for start in range(0, len(rows), _BLOCK_ROWS):
        stop = min(start + _BLOCK_ROWS, len(rows))
        target[start:stop, :stop].addmm_(rows[start:stop], rows[:stop].T, alpha=sign)


def _cholesky(system: Tensor, ridge: float) -> Tensor:
    """Factorize ``system + ridge I``, of which only the lower triangle is read.

    Raises:
        ModelError: the matrix is not positive definite in float32, since ``ridge`` is too small.
    """
    matrix = system.clone()
    matrix.diagonal().add_(ridge)
    factor: Tensor
    # The form that reports failure, so that the message can name the option.
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if int(failed):
        raise ModelError(
            f"linear: lambda {ridge:g} is too small for float32; set linear.ridge to larger values"
        )
    return factor
