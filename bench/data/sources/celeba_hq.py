"""CelebA-HQ: 30,000 faces of CelebA at 1024 pixels, and the smaller copies that are passed around."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

from bench.data.attribute_list import attributes_of, check_attributes
from bench.data.name_lists import NameList, V, find_column, is_number, match_names, parse_numbers
from bench.data.sources.base import (
    COLUMN_NAMES,
    DataSource,
    hold_out_validation,
    part_of_split,
    split_by_folder,
    take_larger_folders,
)
from bench.data.sources.celeba import HQ_FOLDER, is_celeba, is_listed_celeba
from bench.data.sources.file_tree import FileTree, is_called
from bench.errors import DataError
from masks.file_names import escape_name, first_names, folder_of, name_example, stem_of

_MAPPING = "CelebA-HQ-to-CelebA-mapping"
_COUNTED_FROM_1 = re.compile(r"(copy of )?data\d+x\d+([ _-].*)?", re.IGNORECASE)
_COUNT = 30_000
_SIX_DIGITS = re.compile(r"\d{6}")
_NUMBER = re.compile(r"(?:imgHQ)?0*(\d{1,5})")
#: Folders of the copies that come divided: LaMa's script, and ``train``, ``val`` and ``test``.
_PARTS = {
    "train": 0, "train_256": 0, "train_source_256": 0, "val": 1, "val_256": 1, "val_source_256": 1,
    "test": 2, "visual_test_256": 2, "visual_test_source_256": 2,
}  # fmt: skip


class CelebAHQ(DataSource):
    """CelebA-HQ, known by its folder or by the list that maps it to CelebA."""

    name = "celeba-hq"
    title = "CelebA-HQ"
    license = (
        "CelebA-HQ (Karras et al., ICLR 2018), made from CelebA: for non-commercial research only, not for "
        "redistribution; do not pass on a page with these pictures"
    )
    homepage = "https://github.com/tkarras/progressive_growing_of_gans"
    layout = "`CelebA-HQ-img/`, `celeba_hq_256/` and the like, with numbered images"
    published_split = (
        "CelebA's own through `CelebA-HQ-to-CelebA-mapping.txt` and `list_eval_partition.txt` "
        "(24,183 / 2,993 / 2,824), the folders of LaMa's script, or `train` and `val` of StarGAN v2's copy, whose "
        "`val` tests and of whose `train` 2 % validate"
    )
    order = 5
    aligned_faces = True
    lists = {  # noqa: RUF012 (a ClassVar of the base class)
        "split": "list_eval_partition",
        "identities": "identity_CelebA",
        "attributes": "list_attr_celeba",
        "mapping": _MAPPING,
    }

    def select(self, tree: FileTree) -> dict[str, str] | None:
        """Take the numbered images below a folder of CelebA-HQ's name."""
        if is_celeba(tree):
            return None  # in the folder of a project that is called after CelebA-HQ
        named = any(map(HQ_FOLDER.fullmatch, tree.names_above))
        images = [
            path
            for folder, paths in tree.image_folders.items()
            if any(map(HQ_FOLDER.fullmatch, tree.names_below(folder)))
            for path in paths
        ]
        # A place of its name that holds more than a folder in it is itself the whole one.
        own = len(tree.image_folders.get("", ())) if any(map(HQ_FOLDER.fullmatch, tree.own_names)) else 0
        if own > len(images) or (named and not images):
            images = tree.files.images
        if images and self._is_celeba(tree, images):
            return None
        # A folder that was renamed is still known by the mapping beside it.
        if not images and not has_celebas_names(tree.files.images) and self._mapping(tree):
            images = tree.files.images
        # Both ways of numbering may lie side by side, which are the same faces twice.
        found = max((_by_celebas_name(images), _by_index(tree, images)), key=len)
        return dict(sorted(found.items())) or None

    def _is_celeba(self, tree: FileTree, images: Sequence[str]) -> bool:
        """Return whether CelebA is meant, though images lie below a folder of CelebA-HQ's name."""
        if not has_celebas_names(images):
            # CelebA's lists are of others, beside them.
            outside = sorted(set(tree.files.images) - set(images))
            return has_celebas_names(outside) and not self._mapping(tree) and is_listed_celeba(tree)
        if len(images) > _COUNT:
            return True
        above = any(map(HQ_FOLDER.fullmatch, tree.names_above)) and not self._names_place(tree)
        return (above or self._lies_below(tree)) and is_listed_celeba(tree)

    def _mapping(self, tree: FileTree) -> NameList | None:
        """Return the list that maps CelebA-HQ's numbers to CelebA's names; ``None`` for none, or an empty one."""
        mapping = tree.find_list(_MAPPING, self.list_folders(tree), COLUMN_NAMES["mapping"])
        return mapping if mapping and mapping.rows else None

    def _lies_below(self, tree: FileTree) -> bool:
        """Return whether a list of CelebA's, with images below its folder, lies below a folder of CelebA-HQ's name."""
        given = tree.place.absolute()
        own = given.stem if given.is_file() else given.name
        for path in tree.files.others:
            folder = folder_of(path)
            if any(is_called(path, stem) for what, stem in self.lists.items() if what != "mapping"):
                above = [own, *filter(None, folder.split("/"))]
                named = [bool(HQ_FOLDER.fullmatch(name)) for name in above]
                has_images = any(f"{f}/".startswith(f"{folder}/") for f in tree.image_folders)
                if any(named[:-1]) and not named[-1] and has_images:
                    return True
        return False

    def _names_place(self, tree: FileTree) -> bool:
        """Return whether the place itself bears CelebA-HQ's name, or a folder in it does, and not only one above."""
        below = {part for folder in tree.image_folders for part in folder.split("/")}
        return any(map(HQ_FOLDER.fullmatch, {*tree.own_names, *below}))

    def partition(self, tree: FileTree, paths: Mapping[str, str]) -> dict[str, int]:
        """Divide as CelebA is, or by folders."""
        if divided := self._divide(paths):
            return divided
        return self._of_celeba(tree, paths, "split")

    def _divide(self, paths: Mapping[str, str]) -> dict[str, int]:
        """Divide by folders, where they do."""
        parts = split_by_folder(paths, _PARTS)
        if set(parts.values()) != {0, 1}:
            return parts
        # StarGAN v2's copy has no others: what it calls validation is what everybody tests on.
        return hold_out_validation({i: 2 if part else 0 for i, part in parts.items()}, self.name)

    def identities(self, tree: FileTree, paths: Mapping[str, str]) -> dict[str, int]:
        """Name people by CelebA's list."""
        return self._of_celeba(tree, paths, "identities")

    def concerns(self, what: str, listed: NameList, paths: Mapping[str, str]) -> bool:
        """Return whether a mapping names some of the images; other lists name CelebA's own, by six digits."""
        if what == "mapping":
            return maps_numbers(listed, paths)
        return any(_SIX_DIGITS.fullmatch(stem_of(plain)) for plain in listed.rows)

    def remarks(self, tree: FileTree, paths: Mapping[str, str]) -> list[str]:
        """Say where folders divide the images otherwise than lists do, and where the mapping leads to no list."""
        return [*self._divided_otherwise(tree, paths), *self._leads_nowhere(tree, paths)]

    def _leads_nowhere(self, tree: FileTree, paths: Mapping[str, str]) -> list[str]:
        mapping = self._mapping(tree)
        if mapping is None or not maps_numbers(mapping, paths):
            return []
        lists = (
            tree.find_list(stem, self.list_folders(tree), COLUMN_NAMES.get(what, ()))
            for what, stem in self.lists.items()
            if what != "mapping"
        )
        missed = [x.place for x in lists if x and x.rows and not self._by_mapping(tree, paths, x.rows)]
        if not missed:
            return []
        return [f"the names of these pictures in {mapping.place} are none of those in {first_names(missed)}"]

    def _divided_otherwise(self, tree: FileTree, paths: Mapping[str, str]) -> list[str]:
        divided = self._divide(paths)
        stem = self.lists["split"]
        seen = tree.find_list(stem, self.list_folders(tree), COLUMN_NAMES["split"]) if divided else None
        if seen is None or not seen.rows:
            return []
        listed = self._of_celeba(tree, paths, "split")
        otherwise = [image_id for image_id, part in listed.items() if divided[image_id] != part]
        if not listed:
            return [f"{seen.place} is not used: the folders divide these images"]
        if not otherwise:
            return []
        return [
            f"the folders divide these images, and not {stem}, which puts {len(otherwise):,} of them elsewhere "
            f"({name_example(otherwise)})"
        ]

    def attributes(self, tree: FileTree, paths: Mapping[str, str]) -> Mapping[str, Mapping[str, bool]]:
        """Read CelebA's attributes by the mapping."""
        listed = tree.find_list(self.lists["attributes"], self.list_folders(tree))
        if listed is None or not listed.rows:
            return {}
        check_attributes(listed)
        rows = self._by_mapping(tree, paths, listed.rows)
        return attributes_of(listed, rows) if rows else {}

    def _of_celeba(self, tree: FileTree, paths: Mapping[str, str], what: str) -> dict[str, int]:
        listed = tree.find_list(self.lists[what], self.list_folders(tree), COLUMN_NAMES[what])
        if listed is None:
            return {}
        return self._by_mapping(tree, paths, parse_numbers(listed, COLUMN_NAMES[what]))

    def _by_mapping(self, tree: FileTree, paths: Mapping[str, str], values: Mapping[str, V]) -> dict[str, V]:
        """Return the values of images from those of CelebA's, by its names or by the mapping from other ones."""
        originals = {i: i for i in paths if _SIX_DIGITS.fullmatch(stem_of(i))}
        if len(originals) < len(paths) and (mapping := self._mapping(tree)):
            originals |= {i: name for i, name in _originals(mapping).items() if i in paths}
        # People who copy tables on Windows write folders with backslashes.
        originals = {i: name.replace("\\", "/") for i, name in originals.items()}
        found = match_names(sorted(set(originals.values())), values)
        return {i: found[name] for i in paths if (name := originals.get(i)) in found}


