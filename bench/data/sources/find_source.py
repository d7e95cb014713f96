"""The way from a path to the images of a data source: a folder, a zip, or a download that was not unpacked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from bench.data.sources.base import DataSource, FoundImages
from bench.data.sources.file_tree import FileTree, open_tree
from bench.data.sources.find_zips import open_zips
from bench.data.sources.registry import data_sources
from bench.data.sources.unused_files import (
    divisions_not_used,
    files_not_used,
    unread_sentences,
    zips_not_used,
)
from bench.data.sources.unused_lists import lists_not_used
from bench.data.sources.zip_files import forget_open_zip, is_other_archive, is_packed
from bench.errors import DataError
from bench.wording import format_count
from masks.file_names import escape_name, first_names, folder_of, name_example, one_line, resolve_path
from masks.image_files import IMAGE_SUFFIXES


def find_source(path: Path) -> FoundImages:
    """Return the images at ``path`` as the first data source that recognizes them.

    Raises:
        DataError: nothing is there, no image, or a list that cannot be read.
    """
    # The zip may have been replaced since the last call in this process.
    forget_open_zip()
    path = resolve_path(str(path))
    if not path.exists():
        raise DataError(f"--data {path}: no such file or folder")
    tree = open_tree(path)
    # By source first: a known data set in a zip wins over the folder of images around it.
    for kind in data_sources():
        if (found := kind.select(tree)) is not None:
            return _describe(kind, tree, found, zips_not_used(kind, tree, found))
        for candidate in open_zips(tree, kind.zip_names):
            if (found := kind.select(candidate)) is not None:
                return _describe(kind, candidate, found)
    # No images in the folder itself: a download that was not extracted (Kaggle's archive.zip).
    # Only a lone zip: of several, nobody could say which one is meant.
    zips = list(open_zips(tree))
    if len(zips) == 1:
        for kind in data_sources():
            if (found := kind.select(zips[0])) is not None:
                return _describe(kind, zips[0], found)
    reasons = [f"holds no pictures ({', '.join(sorted(IMAGE_SUFFIXES))})"]
    if len(zips) > 1:
        reasons.append(f"it holds zips, of which --data takes one: {first_names(z.place.name for z in zips)}")
    if (above := path.absolute().with_name(f"{path.absolute().name}.zip")).is_file():
        reasons.append(f"{escape_name(str(above))} lies beside it: give that as --data")
    # A lone zip was looked into.
    inner = zips[0] if len(zips) == 1 else tree
    packed = [
        name for name in inner.files.others
        if (is_packed(name) if inner.place.is_file() else is_other_archive(name))
    ]  # fmt: skip
    if packed:
        reasons.append(f"it holds archives that are not looked into: {first_names(packed)}; unpack them")
    reasons += unread_sentences(tree, packed)
    if inner is not tree:
        shown = escape_name(inner.place.name)
        reasons += [f"{shown}: {sentence}" for sentence in unread_sentences(inner, packed)]
    raise DataError(f"--data {path}: {'; '.join(reasons)}")


def _describe(
    kind: DataSource, tree: FileTree, found: dict[str, str], notes: Sequence[str] = ()
) -> FoundImages:
    """Put together what is known of the images."""
    notes = [*files_not_used(kind, tree), *notes]
    paths: dict[str, str] = {}
    # Sorted, so that of two files with one id the same one is kept on every file system.
    for image_id, path in sorted(found.items()):
        escaped = escape_name(image_id)
        if escaped in paths:
            notes.append(
                f"left out: {one_line(image_id)}, since {one_line(paths[escaped])} is called {escaped} already"
            )
        paths.setdefault(escaped, path)
    # Again, since escaping may have changed the order; ids are sorted everywhere.
    paths = dict(sorted(paths.items()))
    unnamed = [image_id for image_id in paths if image_id not in found]
    if unnamed:
        count = format_count(len(unnamed), "file name", "are")
        notes.append(f"{count} not printable UTF-8; ids write such bytes as %XX ({name_example(unnamed)})")
    used = set(paths.values())
    unused = [path for path in tree.files.images if path not in used and escape_name(path) not in used]
    if unused:
        what = format_count(len(unused), "picture", "are")
        notes.append(f"{what} not used: {name_example(unused)}{_used_instead(used, unused)}")
    partition, identities = kind.partition(tree, paths), kind.identities(tree, paths)
    attributes = kind.attributes(tree, paths)
    if identities and len(identities) < len(paths):
        missing = len(paths) - len(identities)
        notes.append(f"the list of identities names no person for {missing:,} of {len(paths):,} pictures")
    if missing := len(paths) - min(map(len, attributes.values()), default=len(paths)):
        notes.append(f"the list of attributes says nothing of {missing:,} of {len(paths):,} pictures")
    notes += kind.remarks(tree, paths)
    if not partition:
        notes += divisions_not_used(paths)
    given = {"split": bool(partition), "identities": bool(identities), "attributes": bool(attributes)}
    notes += lists_not_used(kind, tree, paths, given)
    name, title = kind.called(tree)
    return FoundImages(
        kind=kind,
        name=name,
        title=title,
        place=tree.place,
        paths=paths,
        partition=partition,
        identities=identities,
        attributes=attributes,
        unsafe=[escape_name(member) for member in tree.files.unsafe],
        notes=notes,
    )


def _used_instead(used: Collection[str], unused: Collection[str]) -> str:
    """Return where the pictures that are used lie, for those that are not; empty where one folder holds both."""
    folders = Counter(map(folder_of, used))
    if not folders.keys().isdisjoint(map(folder_of, unused)):
        return ""
    named = first_names(f"{folder or '.'}/" for folder, _ in folders.most_common(3))
    return f"; those in {named}{' and others' if len(folders) > 3 else ''} are"
