"""Lists of a data set: contradicting, misread and unused ones are refused or named."""

from __future__ import annotations

import os
import re
import shutil
import zipfile
from pathlib import Path

import pytest

from bench.data.sources import find_source
from bench.errors import DataError
from masks.file_names import one_line
from tests.bench.data.celeba_replicas import (
    COUNT,
    HQ_MAPPING,
    IDS,
    PART,
    WHO,
    Opener,
    images,
    kaggle,
    some,
    text_lists,
    write_list,
    zipped,
)

#: The published split turned around, and everybody another person.
OTHERWISE = {
    "list_eval_partition": {name: 2 - part for name, part in PART.items()},
    "identity_CelebA": {name: 1000 + i for i, name in enumerate(IDS)},
}


@pytest.mark.parametrize("stem", OTHERWISE)
@pytest.mark.parametrize("given", ["", "Img", "Img/img_align_celeba", "archive.zip"])
@pytest.mark.parametrize(
    "second", ["{stem}.txt", "Eval/{stem}.csv", "Img/{stem}.csv", "Img/img_align_celeba/{stem}.txt"]
)
def test_lists_that_contradict_each_other_are_refused_wherever_they_lie(
    tmp_path: Path, stem: str, given: str, second: str
) -> None:
    """The one in ``Anno`` is right; the other lies among, beside or above the images, or beside or in the zip."""
    root = tmp_path / "CelebA"
    images(root / "Img" / "img_align_celeba")
    first = {"list_eval_partition": PART, "identity_CelebA": WHO}[stem]
    write_list(root / "Anno" / f"{stem}.txt", first)
    other = write_list(root / second.format(stem=stem), OTHERWISE[stem])
    if given == "archive.zip":
        # The images and the lists in them are packed, those beside them stay.
        inside = root / "Img"
        zipped(inside, tmp_path / given, "Img/")
        shutil.rmtree(inside)
        shutil.move(tmp_path / given, root / given)
    says = rf"says \d+ of 000001\.jpg, and .*{stem}\.\w+ says \d+; remove one of the two lists"
    for place in [root / given, root] if given == "archive.zip" else [root / given]:
        with pytest.raises(DataError, match=says) as raised:
            find_source(place)
        assert str(raised.value).count(f"{stem}.") == 2
        assert other.name in str(raised.value)
    # Agreeing, they are one list; so is one that is seen from two folders.
    if given != "archive.zip":
        write_list(other, first)
        source = find_source(root / given)
        assert {"list_eval_partition": source.partition, "identity_CelebA": source.identities}[stem] == first


@pytest.mark.parametrize("swapped", [False, True])
def test_lists_of_several_columns_are_compared_by_the_column_that_is_meant(
    tmp_path: Path, swapped: bool
) -> None:
    root = images(tmp_path / "celeba" / "img_align_celeba").parent
    text_lists(root)
    header = "image_id,identity,partition" if swapped else "image_id,partition,identity"
    for parts, same in ((PART, True), (OTHERWISE["list_eval_partition"], False)):
        rows = [f"{i},{WHO[i]},{parts[i]}" if swapped else f"{i},{parts[i]},{WHO[i]}" for i in IDS]
        (root / "list_eval_partition.csv").write_text("\n".join([header, *rows]))
        if same:
            assert find_source(root).partition == PART
        else:
            with pytest.raises(DataError, match=r"txt:1: says 0 of 000001\.jpg, and .*csv says 2"):
                find_source(root)


def test_tables_of_attributes_are_compared_by_the_names_of_their_columns(tmp_path: Path) -> None:
    root = kaggle(tmp_path / "celeba")
    rows = [str(COUNT), "Smiling Male", *(f"{k}  -1 {1 if i % 2 else -1}" for i, k in enumerate(IDS))]
    (root / "list_attr_celeba.txt").write_text("\n".join(rows))
    assert find_source(root).attributes["Male"] == {name: bool(i % 2) for i, name in enumerate(IDS)}
    (root / "list_attr_celeba.txt").write_text(
        "\n".join([*rows[:2], rows[2].replace("-1 -1", "-1 1"), *rows[3:]])
    )
    with pytest.raises(DataError, match=r"says -?1 -?1 of 000001\.jpg, and .* remove one"):
        find_source(root)