def has_celebas_names(images: Iterable[str]) -> bool:
    """Return whether images are called by CelebA's own numbers, as in StarGAN v2's copy, and not by CelebA-HQ's.

    CelebA's names have six digits and begin at 1; there are 30,000 images of CelebA-HQ.

    >>> has_celebas_names(["000016.jpg", "195650.jpg"]), has_celebas_names(["00016.jpg"])
    (True, False)
    >>> has_celebas_names(["000000.png", "000001.png"]), has_celebas_names(["000001.png", "030000.png"])
    (False, False)
    """
    numbers = {int(stem) for path in images if _SIX_DIGITS.fullmatch(stem := stem_of(path))}
    return bool(numbers) and 0 not in numbers and (max(numbers) > _COUNT or _COUNT not in numbers)


def _by_celebas_name(images: Sequence[str]) -> dict[str, str]:
    """Map CelebA's names to paths, where images have them."""
    folders: dict[str, dict[str, str]] = {}
    for path in images if has_celebas_names(images) else ():
        if _SIX_DIGITS.fullmatch(stem := stem_of(path)):
            folders.setdefault(folder_of(path), {}).setdefault(f"{stem}.jpg", path)
    return take_larger_folders(folders)


def _by_index(tree: FileTree, images: Sequence[str]) -> dict[str, str]:
    """Map ids made of CelebA-HQ's own numbers to paths."""
    celebas = has_celebas_names(images)
    numbers: dict[str, dict[int, str]] = {}
    for path in images:
        stem = stem_of(path)
        if (number := _NUMBER.fullmatch(stem)) and not (celebas and _SIX_DIGITS.fullmatch(stem)):
            numbers.setdefault(folder_of(path), {}).setdefault(int(number[1]), path)
    if _count_anew(numbers):
        return {}
    # A copy may lie in several folders.
    copies: dict[str, set[int]] = {}
    for folder, paths in numbers.items():
        copies.setdefault(_copy_of(tree, folder), set()).update(paths)
    found = {}
    for folder, paths in numbers.items():
        # data256x256.zip and its kin count from 1, all other copies and the mapping from 0.
        named = any(map(_COUNTED_FROM_1.fullmatch, (*tree.names_above, *tree.names_below(folder))))
        copy = copies[_copy_of(tree, folder)]
        first = int(0 not in copy and (named or _COUNT in copy))
        found[folder] = {f"{number - first:05d}.jpg": path for number, path in paths.items()}
    # Several sizes of one image may lie side by side, or a program's outputs: one of them is enough.
    return take_larger_folders(found)


