"""One color, dash and marker for each model, the same in every figure and table.

Colors are of middle lightness, so that they are visible on a light page and on a dark one, near those of Okabe and
Ito, which people with color blindness can tell apart. Dashes and markers tell the lines apart in grayscale.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Dash = str | tuple[float, tuple[float, ...]]


@dataclass(frozen=True)
class LineStyle:
    """How a model is drawn: ``color`` as ``#rrggbb``, ``dash`` and ``marker`` as matplotlib takes them."""

    color: str
    dash: Dash
    marker: str

    def line(self) -> dict[str, Any]:
        """Return keyword arguments of ``Axes.plot``."""
        return {"color": self.color, "linestyle": self.dash}

    @property
    def dash_array(self) -> str:
        """Return the dash as SVG's ``stroke-dasharray`` for a line of width 1.7; empty for a solid line."""
        return "" if isinstance(self.dash, str) else " ".join(f"{1.7 * part:.1f}" for part in self.dash[1])


_SOLID, _DASHED, _DOTTED = "-", (0.0, (5.0, 2.0)), (0.0, (1.2, 1.6))
_DASHDOT, _LONG = (0.0, (6.0, 1.6, 1.2, 1.6)), (0.0, (9.0, 3.0))

#: The paper's four models and the training-free baselines look the same in every report.
KNOWN = {
    "mgs-iim": LineStyle("#d55e00", _SOLID, "o"),
    "glcic": LineStyle("#2b7bba", _DASHED, "s"),
    "pconv": LineStyle("#12946c", _DASHDOT, "^"),
    "context-encoder": LineStyle("#b5609a", _LONG, "D"),
    "biharmonic": LineStyle("#a1823a", _DOTTED, "v"),
    "mean-image": LineStyle("#6f7c88", _DOTTED, "P"),
    "mean": LineStyle("#9aa0a6", _DOTTED, "X"),
}
_OTHERS = (
    LineStyle("#7a63c7", _SOLID, "h"),
    LineStyle("#d19a00", _DASHED, "<"),
    LineStyle("#3aa6cf", _DASHDOT, ">"),
    LineStyle("#7d9a1c", _LONG, "p"),
    LineStyle("#c24747", _SOLID, "d"),
    LineStyle("#8a5a3c", _DASHED, "*"),
    LineStyle("#4d6fd0", _DASHDOT, "8"),
    LineStyle("#4f9a94", _LONG, "H"),
)


def line_styles(entrants: Iterable[tuple[str, str]]) -> dict[str, LineStyle]:
    """Assign a style to every label.

    A model of the paper keeps its style; a second label of one model (another training mask) and models that
    this file does not know take the next free one, in the order given.

    Args:
        entrants: pairs of registry name and label.

    >>> styles = line_styles([("glcic", "GLCIC"), ("mine", "My model")])
    >>> styles["GLCIC"] == KNOWN["glcic"], styles["My model"].marker
    (True, 'h')
    """
    result: dict[str, LineStyle] = {}
    taken: set[str] = set()
    free = 0
    for model, label in entrants:
        if label in result:
            continue
        # Once only: two labels of one model must not look the same.
        if model in KNOWN and model not in taken:
            result[label] = KNOWN[model]
            taken.add(model)
        else:
            result[label] = _OTHERS[free % len(_OTHERS)]
            free += 1
    return result