def test_a_zip_whose_list_contradicts_the_one_that_is_used_is_said(tmp_path: Path) -> None:
    """Unpacked, and then edited: what is used is clear, and that the download says otherwise is worth knowing."""
    root = kaggle(tmp_path / "celeba")
    zipped(root, tmp_path / "archive.zip")
    shutil.move(tmp_path / "archive.zip", root / "archive.zip")
    assert find_source(root).notes == []
    write_list(root / "list_eval_partition.csv", OTHERWISE["list_eval_partition"])
    source = find_source(root)
    assert source.partition == OTHERWISE["list_eval_partition"]
    (note,) = source.notes
    assert note.startswith("archive.zip is not used: ")
    assert "says 2 of 000001.jpg" in note
    assert "says 0" in note


@pytest.mark.parametrize("index", ["²", "٣", "9" * 5000, "-1", "1_0", "x"])
def test_an_index_of_the_mapping_that_is_no_number_is_named(tmp_path: Path, index: str) -> None:
    root = some(tmp_path / "data", [f"CelebA-HQ-img/{k}.jpg" for k in range(COUNT)])
    text_lists(root)
    mapping = root / "CelebA-HQ-to-CelebA-mapping.txt"
    mapping.write_text(HQ_MAPPING + f"{index} 4 000004.jpg\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"mapping\.txt:26: expected the number of an image, found"):
        find_source(root)


@pytest.mark.parametrize("index", ["0", "00000", "000"])
def test_two_lines_of_the_mapping_for_one_image_must_agree(tmp_path: Path, index: str) -> None:
    root = some(tmp_path / "data", [f"CelebA-HQ-img/{k}.jpg" for k in range(COUNT)])
    text_lists(root)
    mapping = root / "CelebA-HQ-to-CelebA-mapping.txt"
    mapping.write_text(HQ_MAPPING + f"{index} 100 {IDS[0]}\n")
    assert find_source(root).partition["00000.jpg"] == PART[IDS[0]]
    mapping.write_text(HQ_MAPPING + f"{index} 9 {IDS[9]}\n")
    with pytest.raises(DataError, match=r"mapping\.txt:26: 0+ is listed twice with different values"):
        find_source(root)


@pytest.mark.parametrize(
    "name", ["identity_CelebA.txt", "Anno/identity_CelebA.csv", "identity_CelebA (1).txt"]
)
def test_a_list_of_identities_beside_a_folder_of_another_name_is_said(tmp_path: Path, name: str) -> None:
    root = some(tmp_path / "X", [f"images/p{k}.jpg" for k in range(COUNT)])
    who = {f"p{k}.jpg": k // 3 for k in range(COUNT)}
    write_list(root / name, who)
    source = find_source(root / "images")
    assert source.identities == {}
    (note,) = source.notes
    assert f"{name} lies beside this folder and is not read; give the folder around both as --data" in note
    assert ("call the list identity_CelebA.txt" in note) == ("(1)" in name)
    # In the folder too, and saying the same, it is no news; saying something else, it is.
    write_list(root / "images" / "identity_CelebA.txt", who)
    assert find_source(root / "images").notes == []
    write_list(root / name, {k: v + 1 for k, v in who.items()})
    (note,) = find_source(root / "images").notes
    assert re.search(r"says 1 of p0\.jpg, and .* says 0; only the list with the pictures is read", note)
    # A list of other images is nobody's here.
    write_list(root / name, {"a.jpg": 1})
    assert find_source(root / "images").notes == []


def test_a_mapping_beside_a_folder_of_celeba_hq_is_said(tmp_path: Path) -> None:
    root = some(tmp_path / "data", [f"CelebA-HQ-img/{k}.jpg" for k in range(COUNT)])
    (root / "CelebA-HQ-to-CelebA-mapping.txt").write_text(HQ_MAPPING)
    text_lists(root)
    notes = find_source(root / "CelebA-HQ-img").notes
    lists = ["list_eval_partition.txt", "identity_CelebA.txt", "CelebA-HQ-to-CelebA-mapping.txt"]
    for name, note in zip(lists, notes, strict=True):
        assert f"{name} lies beside this folder and is not read" in note
    assert find_source(root).notes == []


@pytest.mark.parametrize("stem", OTHERWISE)
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("{} (1).txt", "to use it, rename it, as {}.txt"),
        ("{}.csv.zip", "to use it, unpack it, as {}.txt"),
        ("Anno/{}.txt.txt", "to use it, rename it, as {}.txt"),
        ("{}.txt", "a broken link"),
        ("{}.csv", "not a regular file"),
        ("Eval/{}.csv", "a folder"),
    ],
)
@pytest.mark.parametrize("zip_too", [False, True])
def test_what_is_no_list_beside_celebas_own_folder_is_said(
    tmp_path: Path, stem: str, name: str, says: str, zip_too: bool
) -> None:
    root = tmp_path / "celeba"
    place = images(root / "img_align_celeba")
    path = root / name.format(stem)
    path.parent.mkdir(exist_ok=True)
    if "link" in says:
        path.symlink_to("nowhere.txt")
    elif "folder" in says:
        path.mkdir()
    elif "regular" in says:
        os.mkfifo(path)
    else:
        path.write_text("".join(f"{k} {v}\n" for k, v in PART.items()))
    if zip_too:
        place = zipped(place, root / "img_align_celeba.zip", "img_align_celeba/")
    (note,) = find_source(place).notes
    assert name.format(stem) in note
    assert f"is not read: {says.format(stem)}" in note


