"""CelebA-HQ is known by its names and its mapping, and takes split, people and attributes from CelebA's lists."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bench.data.sources import find_source
from bench.errors import DataError
from tests.bench.data.celeba_replicas import COUNT, IDS, PART, WHO, images, some, text_lists, zipped

HQ_IDS = [f"{k:05d}.jpg" for k in range(COUNT)]


def mapping(root: Path) -> None:
    lines = [f"{k} 7 {name}\n" for k, name in enumerate(IDS)]
    (root / "CelebA-HQ-to-CelebA-mapping.txt").write_text("idx orig_idx orig_file\n" + "".join(lines))


@pytest.mark.parametrize("written", ["{}.jpg", "{}.png", "{}", "img_align_celeba/{}.jpg"])
def test_lists_are_read_by_the_mapping_however_they_write_the_names(tmp_path: Path, written: str) -> None:
    some(tmp_path / "CelebA-HQ-img", [f"{k}.jpg" for k in range(COUNT)])
    mapping(tmp_path)
    for stem, values in (("list_eval_partition", PART), ("identity_CelebA", WHO)):
        lines = [f"{written.format(name[:-4])} {value}\n" for name, value in values.items()]
        (tmp_path / f"{stem}.txt").write_text("".join(lines))
    lines = [f"{written.format(name[:-4])} {1 if k % 2 else -1}\n" for k, name in enumerate(IDS)]
    (tmp_path / "list_attr_celeba.txt").write_text("image_id Male\n" + "".join(lines))
    found = find_source(tmp_path)
    assert found.partition == {i: PART[name] for i, name in zip(HQ_IDS, IDS, strict=True)}
    assert found.identities == {i: WHO[name] for i, name in zip(HQ_IDS, IDS, strict=True)}
    assert dict(found.attributes) == {"Male": {i: bool(k % 2) for k, i in enumerate(HQ_IDS)}}
    assert not found.notes


@pytest.mark.parametrize("lists", ["", "Anno"])
def test_a_mapping_beside_a_zip_is_read(tmp_path: Path, lists: str) -> None:
    folder = some(tmp_path / "pictures", [f"{k}.jpg" for k in range(COUNT)])
    packed = zipped(folder, tmp_path / "hq.zip")
    shutil.rmtree(folder)
    (tmp_path / lists).mkdir(exist_ok=True)
    mapping(tmp_path / lists)
    text_lists(tmp_path / lists)
    for given in (tmp_path, packed):
        found = find_source(given)
        assert (found.name, found.ids) == ("celeba-hq", HQ_IDS)
        assert found.partition == {i: PART[name] for i, name in zip(HQ_IDS, IDS, strict=True)}


@pytest.mark.parametrize("results", ["a/results", "results", "zz/test"])
def test_outputs_below_the_folder_are_not_taken_for_the_images(tmp_path: Path, results: str) -> None:
    root = tmp_path / "celeba_hq"
    some(root / "train", [f"{k}.jpg" for k in range(3, COUNT)])
    some(root / "test", [f"{k}.jpg" for k in range(3)])
    some(root / results, [f"{k}.png" for k in range(3)])
    found = find_source(root)
    assert found.ids == HQ_IDS
    assert {path.split("/")[0] for path in found.paths.values()} == {"train", "test"}
    assert any(f"3 pictures are not used: {results}/" in note for note in found.notes)


@pytest.mark.parametrize("project", ["celebahq-code", "CelebA-HQ-img"])
@pytest.mark.parametrize("inner", ["celeba/images", "celeba", "img_celeba", "data/img_align_celeba"])
def test_celeba_below_a_project_of_that_name_is_celeba(tmp_path: Path, project: str, inner: str) -> None:
    images(tmp_path / project / inner)
    text_lists(tmp_path / project / inner.partition("/")[0])
    found = find_source(tmp_path / project)
    assert (found.ids, found.partition, found.identities) == (IDS, PART, WHO)
    assert found.kind.name == ("celeba-in-the-wild" if inner == "img_celeba" else "celeba")


@pytest.mark.parametrize("numbers", [range(1, COUNT + 1), range(29_990, 29_990 + COUNT)])
@pytest.mark.parametrize("folder", ["images", "celeba"])
@pytest.mark.parametrize("lies", ["", "CelebAMask-HQ", "Anno"])
def test_a_mapping_in_sight_makes_no_celeba_hq_of_celeba(
    tmp_path: Path, lies: str, folder: str, numbers: range
) -> None:
    """Both were downloaded to one place, and of CelebA-HQ the lists alone."""
    ids = [f"{number:06d}.jpg" for number in numbers]
    some(tmp_path / folder, ids)
    (tmp_path / "list_eval_partition.txt").write_text("".join(f"{i} {k % 3}\n" for k, i in enumerate(ids)))
    (tmp_path / lies).mkdir(exist_ok=True)
    mapping(tmp_path / lies)
    found = find_source(tmp_path)
    assert (found.name, found.ids) == ("celeba", ids)
    assert found.partition == {i: k % 3 for k, i in enumerate(ids)}


@pytest.mark.parametrize("inner", ["CelebA-HQ-img", "celeba_hq_256"])
def test_a_part_below_the_whole_does_not_hide_it(tmp_path: Path, inner: str) -> None:
    whole = some(tmp_path / "CelebA-HQ-img", [f"{k}.jpg" for k in range(COUNT)])
    some(whole / inner, [f"{k}.jpg" for k in range(3)])
    for given in (tmp_path, whole):
        found = find_source(given)
        assert found.ids == HQ_IDS
        assert any("3 pictures are not used" in note for note in found.notes)


#: As StarGAN v2's copy has them: CelebA's own numbers.
CELEBAS = ["000016.jpg", "000060.jpg", "015248.jpg", "051340.jpg", "162771.jpg", "182638.jpg", "195650.jpg"]


@pytest.mark.parametrize("low", [False, True])
@pytest.mark.parametrize("lists", [None, "", "celeba_hq"])
@pytest.mark.parametrize("mapped", [False, True])
def test_six_digits_are_celebas_own_numbers(
    tmp_path: Path, lists: str | None, mapped: bool, low: bool
) -> None:
    """``low``: the first few alone, of which none is above the number of images of CelebA-HQ."""
    ids = CELEBAS[:3] if low else CELEBAS
    folders = ["train/male", "train/female", "val/male"]
    some(tmp_path / "celeba_hq", [f"{folders[k % 3]}/{name}" for k, name in enumerate(ids)])
    who = {name: 7 + k for k, name in enumerate(ids)}
    if lists is not None:
        (tmp_path / lists / "identity_CelebA.txt").write_text("".join(f"{i} {n}\n" for i, n in who.items()))
    if mapped:
        mapping(tmp_path)
    found = find_source(tmp_path)
    assert (found.name, found.ids) == ("celeba-hq", ids)
    assert found.identities == (who if lists is not None else {})
    # What it calls validation is what it tests on.
    assert {i for i, part in found.partition.items() if part == 2} == set(ids[2::3])
    train = find_source(tmp_path / "celeba_hq" / "train")
    assert (train.name, train.ids) == ("celeba-hq", sorted(ids[::3] + ids[1::3]))


@pytest.mark.parametrize("first", [0, 1])
def test_six_digits_that_count_all_images_are_indices(tmp_path: Path, first: int) -> None:
    numbers = [0, 1, 29_999] if first == 0 else [1, 2, 30_000]
    some(tmp_path / "celeba_hq_256", [f"{number:06d}.png" for number in numbers])
    assert find_source(tmp_path).ids == [f"{number - first:05d}.jpg" for number in numbers]


@pytest.mark.parametrize("folder", ["{}", "{}/male", "{}/{{}}"])
@pytest.mark.parametrize("digits", [5, 6])
def test_a_copy_that_counts_from_1_does_so_in_all_its_folders(
    tmp_path: Path, folder: str, digits: int
) -> None:
    """It is known by its last number, which lies in one of them."""
    numbers = [1, 2, 3, 29_998, 29_999, 30_000]
    for k, number in enumerate(numbers):
        name = folder.format("train" if k % 2 else "test").format(k // 2)
        some(tmp_path / "celeba_hq" / name, [f"{number:0{digits}d}.jpg"])
    found = find_source(tmp_path)
    assert found.ids == [f"{number - 1:05d}.jpg" for number in numbers]
    assert {i for i, part in found.partition.items() if part == 2} == set(found.ids[::2])


@pytest.mark.parametrize("root", ["celeba_hq", "Data_preprocessing"])
@pytest.mark.parametrize("parts", [("train_img", "val_img", "test_img"), ("train", "test")])
def test_folders_that_count_anew_are_not_celeba_hq(tmp_path: Path, root: str, parts: tuple[str, ...]) -> None:
    """CelebAMask-HQ's g_partition.py writes them so; which face is which nobody can say any more."""
    for part in parts:
        some(tmp_path / root / part, [f"{k}.jpg" for k in range(9)])
    mapping(tmp_path / root)
    text_lists(tmp_path / "nowhere")
    found = find_source(tmp_path / root)
    assert (found.kind.name, found.partition, found.identities) == ("folder", {}, {})
    assert found.ids == sorted(f"{part}/{k}.jpg" for part in parts for k in range(9))
    assert any("are not taken as a split" in note for note in found.notes)


