"""The report's sections, one file each, with a template of the same name: ``build`` makes what it shows."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.figure import Figure

from reports import figures


@dataclass(frozen=True)
class Plot:
    """A figure on the page.

    Attributes:
        svg: the drawing.
        title: above it.
        alt: what it shows, for those who cannot see it.
        caption: under it; may be empty.
    """

    svg: Markup
    title: str
    alt: str
    caption: str = ""


def plot(figure: Figure, name: str, title: str, alt: str, caption: str = "") -> Plot:
    """Make a figure part of the page; ``name`` is unique on it."""
    # The drawing is ours; matplotlib escapes what text it was given.
    return Plot(Markup(figures.to_svg(figure, name)), title, alt, caption)
