"""Images on a page: which ones are shown, and how they are embedded without loss.

A completion equals the truth outside its hole. So the truth is embedded once, and every completion as the pixels of
the hole alone, drawn over it: a quarter of the bytes, and pixels that are exact where a reader compares them.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reports.context import MethodView, ReportContext
from reports.results.experiment import StoredImages

NUM_RANDOM = 4
NUM_DISAGREEMENT = 2

#: Gray level of the hole in a model's input as shown; the models themselves get their own fill value.
_HOLE_GRAY = 218

Floats = NDArray[np.float64]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Output:
    """A method's completion of an image, with its scores as text.

    Attributes:
        method: who completed it.
        src: data URL of the hole's pixels, transparent elsewhere.
        scores: (metric, formatted value) pairs.
    """

    method: MethodView
    src: str
    scores: list[tuple[Any, str]]


@dataclass(frozen=True)
class ImageRow:
    """One image of the data set with its input and every method's completion.

    Attributes:
        id: the image's name.
        reasons: why it is shown, in words.
        truth: data URL of the whole image.
        input: data URL of the gray hole, transparent elsewhere.
        outputs: completions in table order.
    """

    id: str
    reasons: list[str]
    truth: str
    input: str
    outputs: list[Output]


@dataclass(frozen=True)
class SampleRow:
    """One image with several samples of one method.

    Attributes:
        id, reasons, truth, input: as of :class:`ImageRow`.
        samples: (data URL of the hole's pixels, (metric, formatted value) pairs), in the order of their numbers.
        diversity: mean LPIPS between all samples of the image in the hole; NaN where it could not be had.
    """

    id: str
    reasons: list[str]
    truth: str
    input: str
    samples: list[tuple[str, list[tuple[Any, str]]]]
    diversity: float


@dataclass
class ImageChoice:
    """An image to show: its position in the sample, and what chose it.

    Attributes:
        place: position in the stored sample.
        rules: ``random``, ``median``, ``most disagreement``.
        best_of, worst_of: labels of the models whose best and worst it is.
    """

    place: int
    rules: list[str] = field(default_factory=list)
    best_of: list[str] = field(default_factory=list)
    worst_of: list[str] = field(default_factory=list)

    def reasons(self, models: int) -> list[str]:
        """Say what chose the image, where ``models`` were scored in all.

        >>> ImageChoice(3, ["random"], best_of=["GLCIC"]).reasons(2)
        ['random', 'best of GLCIC']
        >>> ImageChoice(3, worst_of=["GLCIC", "PConv"]).reasons(2)
        ['worst of every model']
        """
        found = list(self.rules)
        for what, labels in (("best", self.best_of), ("worst", self.worst_of)):
            if labels:
                everyone = len(labels) == models and models > 1
                found.append(f"{what} of " + ("every model" if everyone else ", ".join(labels)))
        return found


@dataclass(frozen=True)
class ShownImages:
    """The stored images of one mask, with the methods that completed them and their scores.

    Attributes:
        stored: truths, holes and completions.
        methods: (method, cell with its completions) in table order; a method's lowest seed.
        scores: label -> ``(P, M)`` scores of the ``P`` images in :attr:`metrics`, NaN where missing.
        metrics: those shown under the images.
    """

    stored: StoredImages
    methods: list[tuple[MethodView, str]]
    scores: dict[str, Floats]
    metrics: list[Any]

    def choose(self) -> list[ImageChoice]:
        """Choose the images to show, by the first metric (:func:`choose_images`)."""
        by_first = {label: values[:, 0] for label, values in self.scores.items()} if self.metrics else {}
        up = self.metrics[0].higher_is_better if self.metrics else True
        return choose_images(by_first, len(self.stored.ids), higher_is_better=up)

    def median(self) -> int:
        """Return the position of the image of median mean score, or of the first where none is scored."""
        return next((choice.place for choice in self.choose() if "median" in choice.rules), 0)

    def row(self, place: int, reasons: list[str], *, only: Collection[str] | None = None) -> ImageRow:
        """Build the row of the image at ``place``, of all methods or those with a label in ``only``."""
        image, mask = self.stored.image[place], self.stored.mask[place]
        outputs = []
        for method, cell in self.methods:
            if only is not None and method.label not in only:
                continue
            values = self.scores[method.label][place]
            shown = [(m, m.show(v)) for m, v in zip(self.metrics, values, strict=True)]
            outputs.append(Output(method, hole_uri(self.stored.composites[cell][place], image, mask), shown))
        return ImageRow(self.stored.ids[place], reasons, image_uri(image), _input_uri(image, mask), outputs)

    def sample_row(self, place: int, reasons: list[str], cell: str, scores: Floats) -> SampleRow:
        """Build the row of the samples that ``cell`` keeps of the image at ``place``.

        Args:
            place: position in the stored sample.
            reasons: why the image is shown.
            cell: one of the cells of :attr:`methods`.
            scores: ``(k, M)`` scores of at least the kept samples, in :attr:`metrics`.
        """
        image, mask, drawn = self.stored.image[place], self.stored.mask[place], self.stored.samples[cell]
        samples = [
            (
                hole_uri(pixels, image, mask),
                [(m, m.show(float(v))) for m, v in zip(self.metrics, values, strict=True)],
            )
            for pixels, values in zip(drawn.pixels[place], scores, strict=False)
        ]
        return SampleRow(
            self.stored.ids[place],
            reasons,
            image_uri(image),
            _input_uri(image, mask),
            samples,
            float(drawn.diversity[place]),
        )


def _input_uri(image: Pixels, mask: Pixels) -> str:
    gray = np.full_like(image, _HOLE_GRAY)
    return hole_uri(gray, gray, mask)


def load_shown_images(context: ReportContext, mask: str) -> ShownImages | None:
    """Read the images stored for a mask; ``None`` where there are none, or none may be embedded.

    Raises:
        ExperimentError: a file of images is damaged.
    """
    if not context.embed_images:
        return None
    stored = context.experiment.pictures(mask)
    if stored is None or not stored.ids or not stored.composites:
        return None
    methods = []
    for method in context.methods:
        cells = [c for c in method.done if c["mask"] == mask and c["cell"] in stored.composites]
        if cells:
            # Pictures are of one training, and scores beside them must be of the same one.
            methods.append((method, min(cells, key=lambda c: int(c["seed"]))["cell"]))
    metrics = [m for m in context.measured if m.group == "primary"] or context.measured[:1]
    names = [m.name for m in metrics]
    scores = {method.label: _scores(context, mask, method, stored.ids, names) for method, _ in methods}
    return ShownImages(stored, methods, scores, metrics)


def _scores(
    context: ReportContext, mask: str, method: MethodView, ids: list[str], metrics: list[str]
) -> Floats:
    """Return ``(P, M)`` scores of the sample's images under the method's lowest seed, NaN where missing."""
    rows = context.rows[(context.rows["mask"] == mask) & (context.rows["label"] == method.label)]
    rows = rows[rows["seed"] == rows["seed"].min()].set_index("image_id")
    return np.asarray(rows.reindex(ids)[metrics], dtype=np.float64)


def choose_images(
    scores: Mapping[str, Floats], count: int, *, higher_is_better: bool = True
) -> list[ImageChoice]:
    """Choose images of the stored sample to show, each once, with what chose it.

    In order: :data:`NUM_RANDOM` spread over the sample (which was drawn at random by seed before any metric was
    known), the image of median mean score, those whose scores spread most over the models, then best and worst of
    every model.

    Args:
        scores: label -> ``(count,)`` score of each image of the sample; NaN where there is none.
        count: images in the sample.
        higher_is_better: direction of the score.

    >>> scores = {"GLCIC": np.array([20.0, 24.0, 22.0]), "PConv": np.array([21.0, 23.0, 26.0])}
    >>> [(choice.place, choice.reasons(2)) for choice in choose_images(scores, 3)][1]
    (1, ['random', 'median', 'best of GLCIC'])
    """
    found: dict[int, ImageChoice] = {}

    def at(place: np.integer[Any] | int) -> ImageChoice:
        return found.setdefault(int(place), ImageChoice(int(place)))

    # The sample is stored in the order of the test split: taking the first ones would favor the first names.
    for place in np.linspace(0, count - 1, min(NUM_RANDOM, count)).round().astype(int):
        at(place).rules.append("random")
    table = np.array(list(scores.values()), dtype=np.float64).reshape(len(scores), count)
    known = np.isfinite(table).all(axis=0) if len(scores) else np.zeros(count, dtype=bool)
    if not known.any():
        return list(found.values())
    places = np.flatnonzero(known)
    means = table[:, places].mean(axis=0)
    # The upper middle where there are two: an image, not an average of two.
    at(places[np.argsort(means, kind="stable")[len(places) // 2]]).rules.append("median")
    if len(scores) > 1:
        spread = np.ptp(table[:, places], axis=0)
        for widest in np.argsort(-spread, kind="stable")[:NUM_DISAGREEMENT]:
            at(places[widest]).rules.append("most disagreement")
    signed = table if higher_is_better else -table
    # Two loops, so that all best images stand before all worst ones.
    for label, values in zip(scores, signed, strict=True):
        at(places[np.argmax(values[places])]).best_of.append(label)
    for label, values in zip(scores, signed, strict=True):
        at(places[np.argmin(values[places])]).worst_of.append(label)
    return list(found.values())


def image_uri(image: Pixels) -> str:
    """Encode an image ``(H, W, 3)`` or ``(H, W, 4)`` as the data URL of a lossless WebP file."""
    buffer = io.BytesIO()
    # Lossless WebP takes quality for effort, and method for how hard it searches.
    Image.fromarray(image).save(buffer, format="WEBP", lossless=True, quality=60, method=3)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def hole_uri(completion: Pixels, truth: Pixels, mask: Pixels) -> str:
    """Encode a completion as what differs from the truth: the hole, and whatever else is not equal.

    Args:
        completion: ``(H, W, 3)``.
        truth: ``(H, W, 3)``, drawn beneath it on the page.
        mask: ``(H, W)``, 1 = hole.
    """
    # A composite keeps every known pixel; where one does not, the reader must see it.
    opaque = (mask > 0) | (completion != truth).any(axis=-1)
    alpha = np.where(opaque, 255, 0).astype(np.uint8)
    # Transparent pixels are zeroed, because equal pixels compress to next to nothing.
    shown = np.where(opaque[..., None], completion, 0).astype(np.uint8)
    return image_uri(np.concatenate([shown, alpha[..., None]], axis=-1))
