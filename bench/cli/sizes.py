"""Bytes and seconds as a person reads them."""

from __future__ import annotations


def size(num_bytes: float) -> str:
    """``512 B``, ``3.2 MiB``, ``15 GiB``."""
    units = ("B", "KiB", "MiB", "GiB", "TiB")
    value, unit = float(num_bytes), 0
    while value >= 1024 and unit < len(units) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.0f} {units[unit]}" if unit == 0 or value >= 10 else f"{value:.1f} {units[unit]}"
