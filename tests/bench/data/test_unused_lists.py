"""Lists that are seen around images and not used are named, whatever they are and wherever they lie."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from pathlib import Path

import pytest

from bench.data.sources import find_source
from bench.errors import DataError
from tests.bench.data.celeba_replicas import IDS, PART, WHO, Opener, images, some, text_lists, zipped
from tests.bench.data.other_user import holds_for_nobody, needs_root

#: Where a list may lie, from the folder around that of the images.
PLACES = [
    "", "Eval", "Anno", "Eval (1)", "Eval/Eval", "lists", "annotations", "CelebA lists", "list_eval_partition",
    "list_eval_partition.csv", "list_eval_partition.txt (1)",
]  # fmt: skip
#: Of these, where lists are read beside their images.
READ_FROM = ("", "Eval", "Anno", "list_eval_partition.csv")
#: What a list may be: its name, or what is made of it.
FORMS = [
    "list_eval_partition.txt", "list_eval_partition.csv", "List-Eval-Partition (1).csv",
    "list_eval_partition.txt.txt", "list_eval_partition.csv.gz", "list_eval_partition.xlsx",
    ".list_eval_partition.txt.icloud", "broken link", "link to itself", "garbage", "zip of lists", "zip of one",
    "zip of a copy",
]  # fmt: skip


def _put_list(folder: Path, form: str) -> str:
    """Put a list of the split into a folder; returns what a note must hold of it."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "list_eval_partition.txt"
    rows = "".join(f"{name} {part}\n" for name, part in PART.items())
    if "link" in form:
        file.symlink_to(file.name if "itself" in form else "nowhere")
    elif form == "garbage":
        file.write_bytes(bytes(range(256)) * 3)
    elif "zip" in form:
        packed = folder / (f"{file.name}.zip" if form == "zip of one" else "lists.zip")
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("list_eval_partition (1).txt" if "copy" in form else file.name, rows)
        return packed.name
    else:
        file = folder / form
        text = rows.replace(" ", ",") if form.endswith(".csv") else rows
        file.write_bytes(b"packed" if form.endswith((".gz", ".xlsx", ".icloud")) else text.encode())
    return file.name


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "given",
    ["root", "img_align_celeba", "pictures", "img_align_celeba.zip", "pictures.zip", "a zip in a folder"],
)
def test_every_list_in_sight_is_read_or_named(tmp_path: Path, given: str, form: str) -> None:
    """Wherever it lies and whatever it is, and whatever of the download the user names."""
    for number, place in enumerate(PLACES):
        root = tmp_path / str(number)
        folder = images(root / ("pictures" if "pictures" in given else "img_align_celeba"))
        if "zip" in given:
            inner = root / "downloads" if given == "a zip in a folder" else root
            inner.mkdir(exist_ok=True)
            zipped(folder, inner / ("pictures.zip" if "pictures" in given else "img_align_celeba.zip"))
            shutil.rmtree(folder)
        told = _put_list(root / place, form)
        target = {"root": root, "a zip in a folder": root / "downloads"}.get(given, root / given)
        around = place in READ_FROM and given not in ("pictures", "a zip in a folder")
        if form == "garbage" and (around or given == "root"):
            with pytest.raises(DataError, match=told):
                find_source(target)
            continue
        found = find_source(target)
        assert found.ids == IDS
        assert found.partition == PART or any(told in note for note in found.notes), (place, found.notes)


@pytest.mark.parametrize("place", ["", "Eval", "lists", "list_eval_partition.txt"])
@pytest.mark.parametrize("form", FORMS)
def test_lists_around_pictures_that_have_none_are_nobodys(tmp_path: Path, place: str, form: str) -> None:
    some(tmp_path / "holidays", ["a.jpg", "b.jpg"])
    _put_list(tmp_path / place, form)
    assert not find_source(tmp_path / "holidays").notes