@pytest.mark.parametrize("around", ["img_align_celeba", "IMG_ALIGN_CELEBA_PNG", "img_celeba"])
@pytest.mark.parametrize("below", ["exp/photos", "photos", ""])
@pytest.mark.parametrize("given", ["above", "named so", "photos"])
def test_own_photos_below_a_folder_of_celebas_name_are_not_celeba(
    tmp_path: Path, around: str, below: str, given: str
) -> None:
    names = [f"{folder}/{k:03d}.jpg" for folder in "xy" for k in range(COUNT)]
    photos = some(tmp_path / "data" / around / below, names)
    place = {"above": tmp_path / "data", "named so": tmp_path / "data" / around, "photos": photos}[given]
    source = find_source(place)
    assert (source.kind.name, source.ids) == ("folder", sorted(names))
    assert not source.kind.claims_dataset
    # With names of CelebA's, in whatever folders, they are.
    for folder, half in (("x", IDS[::2]), ("y", IDS[1::2])):
        shutil.rmtree(photos / folder)
        some(photos / folder, half)
    if (around, below, given) != ("img_celeba", "exp/photos", "photos"):  # nobody looks so far up for those
        assert find_source(place).name == ("celeba-in-the-wild" if around == "img_celeba" else "celeba")
        assert find_source(place).ids == IDS


def test_a_few_pictures_of_other_names_do_not_hide_celeba(tmp_path: Path) -> None:
    root = images(tmp_path / "img_align_celeba")
    before = find_source(root).ids
    some(root, ["notes/a.jpg", "notes/b.jpg"])
    assert find_source(root).name == "celeba"
    assert set(find_source(root).ids) == {*before, "a.jpg", "b.jpg"}


def numbered(root: Path, folder: str = "CelebA-HQ-img") -> Path:
    """Write pictures of CelebA-HQ's numbers, with CelebA's lists and without the mapping."""
    some(root, [f"{folder}/{k}.jpg" for k in range(COUNT)])
    text_lists(root)
    return root


