"""The report's sections: one module each, beside a template of the same name.

A module of this package that defines ``SECTION`` is a section of the page: its builder makes a dictionary from the
report's context, and ``templates/sections/<name>.html.j2`` shows that dictionary under the name ``view``. Nothing else
needs to know of it: the page, the contents list and the exported figures all follow :func:`find_sections`.
"""

from __future__ import annotations

import reports.plain_matplotlib  # noqa: F401  before anything imports matplotlib

# isort: split
import importlib
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from reports import svg
from reports.context import ReportContext


@dataclass(frozen=True)
class ReportSection:
    """One section of the report.

    Attributes:
        name: anchor on the page and stem of the template.
        title: heading, also in the contents list. A builder may return another one under ``title``.
        order: position on the page; sections are sorted by it.
        build: makes what the template shows. A template is left out where it returns ``None``.
    """

    name: str
    title: str
    order: int
    build: Callable[[ReportContext], dict[str, Any] | None]

    @property
    def template(self) -> str:
        """The template's name.

        >>> ReportSection("cost", "Cost", 80, lambda context: {}).template
        'sections/cost.html.j2'
        """
        return f"sections/{self.name}.html.j2"


def find_sections() -> list[ReportSection]:
    """Every section that a module of this package defines, in page order.

    >>> [section.name for section in find_sections()][:2]
    ['examples', 'seeds']
    """
    names = [module.name for module in pkgutil.iter_modules(__path__)]
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
    sections = [module.SECTION for module in modules if hasattr(module, "SECTION")]
    return sorted(sections, key=lambda section: section.order)


@dataclass(frozen=True)
class Plot:
    """A figure on the page.

    Attributes:
        figure: the drawing.
        name: unique on the page.
        title: shown above it.
        alt: text alternative: what the figure shows, with its numbers.
        caption: shown under the title; may be empty.
    """

    figure: Figure
    name: str
    title: str
    alt: str
    caption: str = ""

    @cached_property
    def svg(self) -> Markup:
        """The drawing as an element of the page."""
        # The markup is our own; matplotlib escapes the texts that it was given.
        drawing = svg.to_svg(self.figure, self.name)
        return Markup(drawing)  # nosec B704


def find_plots(view: object) -> Iterator[Plot]:
    """Yield every plot inside what a builder returned, in order, however deeply nested."""
    if isinstance(view, Plot):
        yield view
    elif isinstance(view, dict):
        for value in view.values():
            yield from find_plots(value)
    elif isinstance(view, (list, tuple)):
        for value in view:
            yield from find_plots(value)