@pytest.mark.parametrize("inner", ["", "Img"])
def test_lists_beside_a_link_and_beside_what_it_leads_to_are_compared(tmp_path: Path, inner: str) -> None:
    elsewhere = images(tmp_path / "disk" / "CelebA" / inner / "img_align_celeba")
    text_lists(tmp_path / "disk" / "CelebA")
    root = tmp_path / "celeba"
    root.mkdir()
    (root / "img_align_celeba").symlink_to(elsewhere)
    notes = find_source(root).notes
    assert any("CelebA/list_eval_partition.txt lies beside this folder and is not read" in n for n in notes)
    shutil.copy(tmp_path / "disk" / "CelebA" / "list_eval_partition.txt", root)
    assert not any("list_eval_partition" in note for note in find_source(root).notes)
    (root / "list_eval_partition.txt").write_text("".join(f"{k} {2 - v}\n" for k, v in PART.items()))
    notes = find_source(root).notes
    assert any("beside this folder" in n and "only the list with the pictures is read" in n for n in notes)
    assert find_source(root).partition == {k: 2 - v for k, v in PART.items()}


def test_a_zip_of_lists_beside_a_zip_that_says_something_else_is_named(tmp_path: Path) -> None:
    archive = zipped(images(tmp_path / "img_align_celeba"), tmp_path / "img_align_celeba.zip")
    shutil.rmtree(tmp_path / "img_align_celeba")
    text_lists(tmp_path)
    with zipfile.ZipFile(tmp_path / "Eval.zip", "w") as packed:
        packed.write(tmp_path / "list_eval_partition.txt", "list_eval_partition.txt")
    assert not [note for note in find_source(archive).notes if "Eval.zip" in note]
    with zipfile.ZipFile(tmp_path / "Eval.zip", "w") as packed:
        packed.writestr("list_eval_partition.txt", "".join(f"{k} {2 - v}\n" for k, v in PART.items()))
    (note,) = [note for note in find_source(archive).notes if "Eval.zip" in note]
    assert f"says {PART[IDS[0]]} of {IDS[0]}" in note
    assert f"Eval.zip/list_eval_partition.txt says {2 - PART[IDS[0]]}" in note


def rows(values: dict[str, int] = PART) -> str:
    return "".join(f"{name} {value}\n" for name, value in values.items())


#: Another split.
OTHER = {name: 2 - part for name, part in PART.items()}


@pytest.mark.parametrize("stem", ["list_eval_partition", "identity_CelebA"])
@pytest.mark.parametrize("whole", ["{} (1).txt", "lists/{}.txt", "lists.zip", "../{}.txt"])
@pytest.mark.parametrize("inner", [False, True])
def test_an_empty_list_does_not_hide_a_whole_one(tmp_path: Path, stem: str, whole: str, inner: bool) -> None:
    """As a download that broke off and was begun again leaves them."""
    root = tmp_path / "data" / "celeba"
    images(root / "img_align_celeba")
    (root / f"{stem}.txt").write_text("")
    file = root / whole.format(stem)
    file.parent.mkdir(exist_ok=True)
    if whole.endswith(".zip"):
        with zipfile.ZipFile(file, "w") as packed:
            packed.writestr(f"{stem}.txt", rows())
    else:
        file.write_text(rows())
    found = find_source(root / "img_align_celeba" if inner else root)
    if not (found.partition or found.identities):  # inside the folder that is given every list is read
        assert any(file.name in note and "is not read" in note for note in found.notes), found.notes


@pytest.mark.parametrize(
    "copy", ["list_eval_partition (1).txt", "list_eval_partition.csv.zip", "Eval (1)/{}.txt"]
)
@pytest.mark.parametrize("inner", [False, True])
def test_a_copy_that_says_otherwise_than_the_list_that_is_read_is_named(
    tmp_path: Path, copy: str, inner: bool
) -> None:
    root = tmp_path / "celeba"
    images(root / "img_align_celeba")
    text_lists(root)
    file = root / copy.format("list_eval_partition_new")
    file.parent.mkdir(exist_ok=True)
    for values, said in ((PART, 0), (OTHER, 1)):
        if copy.endswith(".zip"):
            with zipfile.ZipFile(file, "w") as packed:
                packed.writestr("list_eval_partition.csv", rows(values))
        else:
            file.write_text(rows(values))
        found = find_source(root / "img_align_celeba" if inner else root)
        assert found.partition == PART
        assert len([n for n in found.notes if f"says {2 - PART[IDS[0]]} of {IDS[0]}" in n]) == said, (
            found.notes
        )