@pytest.mark.parametrize(
    ("header", "row", "says"),
    [
        ("idx,orig_idx,orig_file", "{k},7,{i}", None),
        ("idx,orig_file,file", "{k},{i},{other}", None),
        ("idx,Orig_File,orig_idx,md5", "{k},{i},7,{other}", None),
        ("idx,celeba", "{k},{i}", None),
        (",image_id,orig_idx,orig_file", "99,{k},7,{i}", None),
        (",hq_idx,orig_idx,orig_file", "99,{k},7,{i}", None),
        ("id,file,orig_idx,orig_file", "99,{k}.jpg,7,{i}", "expected the number of an image"),
        (
            "idx,file,other",
            "{k},{i},{other}",
            ":2: expected the number of an image, found '000001.jpg'",
        ),
        ("idx,orig_file,orig_file", "{k},{i},{other}", "several is 'orig_file'"),
        ("image_id,idx,orig_file", "{k},7,{i}", ":1: idx is not the first column"),
    ],
)
def test_the_column_of_the_mapping_is_found_by_its_name(
    tmp_path: Path, header: str, row: str, says: str | None
) -> None:
    root = numbered(tmp_path / "data")
    rows = [row.format(k=k, i=i, other=IDS[-1 - k]) for k, i in enumerate(IDS)]
    (root / "CelebA-HQ-to-CelebA-mapping.csv").write_text("\n".join([header, *rows]))
    if says is None:
        assert find_source(root).partition == {f"{k:05d}.jpg": PART[i] for k, i in enumerate(IDS)}
    else:
        with pytest.raises(DataError, match=says):
            find_source(root)


@pytest.mark.parametrize(
    ("header", "row", "says"),
    [
        ("idx orig_idx orig_file\n", "{k} 7 {other}", "says 000024.jpg of 0, and .*csv says 000001.jpg"),
        ("idx orig_idx celeba\n", "{k} 7 {other}", "has the columns orig_idx, celeba, of which none is"),
        ("", "{k:05d} {other}", "says 000024.jpg of 00000, and .*csv says 000001.jpg"),
        ("idx celeba\n", "{k:03d} {other}", "says 000024.jpg of 000, and .*csv says 000001.jpg"),
    ],
)
def test_two_mappings_that_contradict_each_other_are_refused_however_they_are_written(
    tmp_path: Path, header: str, row: str, says: str
) -> None:
    root = numbered(tmp_path / "data")
    rows = [f"{k},{i}" for k, i in enumerate(IDS)]
    (root / "CelebA-HQ-to-CelebA-mapping.csv").write_text("\n".join(["idx,orig_file", *rows]))
    rows = [row.format(k=k, other=IDS[-1 - k]) for k in range(COUNT)]
    (root / "CelebA-HQ-to-CelebA-mapping.txt").write_text(header + "\n".join(rows))
    with pytest.raises(DataError, match=says):
        find_source(root)
    # Agreeing, they are one.
    (root / "CelebA-HQ-to-CelebA-mapping.txt").write_text(
        "\n".join(f"{k:05d} {i}" for k, i in enumerate(IDS))
    )
    assert find_source(root).partition["00003.jpg"] == PART[IDS[3]]


@pytest.mark.parametrize("stem", OTHERWISE)
@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("img_align_celeba\\{}", r"says \d+ of img_align_celeba\\000001\.jpg, and"),
        ("C:\\data\\{}", r"says \d+ of C:\\data\\000001\.jpg, and"),
        ("a/{0} b/{0}", "have no name in common"),
        ("a/{0} /b/{0} {0}.png", "have no name in common"),
        ("000{}", r"says \d+ of 000000001\.jpg, and"),
    ],
)
def test_a_second_list_is_compared_however_it_writes_the_names(
    tmp_path: Path, stem: str, written: str, says: str
) -> None:
    root = images(tmp_path / "celeba" / "img_align_celeba").parent
    text_lists(root)
    table = {n: v for i, v in OTHERWISE[stem].items() for n in written.format(i).split()}
    write_list(root / "sub" / f"{stem}.txt", table)
    with pytest.raises(DataError, match=rf"{says}.*remove one of the two lists"):
        find_source(root)
    # A list of other images is nobody's here.
    write_list(root / "sub" / f"{stem}.txt", {f"x{name}": value for name, value in OTHERWISE[stem].items()})
    assert (find_source(root).partition, find_source(root).identities) == (PART, WHO)


