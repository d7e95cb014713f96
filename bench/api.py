"""The Python API: what ``import bench`` offers. The command line and the functions here call the same library.

Images are uint8 ``(H, W, 3)``, masks are bool ``(H, W)`` with ``True`` in the hole.
"""

from __future__ import annotations

import contextlib
import dataclasses
import html
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from bench.config import Request, RunConfig, resolve_config, resolve_mask_names
from bench.errors import BenchError, DataError, DiskError, UsageError
from bench.experiments import find_experiment, open_experiment
from masks.file_names import escape_name
from models.errors import ModelError

if TYPE_CHECKING:
    from bench.runner.callbacks import RunCallbacks

#: A program that completes images: ``(image, mask) -> image``; the hole of ``image`` is filled by zeros.
CompletionFunction = Callable[[NDArray[np.uint8], NDArray[np.bool_]], NDArray[Any]]
Names = str | Iterable[str]

_HEADLINE = ("psnr_db", "ssim", "lpips_alex")


class Experiment:
    """A finished (or partly finished) experiment: its numbers, claims, pictures and report.

    Attributes:
        name: the experiment's name.
        folder: ``runs/<name>/``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._stored = open_experiment(str(folder))
        self.name = self._stored.name

    @property
    def rows(self) -> pd.DataFrame:
        """One row an image and cell, as ``docs/results-schema.md`` describes them."""
        return self._stored.rows

    @property
    def table(self) -> pd.DataFrame:
        """Means with 95 % intervals, one row a mask and method (see :func:`summary_table`)."""
        return summary_table(self._stored.rows)

    @property
    def failures(self) -> dict[str, str]:
        """Cells that failed, with the reason: ``"GLCIC on center" -> "..."``."""
        return {
            f"{cell['label']} on {cell['mask']}": str(cell.get("reason", ""))
            for cell in self._stored.cells
            if cell["status"] == "failed"
        }

    def claims(self) -> pd.DataFrame:
        """Judge each claim of the paper, one row a claim."""
        from reports.export import claims_table

        return claims_table(self._stored)

    def report(self, folder: Path | str | None = None, *, pictures: bool = True) -> Path:
        """Write the HTML report and return its path.

        Args:
            folder: where ``index.html`` is written; beside ``runs/`` in ``reports/<name>/`` by default.
            pictures: embed pictures of the data.
        """
        from bench.runner.run_folder import REPORTS
        from reports.render import render_report

        place = Path(folder) if folder else self.folder.parent.parent / REPORTS / self.name
        return render_report(self.folder, place, pictures=pictures)

    def images(self, mask: str | None = None, *, count: int = 6) -> Image.Image:
        """Draw completions side by side: a row an image; original, input, then every method in table order.

        Args:
            mask: one of the experiment's masks; the first by default.
            count: images, taken from the start of the experiment's picture pool.

        Raises:
            DataError: the experiment kept no pictures, or has no such mask.
        """
        masks = self._stored.masks
        mask = mask or (masks[0] if masks else "")
        pool = self._stored.pictures(mask)
        if pool is None:
            raise DataError(f"{self.name} keeps no pictures of mask {mask!r}; its masks: {', '.join(masks)}")
        hole = pool.mask[:count, ..., None] > 0
        # The gray that holes have in reports.
        columns = [pool.image[:count], np.where(hole, np.uint8(218), pool.image[:count])]
        columns += [composite[:count] for composite in pool.composites.values()]
        grid = np.concatenate([np.concatenate(list(column)) for column in columns], axis=1)
        return Image.fromarray(grid)

    def __repr__(self) -> str:
        """Name, folder and size."""
        return f"<Experiment {self.name!r}: {len(self._stored.done())} finished cells in {self.folder}>"

    def _repr_html_(self) -> str:
        """Show the table in notebooks."""
        return f"<p>{html.escape(repr(self))}</p>{_readable(self.table)}"


@dataclass(frozen=True)
class Scores:
    """What :func:`score` measured.

    Attributes:
        rows: one row an image and mask, in the schema of ``docs/results-schema.md``.
    """

    rows: pd.DataFrame

    @property
    def table(self) -> pd.DataFrame:
        """Means with 95 % intervals, one row a mask (see :func:`summary_table`)."""
        return summary_table(self.rows)

    def _repr_html_(self) -> str:
        """Show the table in notebooks."""
        return _readable(self.table)


def run(
    models: Names = "all",
    masks: Names = "center",
    data: str | Path = "faces",
    preset: str = "quick",
    *,
    name: str | None = None,
    models_from: Sequence[str | Path] = (),
    model_options: Mapping[str, Mapping[str, Any]] | None = None,
    device: str = "auto",
    jobs: int = 1,
    pictures: bool = True,
    callbacks: Sequence[RunCallbacks] = (),
    progress: bool = True,
    root: str | Path = ".",
    **settings: Any,
) -> Experiment:
    """Train and evaluate every model on every mask, as ``bench run`` does; finished cells are not computed again.

    Args:
        models: names or groups of ``bench list models``, as a list or separated by commas.
        masks: names of ``bench list masks``, ``paper`` or ``all``.
        data: ``faces`` (procedural, embedded) or the path of CelebA or of a folder of images.
        preset: ``smoke`` (seconds), ``quick`` (minutes) or ``paper`` (needs a GPU).
        name: the experiment's name; made from models, masks, data and preset by default.
        models_from: files with models of your own. A model file is a program: it is run.
        model_options: model -> field -> value, as ``--set`` does.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` ...
        jobs: trainings side by side.
        pictures: keep pictures of the test images' completions.
        callbacks: told about the run besides the progress display.
        progress: show progress.
        root: the folder that holds ``runs/`` and ``reports/``.
        **settings: any field of :class:`bench.config.RunConfig`: ``size``, ``seeds``, ``images_seen`` ...

    Returns:
        The experiment; cells that failed are in :attr:`Experiment.failures`.

    Raises:
        UsageError: an unknown name, setting or value.
        DataError: the images cannot be used.

    Examples:
        >>> import bench
        >>> bench.run(models="mean", preset="smok")
        Traceback (most recent call last):
        ...
        bench.errors.UsageError: --preset smok: unknown; did you mean 'smoke'?
    """
    from bench.progress import ConsoleCallbacks
    from bench.runner.callbacks import CallbackGroup
    from bench.runner.run import run_experiment

    # Settings are written as Python users write them, and recorded as the command line would have them.
    settings, config = _resolve(preset, settings)
    options = {"data": str(data), "preset": preset, **settings}
    with _usage_errors():
        request = Request(
            models=expand_model_names(_names(models), models_from),
            masks=_resolve_masks(_names(masks)),
            data=str(data),
            settings=config,
            model_options=model_options or {},
            models_from=tuple(map(str, models_from)),
            name=name,
            device=device,
            pictures=pictures,
            jobs=jobs,
            command=_command_line(_names(models), _names(masks), name, models_from, options),
        )
    with contextlib.ExitStack() as stack:
        members = list(callbacks)
        if progress:
            # First, so that the line on the terminal is there before a tracker's.
            members.insert(0, stack.enter_context(ConsoleCallbacks(procedural=data == "faces")))
        outcome = run_experiment(request, CallbackGroup(members), Path(root))
    return Experiment(outcome.store.folder)


def score(
    method: CompletionFunction | str | Path,
    masks: Names = "center",
    data: str | Path = "faces",
    preset: str = "quick",
    *,
    label: str | None = None,
    metrics: Names = ("primary", "hole_psnr_db", "hole_mae"),
    device: str = "auto",
    progress: bool = True,
    **settings: Any,
) -> Scores:
    """Score a function, or a folder of completed images, on the test images and masks of ``bench run``.

    Args:
        method: a function that is given an image, uint8 ``(H, W, 3)`` with zeros in the hole, and its mask, bool
            ``(H, W)``, and returns the completed image, uint8 ``(H, W, 3)``; or a folder of images named like the test
            images, completed on the masks of ``bench masks export`` (one mask).
        masks: names of ``bench list masks``, ``paper`` or ``all``.
        data: ``faces`` or the path of CelebA or of a folder of images.
        preset: decides size, split and number of test images.
        label: the method's name in the table; the function's or folder's name by default.
        metrics: metric names or groups of ``bench list metrics``.
        device: where metrics are computed.
        progress: show progress.
        **settings: ``size``, ``crop``, ``split``, ``test_images``, ``evaluate_on``.

    Raises:
        UsageError: an unknown name, or a function that returns something else than an image of the same size.

    Examples:
        >>> import bench
        >>> def gray(image, mask):
        ...     image[mask] = 128
        ...     return image
        >>> scores = bench.score(gray, masks="center,half", test_images=8, metrics="psnr_db", progress=False)
        >>> scores.table[["mask", "method", "n_images"]].to_string(index=False).splitlines()
        ['  mask method  n_images', 'center   gray         8', '  half   gray         8']
    """
    from bench.progress import ConsoleCallbacks
    from bench.scoring.external_images import method_label
    from bench.scoring.score_methods import score_folder, score_function

    _, config = _resolve(preset, settings)
    chosen = _resolve_masks(_names(masks))
    if method == "":
        raise UsageError("score: an empty path; give '.' for the current folder")
    where = method if callable(method) else Path(method)
    own_name = getattr(method, "__name__", type(method).__name__) if callable(method) else Path(method).name
    shown = method_label(label, str(own_name))
    with contextlib.ExitStack() as stack:
        callbacks = stack.enter_context(ConsoleCallbacks(quiet=not progress))
        scorer = score_function if callable(where) else score_folder
        rows = scorer(
            where,  # type: ignore[arg-type]
            chosen,
            config,
            data=str(data),
            label=shown,
            metrics=_names(metrics),
            device=device,
            callbacks=callbacks,
        )
    return Scores(rows)


def load_experiment(experiment: str | Path) -> Experiment:
    """Open an experiment by its name in ``runs/`` or by the path of its folder; nothing is computed.

    Raises:
        UsageError: there is none (with suggestions), or it cannot be read.

    Examples:
        >>> import bench
        >>> bench.load_experiment("no-such-experiment")
        Traceback (most recent call last):
        ...
        bench.errors.UsageError: no experiment 'no-such-experiment' in runs/; runs/ holds no experiment yet
    """
    return Experiment(find_experiment(str(experiment)))


def inpaint(
    image: NDArray[np.uint8] | Image.Image | str | Path,
    mask: NDArray[Any] | Image.Image | str | Path,
    model: str | None = None,
    *,
    source: str | Path | None = None,
    models_from: Sequence[str | Path] = (),
    device: str = "auto",
) -> NDArray[np.uint8]:
    """Complete an image of any size; known pixels are kept bit for bit.

    Args:
        image: a file, a PIL image, or uint8 ``(H, W, 3)``.
        mask: a file, a PIL image, or an array ``(H, W)``; white (nonzero) is the hole.
        model: ``biharmonic`` (the default), ``telea`` or ``navier-stokes``; with ``source``, which of its models.
        source: an experiment, or a file of ``bench export-weights``.
        models_from: files with models of your own.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` ...

    Returns:
        The completed image, uint8 ``(H, W, 3)``.

    Raises:
        UsageError: an unknown model or source.
        DataError: an image or mask that cannot be used.

    Examples:
        >>> import bench, numpy as np
        >>> image = np.full((64, 64, 3), 200, np.uint8)
        >>> mask = np.zeros((64, 64), bool)
        >>> mask[20:40, 20:40] = True
        >>> image[mask] = 0
        >>> int(bench.inpaint(image, mask).min())
        200
    """
    from bench.inpainting import model_source, photo, tiling
    from bench.training.device import select_device
    from models.discovery import user_paths

    pixels = photo.as_photo(image)
    hole = photo.as_hole(mask, pixels)
    # In float32 like the command, so that both give the same image.
    compute = select_device(device, "fp32")
    with _usage_errors():
        files = user_paths(models_from)
    completer = model_source.load_completer(
        None if source is None else str(source), model or (None if source else "biharmonic"), compute, files
    )
    completed = pixels.completed(tiling.complete_tiled(completer, pixels.rgb, hole), hole)
    # By way of rgb, since a photo may be gray or have 16 bits, and the API promises 8-bit RGB.
    return np.rint(completed.rgb * 255).astype(np.uint8)


def models(models_from: Sequence[str | Path] = ()) -> pd.DataFrame:
    """List the models that :func:`run` takes, one row a model; no model is imported.

    Examples:
        >>> import bench
        >>> bench.models().loc["glcic", "paper"]  # doctest: +ELLIPSIS
        'Iizuka et al...
    """
    from models.discovery import find_models, user_paths

    with _usage_errors():
        cards = [listing.card for listing in find_models(user_paths(models_from)).values()]
    columns = ("label", "summary", "groups", "paper")
    return pd.DataFrame(
        [[getattr(card, column) for column in columns] for card in cards],
        columns=list(columns),
        index=pd.Index([card.name for card in cards], name="model"),
    )


@overload
def masks(name: None = None) -> pd.DataFrame: ...
@overload
def masks(
    name: str, *, ids: Sequence[str] | None = None, count: int = 8, size: int = 160, seed: int = 0
) -> NDArray[np.bool_]: ...
def masks(
    name: str | None = None,
    *,
    ids: Sequence[str] | None = None,
    count: int = 8,
    size: int = 160,
    seed: int = 0,
) -> pd.DataFrame | NDArray[np.bool_]:
    """List the masks, or draw one kind of them.

    Args:
        name: a mask of the list, or ``files:FOLDER``; without it, the list is returned.
        ids: image names that the masks belong to; a mask depends on its image's name alone.
        count: masks to draw where no ``ids`` are given.
        size: side in pixels.
        seed: base seed; 0 gives the masks that ``bench run`` evaluates on.

    Returns:
        A table with one row a mask, or bool ``(N, size, size)``, ``True`` in the hole.

    Examples:
        >>> import bench
        >>> "center" in bench.masks().index
        True
        >>> drawn = bench.masks("center", count=2, size=64)
        >>> drawn.shape, float(drawn.mean())
        ((2, 64, 64), 0.25)
    """
    from masks.registry import draw_masks, mask_info, mask_names

    if name is None:
        infos = [mask_info(known) for known in mask_names()]
        return pd.DataFrame(
            {"summary": [i.summary for i in infos], "source": [i.source for i in infos]},
            index=pd.Index([i.name for i in infos], name="mask"),
        )
    (name,) = _resolve_masks([name])
    named = list(ids) if ids is not None else [f"preview-{i}" for i in range(count)]
    try:
        return draw_masks(name, named, size, base_seed=seed).astype(bool)
    except ValueError as error:
        raise UsageError(str(error)) from error


def summary_table(rows: pd.DataFrame, metrics: Sequence[str] | None = None) -> pd.DataFrame:
    """Average rows into one row a mask and method.

    Args:
        rows: one row an image, as :attr:`Experiment.rows` has them.
        metrics: columns to average; every metric column by default, the headline metrics first.

    Returns:
        ``mask``, ``method``, then for each metric its mean, and ``<metric>_low`` and ``<metric>_high``, the limits
        of its 95 % interval; last ``n_images`` and ``n_seeds``.
    """
    from reports.results.schema import metric_columns
    from reports.statistics.summary import method_name, summarize

    # Headline metrics first, since a notebook cuts off wide tables on the right.
    there = metric_columns(rows)
    wanted = list(
        metrics or [*(m for m in _HEADLINE if m in there), *(m for m in there if m not in _HEADLINE)]
    )
    summary = summarize(rows, wanted)
    records = []
    for (mask, label, train_mask), part in summary.groupby(["mask", "label", "train_mask"], sort=False):
        record: dict[str, Any] = {"mask": mask, "method": method_name(summary, label, train_mask)}
        for line in part.to_dict("records"):
            # A metric that was not measured in this cell has no mean to show.
            if line["n_images"]:
                record[line["metric"]] = line["mean"]
                record[f"{line['metric']}_low"], record[f"{line['metric']}_high"] = line["low"], line["high"]
        records.append(
            {**record, "n_images": int(part["n_images"].max()), "n_seeds": int(part["n_seeds"].max())}
        )
    table = pd.DataFrame(records)
    # Counts last: they are the same for most rows.
    counts = [name for name in ("n_images", "n_seeds") if name in table]
    return table[[*(name for name in table if name not in counts), *counts]]


def expand_model_names(names: Iterable[str], models_from: Sequence[str | Path] = ()) -> tuple[str, ...]:
    """Expand groups of models into names; ``claims`` are the models that the paper's claims compare.

    Raises:
        UsageError: neither a model nor a group (with suggestions).
    """
    from models.discovery import expand_models, user_paths
    from reports.claims.paper import CLAIMS

    # What the claims need is known to reports alone, which models never import.
    claims = dict.fromkeys(model for claim in CLAIMS for model in claim.models)
    given = [escape_name(n) for name in names for n in (claims if name == "claims" else [name])]
    with _usage_errors():
        return tuple(expand_models(given, user_paths(models_from)))


@contextlib.contextmanager
def _usage_errors() -> Iterator[None]:
    """Turn errors of model discovery into the API's own."""
    try:
        yield
    except ModelError as error:
        raise UsageError(str(error)) from error