def test_what_is_no_list_hides_none(tmp_path: Path) -> None:
    """A program that makes lists, and a broken list in another folder."""
    root = tmp_path / "celeba"
    folder = images(root / "img_align_celeba")
    for name in ("make_list_eval_partition.py", "list_eval_partition.md", "list_eval_partition.png"):
        (root / name).write_bytes(b"x")
    _put_list(root / "annotations", "garbage")
    assert not any(
        "make_list" in note or ".md" in note or ".png" in note for note in find_source(folder).notes
    )
    _put_list(root / "lists", "list_eval_partition.txt")
    (note,) = [note for note in find_source(folder).notes if "list_eval" in note]
    assert "lists/list_eval_partition.txt lies beside this folder and is not read" in note


def test_thousands_of_lists_make_a_few_notes(tmp_path: Path) -> None:
    root = tmp_path / "celeba"
    folder = images(root / "img_align_celeba")
    for number in range(30):
        (root / f"list_eval_partition ({number}).txt").write_text(rows())
    notes = find_source(folder).notes
    assert len(notes) == 4
    assert notes[-1] == "27 more of list_eval_partition like these"


@pytest.mark.parametrize("place", ["Img/img_align_celeba_128", "Img/images"])
@pytest.mark.parametrize("lists", ["Eval", "Eval-20240101T000000Z-001", "Eval - Copy"])
def test_the_official_folder_of_lists_is_named_from_an_inner_folder_of_another_name(
    tmp_path: Path, place: str, lists: str
) -> None:
    images(tmp_path / "CelebA" / place)
    _put_list(tmp_path / "CelebA" / lists, "list_eval_partition.txt")
    notes = find_source(tmp_path / "CelebA" / place).notes
    assert any(f"{lists}/list_eval_partition.txt lies beside this folder and is not read" in n for n in notes)


@pytest.mark.parametrize("name", ["archive.zip", "celeba.zip"])
def test_lists_in_the_zip_of_a_folder_of_another_name_are_named(tmp_path: Path, name: str) -> None:
    root = tmp_path / "root"
    images(root / "images")
    text_lists(root)
    packed = zipped(root, tmp_path / name)
    for file in root.glob("*.txt"):
        file.unlink()
    packed.rename(root / name)
    (note,) = [note for note in find_source(root / "images").notes if name in note]
    assert (
        f"{root / name} holds list_eval_partition.txt, identity_CelebA.txt; it lies beside this folder"
        in note
    )
    # Of other pictures it is nobody's here.
    some(root / "others", [f"{k}x.jpg" for k in range(3)] + [f"9{k:05d}.jpg" for k in range(9)])
    assert not [note for note in find_source(root / "others").notes if name in note]


@pytest.mark.parametrize("folder", ["images", ""])
@pytest.mark.parametrize("as_zip", [False, True])
def test_the_list_of_attributes_alone_makes_celeba_known(tmp_path: Path, folder: str, as_zip: bool) -> None:
    """StarGAN's layout."""
    root = tmp_path / "celeba"
    images(root / folder)
    table = [str(len(IDS)), "Male Young", *(f"{name} 1 -1" for name in IDS)]
    (root / "list_attr_celeba.txt").write_text("\n".join(table))
    found = find_source(zipped(root, tmp_path / "faces.zip") if as_zip else root)
    assert (found.name, found.ids) == ("celeba", IDS)
    assert dict(found.attributes) == {"Male": dict.fromkeys(IDS, True), "Young": dict.fromkeys(IDS, False)}


