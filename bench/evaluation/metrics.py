"""The registry of metrics: which there are, what they mean, and their functions.

A metric is one function in a file of this folder, with its :class:`~reports.results.metric_info.MetricInfo` in the
decorator above it. Infos are read from the source, so that listing metrics imports no torch; a file is imported only
when one of its metrics is computed. The order of tables: primary metrics first, metrics of sets last.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, wraps
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from bench.errors import BenchError, UsageError
from models.registry import did_you_mean
from reports.results.metric_info import MetricInfo

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from bench.evaluation.feature_sets import FeatureExtractor, FeatureSets, SetScore
    from bench.evaluation.image_batch import FaceBox, ImageBatch

#: N images to ``(N,)`` float64 on the same device.
ImageFunction = Callable[["ImageBatch"], "Tensor"]
#: Features of a cell's truths and composites to one number.
SetFunction = Callable[["FeatureSets"], "SetScore"]
_Function = TypeVar("_Function", bound=Callable[..., object])

#: Names that stand for several metrics.
GROUPS = ("primary", "secondary", "all")
#: The order of the field's tables; other metrics follow by file and line.
_TABLE_ORDER = ("psnr_db", "ssim", "lpips_alex", "hole_psnr_db", "hole_mae")
_PACKAGE = "bench.evaluation"
_DECORATORS = {"image_metric": "image", "distribution_metric": "set"}


class UnknownMetricError(UsageError):
    """Raised for a name that is neither a metric nor a group."""


class InvalidMetricError(BenchError):
    """Raised for a file of this folder whose metrics cannot be read."""


@dataclass(frozen=True)
class MetricListing:
    """Where a metric was found: ``function`` is its name in ``module``, whose file is ``path``."""

    info: MetricInfo
    module: str
    function: str
    path: Path


@dataclass(frozen=True)
class ImageMetric:
    """A metric with one number per image.

    Attributes:
        info: what its numbers mean.
        function: :class:`~bench.evaluation.image_batch.ImageBatch` of N images to ``(N,)`` float64.
        load: loads the weights it needs onto a device, or raises
            :class:`~bench.backbones.MetricUnavailableError`; ``None`` where it needs none.
    """

    info: MetricInfo
    function: ImageFunction
    load: Callable[[torch.device], object] | None = None

    @property
    def compute(self) -> ImageFunction:
        """The function as evaluations call it."""
        # Metrics with weights are networks, which do profit from several threads.
        return self.function if self.load else _on_one_thread(self.function)


@dataclass(frozen=True)
class DistributionMetric:
    """A metric with one number for all images of a cell.

    Attributes:
        info: what its number means.
        function: :class:`~bench.evaluation.feature_sets.FeatureSets` to a score.
        load_features: loads the feature extractor onto a device, or raises
            :class:`~bench.backbones.MetricUnavailableError`. Metrics that share one share its features.
    """

    info: MetricInfo
    function: SetFunction
    load_features: Callable[[torch.device], FeatureExtractor]


_REGISTERED: dict[str, ImageMetric | DistributionMetric] = {}


def image_metric(
    info: MetricInfo, *, load: Callable[[torch.device], object] | None = None
) -> Callable[[_Function], _Function]:
    """Register a function as a metric of images; ``info`` must be a call with literals, which listings read.

    Args:
        info: what its numbers mean.
        load: see :class:`ImageMetric`.
    """

    def register(function: _Function) -> _Function:
        # A second import of the file replaces its own entry; two files with one name are found by the scan.
        _REGISTERED[info.name] = ImageMetric(info, function, load)  # type: ignore[arg-type]
        return function

    return register


def distribution_metric(
    info: MetricInfo, *, features: Callable[[torch.device], FeatureExtractor]
) -> Callable[[_Function], _Function]:
    """Register a function as a metric of sets of images; ``info`` as in :func:`image_metric`, with ``of="set"``.

    Args:
        info: what its number means.
        features: see :class:`DistributionMetric`.
    """

    def register(function: _Function) -> _Function:
        _REGISTERED[info.name] = DistributionMetric(info, function, features)  # type: ignore[arg-type]
        return function

    return register


def find_metrics() -> dict[str, MetricListing]:
    """Find every metric by name, in the order of tables, without importing its file.

    Raises:
        InvalidMetricError: a file's metrics cannot be read.

    Examples:
        >>> listing = find_metrics()["hole_mae"]
        >>> listing.module, listing.function
        ('bench.evaluation.pixel_errors', 'hole_mae')
    """
    return dict(_scan(tuple(sys.modules[_PACKAGE].__path__)))


def list_metrics() -> dict[str, MetricInfo]:
    """Describe every metric, in the order of tables; imports no torch.

    Examples:
        >>> [info.title for info in list_metrics().values() if info.group == "primary"]
        ['PSNR (dB)', 'SSIM', 'LPIPS (Alex)']
    """
    return {name: listing.info for name, listing in find_metrics().items()}


def load_metric(name: str) -> ImageMetric | DistributionMetric:
    """Import the file of a metric and return it with its function.

    Raises:
        UnknownMetricError: no such metric.
    """
    # Through the listing first, so that an unknown name ends in a suggestion and not in an import error.
    (name,) = expand_metrics([name])
    importlib.import_module(find_metrics()[name].module)
    return _REGISTERED[name]


def expand_metrics(names: Iterable[str]) -> list[str]:
    """Expand metric names and groups to names, each once and in the order of tables.

    Raises:
        UnknownMetricError: neither a metric nor a group; the message suggests what may be meant.

    Examples:
        >>> expand_metrics(["hole_mae", "primary"])
        ['psnr_db', 'ssim', 'lpips_alex', 'hole_mae']
    """
    known = list_metrics()
    wanted: set[str] = set()
    for name in names:
        if name in GROUPS:
            wanted |= {info.name for info in known.values() if name in ("all", info.group)}
        elif name in known:
            wanted.add(name)
        else:
            raise UnknownMetricError(f"no metric {name!r}{did_you_mean(name, [*known, *GROUPS])}")
    # In the order of tables, whatever order they were asked for in: columns and keys must not depend on it.
    return [name for name in known if name in wanted]


def prepare_metrics(
    names: Iterable[str], device: torch.device, face_box: FaceBox | None = None
) -> tuple[dict[str, ImageFunction], dict[str, str]]:
    """Load what the metrics of images among ``names`` need, once, before anything is computed.

    Args:
        names: metrics or groups; those of sets are ignored (:func:`prepare_distribution_metrics` loads them).
        device: where images will be.
        face_box: where the images' faces lie; ``None`` makes metrics of aligned faces unavailable.

    Returns:
        The functions of the metrics that are ready, by name, and for the others the reason in one line.

    Raises:
        UnknownMetricError: a name that is no metric.
    """
    from bench.backbones import MetricUnavailableError

    ready: dict[str, ImageFunction] = {}
    unavailable: dict[str, str] = {}
    for metric in map(load_metric, _names_of("image", names)):
        assert isinstance(metric, ImageMetric)
        try:
            # The cheap test first: weights of a metric that cannot apply are not fetched.
            _check_images(metric.info, face_box)
            if metric.load:
                metric.load(device)
            ready[metric.info.name] = metric.compute
        except MetricUnavailableError as error:
            unavailable[metric.info.name] = str(error)
    return ready, unavailable


def prepare_distribution_metrics(
    names: Iterable[str], device: torch.device, face_box: FaceBox | None = None
) -> tuple[list[DistributionMetric], dict[str, str]]:
    """Load what the metrics of sets among ``names`` need; as :func:`prepare_metrics`."""
    from bench.backbones import MetricUnavailableError

    ready: list[DistributionMetric] = []
    unavailable: dict[str, str] = {}
    for metric in map(load_metric, _names_of("set", names)):
        assert isinstance(metric, DistributionMetric)
        try:
            _check_images(metric.info, face_box)
            metric.load_features(device)
            ready.append(metric)
        except MetricUnavailableError as error:
            unavailable[metric.info.name] = str(error)
    return ready, unavailable


def _check_images(info: MetricInfo, face_box: FaceBox | None) -> None:
    """Refuse a metric of aligned faces for images whose faces are not known to be aligned."""
    from bench.backbones import MetricUnavailableError

    if info.images and face_box is None:
        raise MetricUnavailableError(f"it is for {info.images}, as CelebA's with --crop center")


def _names_of(subject: str, names: Iterable[str]) -> list[str]:
    known = list_metrics()
    return [name for name in expand_metrics(names) if known[name].of == subject]


def _on_one_thread(function: ImageFunction) -> ImageFunction:
    """Run a metric on one thread: its operations take microseconds, less than waking other threads."""

    @wraps(function)
    def alone(images: ImageBatch) -> Tensor:
        import torch

        threads = torch.get_num_threads()
        # On a GPU the host only launches kernels.
        if threads == 1 or images.truth.is_cuda:
            return function(images)
        torch.set_num_threads(1)
        # Restored in every case: the number of threads is part of where results are computed.
        try:
            return function(images)
        finally:
            torch.set_num_threads(threads)

    return alone


@cache
def _scan(folders: tuple[str, ...]) -> Sequence[tuple[str, MetricListing]]:
    """Read the decorators in every module of ``folders``; the order is that of tables."""
    found: dict[str, MetricListing] = {}
    # iter_modules sees what other distributions add to this package, which a listing of the folder would not.
    for place in pkgutil.iter_modules(folders):
        spec = place.module_finder.find_spec(place.name, None)
        if spec is None or spec.origin is None:
            continue
        for listing in _read_file(Path(spec.origin), f"{_PACKAGE}.{place.name}"):
            name = listing.info.name
            if name in found:
                raise InvalidMetricError(
                    f"metric {name!r} is registered twice: in {found[name].path} and in {listing.path}"
                )
            found[name] = listing

    def place_in_tables(item: tuple[str, MetricListing]) -> tuple[bool, bool, int]:
        name, listing = item
        rank = _TABLE_ORDER.index(name) if name in _TABLE_ORDER else len(_TABLE_ORDER)
        return listing.info.of == "set", listing.info.group != "primary", rank

    return sorted(found.items(), key=place_in_tables)


def _read_file(path: Path, module: str) -> list[MetricListing]:
    source = path.read_text(encoding="utf-8")
    if not any(
        f"@{name}(" in source for name in _DECORATORS
    ):  # most files hold none: parsing costs milliseconds
        return []
    return [
        MetricListing(_read_info(call, path), module, node.name, path)
        for node in ast.parse(source, str(path)).body
        if isinstance(node, ast.FunctionDef)
        for call in node.decorator_list
        if isinstance(call, ast.Call) and getattr(call.func, "id", None) in _DECORATORS
    ]


def _read_info(call: ast.Call, path: Path) -> MetricInfo:
    """Evaluate the literals of ``@image_metric(MetricInfo(...))``; nothing of the file is run."""
    try:
        # A call with literals only: the file's code is not run, so that a listing needs no torch and trusts
        # no one.
        (info,) = call.args
        assert isinstance(info, ast.Call)
        read = MetricInfo(**{str(k.arg): ast.literal_eval(k.value) for k in info.keywords})
    except (ValueError, TypeError, AssertionError) as error:
        raise InvalidMetricError(
            f"{path}:{call.lineno}: the argument must be MetricInfo(...) with literal keywords ({error})"
        ) from error
    # The decorator decides how the function is called, and the info what tables do with its number.
    if read.of != _DECORATORS[call.func.id]:  # type: ignore[attr-defined]
        raise InvalidMetricError(
            f"{path}:{call.lineno}: {read.name}: of={read.of!r} under the other decorator"
        )
    return read
