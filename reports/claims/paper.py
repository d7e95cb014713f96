"""The paper's claims, as data: the statement, its place, and the cells and comparisons that decide it.

Paper: Jiao et al., "Image Inpainting based on Gated Convolution and Spectral Normalization". It has one
quantitative table (Table 4, one number a model, no variance, mask not stated) and no ablation: the last four
claims are made in words only, and are tested here by models that lack the one part (``bench list models``,
group ``ablations``).
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from importlib import resources
from typing import Literal

import pandas as pd

Test = Literal["superiority", "size", "stability"]

#: The mask of Table 4 as far as can be told: section 5 says "mainly inpaints large rectangular center masks".
MASK = "center"

OURS = "mgs-iim"


#: SSIM as it is computed in public code; the paper does not say which it is. Claims are judged under each.
SSIM_CONVENTIONS = ("ssim", "ssim_uniform7", "ssim_y", "hole_ssim")

#: Smallest distance between the published difference and the margin's limits, by metric.
_LEAST_MARGIN = {"psnr_db": 0.1, "ssim": 0.002}


@dataclass(frozen=True)
class ClaimComparison:
    """``better`` is said to beat ``worse`` (registry names) in ``metric``; ``published`` is by how much."""

    better: str
    worse: str
    metric: str = "psnr_db"
    published: float | None = None


@dataclass(frozen=True)
class EquivalenceMargin:
    """How close to a published difference counts as the same size.

    Attributes:
        least, most: the limits as shares of the published difference.
    """

    least: float = 0.5
    most: float = 1.5

    def limits(self, comparison: ClaimComparison) -> tuple[float, float]:
        """Return the margin's limits, at least 0.1 dB or 0.002 of SSIM from the published difference.

        Examples:
            >>> margin = EquivalenceMargin()
            >>> margin.limits(ClaimComparison("mgs-iim", "glcic", "psnr_db", 0.8))
            (0.4, 1.2)
            >>> margin.limits(ClaimComparison("mgs-iim", "glcic", "psnr_db", 0.1))
            (0.0, 0.2)
        """
        published = comparison.published
        assert published is not None, "a claim of size has a published difference"
        floor = _LEAST_MARGIN[comparison.metric]
        # Sorted, since a negative difference turns the limits round; rounded, so
        # that 0.4 does not print as 0.4000000001.
        shares = sorted((published * self.least, published * self.most))
        return round(min(shares[0], published - floor), 6), round(max(shares[1], published + floor), 6)


@dataclass(frozen=True)
class Claim:
    """A statement that data can decide.

    Attributes:
        key: short name.
        statement: in one sentence.
        source: where the paper makes it.
        test: ``superiority``: every comparison is decided in the claimed direction. ``size``: every difference is
            within ``margin`` of the published one. ``stability``: validation PSNR fluctuates less in the second
            half of training.
        comparisons: all of them must hold.
        mask: evaluated on.
        margin: for ``size``: how close to the published difference counts as the same.
    """

    key: str
    statement: str
    source: str
    test: Test
    comparisons: tuple[ClaimComparison, ...]
    mask: str = MASK
    margin: EquivalenceMargin = EquivalenceMargin()

    @property
    def models(self) -> list[str]:
        """List the registry names of the models whose cells the claim needs."""
        return list(dict.fromkeys(name for c in self.comparisons for name in (c.better, c.worse)))


@dataclass(frozen=True)
class Citation:
    """How a page cites the paper; its edition carries no DOI, so ``url`` searches for the title."""

    authors: str
    title: str
    url: str


PAPER = Citation(
    "Jiao et al.",
    "Image Inpainting based on Gated Convolution and Spectral Normalization",
    "https://search.crossref.org/search/works?q="
    "Image+Inpainting+based+on+Gated+Convolution+and+Spectral+Normalization&from_ui=yes",
)

_ORDER = (OURS, "pconv", "glcic", "context-encoder")


def _order(metric: str) -> tuple[ClaimComparison, ...]:
    return tuple(ClaimComparison(better, worse, metric) for better, worse in itertools.pairwise(_ORDER))


def _sizes(metric: str, differences: dict[str, float]) -> tuple[ClaimComparison, ...]:
    return tuple(ClaimComparison(OURS, worse, metric, value) for worse, value in differences.items())


def _ablation(without: str) -> tuple[ClaimComparison, ...]:
    return tuple(ClaimComparison(OURS, without, metric) for metric in ("psnr_db", "ssim"))


CLAIMS = (
    Claim(
        "order-psnr",
        "In PSNR, MGS-IIM beats PConv, PConv beats GLCIC, and GLCIC beats Context Encoder.",
        "Table 4",
        "superiority",
        _order("psnr_db"),
    ),
    Claim(
        "order-ssim",
        "In SSIM, MGS-IIM beats PConv, PConv beats GLCIC, and GLCIC beats Context Encoder.",
        "Table 4",
        "superiority",
        _order("ssim"),
    ),
    Claim(
        "size-psnr",
        "MGS-IIM leads by 0.53 dB over PConv, 0.80 dB over GLCIC and 3.37 dB over Context Encoder.",
        "Table 4",
        "size",
        _sizes("psnr_db", {"pconv": 0.5336, "glcic": 0.8015, "context-encoder": 3.3681}),
    ),
    Claim(
        "size-ssim",
        "MGS-IIM leads in SSIM by 0.0055 over PConv, 0.0143 over GLCIC and 0.0449 over Context Encoder.",
        "Table 4",
        "size",
        _sizes("ssim", {"pconv": 0.0055, "glcic": 0.0143, "context-encoder": 0.0449}),
    ),
    Claim(
        "gated-convolution",
        "Gated convolution improves on plain convolution.",
        "abstract, sections 3.1 and 5 (no numbers)",
        "superiority",
        _ablation("mgs-iim-no-gate"),
    ),
    Claim(
        "spectral-normalisation",
        "Spectral normalisation stabilises training.",
        "abstract, sections 3.4 and 5 (no numbers)",
        "stability",
        (ClaimComparison(OURS, "mgs-iim-no-sn"),),
    ),
    Claim(
        "two-discriminators",
        "A local and a global discriminator together beat the global one alone.",
        "abstract and section 3.4 (no numbers)",
        "superiority",
        _ablation("mgs-iim-single-d"),
    ),
    Claim(
        "skip-connections",
        "Skip connections help.",
        "sections 3.2 and 5 (no numbers)",
        "superiority",
        _ablation("mgs-iim-no-skip"),
    ),
)


def published_table() -> pd.DataFrame:
    """Read the paper's own numbers (``published.csv``): Table 4, section 4.3.

    A reference, never a pass mark: the paper names neither the mask, the crop, the SSIM convention nor the number
    of trainings behind them, and two of its baselines cannot be identified.

    Returns:
        Columns ``model`` (registry name), ``paper_name``, ``metric``, ``value``, ``table``, ``section``, ``page``.
        ``page`` is text, empty where the edition at hand is not paginated; ``section`` always locates the number.

    Examples:
        >>> list(published_table()["paper_name"].unique())
        ['C-E', 'GLCIC', 'PConv', 'Ours']
    """
    source = resources.files("reports.claims").joinpath("published.csv")
    with source.open(encoding="utf-8") as file:
        # Empty pages stay empty texts instead of NaN.
        return pd.read_csv(file, dtype={"section": str, "page": str}, keep_default_na=False)


def published_value(model: str, metric: str) -> float | None:
    """Return Table 4's number for a model's registry name, or ``None`` where the paper has none.

    Examples:
        >>> published_value("mgs-iim", "psnr_db"), published_value("mean", "psnr_db")
        (27.9212, None)
    """
    return _published_values().get((model, metric))


def published_models() -> list[str]:
    """List the registry names of Table 4, in its order.

    Examples:
        >>> published_models()
        ['context-encoder', 'glcic', 'pconv', 'mgs-iim']
    """
    return list(dict.fromkeys(model for model, _ in _published_values()))


@functools.cache
def _published_values() -> dict[tuple[str, str], float]:
    """Read each number once: pages ask for them a thousand times."""
    table = published_table()
    return dict(
        zip(zip(table["model"], table["metric"], strict=True), table["value"].astype(float), strict=True)
    )
