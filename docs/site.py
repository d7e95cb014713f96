"""MkDocs hook: pages made from what they describe, so that they cannot differ from it.

``commands.md`` is every command's own ``--help``; ``changelog.md`` is ``CHANGELOG.md``. Links from a page to a
file outside of ``docs`` lose their target, since the site holds no source.
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

    context = click.Context(cli, info_name="bench", terminal_width=80)
    lines = ["# Commands", "", "What each command says of itself when given `--help`."]
    for name, text in helps(cli, context):
        lines += ["", f"{'#' * min(len(name.split()) + 1, 3)} {name}", "", "```text", text.rstrip(), "```"]
    return "\n".join(lines) + "\n"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, "commands.md", content=commands_page()))
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "changelog.md", content=changelog))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Leave the text of links that point outside of ``docs``; pages in a folder may link to their neighbours."""
    return markdown if "/" in page.file.src_uri else OUTSIDE.sub(r"\1", markdown)


def on_post_page(output: str, page: Page, **_: Any) -> str:
    """Load the search's worker from the site itself: nothing is fetched from elsewhere."""
    return WORKER.sub("../" * page.url.count("/") + OWN_WORKER, output)


def on_post_template(output: str, **_: Any) -> str:
    """Do the same on the page for addresses that do not exist, which has an address of its own."""
    return WORKER.sub(f"/{OWN_WORKER}", output)
