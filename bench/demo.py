"""``bench demo``: draw a hole, and see every method complete it side by side, on loopback and without a network.

:class:`DemoSession` completes and measures; :func:`build_page` lays it out with Gradio, which is imported when it is
needed (extra ``demo``). Pixels come from the session and never from the browser, whose canvas gives only the
mask: known pixels are unchanged bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

import masks.registry
from bench.data import DataSpec, ImageSet, open_data
from bench.errors import BenchError, DataError, UsageError
from bench.evaluation.evaluator import sample_subset
from bench.evaluation.image_batch import ImageBatch
from bench.evaluation.metrics import prepare_metrics
from bench.experiments import open_experiment
from bench.inpainting.fitted_baselines import fit_baselines
from bench.inpainting.model_source import load_baseline, load_from_experiment
from bench.inpainting.photo import Photo, as_photo
from bench.inpainting.tiling import ImageCompleter, complete_tiled
from bench.inpainting.trained_weights import stored_trainings
from bench.training.device import Compute, select_device

if TYPE_CHECKING:
    from bench.inpainting.trained_weights import StoredTraining

Pixels = NDArray[np.uint8]
Hole = NDArray[np.bool_]

BASELINES = ("mean of known pixels", "biharmonic")
METRICS = ("psnr_db", "ssim", "lpips_alex")
_IMAGES = 24  # of the test split, to choose from
_CANVAS = 320  # side of the canvas on screen, about
_LARGEST = 512  # longer side of an image that is loaded
_HOLE = 218  # gray of holes, here and in reports
#: Rows of the gallery are as high as their images, names are not cut, and a phone has two images beside each other.
_STYLE = """
#results .grid-wrap { height: auto; min-height: 0; max-height: none; }
#results .grid-container { grid-template-columns: repeat(auto-fill, minmax(min(13rem, 44%), 1fr)) !important; }
#results .caption-label { max-width: 100%; white-space: normal; text-overflow: clip; }
"""


@dataclass(frozen=True)
class DemoResult:
    """One method's completion.

    Attributes:
        method: its label.
        image: ``(H, W, 3)`` uint8.
        scores: metric -> value; empty where the truth is not known.
    """

    method: str
    image: Pixels
    scores: Mapping[str, float]


class DemoSession:
    """Methods, test images and masks of a demo.

    Args:
        experiment: whose trained models are shown; ``None``: the baselines alone.
        data: where the images are; the experiment's own by default, procedural faces without one.
        models_from: the user's own model files, which trained models may need.
        device: ``auto``, ``cpu``, ``cuda`` ...

    Raises:
        UsageError: no such experiment, or a training's weights are gone.
        DataError: the images cannot be opened.
    """

    def __init__(
        self,
        experiment: str | None = None,
        *,
        data: str | None = None,
        models_from: Sequence[Path] = (),
        device: str = "auto",
    ) -> None:
        self.compute = select_device(device, "fp32")
        spec = DataSpec(source=data or "faces")
        self.methods: dict[str, ImageCompleter] = {}
        self.masks: list[str] = ["center"]
        if experiment is not None:
            stored = open_experiment(experiment)
            settings = stored.manifest["settings"]
            source = data or stored.manifest["data"]["source"]
            # The experiment's own size, crop and split: its models have seen no other images.
            spec = DataSpec(source=source, **{k: settings[k] for k in ("size", "crop", "split")})
            # An experiment without results has no mask yet.
            self.masks = stored.masks or self.masks
            # One of baselines alone has no trainings to list.
            trained = any(cell.get("training") for cell in stored.done())
            for training in _one_a_model(stored_trainings(stored)) if trained else ():
                self.methods[training.label] = load_from_experiment(
                    stored, training.model, training.seed, training.train_mask, self.compute, models_from
                )
        opened = open_data(spec)
        # Baselines come last, so that trained models stand side by side.
        if experiment is not None:
            self.methods |= fit_baselines(stored, opened, self.compute)
        self.methods |= {
            BASELINES[0]: ImageCompleter(_mean_of_known, None, None, self.compute),
            BASELINES[1]: load_baseline("biharmonic", self.compute),
        }
        # Test images only: what a model has trained on would flatter it.
        self.images: ImageSet = sample_subset(opened.test, _IMAGES)
        self.size = spec.size
        self._metrics, self.unavailable = prepare_metrics(METRICS, self.compute.device)

    def draw_mask(self, name: str, image_id: str, shape: tuple[int, int]) -> Hole:
        """Draw the suite's mask ``name`` for an image; for one that is not square, in its middle."""
        side = min(shape)
        (mask,) = masks.registry.draw_masks(name, [image_id], side)
        hole = np.zeros(shape, bool)
        top, left = (shape[0] - side) // 2, (shape[1] - side) // 2
        hole[top : top + side, left : left + side] = mask
        return hole

    def complete(self, image: Pixels, hole: Hole, *, truth_known: bool) -> list[DemoResult]:
        """Complete ``image`` ``(H, W, 3)`` with every method, and score it where the truth is known.

        Raises:
            DataError: no hole, or all hole.
        """
        if not hole.any() or hole.all():
            raise DataError("paint a hole first, or choose a mask" if not hole.any() else "all is hole")
        results = []
        for method, completer in self.methods.items():
            completed = self._complete_one(completer, image, hole)
            scores = self._score(image, completed, hole) if truth_known else {}
            results.append(DemoResult(method, completed, scores))
        return results

    def _complete_one(self, completer: ImageCompleter, image: Pixels, hole: Hole) -> Pixels:
        """Complete as in evaluation where the image has the model's size, else by tiles as ``bench inpaint``."""
        photo = Photo(image, {})
        # Baselines have no size of their own, and fill any image by tiles unless told otherwise.
        if completer.size is None and self.size == image.shape[0] == image.shape[1]:
            filled = _complete_square(completer, photo.rgb, hole)
        else:
            filled = complete_tiled(completer, photo.rgb, hole)
        pixels: Pixels = photo.completed(filled, hole).pixels
        return pixels

    def _score(self, truth: Pixels, completed: Pixels, hole: Hole) -> dict[str, float]:
        def tensor(pixels: Pixels) -> torch.Tensor:
            return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None].to(
                self.compute.device
            )

        mask = torch.from_numpy(hole)[None, None].float().to(self.compute.device)
        composite = tensor(completed)
        batch = ImageBatch(truth=tensor(truth), composite=composite, raw=composite.float() / 255, mask=mask)
        with torch.inference_mode():
            return {name: float(function(batch)[0]) for name, function in self._metrics.items()}


