"""What the pages say can be typed: commands, options, Python, TOML, links; and the reference is the help itself."""

from __future__ import annotations

import importlib.util
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest

from bench.cli import cli
from bench.cli.commands.run import run_command as run_command
from bench.cli.config_file import options_from_mapping
from bench.runner.slurm_jobs import read_slurm_config
from models.external_program import load_program

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
GENERATED = {"commands.md", "changelog.md"}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(bench [^`]*)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
# Words of a synopsis, that stand for what the reader has.
PLACEHOLDER = re.compile(r"\.\.\.|\[|^[A-Z][A-Z_]*$")


def blocks(page: Path, *languages: str) -> list[str]:
    return [body for language, body in FENCE.findall(page.read_text("utf-8")) if language in languages]


def typed() -> Iterator[tuple[str, str]]:
    """``(page, command line)`` for each line of a code block that calls ``bench``."""
    for page in PAGES:
        for body in blocks(page, "", "bash", "sh", "console"):
            for line in body.replace("\\\n", " ").splitlines():
                for part in re.split(r"&&|\|", line.split("  #")[0]):
                    words = part.strip().removeprefix("$ ")
                    if match := re.match(r"(?:torchrun .*--no-python )?(bench .*)", words):
                        yield str(page.relative_to(ROOT)), match[1]


def mentioned() -> Iterator[tuple[str, str]]:
    """``(page, command line)`` for each ``bench ...`` within a sentence."""
    for page in PAGES:
        for line in INLINE.findall(FENCE.sub("", page.read_text("utf-8"))):
            yield str(page.relative_to(ROOT)), line


def command_of(words: list[str]) -> tuple[click.Command, list[str], click.Context]:
    """The command that ``words`` (without ``bench``) name, what is left of them, and its context."""
    command: click.Command = cli
    context = click.Context(cli, info_name="bench", **cli.context_settings)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        child = command.get_command(context, words[0])
        assert child is not None, f"no command {words[0]!r}"
        command, context, words = child, click.Context(child, info_name=words[0], parent=context), words[1:]
    if context.info_name == "ablate":  # hands its options to 'bench run'
        command = run_command
    return command, words, context


@pytest.mark.parametrize(("page", "line"), sorted(set(typed())))
def test_command_lines_in_blocks_are_accepted_by_the_parser(page: str, line: str) -> None:
    """Options exist and take what they are given, required arguments are there; files need not be."""
    command, words, context = command_of(shlex.split(line)[1:])
    parser = command.make_parser(context)
    values, rest, _ = parser.parse_args(list(words))
    assert not rest or command.allow_extra_args or context.ignore_unknown_options, (
        f"{page}: left over: {rest}"
    )
    for parameter in command.params:
        given = values.get(parameter.name or "")
        if isinstance(parameter, click.Argument) and parameter.required:
            assert isinstance(given, (str, tuple)), f"{page}: {line}: argument {parameter.name} is missing"
            assert given, f"{page}: {line}: argument {parameter.name} is missing"
        if isinstance(parameter.type, (click.Choice, click.types.IntParamType)) and isinstance(given, str):
            parameter.type.convert(given, parameter, context)


@pytest.mark.parametrize(("page", "line"), sorted(set(mentioned())))
def test_commands_in_sentences_exist_with_their_options(page: str, line: str) -> None:
    words = line.replace("...", " ").split()[1:]
    command, words, _ = command_of([w for w in words if not PLACEHOLDER.search(w)])
    known = {o for p in command.params for o in (*p.opts, *p.secondary_opts)} | {"--help", "-h"}
    for word in words:
        if word.startswith("--"):
            assert word.split("=")[0].rstrip(",") in known, f"{page}: {line}: no option {word}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_python_and_toml_blocks_are_read(page: Path, tmp_path: Path) -> None:
    """Python compiles; TOML is read by what it is for: a program, Slurm, or the options of ``bench run``."""
    for body in blocks(page, "python", "py"):
        compile(body, str(page), "exec")
    for body in blocks(page, "toml"):
        table = tomllib.loads(body)
        (tmp_path / "block.toml").write_text(body, encoding="utf-8")
        if "command" in table:
            load_program(f"exec:{tmp_path / 'block.toml'}")
        elif "partition" in table:
            read_slurm_config(tmp_path / "block.toml")
        elif not {"project", "tool", "build-system"} & set(table):
            options_from_mapping(table, click.Context(run_command), str(page))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as MkDocs makes them."""
    text = FENCE.sub("", page.read_text("utf-8"))
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    plain = (
        re.sub(r"[^\w\s-]", "", title.encode("ascii", "ignore").decode()).strip().lower() for title in titles
    )
    return {re.sub(r"[-\s]+", "-", title) for title in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(FENCE.sub("", page.read_text("utf-8"))):
        if "://" in link or link.startswith("mailto:"):
            continue
        name, _, anchor = link.partition("#")
        target = page if not name else page.parent / name
        if Path(name).name in GENERATED and target.parent == ROOT / "docs":
            continue
        assert target.exists(), f"{page.name}: {link}: no such file"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{page.name}: {link}: no such heading"


@pytest.fixture(scope="module")
def site() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_site", ROOT / "docs" / "site.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_command_reference_is_the_help_of_every_command(site: ModuleType) -> None:
    """Every option of every command and subcommand is on the page; none can be missed, since the page is the help."""
    page = site.commands_page()
    context = click.Context(cli, info_name="bench", terminal_width=80, **cli.context_settings)
    told = dict(site.helps(cli, context))
    assert all("-h, --help" in text for text in told.values())
    assert {f"bench {name}" for name in cli.list_commands(click.Context(cli))} < set(told)
    assert {"bench masks export", "bench data info", "bench weights fetch"} <= set(told)
    for name, text in told.items():
        assert text.rstrip() in page.split(f"# {name}\n", 1)[1].split("\n```\n", 1)[0]


def test_roles_of_docstrings_are_shown_as_code(site: ModuleType) -> None:
    html = "<p>see :func:<code>~bench.api.run</code>, :class:<code>Experiment</code> and <code>x</code></p>"
    assert site.plain_roles(html) == (
        "<p>see <code>run</code>, <code>Experiment</code> and <code>x</code></p>"
    )
    assert not site.RAW.search(site.plain_roles(html))
    assert site.RAW.search(html)


def test_commands_are_broken_between_words_only(site: ModuleType) -> None:
    """A browser breaks after every hyphen, and would leave ``--`` at the end of a line."""
    html = '<pre><code>bench run --jobs-per-gpu <span class="m">2</span> mean-image,pconv</code></pre> a-b'
    assert site.whole_words(html) == (
        '<pre><code>bench run <span class="word">--jobs-per-gpu</span> <span class="m">2</span> '
        '<span class="word">mean-image,<wbr>pconv</span></code></pre> a-b'
    )
    assert site.whole_words("<code>PATH/TO/celeba</code>") == (
        '<code><span class="word">PATH/<wbr>TO/<wbr>celeba</span></code>'
    )


def test_the_readme_is_read_in_a_few_minutes() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 700


def test_the_home_page_and_the_contents_have_the_order_in_which_people_ask() -> None:
    asked = ["install", "first-run", "data", "add-a-model", "compare-anything", "own-pictures", "many-gpus"]
    asked += ["reading-a-report", "statistics"]
    for name in ("docs/index.md", "mkdocs.yml"):
        text = (ROOT / name).read_text(encoding="utf-8")
        places = [re.search(rf"\b{page}\.md", text) for page in asked]
        found = [match.start() for match in places if match]
        assert len(found) == len(asked), name
        assert found == sorted(found), name


def test_every_page_is_in_the_contents() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = {str(p.relative_to(ROOT / "docs")) for p in PAGES if (ROOT / "docs") in p.parents}
    assert {page for page in pages if text.count(f" {page}\n") != 1} == set(), "each page once"


def test_links_of_the_changelog_lead_somewhere_from_its_page(site: ModuleType) -> None:
    """It stands beside ``docs``, and its page in it."""
    links = [link for link in LINK.findall(site.changelog_page()) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / "docs" / link.split("#")[0]).exists()] == []


def test_files_named_in_a_folder_are_there() -> None:
    """Of ``reports/statistics/ (`bootstrap.py`, ...)``: files are renamed, and pages would go on naming them."""
    listed = re.compile(r"`([\w/]+/)`\s+\(((?:`\w+\.py`(?:,\s+)?)+)\)")
    named = [
        (page.name, ROOT / folder / file)
        for page in PAGES
        for folder, files in listed.findall(page.read_text(encoding="utf-8"))
        for file in re.findall(r"`(\w+\.py)`", files)
    ]
    assert len(named) >= 5
    assert [(page, str(path)) for page, path in named if not path.exists()] == []