@pytest.mark.parametrize(
    "around",
    ["img_celeba", "img_celeba (1)", "Img_CelebA - Copy", "img_celeba 2", "img_celeba - 副本", "img_celeba_2",
     "Copy of img_celeba", "img_celeba.7z", "img_celeba-001", "img_celeba (copy)"],
)  # fmt: skip
def test_the_innermost_name_says_whether_celeba_is_aligned(tmp_path: Path, around: str) -> None:
    images(tmp_path / around / "img_align_celeba")
    packed = zipped(tmp_path / around, tmp_path / "img_celeba.zip")
    for place in (tmp_path / around, tmp_path / around / "img_align_celeba", packed):
        assert find_source(place).name == "celeba"
    shutil.move(tmp_path / around / "img_align_celeba", tmp_path / "wild" / around)
    text_lists(tmp_path / "wild")
    for place in (tmp_path / "wild", tmp_path / "wild" / around):
        assert find_source(place).name == "celeba-in-the-wild"


@pytest.mark.parametrize("stem", ["identity_CelebA", "list_attr_celeba"])
def test_of_two_lists_that_agree_the_whole_one_is_read(tmp_path: Path, stem: str) -> None:
    """Whichever is nearer to the folder that the user names."""
    root = tmp_path / "celeba"
    folder = images(root / "img_align_celeba")
    for place, names in ((root, IDS[:4]), (folder, IDS)):
        (place / f"{stem}.csv").write_text("image_id,Male\n" + "".join(f"{name},1\n" for name in names))
    for given in (root, folder):
        found = find_source(given)
        assert not [note for note in found.notes if "the list of" in note]
        assert set(found.identities or found.attributes["Male"]) == set(IDS)


def test_lists_of_celeba_hq_are_named_from_a_folder_below(tmp_path: Path) -> None:
    """And folders that divide the images otherwise than its lists do are said to."""
    root = tmp_path / "data"
    place = root / "CelebA-HQ-img"
    some(place, [f"{number}.jpg" for number in range(24)])
    mapping = "".join(f"{number} 7 {name}\n" for number, name in enumerate(IDS))
    (place / "CelebA-HQ-to-CelebA-mapping.txt").write_text("idx orig_idx orig_file\n" + mapping)
    text_lists(root)
    notes = find_source(place).notes
    assert any("list_eval_partition.txt lies beside this folder and is not read" in note for note in notes)
    assert find_source(root).partition == {f"{k:05d}.jpg": PART[name] for k, name in enumerate(IDS)}
    (place / "train").mkdir()
    (place / "test").mkdir()
    for number in range(24):
        (place / f"{number}.jpg").rename(place / ("test" if number < 3 else "train") / f"{number}.jpg")
    otherwise = [name for k, name in enumerate(IDS) if PART[name] != (2 if k < 3 else 0)]
    (note,) = find_source(root).notes
    assert (
        f"the folders divide these images, and not list_eval_partition, which puts {len(otherwise)}" in note
    )


@needs_root
@pytest.mark.parametrize("folder", ["", "labels"])
def test_lists_that_are_not_there_are_not_named_where_a_folder_may_not_be_listed(folder: str) -> None:
    """As ``/home`` often may not."""
    above = Path(tempfile.mkdtemp())  # tmp_path itself lies in a folder of root's alone
    place = above / "me" / "pictures"
    images(place)
    if folder:
        (above / "me" / folder).mkdir(mode=0o711)
    for path, mode in ((above, 0o711), (above / "me", 0o711), (place, 0o755)):
        path.chmod(mode)
    assert holds_for_nobody(lambda: not find_source(place).notes)
    shutil.rmtree(above)


@pytest.mark.parametrize("named", ["img_celeba", "img_align_celeba"])
@pytest.mark.parametrize("lists", ["", "Eval"])
def test_a_link_bears_the_name_of_what_it_leads_to(tmp_path: Path, named: str, lists: str) -> None:
    """Its lists are named, also two folders above."""
    elsewhere = images(tmp_path / "disk" / "CelebA" / "Img" / named)
    _put_list(tmp_path / "disk" / "CelebA" / lists, "list_eval_partition.txt")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "faces").symlink_to(elsewhere)
    found = find_source(tmp_path / "work")
    assert (found.ids, found.kind.name) == (IDS, "celeba" if "align" in named else "celeba-in-the-wild")
    assert any("list_eval_partition.txt lies beside this folder and is not read" in n for n in found.notes)
    assert find_source(tmp_path / "work" / "faces").partition == PART