def _one_a_model(trainings: Sequence[StoredTraining]) -> list[StoredTraining]:
    """Choose the training with the lowest seed of each model, in the experiment's order."""
    chosen: dict[str, StoredTraining] = {}
    for training in trainings:
        if training.label not in chosen or training.seed < chosen[training.label].seed:
            chosen[training.label] = training
    return list(chosen.values())


def _mean_of_known(image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Fill the hole with the mean of each image's known pixels."""
    known = 1 - mask
    # Guarded for an image that is all hole, whose mean does not matter.
    mean = (image * known).sum((2, 3), keepdim=True) / known.sum((2, 3), keepdim=True).clamp(min=1)
    return torch.where(mask > 0.5, mean, image)


def _complete_square(completer: ImageCompleter, rgb: NDArray[np.float32], hole: Hole) -> NDArray[np.float32]:
    compute: Compute = completer.compute
    image = torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))[None].to(compute.device)
    mask = torch.from_numpy(hole)[None, None].float().to(compute.device)
    with torch.inference_mode():
        # Methods composite by themselves and promise not to look under the hole; here they cannot.
        completed = completer.complete(image * (1 - mask), mask)
    pixels: NDArray[np.float32] = completed[0].permute(1, 2, 0).float().cpu().numpy()
    return pixels


# The page.


def painted_hole(layers: Sequence[Image.Image | None], shape: tuple[int, int]) -> Hole:
    """Read the hole that was painted on the canvas: image pixels of which any part was touched."""
    hole = np.zeros(shape, bool)
    for layer in layers:
        if layer is None:
            continue
        # Any opacity counts: the brush's edge is soft, and known pixels must not be under it.
        touched = np.asarray(layer.convert("RGBA"))[..., 3] > 0
        rows = np.arange(touched.shape[0]) * shape[0] // touched.shape[0]
        columns = np.arange(touched.shape[1]) * shape[1] // touched.shape[1]
        # Several canvas pixels fall on one pixel of the image; one that was touched is enough.
        np.logical_or.at(hole, (rows[:, None], columns[None, :]), touched)
    return hole


