"""What a metric's numbers mean: the one description from which every table, page and listing is made.

A metric's own :class:`MetricInfo` stands beside its function in ``bench/evaluation/``; the manifest carries it, so that
an experiment is shown by what it was measured with, whatever the installed version knows. Imports nothing heavy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Group = Literal["primary", "secondary"]
Subject = Literal["image", "set"]

#: Headings, digits and groups of the metrics whose manifests were written before manifests carried them.
_BEFORE_HEADINGS: dict[str, tuple[str, int, Group]] = {
    "psnr_db": ("PSNR", 2, "primary"),
    "ssim": ("SSIM", 4, "primary"),
    "lpips_alex": ("LPIPS (Alex)", 4, "primary"),
    "hole_psnr_db": ("hole PSNR", 2, "secondary"),
    "hole_mae": ("hole MAE", 4, "secondary"),
    "hole_ssim": ("hole SSIM", 4, "secondary"),
    "raw_psnr_db": ("raw PSNR", 2, "secondary"),
    "ssim_uniform7": ("SSIM (uniform 7)", 4, "secondary"),
    "ssim_y": ("SSIM (luma)", 4, "secondary"),
    "lpips_vgg": ("LPIPS (VGG)", 4, "secondary"),
    "lpips_squeeze": ("LPIPS (SqueezeNet)", 4, "secondary"),
    "fid": ("FID", 2, "secondary"),
}
_FID_FEW_IMAGES = "it is biased upwards"


@dataclass(frozen=True, kw_only=True)
class MetricInfo:
    """Describe a metric.

    Attributes:
        name: column in every table; carries the unit or variant.
        heading: what tables call it, without the unit.
        digits: decimal places that tables show.
        convention: what exactly is computed, on what.
        higher_is_better: direction.
        unit: ``dB`` or empty.
        value_range: lowest and highest value; ``None`` where there is no limit.
        source: paper.
        oracle: program or calculation whose numbers these equal, in a test.
        group: ``primary`` metrics are in every run, ``secondary`` ones by name or group.
        of: ``image``: one number per image, averaged by reports; ``set``: one number for all images of a cell.
        weights: weights it needs, with their license; empty where it needs none.
        images: which images it is for; empty for all.
        few_images: what a small number of images does to a metric of sets.

    Examples:
        >>> psnr = MetricInfo(
        ...     name="psnr_db", heading="PSNR", digits=2, unit="dB", convention="whole image", higher_is_better=True
        ... )
        >>> psnr.title, psnr.arrow, psnr.format_value(24.553), psnr.format_value(-0.5, sign=True)
        ('PSNR (dB)', '↑', '24.55', '−0.50')
    """

    name: str
    heading: str
    digits: int
    convention: str
    higher_is_better: bool
    unit: str = ""
    value_range: tuple[float | None, float | None] = (None, None)
    source: str = ""
    oracle: str = ""
    group: Group = "secondary"
    of: Subject = "image"
    weights: str = ""
    images: str = ""
    few_images: str = ""

    @property
    def title(self) -> str:
        """Heading with unit."""
        return f"{self.heading} ({self.unit})" if self.unit and self.unit != "1" else self.heading

    @property
    def arrow(self) -> str:
        """Which way is better."""
        return "↑" if self.higher_is_better else "↓"

    @property
    def range_text(self) -> str:
        """Lowest and highest value in words.

        >>> MetricInfo(
        ...     name="mae", heading="MAE", digits=4, convention="", higher_is_better=False, value_range=(0.0, 1.0)
        ... ).range_text
        '0 to 1'
        """
        low, high = self.value_range
        if low is None:
            return "unbounded" if high is None else f"up to {high:g}"
        return f"from {low:g}" if high is None else f"{low:g} to {high:g}"

    @property
    def summary(self) -> str:
        """Range, unit, direction, group, source and weights in one phrase."""
        better = "higher" if self.higher_is_better else "lower"
        parts = [
            f"{self.range_text} {self.unit}".rstrip(),
            f"{better} is better; {self.group} [{self.source}]",
        ]
        return ", ".join(parts) + (f"; needs {self.weights}" if self.weights else "")

    def format_value(self, value: float | None, *, sign: bool = False, missing: str = "–") -> str:
        """Format a value with this metric's digits and a typographic minus; ``missing`` for none or NaN."""
        if value is None or math.isnan(value):
            return missing
        # The typographic minus is as wide as a plus, so that signed columns line up.
        return f"{value:{'+' if sign else ''}.{self.digits}f}".replace("-", "−")

    def as_record(self) -> dict[str, Any]:
        """Return what a manifest keeps, under the metric's name."""
        record = asdict(self)
        del record["name"]
        return record | {"value_range": list(self.value_range)}

    @classmethod
    def from_record(cls, name: str, record: Mapping[str, Any]) -> MetricInfo:
        """Read a metric of a manifest; fields that older manifests lack are filled in, unknown ones ignored.

        >>> old = {"convention": "whole image", "unit": "dB", "higher_is_better": True, "unavailable": None}
        >>> MetricInfo.from_record("hole_psnr_db", old).title
        'hole PSNR (dB)'
        >>> MetricInfo.from_record("my_metric", {}).digits
        4
        """
        unit = str(record.get("unit") or "")
        # A metric of somebody's own may come without heading and digits.
        heading, digits, group = _BEFORE_HEADINGS.get(name, (name, 2 if unit == "dB" else 4, "secondary"))
        low, high = record.get("value_range") or (None, None)
        return cls(
            name=name,
            heading=str(record.get("heading") or heading),
            digits=int(record.get("digits", digits)),
            convention=str(record.get("convention") or ""),
            higher_is_better=bool(record.get("higher_is_better", True)),
            unit=unit,
            value_range=(low, high),
            source=str(record.get("source") or ""),
            oracle=str(record.get("oracle") or ""),
            group=record.get("group", group),
            of=record.get("of", "set" if name == "fid" else "image"),
            weights=str(record.get("weights") or ""),
            images=str(record.get("images") or ""),
            few_images=str(record.get("few_images", _FID_FEW_IMAGES if name == "fid" else "")),
        )