@pytest.mark.parametrize("stem", ["identity_CelebA", "list_attr_celeba"])
@pytest.mark.parametrize("whole", ["{} (1).txt", "Anno.zip", "Anno (1)/{}.txt"])
def test_a_list_that_names_more_than_the_one_that_is_read_is_named(
    tmp_path: Path, stem: str, whole: str
) -> None:
    root = tmp_path / "celeba"
    folder = images(root / "img_align_celeba")
    header, file = "image_id Male\n", root / whole.format(stem)
    table = [f"{name} 1\n" for name in IDS]
    (root / f"{stem}.txt").write_text(header + "".join(table[:7]))
    file.parent.mkdir(exist_ok=True)
    if file.suffix == ".zip":
        with zipfile.ZipFile(file, "w") as packed:
            packed.writestr(f"{stem}.txt", header + "".join(table))
    else:
        file.write_text(header + "".join(table))
    zipped(folder, root / "img_align_celeba.zip")
    for given in (folder, root / "img_align_celeba.zip"):
        notes = find_source(given).notes
        assert any(file.name in note and f"names {len(IDS)} of the pictures" in note for note in notes), notes


def test_a_partial_list_of_the_split_is_refused_with_the_whole_one_named(
    tmp_path: Path, opened: Opener
) -> None:
    root = images(tmp_path / "img_align_celeba")
    (root / "list_eval_partition.txt").write_text(rows({name: PART[name] for name in IDS[:7]}))
    (root / "list_eval_partition (1).txt").write_text(rows())
    with pytest.raises(DataError, match=r"says nothing of .*; list_eval_partition \(1\)\.txt is not read"):
        opened(root)


def test_lists_of_pictures_that_occur_twice_are_named(tmp_path: Path) -> None:
    images(tmp_path / "celeba" / "faces" / "jpg")
    images(tmp_path / "celeba" / "faces" / "png", ".png")
    text_lists(tmp_path / "celeba")
    notes = find_source(tmp_path / "celeba" / "faces").notes
    assert any("list_eval_partition.txt lies beside this folder and is not read" in note for note in notes)


@pytest.mark.parametrize("count", [3, len(IDS)])
def test_outputs_beside_celeba_before_its_alignment_are_not_taken_for_it(tmp_path: Path, count: int) -> None:
    images(tmp_path / "celeba" / "img_celeba")
    some(tmp_path / "celeba" / "results", IDS[:count])
    _put_list(tmp_path / "celeba" / "Eval", "list_eval_partition.txt")
    found = find_source(tmp_path / "celeba")
    assert (found.kind.name, found.partition) == ("celeba-in-the-wild", PART)
    assert {path.split("/")[0] for path in found.paths.values()} == {"img_celeba"}
    assert any(f"{count} pictures are not used: results/" in note for note in found.notes)


@pytest.mark.parametrize(
    "content", ["overview.jpg", "img_celeba/000001.jpg", "CelebA-HQ-img/0.jpg", "masks/a.png"]
)
@pytest.mark.parametrize("given", ["", "img_align_celeba"])
def test_lists_in_a_zip_with_other_pictures_are_named(tmp_path: Path, content: str, given: str) -> None:
    root = tmp_path / "celeba"
    folder = images(root / "img_align_celeba")
    with zipfile.ZipFile(root / "Anno.zip", "w") as packed:
        packed.writestr("Anno/list_eval_partition.txt", rows())
        packed.write(folder / IDS[0], content)
    assert any(
        "Anno.zip holds Anno/list_eval_partition.txt; it " in n for n in find_source(root / given).notes
    )
    (root / "list_eval_partition.txt").write_text(rows(OTHER))
    notes = find_source(root / given).notes
    assert any("Anno.zip/Anno/list_eval_partition.txt says" in note for note in notes), notes