def _enlarged(image: Pixels) -> Image.Image:
    """Enlarge the image for the canvas by a whole factor."""
    # By whole factors, so that a painted edge lies between pixels.
    scale = max(1, _CANVAS // max(image.shape[:2]))
    return Image.fromarray(image.repeat(scale, axis=0).repeat(scale, axis=1))


@dataclass(frozen=True)
class _Chosen:
    """The image that is being completed."""

    name: str
    pixels: Pixels
    truth_known: bool


def build_page(session: DemoSession) -> Any:
    """Lay out the demo as Gradio blocks.

    Raises:
        UsageError: the package ``gradio`` is not installed.
    """
    gradio = _import_gradio()
    names = list(session.images.ids)

    def choose(name: str) -> tuple[_Chosen, dict[str, Any]]:
        pixels = np.asarray(session.images.pixels[names.index(name)])
        return _Chosen(name, pixels, True), _canvas(pixels)

    def load(image: Image.Image | None) -> tuple[_Chosen, dict[str, Any]]:
        if image is None:
            return choose(names[0])
        # Reduced for the browser; a demo on a photo of 12 megapixels would take minutes.
        image.thumbnail((_LARGEST, _LARGEST))
        pixels = np.round(as_photo(image).rgb * 255).astype(np.uint8)
        return _Chosen("loaded image", pixels, False), _canvas(pixels)

    def complete(chosen: _Chosen, mask: str, canvas: dict[str, Any] | None) -> tuple[Any, Any, Any, Any]:
        shape = (chosen.pixels.shape[0], chosen.pixels.shape[1])
        if mask == _PAINTED:
            hole = painted_hole((canvas or {}).get("layers") or [], shape)
        else:
            hole = session.draw_mask(mask, chosen.name, shape)
        try:
            results = session.complete(chosen.pixels, hole, truth_known=chosen.truth_known)
        except BenchError as error:
            # As an error of Gradio's, which shows the sentence without a traceback.
            raise gradio.Error(str(error), print_exception=False) from error
        shown = np.where(hole[..., None], np.uint8(_HOLE), chosen.pixels)
        gallery = [(Image.fromarray(shown), "input")] + [
            (Image.fromarray(r.image), r.method) for r in results
        ]
        table = [[r.method, *(_number(r.scores.get(m), m) for m in METRICS)] for r in results]
        return (
            gallery,
            table,
            {r.method: r.image for r in results},
            compare(chosen, results[0].method, results),
        )

    def compare(chosen: _Chosen, method: str, results: Any) -> tuple[Image.Image, Image.Image]:
        by_name = results if isinstance(results, dict) else {r.method: r.image for r in results}
        return _enlarged(chosen.pixels), _enlarged(by_name.get(method, chosen.pixels))

    first, canvas = choose(names[0])
    methods = list(session.methods)
    with gradio.Blocks(analytics_enabled=False, title="inpaint-bench demo") as page:
        state, completed = gradio.State(first), gradio.State({})
        gradio.Markdown(
            "# Draw a hole\nChoose a test image or load one, paint over what is to be filled, and press *Complete*: "
            "every method gets the same image and hole. Nothing leaves this machine."
        )
        with gradio.Row():
            with gradio.Column():
                image = gradio.Dropdown(names, value=names[0], label="Test image")
                upload = gradio.Image(
                    type="pil", sources=["upload"], label="or an image of your own", height=120
                )
                mask = gradio.Dropdown(
                    [_PAINTED, *masks.registry.mask_names()],
                    value=_PAINTED,
                    label="Hole (a mask of the suite takes the place of what is painted)",
                )
            editor = gradio.ImageEditor(
                value=canvas,
                type="pil",
                image_mode="RGBA",
                format="png",  # the default is lossy WebP
                layers=False,
                transforms=(),
                sources=(),
                brush=gradio.Brush(default_size=40, colors=["#" + 3 * f"{_HOLE:02x}"], color_mode="fixed"),
                label="Paint the hole",
                elem_id="canvas",
            )
        # Beneath the canvas on a phone too: one paints first.
        button = gradio.Button("Complete", variant="primary", elem_id="complete")
        gallery = gradio.Gallery(
            label="Completions",
            format="png",
            columns=4,
            height="auto",
            object_fit="contain",
            elem_id="results",
        )
        table = gradio.Dataframe(
            headers=["method", "PSNR (dB)", "SSIM", "LPIPS"],
            column_widths=["40%", "20%", "20%", "20%"],
            wrap=True,
            label="Against the original",
            elem_id="scores",
        )
        with gradio.Row():
            with gradio.Column():
                method = gradio.Dropdown(methods, value=methods[0], label="Compare")
            with gradio.Column():
                slider = gradio.ImageSlider(label="original | completion", format="png", elem_id="slider")
        image.change(choose, image, [state, editor])
        upload.change(load, upload, [state, editor])
        button.click(complete, [state, mask, editor], [gallery, table, completed, slider])
        method.change(compare, [state, method, completed], slider)
    return page


_PAINTED = "painted"


def _canvas(pixels: Pixels) -> dict[str, Any]:
    return {"background": _enlarged(pixels), "layers": [], "composite": None}


def _number(value: float | None, metric: str) -> str:
    if value is None or value != value:
        return "n/a"
    return f"{value:.2f}" if metric == "psnr_db" else f"{value:.4f}"


def _import_gradio() -> Any:
    import os

    # Before the import, which is when Gradio reads it.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio
    except ImportError as error:
        raise UsageError("bench demo needs the package gradio: pip install 'inpaint-bench[demo]'") from error
    return gradio


def serve(
    session: DemoSession, *, port: int | None, open_browser: bool, on_start: Callable[[str], None]
) -> None:
    """Serve the demo on loopback until it is interrupted.

    Args:
        session: from :class:`DemoSession`.
        port: of 127.0.0.1; a free one from 7860 by default.
        open_browser: open the page.
        on_start: called with the page's address.
    """
    page = build_page(session)
    # Gradio's default theme asks fonts.googleapis.com; plain font names ask nobody.
    gradio = _import_gradio()
    theme = gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    _, address, _ = page.launch(
        server_name="127.0.0.1",
        server_port=port,
        share=False,
        inbrowser=open_browser,
        quiet=True,
        theme=theme,
        css=_STYLE,
        footer_links=[],
        prevent_thread_lock=True,
    )
    on_start(address)
    try:
        page.block_thread()
    finally:  # its threads would keep the process alive
        page.close(verbose=False)