def _copy_of(tree: FileTree, folder: str) -> str:
    """Return the innermost folder of CelebA-HQ's name around a folder; empty for the place itself."""
    parts = folder.split("/")
    around = ("/".join(parts[:end]) for end in range(len(parts), 0, -1))
    return next((x for x in around if any(map(HQ_FOLDER.fullmatch, tree.names_of(x)))), "")


def _count_anew(numbers: Mapping[str, Iterable[int]]) -> bool:
    """Return whether the folders of a division each count from 0, as the authors' script for CelebAMask-HQ writes.

    Then nobody can say which of CelebA-HQ's images they are.
    """
    parts: dict[str, set[int]] = {}
    for folder, own in numbers.items():
        if part := next(filter(None, map(part_of_split, folder.split("/"))), ""):
            parts.setdefault(part, set()).update(own)
    return any(2 * len(a & b) > min(len(a), len(b)) for a, b in combinations(parts.values(), 2))


def maps_numbers(mapping: NameList, paths: Iterable[str]) -> bool:
    """Return whether a mapping names some of the images by their number."""
    stems = [stem for path in paths if not _SIX_DIGITS.fullmatch(stem := stem_of(path))]
    numbers = [found for stem in stems if (found := _NUMBER.fullmatch(stem))]
    return not {int(number[1]) for number in numbers}.isdisjoint(
        int(index) for index in mapping.rows if is_number(index)
    )