@pytest.mark.parametrize(
    "name",
    [
        "0/{:d}.jpg", "000/{:03d}.jpg", "{:d}.jpg", "{:06d}_crop.jpg", "celeba_{:06d}.jpg", "{:07d}.jpg",
        "{:06d}.jpg.png", "{:06d} (1).jpg", "{:06d}_128x128.jpg", "{:06d}-edit-2024.jpg",
    ],
)  # fmt: skip
@pytest.mark.parametrize("folder", ["img_align_celeba", "celeba_crop"])
@pytest.mark.parametrize("place", ["", "Eval", "above"])
def test_lists_that_name_none_of_the_numbered_pictures_beside_them_are_named(
    tmp_path: Path, place: str, folder: str, name: str
) -> None:
    """Copies that somebody renamed: refused where the folder around is given, and never silent."""
    given = some(tmp_path / "x" / folder, [name.format(k + 1) for k in range(9)])
    text_lists(tmp_path if place == "above" else tmp_path / "x" / place)
    try:
        found = find_source(given)
    except DataError as error:
        assert "names none of the 9 images" in str(error)  # noqa: PT017 (either is right)
        return
    if found.partition:
        assert found.ids == IDS[:9]
        return
    assert any("list_eval_partition.txt" in note for note in found.notes), found.notes


@pytest.mark.parametrize("name", ["img_{}", "{}.jpg", "'{}'", "9{}"])
@pytest.mark.parametrize("stem", ["list_eval_partition", "identity_CelebA"])
@pytest.mark.parametrize("given", ["", "img_align_celeba", "celeba.zip"])
def test_a_list_of_other_pictures_beside_the_one_that_is_used_is_named(
    tmp_path: Path, given: str, stem: str, name: str
) -> None:
    root = images(tmp_path / "celeba" / "img_align_celeba").parent
    text_lists(root)
    (root / "Eval").mkdir()
    table = {"list_eval_partition": PART, "identity_CelebA": WHO}[stem]
    rows = [f"{name.format(i)} {(value + 1) % 3}\n" for i, value in table.items()]
    (root / "Eval" / f"{stem}.txt").write_text("".join(rows))
    found = find_source(zipped(root, tmp_path / given) if given.endswith(".zip") else root / given)
    assert (found.partition, found.identities) == (PART, WHO)
    (note,) = found.notes
    assert note.endswith(f"Eval/{stem}.txt is not used: it says nothing of these pictures")


def test_links_in_several_steps_are_followed_one_by_one(tmp_path: Path) -> None:
    """The lists lie beside the middle one, which alone bears CelebA's name."""
    images(tmp_path / "store" / "blob")
    (tmp_path / "home" / "ds").mkdir(parents=True)
    (tmp_path / "home" / "ds" / "img_align_celeba").symlink_to("../../store/blob")
    text_lists(tmp_path / "home" / "ds")
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "data").symlink_to(tmp_path / "home" / "ds" / "img_align_celeba")
    found = find_source(tmp_path / "project" / "data")
    assert (found.name, found.partition) == ("celeba", PART)
    found = find_source(tmp_path / "project")
    assert found.name == "celeba"
    assert any("ds/list_eval_partition.txt lies beside this folder" in note for note in found.notes)


@pytest.mark.parametrize(
    "file", ["identity_CelebA (1).txt", "identity_CelebA.txt.gz", "lists/identity_CelebA.txt"]
)
def test_a_split_by_people_names_the_list_that_it_does_not_read(
    tmp_path: Path, opened: Opener, file: str
) -> None:
    folder = images(tmp_path / "celeba" / "img_align_celeba")
    (tmp_path / "celeba" / "lists").mkdir()
    (tmp_path / "celeba" / file).write_text(rows())
    with pytest.raises(DataError, match=r"needs a list of people.*identity_CelebA.*is not read"):
        opened(folder, split="identity")


@pytest.mark.parametrize("kind", ["Eval", "Anno.7z", "Eval.tar.gz", "lists.rar"])
def test_folders_of_lists_that_are_not_there_are_named(tmp_path: Path, kind: str) -> None:
    folder = images(tmp_path / "img_align_celeba")
    if "." in kind:
        (tmp_path / kind).write_bytes(b"packed")
    else:
        (tmp_path / kind).symlink_to("nowhere")
    assert any(f"{kind} lies beside this folder and is not read" in n for n in find_source(folder).notes)