def test_two_ways_of_numbering_are_not_mixed(tmp_path: Path) -> None:
    some(tmp_path / "celeba_hq", [f"train/{name}" for name in CELEBAS])
    some(tmp_path / "CelebA-HQ-img", [f"{k}.jpg" for k in range(COUNT)])
    found = find_source(tmp_path)
    assert found.ids == HQ_IDS
    assert any("7 pictures are not used: celeba_hq/train/000016.jpg" in note for note in found.notes)


def test_a_link_bears_the_name_of_what_it_leads_to(tmp_path: Path) -> None:
    some(tmp_path / "store" / "data256x256", [f"{k + 1:05d}.jpg" for k in range(COUNT)])
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "hq").symlink_to(tmp_path / "store" / "data256x256")
    for given in (tmp_path / "data", tmp_path / "data" / "hq"):
        found = find_source(given)
        assert (found.name, found.ids) == ("celeba-hq", HQ_IDS)


def test_a_mapping_to_celebas_index_counts_from_0(tmp_path: Path) -> None:
    some(tmp_path / "CelebA-HQ-img", [f"{k}.jpg" for k in range(COUNT)])
    lines = [f"{k} {int(name[:-4]) - 1}\n" for k, name in enumerate(IDS)]
    (tmp_path / "CelebA-HQ-to-CelebA-mapping.txt").write_text("idx orig_idx\n" + "".join(lines))
    text_lists(tmp_path)
    assert find_source(tmp_path).partition == {i: PART[name] for i, name in zip(HQ_IDS, IDS, strict=True)}