def _originals(mapping: NameList) -> dict[str, str]:
    """Map ids to CelebA's names, from lines ``idx orig_idx orig_file``.

    Raises:
        DataError: an index is no number or not in the first column, one has two lines that say different things, or
            nothing says which of several columns is CelebA's name.
    """
    column = find_column(mapping, COLUMN_NAMES["mapping"])
    if "idx" in (name.lower() for name in mapping.columns):
        raise DataError(
            f"{mapping.place}:{mapping.header_line}: idx is not the first column; make it the first"
        )
    called = re.sub(r"[\W_]", "", "".join(mapping.columns[column : column + 1]).lower())
    # CelebA's own index counts from 0, the names of its files from 1.
    by_index = called in ("origidx", "origindex", "originalidx", "originalindex")
    if (
        not by_index
        and called != "origfile"
        and all(values[column].isdigit() for values in mapping.rows.values())
    ):
        raise DataError(
            f"{mapping.place}: nobody can tell whether its numbers are CelebA's own from 0 or the names of its files; "
            "call the column orig_idx or orig_file"
        )
    found: dict[str, str] = {}
    for index, values in mapping.rows.items():
        where = f"{mapping.place}:{mapping.line_numbers[index]}"
        if not is_number(index):
            raise DataError(f"{where}: expected the number of an image, found {escape_name(index[:60])!r}")
        image_id, name = f"{int(index):05d}.jpg", values[column]
        if by_index:
            if not is_number(name):
                raise DataError(f"{where}: expected a number of orig_idx, found {escape_name(name[:60])!r}")
            name = f"{int(name) + 1:06d}.jpg"
        # Once more, since the list's own check takes 0 and 00000 for two names.
        if found.setdefault(image_id, name) != name:
            raise DataError(f"{where}: {int(index)} is listed twice with different values")
    return found