@pytest.mark.parametrize("folder", ["img_align_celeba", "pictures"])
def test_an_empty_list_in_the_wider_circle_is_named(tmp_path: Path, folder: str) -> None:
    images(tmp_path / folder)
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "list_eval_partition.txt").write_text("")
    assert any(
        "list_eval_partition.txt lies" in n and n.endswith("says nothing")
        for n in find_source(tmp_path / folder).notes
    )


def test_attributes_of_other_pictures_in_an_own_folder_are_named_and_not_used(tmp_path: Path) -> None:
    some(tmp_path, ["a.jpg", "b.jpg"])
    table = "image_id Male\n" + "".join(f"{name} 1\n" for name in IDS)
    (tmp_path / "list_attr_celeba.txt").write_text(table)
    (note,) = find_source(tmp_path).notes
    assert note == "list_attr_celeba.txt is not used: it says nothing of these pictures"
    (tmp_path / "list_attr_celeba.txt").write_text("image_id Male\na.jpg 1\nb.jpg -1\n")
    assert dict(find_source(tmp_path).attributes) == {"Male": {"a.jpg": True, "b.jpg": False}}


@pytest.mark.parametrize("name", ["img_align_celeba-{:03d}", "img_align_celeba_{}", "img_align_celeba ({})"])
def test_parts_of_celeba_in_numbered_folders_are_all_used(tmp_path: Path, name: str) -> None:
    images(tmp_path / "whole")
    for k, image in enumerate(IDS[:12], start=1):
        (tmp_path / "celeba" / name.format(k)).mkdir(parents=True)
        shutil.copy(tmp_path / "whole" / image, tmp_path / "celeba" / name.format(k) / image)
    assert find_source(tmp_path / "celeba").ids == IDS[:12]


@pytest.mark.parametrize(
    ("link", "leads"), [("img_celeba", "img_align_celeba"), ("img_align_celeba", "img_celeba")]
)
def test_of_two_names_that_of_what_a_link_leads_to_counts(tmp_path: Path, link: str, leads: str) -> None:
    images(tmp_path / "store" / leads)
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / link).symlink_to(tmp_path / "store" / leads)
    names = {find_source(given).name for given in (tmp_path / "p", tmp_path / "p" / link)}
    assert names == {"celeba" if "align" in leads else "celeba-in-the-wild"}


def test_folders_of_lists_that_are_read_are_not_said_to_be_left(tmp_path: Path) -> None:
    """The official layout with the images still packed, whether people and attributes are there or not."""
    root = tmp_path / "CelebA"
    folder = images(root / "Img" / "img_align_celeba")
    zipped(folder, root / "Img" / "img_align_celeba.zip")
    shutil.rmtree(folder)
    _put_list(root / "Eval", "list_eval_partition.txt")
    (root / "Anno").mkdir()
    for given in (root, root / "Img", root / "Img" / "img_align_celeba.zip"):
        found = find_source(given)
        assert (found.partition, found.notes) == (PART, [])


@pytest.mark.parametrize("given", ["celeba", "celeba/img_align_celeba"])
@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("split", [None, PART, OTHER])
def test_lists_in_a_zip_are_named_whatever_else_is_said_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, relative: bool, split: dict[str, int] | None
) -> None:
    """A picture is missing from the folder that was unpacked from it, or one of its lists says something else."""
    root = tmp_path / "celeba"
    folder = images(root / "img_align_celeba")
    text_lists(root)
    packed = zipped(root, tmp_path / "archive.zip")
    packed.rename(root / "archive.zip")
    (root / "identity_CelebA.txt").unlink()
    (root / "list_eval_partition.txt").unlink()
    if split:
        (root / "list_eval_partition.txt").write_text(rows(split))
    if split is not OTHER:
        (folder / IDS[0]).unlink()
    monkeypatch.chdir(tmp_path)
    notes = [
        n for n in find_source(Path(given) if relative else tmp_path / given).notes if "identity_CelebA" in n
    ]
    assert len(notes) == 1, notes
    lists = "identity_CelebA.txt" if split else "list_eval_partition.txt, identity_CelebA.txt"
    assert notes[0].endswith(
        f"archive.zip holds {lists}; it is not read: to use it, unpack it beside the pictures"
    )
