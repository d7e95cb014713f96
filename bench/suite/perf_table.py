"""What ``bench perf`` measured, as the rows of a table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def rows(result: dict[str, Any]) -> Iterator[dict[str, str]]:
    """The table's rows, as text by column."""
    for model in result["models"]:
        for phase in model["phases"]:
            plain = phase.get("times_plain")
            yield {
                "model": model["model"],
                "phase": phase["phase"],
                "images/s": f"{phase['images_per_second']:.1f}",
                "ms": f"{phase['step_seconds'] * 1e3:.0f}",
                "x plain": "-" if plain is None else f"{plain:.2f}",
                "GMAC/image": f"{phase['multiply_accumulates'] / 1e9:.2f}",
                "of matrix rate": f"{phase['matrix_share']:.0%}",
                "networks": f"{phase['networks_matrix_share']:.0%}",
                "optimizer ms": f"{phase['optimizer_seconds'] * 1e3:.1f}",
                "outside": f"{phase['outside_share']:.1%}",
                "peak MiB": _whole(model["peak_memory_mb"]),
            }
        inference = model["inference"]
        yield {
            "model": model["model"],
            "phase": "inference",
            "images/s": f"{inference['images_per_second']:.1f}",
            "ms": f"{inference['batch_seconds'] * 1e3:.0f}",
            "x plain": "-",
            "GMAC/image": f"{inference['multiply_accumulates'] / 1e9:.2f}",
            "of matrix rate": f"{inference['matrix_share']:.0%}",
            "networks": "-",
            "optimizer ms": "-",
            "outside": "-",
            "peak MiB": "-",
        }


def _whole(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"
