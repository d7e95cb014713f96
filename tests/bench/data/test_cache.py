"""Packs: whole or not at all, resumable, safe for several processes; and the procedural faces in them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bench.data import DataSpec, fingerprint, open_data
from bench.data import cache as fill
from bench.data import cache as pack
from bench.data.procedural_faces import render_faces
from bench.data.sources import find_source
from bench.errors import BenchError, DataError

COUNT = 90


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures with a bad one, so that records of skipped pictures must survive as well."""
    place = tmp_path_factory.mktemp("pictures")
    for i, face in enumerate(render_faces(list(range(COUNT)), 32)):
        Image.fromarray(face).save(place / f"{i:03d}.png")
    (place / "005.png").write_bytes(b"")
    return place


def _pack(folder: Path, cache: Path, told: list[int] | None = None) -> tuple[np.ndarray, list[str]]:
    spec = DataSpec(source=str(folder), size=32, cache=cache)
    made = pack.cache_source(
        spec, find_source(folder), lambda what, done, of: told.append(done) if told is not None else None
    )
    return made.images, [s.id for s in made.skipped]


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fill, "BLOCK", 10)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No worker processes: what is patched here is what works."""
    monkeypatch.setattr(fill, "num_processes", lambda: 1)


def test_worker_processes_and_none_give_the_same(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fill, "num_processes", lambda: 2)
    many = _pack(folder, tmp_path / "many")
    monkeypatch.setattr(fill, "num_processes", lambda: 1)
    one = _pack(folder, tmp_path / "one")
    assert np.array_equal(many[0], one[0])
    assert many[1] == one[1] == ["005.png"]
    assert np.array_equal(one[0][0], np.asarray(Image.open(folder / "000.png")))


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    ("harm", "kept"), [("none", 40), ("torn line", 40), ("lost pixels", 20), ("no JSON", 0)]
)
def test_a_killed_pack_goes_on_and_equals_an_undisturbed_one(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str, kept: int
) -> None:
    whole = _pack(folder, tmp_path / "whole")
    decoded: list[range] = []
    work = pack._DecodeFiles.__call__

    def dying(self: pack._DecodeFiles, rows: range) -> object:
        if len(decoded) == 4:
            raise KeyboardInterrupt
        decoded.append(rows)
        return work(self, rows)

    monkeypatch.setattr(pack._DecodeFiles, "__call__", dying)
    with pytest.raises(KeyboardInterrupt):
        _pack(folder, tmp_path / "cut")
    assert not list((tmp_path / "cut").glob("*.json"))
    (record,) = (tmp_path / "cut").glob("*.partial")
    if harm == "torn line":  # killed in the middle of writing it
        record.write_text(record.read_text() + '{"skipped": [')
    elif harm == "lost pixels":  # the power failed before they reached the disk
        (path,) = (tmp_path / "cut").glob("*.npy")
        np.lib.format.open_memmap(path, mode="r+")[25] = 0
    elif harm == "no JSON":
        record.write_text("nonsense\n")
    monkeypatch.setattr(pack._DecodeFiles, "__call__", work)
    told: list[int] = []
    again = _pack(folder, tmp_path / "cut", told)
    assert told[0] == kept  # finished blocks were not decoded again
    assert told[-1] == COUNT
    assert np.array_equal(again[0], whole[0])
    assert again[1] == whole[1]
    assert not list((tmp_path / "cut").glob("*.partial"))


@pytest.mark.usefixtures("alone")
def test_a_finished_pack_is_used_and_not_made_again(folder: Path, tmp_path: Path) -> None:
    first = _pack(folder, tmp_path)
    told: list[int] = []
    assert np.array_equal(_pack(folder, tmp_path, told)[0], first[0])
    assert told == []


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("damage", ["deleted", "truncated", "emptied"])
def test_a_damaged_pack_is_made_again(folder: Path, tmp_path: Path, damage: str) -> None:
    first = np.array(_pack(folder, tmp_path)[0])
    (path,) = tmp_path.glob("*.npy")
    if damage == "deleted":
        path.unlink()
    else:
        os.truncate(path, path.stat().st_size // 2 if damage == "truncated" else 0)
    images, skipped = _pack(folder, tmp_path)
    assert np.array_equal(images, first)
    assert skipped == ["005.png"]


@pytest.mark.usefixtures("alone")
def test_a_changed_picture_is_packed_anew(tmp_path: Path) -> None:
    place = tmp_path / "mine"
    place.mkdir()
    for i, face in enumerate(render_faces([0, 1], 32)):
        Image.fromarray(face).save(place / f"{i}.png")
    before = np.array(_pack(place, tmp_path / "cache")[0])
    Image.fromarray(render_faces([2], 32)[0]).save(place / "1.png")
    after = _pack(place, tmp_path / "cache")[0]
    assert np.array_equal(after[0], before[0])
    assert np.array_equal(after[1], render_faces([2], 32)[0])


@pytest.mark.usefixtures("alone")
def test_a_pack_as_its_stamp_says_is_not_summed_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = DataSpec(source=str(folder), size=32, cache=tmp_path, allow_unreadable=True)
    first = open_data(spec)
    monkeypatch.setattr(pack, "block_checksums", lambda _: pytest.fail("summed the pixels again"))
    monkeypatch.setattr(fingerprint, "_fingerprint", lambda *_: pytest.fail("hashed the pixels again"))
    again = open_data(spec)
    assert again.fingerprint == first.fingerprint
    assert again.duplicates == first.duplicates
    assert np.array_equal(again.mean_image, first.mean_image)
    assert np.array_equal(again.mean_pixel, first.mean_pixel)


def _flip(path: Path, *, at: int = 5000) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        value = file.read(1)[0]
        file.seek(at)
        file.write(bytes([value ^ 1]))


@pytest.mark.usefixtures("alone")
def test_a_changed_pack_is_noticed_even_with_its_time_put_back(folder: Path, tmp_path: Path) -> None:
    first = np.array(_pack(folder, tmp_path)[0])
    (path,) = tmp_path.glob("*.npy")
    before = path.stat()
    _flip(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    told: list[int] = []
    assert np.array_equal(_pack(folder, tmp_path, told)[0], first)
    assert told[-1] == COUNT  # it was made again


@pytest.mark.usefixtures("alone")
def test_a_pack_copied_to_another_disk_is_summed_once_and_used(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = np.array(_pack(folder, tmp_path / "old")[0])
    shutil.copytree(tmp_path / "old", tmp_path / "new")
    told: list[int] = []
    assert np.array_equal(_pack(folder, tmp_path / "new", told)[0], first)
    assert told == []
    monkeypatch.setattr(pack, "block_checksums", lambda _: pytest.fail("summed the pixels again"))
    _pack(folder, tmp_path / "new")


@pytest.mark.usefixtures("alone")
def test_verify_finds_what_a_stamp_cannot(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that returns other bytes than were written changes no time, size or inode."""
    spec = DataSpec(source=str(folder), size=32, cache=tmp_path, allow_unreadable=True)
    first = open_data(spec, verify=True)
    (path,) = tmp_path.glob("*.npy")
    old = pack._file_signature(path)
    _flip(path, at=128 + 25 * 32 * 32 * 3)
    monkeypatch.setattr(pack, "_file_signature", lambda _: old)
    open_data(spec)
    with pytest.raises(DataError, match=r"is not what was written, from picture 21 of 90 on"):
        open_data(spec, verify=True)
    monkeypatch.undo()
    assert open_data(spec).fingerprint == first.fingerprint  # made again
    assert open_data(spec, verify=True).fingerprint == first.fingerprint


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("damage", ["", "{}", '{"fingerprint": "0", "duplicates": 3, "total": [1]}'])
def test_damaged_facts_are_worked_out_again(folder: Path, tmp_path: Path, damage: str) -> None:
    spec = DataSpec(source=str(folder), size=32, cache=tmp_path, allow_unreadable=True)
    first = open_data(spec)
    (path,) = tmp_path.glob("*.statistics-*.json")
    path.write_text(damage)
    again = open_data(spec)
    assert again.fingerprint == first.fingerprint
    assert np.array_equal(again.mean_image, first.mean_image)