@pytest.mark.parametrize(
    ("columns", "refused"),
    [(["Young"], True), (["Male", "Young"], True), (["Male"], False), (["Smiling", "Male"], False)],
)
def test_a_second_table_of_attributes_has_no_columns_of_its_own(
    tmp_path: Path, columns: list[str], refused: bool
) -> None:
    root = kaggle(tmp_path / "celeba")
    values = {"Male": lambda k: 1 if k % 2 else -1, "Smiling": lambda k: -1, "Young": lambda k: 1}
    rows = [" ".join([i, *(str(values[c](k)) for c in columns)]) for k, i in enumerate(IDS)]
    (root / "Anno").mkdir()
    (root / "Anno" / "list_attr_celeba.txt").write_text("\n".join([str(COUNT), " ".join(columns), *rows]))
    if refused:
        with pytest.raises(
            DataError, match=r"list_attr_celeba\.txt has other columns than .*celeba\.csv; remove"
        ):
            find_source(root)
    else:
        assert list(find_source(root).attributes) == ["Male", "Smiling"]


@pytest.mark.parametrize("wide", ["list_attr_celeba.csv", "Anno/list_attr_celeba.csv"])
def test_a_table_of_more_attributes_and_fewer_pictures_is_not_passed_over(tmp_path: Path, wide: str) -> None:
    """The one that names most of the pictures is used, wherever the other lies."""
    root = images(tmp_path / "celeba" / "img_align_celeba").parent
    text_lists(root)
    (root / "Anno").mkdir()
    for place in ("list_attr_celeba.csv", "Anno/list_attr_celeba.csv"):
        names, columns = (IDS[1:], ["Male", "Smiling"]) if place == wide else (IDS, ["Male"])
        rows = [",".join([name, *["1"] * len(columns)]) for name in names]
        (root / place).write_text("\n".join([",".join(["image_id", *columns]), *rows]) + "\n")
    with pytest.raises(DataError, match="has other columns than"):
        find_source(root)


@pytest.mark.parametrize("stem", OTHERWISE)
@pytest.mark.parametrize("given", ["", "img_align_celeba"])
def test_a_zip_of_lists_that_contradicts_the_ones_that_are_used_is_said(
    tmp_path: Path, stem: str, given: str
) -> None:
    root = tmp_path / "celeba"
    images(root / "img_align_celeba")
    text_lists(root)
    first = {"list_eval_partition": PART, "identity_CelebA": WHO}[stem]
    for table, count in ((first, 0), (OTHERWISE[stem], 1)):
        write_list(tmp_path / "lists" / "Eval" / f"{stem}.txt", table)
        zipped(tmp_path / "lists", root / given / "lists.zip")
        source = find_source(root / given)
        assert {"list_eval_partition": source.partition, "identity_CelebA": source.identities}[stem] == first
        notes = [note for note in source.notes if note.startswith("lists.zip is not used: ")]
        assert len(notes) == count
        assert all("of 000001.jpg, and" in note for note in notes)


@pytest.mark.parametrize("name", ["{}", "{:05d}", "imgHQ{:05d}"])
@pytest.mark.parametrize("mapping", ["CelebA-HQ-to-CelebA-mapping.csv", "celeba-hq-to-celeba-mapping.txt"])
def test_a_mapping_beside_celeba_hq_under_another_name_is_said(
    tmp_path: Path, name: str, mapping: str
) -> None:
    root = some(tmp_path / "data", [f"faces/{name.format(k)}.jpg" for k in range(COUNT)])
    (root / mapping).write_text(HQ_MAPPING)
    text_lists(root)
    notes = find_source(root / "faces").notes
    way = "lies beside this folder and is not read; give the folder around both as --data"
    assert [note for note in notes if f"{mapping} {way}" in note]
    # CelebA's own lists have other names.
    others = [note for note in notes if mapping not in note]
    assert len(others) == 2
    assert all(note.endswith("is not read: it names none of these pictures") for note in others)
    assert find_source(root).name == "celeba-hq"
    # Of pictures without numbers it says nothing.
    assert find_source(some(root / "others", ["a.jpg", "b.jpg"])).notes == []


