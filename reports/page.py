"""An HTML page from a template of this package: one self-contained file under a strict policy."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from reports import svg
from reports.images import image_uri
from reports.results.atomic_io import atomic_write

#: Runs in the head, before anything is drawn: controls that need scripts are hidden without it.
_HEAD_SCRIPT = 'document.documentElement.classList.add("js")'


def render_page(template: str, values: dict[str, Any]) -> str:
    """Render a template of this package; undefined names are errors, and text is escaped and typeset."""
    return typeset(_environment().get_template(template).render(**values))


#: Elements whose text is copied, run or read as it is written; they hold none of their own kind.
_VERBATIM = re.compile(r"(<(script|style|svg|pre|code|textarea|kbd)\b.*?</\2>|<[^>]*>)", re.DOTALL)
_UNIT = re.compile(r"(?<=\d)(?=%)|(?<=\d) (?=(?:%|dB|px|GiB|MiB|kB|GB|MB|s|min|h)(?![\w]))")


def typeset(html: str) -> str:
    """Keep numbers and their units on one line, and use the apostrophe of printed text, in the text of a page.

    Examples:
        >>> ascii(typeset("<p title='5 s'>95 % of a paper's</p><code>it's 3 s</code>"))
        '"<p title=\\'5 s\\'>95\\\\xa0% of a paper\\\\u2019s</p><code>it\\'s 3 s</code>"'
    """
    parts = _VERBATIM.split(html)
    # Of each three: text, what stays, and the name that its pattern caught.
    parts[2::3] = [""] * len(parts[2::3])
    parts[0::3] = [
        re.sub(r"(?<=\w)(?:'|&#39;)(?=\w)", "’", _UNIT.sub("\u00a0", text)) for text in parts[0::3]
    ]
    return "".join(parts)


def with_minus_signs(text: str) -> str:
    """Write a minus sign before negative numbers and between models, as tables do; hyphens of names stay.

    Examples:
        >>> with_minus_signs("MGS-IIM - GLCIC: -0.30 [-0.55, -0.06] dB")
        'MGS-IIM − GLCIC: −0.30 [−0.55, −0.06] dB'
    """
    return re.sub(r"(?<=[\s(\[])-(?=[\s\d])", "−", text)


def file_url(name: str) -> str:
    """Return the URL of a file or folder beside a page: the bytes of its name, percent-encoded.

    Jinja's own filter takes names for UTF-8, which those of old archives are not.

    Examples:
        >>> file_url("caf\\udce9"), file_url("café 100%"), file_url("javascript:x")
        ('caf%E9', 'caf%C3%A9%20100%25', 'javascript%3Ax')
    """
    return quote(os.fsencode(name))


def write_page(path: Path, text: str) -> Path:
    """Write a page atomically. What UTF-8 cannot hold is shown as an escape, never a reason to write nothing."""
    content = text.encode("utf-8", errors="backslashreplace")
    atomic_write(path, lambda temporary: temporary.write_bytes(content))
    return path


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["asset"] = _asset
    environment.filters["minus"] = with_minus_signs
    environment.filters["file_url"] = file_url
    environment.globals["head_script"] = Markup(_HEAD_SCRIPT)  # nosec B704
    environment.globals["content_policy"] = content_policy
    # Stands in until a script sets the real image: an ``img`` without ``src`` is not valid HTML.
    environment.globals["transparent"] = image_uri(np.zeros((1, 1, 4), np.uint8))
    environment.globals["marker"] = svg.marker_path
    return environment


def _asset(name: str) -> Markup:
    """Return a style sheet or script of this package, verbatim."""
    loader = _environment().loader
    assert loader is not None
    # Not rendered as a template: the policy admits this very text by its digest.
    text = loader.get_source(_environment(), name)[0]
    return Markup(text)  # nosec B704


def content_policy(style: str, *scripts: str) -> str:
    """Return the content-security policy of a page: only these very elements run or apply.

    Scripts and the style sheet are admitted by their digests, so that no text of an experiment can become code.
    Style *attributes* are admitted: drawings have them, and they cannot load anything under ``default-src 'none'``.

    Args:
        style: asset whose text is the page's one style element.
        scripts: assets whose texts are its script elements besides the one in the head.
    """
    scripts_allowed = " ".join(_digest(text) for text in (_HEAD_SCRIPT, *map(_element_text, scripts)))
    return (
        f"default-src 'none'; img-src data:; style-src-elem {_digest(_element_text(style))}; "
        f"style-src-attr 'unsafe-inline'; script-src {scripts_allowed}; base-uri 'none'; form-action 'none'"
    )


def _element_text(asset: str) -> str:
    """Return an asset as it stands between its tags in every template: on lines of its own."""
    return f"\n{_asset(asset)}\n"


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