@pytest.mark.parametrize(
    "header", ["idx orig_idx", "IDX ORIG_IDX", "Idx,OrigIdx", "idx,orig index", "idx,celeba", ""]
)
@pytest.mark.parametrize("written", ["{}", "{:06d}"])
def test_numbers_of_a_mapping_are_an_index_where_they_are_called_so(
    tmp_path: Path, header: str, written: str
) -> None:
    """What nobody can tell is refused: one more or less is another person."""
    some(tmp_path / "CelebA-HQ-img", [f"{k}.jpg" for k in range(COUNT)])
    sign = "," if "," in header else " "
    lines = [f"{k}{sign}{written.format(int(name[:-4]) - 1)}\n" for k, name in enumerate(IDS)]
    (tmp_path / "CelebA-HQ-to-CelebA-mapping.txt").write_text(
        (f"{header}\n" if header else "") + "".join(lines)
    )
    text_lists(tmp_path)
    if "orig" not in header.lower():
        with pytest.raises(
            DataError, match=r"mapping\.txt: nobody can tell whether its numbers are CelebA's own"
        ):
            find_source(tmp_path)
        return
    assert find_source(tmp_path).identities == {i: WHO[name] for i, name in zip(HQ_IDS, IDS, strict=True)}


@pytest.mark.parametrize("name", ["img_align_celeba\\{}", "img_align_celeba/{}", "'{}'", "x{}"])
def test_a_mapping_that_leads_nowhere_is_named(tmp_path: Path, name: str) -> None:
    some(tmp_path / "CelebA-HQ-img", [f"{k}.jpg" for k in range(COUNT)])
    lines = [f"{k},{name.format(i)}\n" for k, i in enumerate(IDS)]
    (tmp_path / "CelebA-HQ-to-CelebA-mapping.csv").write_text("idx,orig_file\n" + "".join(lines))
    text_lists(tmp_path)
    found = find_source(tmp_path)
    if "celeba" in name:
        assert found.partition == {i: PART[name] for i, name in zip(HQ_IDS, IDS, strict=True)}
        return
    (note,) = [note for note in found.notes if "mapping.csv are none of those in " in note]
    assert "list_eval_partition.txt" in note


