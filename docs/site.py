"""MkDocs hook: pages made from what they describe, so that they cannot differ from it.

``commands.md`` is every command's own ``--help``; ``changelog.md`` is ``CHANGELOG.md``. Links from a page to a
file outside of ``docs`` lose their target, since the site holds no source. Roles of docstrings become plain code, and
the words of commands are kept whole on narrow screens.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
#: Where the theme's offline plugin would load its worker from, and our copy of it.
WORKER, OWN_WORKER = re.compile(r"https://[^\"]*/iframe-worker/shim"), "assets/iframe-worker-shim.js"
OUTSIDE = re.compile(r"\[([^]]+)\]\(\.\./[^)]*\)")
#: A role of reStructuredText, as Markdown leaves it: mkdocstrings knows none.
ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod|obj):<code>(~?)([^<]*)</code>")
#: What of it must not reach a reader: a role, or the prompt of a doctest that was taken for a quotation.
RAW = re.compile(
    r":(?:attr|class|data|exc|func|meth|mod|obj):(?:<code>|`)|<blockquote>\s*(?:<blockquote>\s*){2}"
)
CODE = re.compile(r"(<code[^>]*>)(.*?)(</code>)", re.DOTALL)
#: Words at whose hyphens, slashes and underscores a browser would break a line, or could not break one.
WORD = re.compile(r"[^\s<>]*[-/_][^\s<>]*")


def helps(command: click.Command, context: click.Context) -> Iterator[tuple[str, str]]:
    """``(full name, help text)`` of a command and, after it, of all its subcommands."""
    yield context.command_path, command.get_help(context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from helps(child, click.Context(child, info_name=name, parent=context, terminal_width=80))


def commands_page() -> str:
    """Return the command reference in Markdown."""
    from bench.cli import cli

    # With the options of its help, -h among them, which commands inherit.
    context = click.Context(cli, info_name="bench", terminal_width=80, **cli.context_settings)
    lines = ["# Commands", "", "What each command says of itself when given `--help`."]
    for name, text in helps(cli, context):
        lines += ["", f"{'#' * min(len(name.split()) + 1, 3)} {name}", "", "```text", text.rstrip(), "```"]
    return "\n".join(lines) + "\n"


def changelog_page() -> str:
    """Return the changelog with links as from ``docs``: it stands beside the folder that it links to."""
    return (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").replace("](docs/", "](")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, "commands.md", content=commands_page()))
    files.append(File.generated(config, "changelog.md", content=changelog_page()))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Leave the text of links that point outside of ``docs``; pages in a folder may link to their neighbours."""
    return markdown if "/" in page.file.src_uri else OUTSIDE.sub(r"\1", markdown)


def on_page_content(html: str, page: Page, **_: Any) -> str:
    """Finish a page's HTML: plain code instead of roles, and words of code that stay whole.

    Raises:
        PluginError: markup of a docstring would be shown as it is written.
    """
    from mkdocs.exceptions import PluginError

    html = plain_roles(html)
    if raw := RAW.search(html):
        raise PluginError(f"{page.file.src_uri}: raw markup: {html[raw.start() : raw.end() + 60]!r}")
    return whole_words(html)


def plain_roles(html: str) -> str:
    """Show what a role names as code; ``~`` leaves the last part of the name.

    >>> plain_roles("see :func:<code>~bench.api.run</code> and :class:<code>Experiment</code>")
    'see <code>run</code> and <code>Experiment</code>'
    """

    def code(match: re.Match[str]) -> str:
        return f"<code>{match[2].rsplit('.', 1)[-1] if match[1] else match[2]}</code>"

    return ROLE.sub(code, html)


def whole_words(html: str) -> str:
    """Keep each word of code on one line where one is long enough: a browser breaks after every hyphen.

    A word that is longer than a line is broken after its commas, slashes and underscores first.

    >>> whole_words("<p>a-b</p><code>bench run --seeds 0,1</code>")
    '<p>a-b</p><code>bench run <span class="word">--seeds</span> 0,1</code>'
    >>> whole_words("<code>mean-image,linear</code>")
    '<code><span class="word">mean-image,<wbr>linear</span></code>'
    """

    def word(match: re.Match[str]) -> str:
        return f'<span class="word">{re.sub(r"(?<=[,/_])(?=[^,/_])", "<wbr>", match[0])}</span>'

    def code(match: re.Match[str]) -> str:
        # Tags within code are those of its highlighting.
        parts = re.split(r"(<[^>]*>)", match[2])
        text = "".join(part if part.startswith("<") else WORD.sub(word, part) for part in parts)
        return f"{match[1]}{text}{match[3]}"

    return CODE.sub(code, html)


def on_post_page(output: str, page: Page, **_: Any) -> str:
    """Load the search's worker from the site itself: nothing is fetched from elsewhere."""
    return WORKER.sub("../" * page.url.count("/") + OWN_WORKER, output)


def on_post_template(output: str, **_: Any) -> str:
    """Do the same on the page for addresses that do not exist, which has an address of its own."""
    return WORKER.sub(f"/{OWN_WORKER}", output)