@pytest.mark.usefixtures("alone")
def test_edited_statistics_and_sidecars_are_noticed(folder: Path, tmp_path: Path) -> None:
    """Whole JSON with another number: the mean image, or an image that was skipped."""
    spec = DataSpec(source=str(folder), size=32, cache=tmp_path, allow_unreadable=True)
    first = open_data(spec)
    (path,) = tmp_path.glob("*.statistics-*.json")
    value = json.loads(path.read_text())
    value["total"][0][0][0] += 1000
    path.write_text(json.dumps(value))
    (sidecar,) = set(tmp_path.glob("*.json")) - {path}
    value = json.loads(sidecar.read_text())
    value["skipped"] = []
    sidecar.write_text(json.dumps(value))
    again = open_data(spec)
    assert np.array_equal(again.mean_image, first.mean_image)
    assert again.skipped == first.skipped


def test_a_script_needs_no_main_guard(folder: Path, tmp_path: Path) -> None:
    """Processes decode the images, and none of them runs the script again."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys; from pathlib import Path; from bench.data import DataSpec, cache, open_data\n"
        "cache.BLOCK = 10; cache.num_processes = lambda: 2\n"
        "data = open_data(DataSpec(source=sys.argv[1], size=32, cache=Path(sys.argv[2]), allow_unreadable=True))\n"
        "print(__name__, Path(__file__).name, len(data.train.ids) > 0)\n"
    )
    run = subprocess.run(
        [sys.executable, str(script), str(folder), str(tmp_path / "cache")],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (run.returncode, run.stdout) == (0, "__main__ script.py True\n"), run.stderr


def test_two_processes_at_once_make_one_pack(folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys, hashlib; from pathlib import Path; from bench.data import DataSpec, cache;"
        "from bench.data.sources import find_source; cache.num_processes = lambda: 1; cache.BLOCK = 10; told = [];"
        "spec = DataSpec(source=sys.argv[1], size=32, cache=Path(sys.argv[2]));"
        "p = cache.cache_source(spec, find_source(Path(sys.argv[1])),"
        " lambda *a: told.append(a));"
        "print(hashlib.sha256(p.images.tobytes()).hexdigest(), [x.id for x in p.skipped], len(told) > 0)"
    )
    command = [sys.executable, "-W", "error", "-c", code, str(folder), str(tmp_path / "shared")]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [run.communicate(timeout=120)[0].split() for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    images, _ = _pack(folder, tmp_path / "alone")
    digest = hashlib.sha256(images.tobytes()).hexdigest()
    assert [a[:2] for a in answers] == [[digest, "['005.png']"]] * 2
    assert sorted(a[2] for a in answers) == ["False", "True"]  # one packed, the other waited


def test_a_cache_folder_that_cannot_be_made_is_one_line(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BenchError, match="cannot make the cache folder"):
        _pack(folder, tmp_path / "file" / "cache")


@pytest.mark.usefixtures("alone")
def test_a_large_scattered_split_is_arranged_on_the_disk(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, _ = _pack(folder, tmp_path)
    rows = [1, 2, 5, 30, 31, *range(50, 80, 3)]
    in_memory = fingerprint.split_images(images, rows)
    monkeypatch.setattr(fingerprint, "_IN_MEMORY", 0)
    on_disk = fingerprint.split_images(images, rows)
    assert isinstance(on_disk, np.memmap)
    assert np.array_equal(on_disk, in_memory)
    assert np.array_equal(in_memory, np.stack([images[r] for r in rows]))
    assert np.shares_memory(fingerprint.split_images(images, [4, 5, 6]), images)
    assert len(list(tmp_path.glob("*"))) == 3  # array, mark and lock: the copy has no name


def test_procedural_faces_are_the_published_ones() -> None:
    """Golden: other pixels are other data, and need another ``faces.VERSION``."""
    assert (
        hashlib.sha256(render_faces(list(range(8)), 64).tobytes()).hexdigest()
        == "a487a0827c4cb7927a51e91905a8795d5bc9df4860a891b5e6e7812b5a08326b"
    )
    assert (
        hashlib.sha256(render_faces([0, 2399], 160).tobytes()).hexdigest()
        == "d7d37f7c7ed343eec87a7d801178542a6b52a7aebf8768156d549b31c7334418"
    )


@settings(deadline=None, max_examples=15)
@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=40))
def test_a_face_depends_on_its_index_alone(indices: list[int]) -> None:
    together = render_faces(indices, 32)
    for i in (0, len(indices) // 2, len(indices) - 1):
        assert np.array_equal(together[i], render_faces([indices[i]], 32)[0])


def test_procedural_data_has_its_splits_and_no_duplicates(tmp_path: Path) -> None:
    data = open_data(DataSpec(size=32, cache=tmp_path))
    assert [len(s) for s in (data.train, data.validation, data.test)] == [2000, 128, 272]
    assert data.procedural
    assert data.duplicates == data.skipped == []
    assert "not real data" in data.title
    assert np.array_equal(data.test.pixels[0], render_faces([2128], 32)[0])
    # Faces vary: no two pictures are near copies, and every pixel differs between some.
    assert (data.train.pixels.std(axis=0) > 5).all()


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize("mode", [0o777, 0o757, 0o702, 0o1777])
def test_a_cache_that_every_user_may_write_to_is_refused(folder: Path, tmp_path: Path, mode: int) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(mode)
    with pytest.raises(BenchError, match=r"every user may write to .*chmod o-w .*XDG_CACHE_HOME"):
        open_data(DataSpec(source=str(folder), size=32, cache=shared, allow_unreadable=True))
    assert not list(shared.iterdir())
    for allowed in (0o755, 0o770, 0o700):
        shared.chmod(allowed)
        assert pack.cache_folder(DataSpec(cache=shared)) == shared


def test_the_cache_is_where_the_system_has_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert pack.default_cache_folder() == tmp_path / "inpaint-bench"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert pack.default_cache_folder().name == "inpaint-bench"
    if sys.platform == "linux":
        assert pack.default_cache_folder() == tmp_path / "home" / ".cache" / "inpaint-bench"


def _swap(first: Path, second: Path, spare: Path) -> None:
    first.rename(spare)
    second.rename(first)
    spare.rename(second)


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("what", ["all", "two", "links", "zip", "restored"])
def test_files_changed_for_others_of_equal_size_and_time_are_decoded_again(tmp_path: Path, what: str) -> None:
    """Ids would show the images of others: what is renamed keeps its size and time of modification."""
    place, spare = tmp_path / "pictures", tmp_path / "spare"
    place.mkdir()
    files = [place / f"{i:03d}.bmp" for i in range(40)]
    for file, face in zip(files, render_faces(list(range(40)), 32), strict=True):
        real = file.with_suffix(".dat") if what == "links" else file
        Image.fromarray(face).save(real, "BMP")
        os.utime(real, (10**9, 10**9))
        if real != file:
            file.symlink_to(real.name)
    source = place
    if what == "zip":
        source = tmp_path / "pictures.zip"
        with zipfile.ZipFile(source, "w") as archive, zipfile.ZipFile(tmp_path / "other.zip", "w") as other:
            for file, opposite in zip(files, reversed(files), strict=True):
                archive.writestr(file.name, file.read_bytes())
                other.writestr(file.name, opposite.read_bytes())
        for path in (source, tmp_path / "other.zip"):
            os.utime(path, (10**9, 10**9))
    spec = DataSpec(source=str(source), size=32, cache=tmp_path / "cache")
    before = open_data(spec)
    if what == "zip":
        (tmp_path / "other.zip").rename(source)
    elif what == "restored":
        content = files[1].read_bytes()
        files[1].write_bytes(files[0].read_bytes())
        files[0].write_bytes(content)
        for file in files[:2]:
            os.utime(file, (10**9, 10**9))
    else:
        for i in range(1 if what == "two" else 20):
            _swap(files[i], files[39 - i], spare)
    after = open_data(spec)
    # What is true is what a cache that never saw the others holds.
    truth = open_data(dataclasses.replace(spec, cache=tmp_path / "new"))
    assert after.fingerprint == truth.fingerprint != before.fingerprint
    assert np.array_equal(after.train.pixels, truth.train.pixels)


@pytest.mark.usefixtures("alone")
def test_the_fingerprint_knows_no_times_and_no_place(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    for number, path in enumerate(sorted(copy.iterdir())):
        os.utime(path, (number, number))
    first, second = (
        open_data(DataSpec(source=str(place), size=32, cache=tmp_path / "cache", allow_unreadable=True))
        for place in (folder, copy)
    )
    assert first.fingerprint == second.fingerprint
