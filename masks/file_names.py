"""Names of files as people have them: shown on a line, escaped in ids, and found again as paths.

It stands in this package because ``masks`` is the lowest package that reads images; it imports nothing of the project.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote_to_bytes

#: Control characters, ends of lines, what turns the direction of writing, and bytes of names that are not UTF-8.
_CONTROLS = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def escape_name(name: str) -> str:
    """Return a file name that a line of UTF-8 can show: other encodings and control characters are percent-encoded.

    Of names in another encoding the bytes are, of line ends, terminal sequences and marks that turn the direction of
    writing those of UTF-8, and ``%`` with them; every other name is unchanged. So ids stay apart in every table, page
    and terminal, and :func:`resolve_path` finds the file.

    >>> escape_name("caf\\udce9 100%.png"), escape_name("a\\nb\\u202e.png"), escape_name("café 100%.png")
    ('caf%E9 100%25.png', 'a%0Ab%E2%80%AE.png', 'café 100%.png')
    """
    if not _CONTROLS.search(name):
        return name
    return _CONTROLS.sub(lambda found: _percent(found[0]), name.replace("%", "%25"))


def _percent(character: str) -> str:
    # Surrogates stand for bytes that are not UTF-8 (PEP 383); lone ones of another origin are kept apart as \uXXXX.
    if "\ud800" <= character <= "\udfff" and not "\udc80" <= character <= "\udcff":
        return character.encode("utf-8", "backslashreplace").decode("ascii")
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogateescape"))


def path_of_id(image_id: str) -> PurePosixPath:
    """Return the path that an image id names.

    Ids have slashes on every system. A backslash is a letter of a name, the last byte of some of Shift-JIS, and only
    where Windows would take it for a slash it is one.

    >>> path_of_id("a/000001.jpg").name
    '000001.jpg'
    """
    return PurePosixPath(image_id.replace("\\", "/") if os.name == "nt" else image_id)


def name_of(path: str) -> str:
    """Return the last part of a path with slashes, as ``PurePosixPath(path).name`` does, in a tenth of the time.

    Data sets have hundreds of thousands of names.

    >>> name_of("a/000001.jpg"), name_of("000001.jpg")
    ('000001.jpg', '000001.jpg')
    """
    return path.rpartition("/")[2]


def stem_of(path: str) -> str:
    """Return the name of a path without its suffix, as ``PurePosixPath(path).stem`` does.

    >>> stem_of("a.b/000001.jpg"), stem_of("a/.png"), stem_of("a/b.")
    ('000001', '.png', 'b.')
    """
    name = path.rpartition("/")[2]
    dot = name.rfind(".")
    return name[:dot] if 0 < dot < len(name) - 1 else name


def folder_of(path: str) -> str:
    """Return the folder of a path with slashes; empty for the root.

    >>> folder_of("a/b/000001.jpg"), folder_of("000001.jpg")
    ('a/b', '')
    """
    return path.rpartition("/")[0]


def first_names(names: Iterable[str]) -> str:
    """Return the first three of some paths, for a sentence.

    >>> first_names(["a", "b", "c", "d"])
    'a, b, c'
    """
    return ", ".join(escape_name(name) for name in list(names)[:3])


def name_example(names: Sequence[str]) -> str:
    """Return the first of some paths as an example of them, for a sentence.

    >>> name_example(["a", "b"]), name_example(["a"])
    ('a and so on', 'a')
    """
    return escape_name(names[0]) + " and so on" * (len(names) > 1)


def one_line(text: str) -> str:
    """Return text as one line that a terminal shows as it is: control characters are written as escapes.

    Names of files and labels may hold line ends, which would look like messages of this program, and sequences that
    clear a terminal or turn the direction of writing. For showing only: ids and paths stay as they are.

    >>> one_line("a\\nb\\x1b[2J.png"), one_line("caf\\udce9"), one_line("über 漢字.png")
    ('a\\\\nb\\\\x1b[2J.png', 'caf\\\\udce9', 'über 漢字.png')
    """
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def resolve_path(name: str) -> Path:
    """Return the path of a user's file or folder, given as it is or as :func:`escape_name` writes it."""
    path = _without_tilde(Path(name))
    # A name that exists as given wins: files may have a real percent sign. lexists, so
    # that a broken link counts as a name.
    if "%" in name and not os.path.lexists(path):
        raw = os.fsdecode(unquote_to_bytes(name))
        # Other percent signs are a name's own: nothing but what a line cannot show is written so.
        if escape_name(raw) != raw and os.path.lexists(_without_tilde(Path(raw))):
            return _without_tilde(Path(raw))
    return path


def real_path(path: Path | str, *, home: bool = False) -> Path:
    """Return an absolute path whose links are followed as far as they lead.

    Unlike ``Path.resolve`` and ``Path.expanduser`` it raises nothing: a link to itself and a home that nobody has keep
    their names, and whoever opens them says what is wrong.

    Args:
        path: of a user's file or folder.
        home: replace a leading ``~``, which shells leave where it is quoted.
    """
    return Path(os.path.realpath(_without_tilde(Path(path)) if home else path))


def link_steps(path: Path) -> list[Path]:
    """Return an absolute path, each place where a link that it is leads in turn, and the real path at the end.

    People link data sets from other disks, some of whose folders are links to a store again.
    """
    steps = [path.absolute()]
    # As many as Linux follows.
    while steps[-1].is_symlink() and len(steps) < 40:
        target = steps[-1].parent / steps[-1].readlink()
        steps.append(real_path(target.parent) / target.name)
    return list(dict.fromkeys((*steps, real_path(path))))


def _without_tilde(path: Path) -> Path:
    """Replace a leading ``~``; a name stays what it is where there is no such user, since a folder may be called so."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path
