"""The report's sections, one file each, with a template of the same name: ``build`` makes what it shows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from markupsafe import Markup
from matplotlib.figure import Figure

from reports import svg as figures


@dataclass(frozen=True)
class Plot:
    """A figure on the page.

    Attributes:
        figure: the drawing.
        name: unique on the page.
        title: above it.
        alt: what it shows, for those who cannot see it.
        caption: under it; may be empty.
    """

    figure: Figure
    name: str
    title: str
    alt: str
    caption: str = ""

    @cached_property
    def svg(self) -> Markup:
        """The drawing as an element of the page."""
        # It is ours; matplotlib escapes what text it was given.
        return Markup(figures.to_svg(self.figure, self.name))  # nosec B704 (matplotlib escapes text)