@pytest.mark.parametrize(("photos", "taken"), [(6, "with them"), (60, "alone")])
@pytest.mark.parametrize("folder", ["img_align_celeba/mine", "pictures/mine", ""])
def test_own_photos_that_outnumber_celebas_are_not_celeba(
    tmp_path: Path, opened: Opener, photos: int, taken: str, folder: str
) -> None:
    root = tmp_path / "data"
    place = images(root / folder.partition("/")[0])
    text_lists(root)
    own = [f"h{k}.jpg" for k in range(photos)]
    some(root / folder, own)
    source = find_source(root)
    assert (source.name, source.ids) == ("celeba", IDS if taken == "alone" else [*IDS, *sorted(own)])
    if taken == "alone":
        assert any(note.startswith("60 pictures are not used: ") for note in source.notes)
        assert opened(root).test.ids == [i for i in IDS if PART[i] == 2]
        assert opened(root, split="digest").title == "CelebA (aligned)"
    assert place.is_dir()


@pytest.mark.filterwarnings("ignore:Duplicate name")  # zipfile's own, when it is written
@pytest.mark.parametrize("name", ["list_eval_partition.txt", "img_align_celeba/000003.jpg"])
@pytest.mark.parametrize("second", ["{}", "./{}"])
def test_two_members_of_one_name_are_said(tmp_path: Path, name: str, second: str) -> None:
    root = images(tmp_path / "made" / "img_align_celeba").parent
    text_lists(root)
    path = zipped(root, tmp_path / "celeba.zip")
    assert find_source(path).notes == []
    other = (root / name).read_bytes()
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(second.format(name), other + other)
    (note,) = find_source(path).notes
    assert note == f"left out: {name} (another member of the zip has this name)"


@pytest.mark.parametrize("byte", [b"\xe9", b"\xe9\xff", b"%\xe9"])
def test_what_is_not_utf8_in_a_list_becomes_text_that_every_file_can_hold(
    tmp_path: Path, opened: Opener, byte: bytes
) -> None:
    root = images(tmp_path / "img_align_celeba")
    shown = byte.replace(b"%", b"%25").replace(b"\xe9", b"%E9").replace(b"\xff", b"%FF").decode()
    rows = [b"image_id,M" + byte, *(f"{i},{1 if k % 2 else -1}".encode() for k, i in enumerate(IDS))]
    (root / "list_attr_celeba.csv").write_bytes(b"\n".join(rows))
    text_lists(root)
    assert list(opened(root).attributes) == [f"M{shown}"]
    # As text with its number of lines, and of two tables the message.
    rows = [b"24", b"M" + byte, *(f"{i} 1".encode() for i in IDS)]
    (tmp_path / "list_attr_celeba.txt").write_bytes(b"\n".join(rows))
    with pytest.raises(DataError, match=r"says 1 of 000001\.jpg"):
        find_source(root)
    (root / "list_attr_celeba.csv").unlink()
    assert list(opened(root).attributes) == [f"M{shown}"]


@pytest.mark.parametrize(
    "value", [b"\xe9\xff", b"\x1b[2J\x1b[31mRED", "\u202e\u2028".encode(), b"\x07\x7f", "\x9b2J".encode()]
)
@pytest.mark.parametrize("what", ["value", "name", "file", "zip", "attribute"])
def test_notes_and_attributes_are_lines_that_a_page_can_hold(
    tmp_path: Path, opened: Opener, value: bytes, what: str
) -> None:
    root = tmp_path / "data"
    folder = images(root / ("img_align_celeba" if what in ("zip", "attribute") else "faces"))
    text_lists(folder)
    text = value.decode("utf-8", "surrogateescape")
    if what in ("value", "name"):
        line = b"000001.jpg " + value if what == "value" else b"x" + value + b".jpg,1\n000001.jpg 2"
        (root / "list_eval_partition.txt").write_bytes(line)
        if what == "name":
            with (folder / "list_eval_partition.txt").open("ab") as lines:
                lines.write(b"x" + value + b".jpg,2\n")
    elif what == "file":
        (folder / "identity_CelebA.txt").unlink()
        (folder / f"identity_CelebA{text}.txt").write_text("000001.jpg 1\n")
    elif what == "zip":
        with zipfile.ZipFile(root / f"l{text}.zip", "w") as archive:
            archive.writestr("list_eval_partition.txt", b"000001.jpg " + value)
    else:
        rows = [b"image_id,M" + value, *(f"{i},1".encode() for i in IDS)]
        (root / "list_attr_celeba.csv").write_bytes(b"\n".join(rows))
    data = opened(root if what in ("zip", "attribute") else folder)
    said = [*data.notes, *data.attributes]
    assert said
    assert [one_line(line) for line in said] == said