@pytest.mark.parametrize(
    "name", ["data256x256", "Data256x256", "data256x256 (1)", "Copy of data256x256", "data256x256_2"]
)
@pytest.mark.parametrize("first", [0, 1])
def test_data256x256_counts_from_1_whatever_of_it_is_given(tmp_path: Path, name: str, first: int) -> None:
    """A copy that counts from 0 is one all the same."""
    folder = some(tmp_path / name, [f"{k:05d}.jpg" for k in range(first, COUNT + first)])
    (tmp_path / "zipped").mkdir()
    packed = zipped(folder, tmp_path / "zipped" / f"{name}.zip")
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "celeba_hq").symlink_to(folder)
    inner = some(tmp_path / "divided" / name / "train", [f"{k:05d}.jpg" for k in range(first, COUNT + first)])
    for given in (folder, packed, tmp_path / "project", tmp_path / "project" / "celeba_hq", inner):
        assert find_source(given).ids == HQ_IDS


@pytest.mark.parametrize("name", ["img_celeba_hq", "img_celeba-hq"])
def test_a_name_that_begins_like_another_data_sets_is_not_its(tmp_path: Path, name: str) -> None:
    some(tmp_path / name, [f"{k}.jpg" for k in range(COUNT)])
    mapping(tmp_path)
    text_lists(tmp_path)
    assert find_source(tmp_path).name == "celeba-hq"


@pytest.mark.parametrize("folder", ["img_celeba_samples", "img_celeba_figs", "img_celeba project"])
def test_a_few_pictures_in_a_folder_of_a_similar_name_hide_nothing(tmp_path: Path, folder: str) -> None:
    images(tmp_path / "images")
    text_lists(tmp_path)
    some(tmp_path / folder, ["figure-1.png", "figure-2.png"])
    found = find_source(tmp_path)
    assert found.name == "celeba"
    assert set(found.ids) >= set(IDS)


def test_lists_that_folders_stand_in_for_are_named(tmp_path: Path) -> None:
    root = tmp_path / "CelebA-HQ-img"
    some(root / "train", [f"{k}.jpg" for k in range(3, COUNT)])
    some(root / "test", [f"{k}.jpg" for k in range(3)])
    text_lists(tmp_path)
    (tmp_path / "list_attr_celeba.txt").write_text("image_id Male\n000001.jpg 1\n")
    notes = find_source(tmp_path).notes
    for stem in ("list_eval_partition", "identity_CelebA", "list_attr_celeba"):
        assert any(f"{stem}.txt is not used" in note for note in notes), notes