def _resolve(preset: str, settings: Mapping[str, Any]) -> tuple[dict[str, Any], RunConfig]:
    """Resolve settings as Python users write them (``seeds=0``, ``metrics="fid"``) to options and the config."""
    plain = dict(settings)
    for name, value in settings.items():
        if name == "metrics" and isinstance(value, str):
            plain[name] = _names(value)
        elif name == "seeds" and isinstance(value, int):
            plain[name] = (value,)
        elif isinstance(value, list | range):
            plain[name] = tuple(value)
    config = resolve_config(preset, plain)
    # None means "all" here, and "not given" to resolve_config.
    if "test_images" in plain and plain["test_images"] is None:  # all, which is not the preset's
        config = dataclasses.replace(config, test_images=None)
    return plain, config


def _resolve_masks(names: Sequence[str]) -> tuple[str, ...]:
    from masks.folder import load_folder

    # A session may have read a folder of masks before they changed, or one of the same name in another place.
    load_folder.cache_clear()
    return tuple(resolve_mask_names(names))


def _names(given: Names) -> tuple[str, ...]:
    parts = given.split(",") if isinstance(given, str) else list(given)
    return tuple(part.strip() for part in parts if part.strip())


def _command_line(
    models: Sequence[str],
    masks: Sequence[str],
    name: str | None,
    models_from: Sequence[str | Path],
    options: Mapping[str, Any],
) -> tuple[str, ...]:
    """Write the ``bench run`` that does the same, for the record in the manifest."""
    words = ["bench", "run", "--models", ",".join(models), "--mask", ",".join(masks)]
    for key, value in options.items():
        flag = key.replace("_", "-")
        # Flags have a name for each of their two values.
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif value is not None:
            words += [f"--{flag}", ",".join(map(str, value)) if isinstance(value, tuple) else str(value)]
    words += [word for path in models_from for word in ("--models-from", str(path))]
    return tuple(map(escape_name, (*words, "--name", name) if name else words))


def _readable(table: pd.DataFrame) -> str:
    """Format means with their intervals in one cell, as HTML."""
    shown = table.copy()
    for column in [str(c) for c in table if f"{c}_low" in table]:
        digits = 2 if column.endswith("_db") else 4
        shown[column] = [
            # NaN is the only number that differs from itself.
            "n/a" if mean != mean else f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
            for mean, low, high in zip(
                table[column], table[f"{column}_low"], table[f"{column}_high"], strict=True
            )
        ]
        shown = shown.drop(columns=[f"{column}_low", f"{column}_high"])
    text: str = shown.to_html(index=False)
    return text


__all__ = [
    "BenchError",
    "DataError",
    "DiskError",
    "Experiment",
    "Scores",
    "UsageError",
    "inpaint",
    "load_experiment",
    "masks",
    "models",
    "run",
    "score",
]