@pytest.mark.parametrize("written", ["img_align_celeba\\{}", "data\\img_align_celeba\\{}"])
def test_a_list_made_on_windows_names_the_images(tmp_path: Path, written: str) -> None:
    root = images(tmp_path / "celeba" / "img_align_celeba").parent
    for stem, values in (("list_eval_partition", PART), ("identity_CelebA", WHO)):
        write_list(root / f"{stem}.txt", {written.format(name): value for name, value in values.items()})
    found = find_source(root)
    assert (found.partition, found.identities) == (PART, WHO)


@pytest.mark.parametrize(
    "header",
    [
        "id,image,partition",
        "idx,split,File Name",
        "id,name,split",
        "index,image_path,split",
        "Unnamed: 0,img,split",
    ],
)
@pytest.mark.parametrize("separator", [",", "\t"])
def test_row_numbers_are_not_taken_for_pictures_called_by_numbers(
    tmp_path: Path, header: str, separator: str
) -> None:
    some(tmp_path / "img_align_celeba", [f"{k}.jpg" for k in range(24)])
    part = {f"{k}.jpg": (0, 1, 2)[k % 3] for k in range(24)}
    cells = [header.split(",")]
    for k, (name, value) in enumerate(part.items(), start=1):
        cells.append([str(k), *(str(value) if c in ("split", "partition") else name for c in cells[0][1:])])
    (tmp_path / "list_eval_partition.csv").write_text("\n".join(map(separator.join, cells)))
    assert find_source(tmp_path).partition == part


@pytest.mark.parametrize(
    "header", [",image_id,nearest,partition", "idx,image_id,mask,partition", "id,image_id,mask.png,split"]
)
def test_names_without_a_suffix_are_read_beside_other_files(tmp_path: Path, header: str) -> None:
    images(tmp_path / "img_align_celeba")
    lines = [f"{k},{name[:-4]},{IDS[-1 - k]},{PART[name]}" for k, name in enumerate(IDS)]
    (tmp_path / "list_eval_partition.csv").write_text("\n".join([header, *lines]))
    assert find_source(tmp_path).partition == PART


def test_row_numbers_of_a_shuffled_table_are_passed_over(tmp_path: Path) -> None:
    some(tmp_path / "img_align_celeba", [f"{k}.jpg" for k in range(24)])
    part = {f"{k}.jpg": (0, 1, 2)[k % 3] for k in range(24)}
    lines = [f"{(7 * k + 5) % 24},{k},{k % 3}" for k in range(24)]
    (tmp_path / "list_eval_partition.csv").write_text("\n".join([",id,partition", *lines]))
    assert find_source(tmp_path).partition == part
    (tmp_path / "list_eval_partition.csv").write_text("\n".join([",x,partition", *lines]))
    with pytest.raises(DataError, match="call it image_id"):
        find_source(tmp_path)


def test_the_list_of_attributes_may_lack_its_first_line(tmp_path: Path) -> None:
    """As people cut it off for pandas."""
    images(tmp_path / "img_align_celeba")
    lines = ["Male Smiling", *(f"{name} 1 -1" for name in IDS)]
    (tmp_path / "list_attr_celeba.txt").write_text("\n".join(lines))
    assert dict(find_source(tmp_path).attributes) == {
        "Male": dict.fromkeys(IDS, True),
        "Smiling": dict.fromkeys(IDS, False),
    }


@pytest.mark.parametrize("header", [",img_id,identity", "index,picture,partition", "Unnamed: 0,x,y"])
def test_row_numbers_beside_names_nobody_can_tell_are_refused(tmp_path: Path, header: str) -> None:
    images(tmp_path / "img_align_celeba")
    rows = "".join(f"{k},{name[:-4]},{k % 3}\n" for k, name in enumerate(IDS))
    (tmp_path / "identity_CelebA.csv").write_text(f"{header}\n{rows}")
    with pytest.raises(DataError, match=r"csv:1: the first column has numbers of rows.*call it image_id"):
        find_source(tmp_path)


