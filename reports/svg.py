"""Figures as inline SVG: small, deterministic, with text in the reader's own font and colors of the page.

What must follow the page's light or dark scheme is drawn in stand-in colors (:data:`INK`, :data:`FAINT`,
:data:`PAPER`), which :func:`to_svg` turns into CSS variables of the page. :func:`add_hint` gives a part of a drawing
the text that a browser shows when a pointer rests on it.
"""

from __future__ import annotations

import reports.plain_matplotlib  # noqa: F401  before anything imports matplotlib

# isort: split
import base64
import contextlib
import html
import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.markers import MarkerStyle

from reports.palette import LineStyle
from reports.results.atomic_io import atomic_write

#: Stand-ins for text, for thin lines, and for the page behind.
INK, FAINT, PAPER = "#010203", "#c4c5c6", "#fdfcfb"
_VARIABLES = {INK: "var(--ink-2)", FAINT: "var(--line)", PAPER: "var(--paper)"}

#: How the identifier of a part with a hint starts; the rest is the text, encoded.
_HINT = "hint."

#: Inches; a figure is as wide as a telephone and sits in a grid of as many as fit.
WIDTH, HEIGHT = 4.7, 3.1

_STYLE: Any = {
    "font.size": 9.5,
    "font.family": "sans-serif",
    # Comes with matplotlib, so that texts are measured alike on every machine.
    "font.sans-serif": ["DejaVu Sans"],
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 9,
    "axes.labelsize": 9.5,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    # Numbers as they are, not as differences to one in the corner of the figure.
    "axes.formatter.useoffset": False,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "text.color": INK,
    # A dollar sign in a name is a dollar sign.
    "text.parse_math": False,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 9.0,
    "ytick.labelsize": 9.0,
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "lines.linewidth": 1.7,
    # Text stays text, which can be searched, and takes the font of the page.
    "svg.fonttype": "none",
}


@contextlib.contextmanager
def apply_style(settings: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Apply the report's style to the figures drawn or written inside, with further ``settings`` of matplotlib."""
    with mpl.rc_context():
        # A page is the same whatever a person, or the notebook that it is made in, has set.
        mpl.rcdefaults()
        style: Any = {**_STYLE, **(settings or {})}
        mpl.rcParams.update(style)
        yield


def new_figure(width: float = WIDTH, height: float = HEIGHT) -> tuple[Figure, Any]:
    """Make a figure with one set of axes, without pyplot and its global list of figures."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    return figure, figure.subplots()


def marker_path(style: LineStyle, x: float = 17.0, y: float = 6.0, size: float = 8.5) -> str:
    """Draw a style's marker as the ``d`` of an SVG path, ``size`` wide around ``(x, y)``.

    >>> marker_path(LineStyle("#000000", "-", "s"), x=5, y=5, size=4)
    'M3.0 7.0L7.0 7.0L7.0 3.0L3.0 3.0L3.0 7.0Z'
    """
    marker = MarkerStyle(style.marker)
    outline = marker.get_path().transformed(marker.get_transform())
    # SVG counts y downwards.
    polygons = [np.asarray(polygon) * (size, -size) + (x, y) for polygon in outline.to_polygons()]
    return "".join("M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in polygon) + "Z" for polygon in polygons)


def add_hint(artist: Artist, text: str) -> None:
    """Let a part of a drawing show ``text`` when a pointer rests on it."""
    # A group identifier is the one thing that matplotlib's SVG writer passes on for every kind of artist.
    artist.set_gid(_HINT + base64.urlsafe_b64encode(text.encode()).decode())


def to_svg(figure: Figure, name: str) -> str:
    """Write the figure as an SVG element for an HTML page.

    Args:
        figure: drawn within :func:`apply_style`.
        name: unique on the page; identifiers inside the SVG are derived from it.
    """
    buffer = io.StringIO()
    salt = re.sub(r"[^a-z0-9]+", "-", name.lower())
    # A salt of the name makes identifiers the same in every run, and different
    # from those of other figures on the page.
    with apply_style({"svg.hashsalt": salt}):
        figure.savefig(
            buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    text = buffer.getvalue()
    # The XML prolog belongs in a standalone file only, and the page's policy would refuse a style element.
    text = re.sub(
        r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", text[text.index("<svg") :], flags=re.S
    )
    text = re.sub(rf'<g id="{_HINT}([^"]+)">', _title, text)
    # Only what is referred to keeps an identifier.
    used = set(re.findall(r"""(?:href="|url\()#([^")]+)""", text))
    text = re.sub(r"<[^<>]+>", lambda tag: _clean(tag.group(), salt, used), text)
    return re.sub(r"\s*\n\s*", " ", text).strip()


def save_figure(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write ``<name>.svg`` and ``<name>.png`` (300 dots an inch) on white, for papers.

    On the page one legend stands for many figures; here each figure of named lines gets its own.
    """
    for artist in figure.findobj(lambda part: (part.get_gid() or "").startswith(_HINT)):
        # Hints are for the page; in a file they would be identifiers of hundreds of letters.
        artist.set_gid(None)
    svg, png = folder / f"{name}.svg", folder / f"{name}.png"
    # Letters as paths: a paper's reader may not have the font.
    with apply_style({"svg.hashsalt": name, "svg.fonttype": "path"}):
        for axes in figure.axes:
            handles, labels = axes.get_legend_handles_labels()
            if handles and axes.get_legend() is None:
                once = dict(zip(labels, handles, strict=True))
                figure.set_figheight(figure.get_figheight() + 0.2 * len(once) + 0.1)
                figure.legend(once.values(), once.keys(), loc="outside lower left")
        shape: dict[str, Any] = {"facecolor": "white", "bbox_inches": "tight"}
        # The format is named, since the temporary file's suffix is none.
        atomic_write(svg, lambda p: figure.savefig(p, format="svg", metadata={"Date": None}, **shape))
        atomic_write(
            png, lambda p: figure.savefig(p, format="png", metadata={"Software": None}, dpi=300, **shape)
        )
    return [svg, png]


def _clean(tag: str, salt: str, used: set[str]) -> str:
    """Give a tag (never text, which may name a model) colors of the page and identifiers of its own."""
    tag = re.sub(r' id="([^"]*)"', lambda m: f' id="{salt}-{m[1]}"' if m[1] in used else "", tag)
    tag = re.sub(r"(href=\"|url\()#", rf"\g<1>#{salt}-", tag).replace("xlink:href", "href")
    tag = re.sub(r"font: (?:(\d+) )?([\d.]+)px [^;\"]*", _font, tag)
    tag = re.sub(r"; font-family: [^;\"]*", "", tag)
    tag = re.sub(r"(\d+\.\d{2})\d+", r"\1", tag)  # a hundredth of a point is finer than any screen
    # Colors that no model has, so that nothing else is replaced.
    for stand_in, variable in _VARIABLES.items():
        tag = tag.replace(stand_in, variable)
    if tag.startswith("<svg"):
        # Inside HTML the name space is implied, and the style sheet decides the size.
        tag = re.sub(r' (?:xmlns|xmlns:xlink|width|height|version)="[^"]*"', "", tag)
        tag = tag.replace("<svg", '<svg class="plot" aria-hidden="true" focusable="false"', 1)
    return tag


def _title(match: re.Match[str]) -> str:
    text = base64.urlsafe_b64decode(match[1]).decode()
    return f'<g class="hint"><title>{html.escape(text)}</title>'


def _font(match: re.Match[str]) -> str:
    weight = f"font-weight: {match[1]}; " if match[1] else ""
    return f"{weight}font-size: {match[2]}px"