@pytest.mark.parametrize(
    "header", [",partition", "image name,partition", "Unnamed: 0,partition", "img_name,partition"]
)
def test_a_header_of_two_columns_is_one_whatever_it_calls_the_names(tmp_path: Path, header: str) -> None:
    images(tmp_path / "img_align_celeba")
    rows = "".join(f"{name},{part}\n" for name, part in PART.items())
    (tmp_path / "list_eval_partition.csv").write_text(f"{header}\n{rows}")
    assert find_source(tmp_path).partition == PART


@pytest.mark.parametrize("header", ["", "image_id partition\n", "partition\n"])
def test_a_list_of_the_split_may_begin_with_its_length(tmp_path: Path, header: str) -> None:
    images(tmp_path / "img_align_celeba")
    rows = "".join(f"{name} {part}\n" for name, part in PART.items())
    (tmp_path / "list_eval_partition.txt").write_text(f"{len(IDS)}\n{header}{rows}")
    assert find_source(tmp_path).partition == PART


def test_a_table_of_attributes_with_its_length_and_row_numbers_is_read(tmp_path: Path) -> None:
    images(tmp_path / "img_align_celeba")
    lines = [
        f"{len(IDS)}",
        "\timage_id\tMale",
        *(f"{k}\t{name}\t{1 - 2 * (k % 2)}" for k, name in enumerate(IDS)),
    ]
    (tmp_path / "list_attr_celeba.txt").write_text("\n".join(lines))
    assert dict(find_source(tmp_path).attributes) == {
        "Male": {name: k % 2 == 0 for k, name in enumerate(IDS)}
    }


@pytest.mark.parametrize("numbered", ["", "idx", "id", "ID"])
@pytest.mark.parametrize("columns", ["image_id,partition", "split,image_id", "identity,split,filename,fold"])
@pytest.mark.parametrize("first", [0, 1])
def test_a_list_that_pandas_wrote_with_its_row_numbers_is_read_by_the_names(
    tmp_path: Path, numbered: str, columns: str, first: int
) -> None:
    """Whose numbers may be those of other images, wherever the column of names stands."""
    root = images(tmp_path / "celeba" / "img_align_celeba").parent
    rows = [f"{numbered},{columns}"]
    for k, (name, part) in enumerate(PART.items(), start=first):
        cells = {"image_id": name, "filename": name, "partition": part, "split": part}
        rows.append(",".join(map(str, [k, *(cells.get(column, 7) for column in columns.split(","))])))
    (root / "list_eval_partition.csv").write_text("\n".join(rows))
    assert find_source(root).partition == PART


@pytest.mark.parametrize("stem", OTHERWISE)
def test_of_two_lists_the_one_whose_names_the_images_have_is_read(tmp_path: Path, stem: str) -> None:
    """The other one was saved by a spreadsheet, which drops zeros."""
    root = images(tmp_path / "celeba" / "img_align_celeba").parent
    lines = [f"{name} {value}\n" for name, value in {"list_eval_partition": PART}.get(stem, WHO).items()]
    numbers = [f"{int(name[:-4])},{value}\n" for name, value in (line.split() for line in lines)]
    (root / f"{stem}.txt").write_text("".join(lines))
    (root / f"{stem}.csv").write_text("image_id,value\n" + "".join(numbers))
    for given in (root, root / "img_align_celeba"):
        found = find_source(given)
        assert (found.partition or found.identities) == {"list_eval_partition": PART}.get(stem, WHO)
        assert not [note for note in found.notes if "names no person" in note]


def test_numbers_of_people_before_the_names_are_no_row_numbers(tmp_path: Path) -> None:
    images(tmp_path / "img_align_celeba")
    lines = [f"{WHO[name]},{name},{k % 2 + 1}" for k, name in enumerate(IDS)]
    (tmp_path / "identity_CelebA.csv").write_text("\n".join(["id,image_id,Male", *lines]))
    with pytest.raises(DataError, match="has the columns id, Male, of which none is"):
        find_source(tmp_path)
    (tmp_path / "identity_CelebA.csv").write_text("\n".join(["id,image_id,identity", *lines]))
    assert set(find_source(tmp_path).identities.values()) == {1, 2}
