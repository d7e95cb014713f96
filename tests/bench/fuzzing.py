"""Damaged and hostile input for everything that reads a file: what is raised must be one of ours, and what is accepted
must be what was written.

``python -m tests.bench.fuzzing`` (``nox -s fuzz``) goes on for ``--seconds``, or until ``--inputs`` were tried, and
prints how many of each; ``--only`` chooses targets. ``test_fuzz.py`` tries a few of each.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import itertools
import json
import os
import re
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

import click
import numpy as np
import torch
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from PIL import Image

from bench.cli.commands.run import run_command as run
from bench.cli.config_file import option_keys, read_config_file
from bench.data import fingerprint, sources
from bench.data.dataset import ImageSet
from bench.data.fingerprint import DatasetStatistics
from bench.data.name_lists import match_names, parse_list, parse_numbers
from bench.data.sources.zip_files import forget_open_zip
from bench.data.transforms import ImageError, decode_image
from bench.errors import BenchError
from bench.experiments import list_experiments
from bench.inpainting.photo import read_photo
from bench.runner import cell_files, training_instabilities
from bench.runner.manifest_writer import CELL_RECORD
from bench.runner.plan import Cell
from bench.runner.reproduce import MetricComparison, Reproduction, read_record, reproduction_as_json
from bench.runner.run_folder import file_signature, read_checked_json, write_checked_json
from bench.runner.train import read_training_record
from bench.runner.unit_status import read_jobs, read_units
from bench.runner.work import read_outcome
from bench.scoring.export_test_set import export_test_set
from bench.training import checkpoint
from bench.training.train_log import TrainLog
from masks import folder as mask_files
from masks.file_names import escape_name
from masks.mask_images import MaskFileError, MaskReading, read_mask
from masks.registry import draw_masks
from models import pretrained
from models.base import Task
from models.discovery import load_model
from models.errors import ModelError
from reports import index_page, leaderboard
from reports.index_page import render_index
from reports.results.attributes import (
    attribute_table,
    attributes_digest,
    read_attributes,
    write_attributes,
)
from reports.results.experiment import (
    ExperimentError,
    load_experiment,
    read_train_log,
)
from reports.results.manifest import SEAL, ManifestError, manifest_checksum, read_manifest
from reports.results.recorded_files import ATTRIBUTES, mask_file_name
from reports.results.schema import (
    SchemaError,
    cell_numbers,
    read_rows,
    rows_agree,
    rows_digest,
    validate_rows,
)
from reports.results.title import read_title, write_title
from tests.reports.synthetic import make_experiment, make_rows


@dataclass(frozen=True)
class Target:
    """Reads ``files[0]`` and what of it hypothesis has changed; ``read`` raises where the outcome is not allowed."""

    inputs: st.SearchStrategy[Any]
    read: Callable[[Any], None]


#: An edit of bytes: where (as a share of the whole), what is done, with which byte.
EDIT = st.tuples(
    st.floats(0, 1, exclude_max=True),
    st.sampled_from(["flip", "set", "insert", "cut", "end"]),
    st.integers(0, 255),
)


def edited(content: bytes) -> st.SearchStrategy[bytes]:
    """The content with a few edits, or any bytes."""

    def apply(edits: list[tuple[float, str, int]]) -> bytes:
        made = bytearray(content)
        for share, what, byte in edits:
            place = int(share * len(made))
            if what == "flip" and made:
                made[place] ^= 1 << (byte % 8)
            elif what == "set" and made:
                made[place] = byte
            elif what == "insert":
                made[place:place] = bytes([byte])
            elif what == "cut":
                del made[place : place + 1 + byte % 16]
            elif what == "end":
                del made[place:]
        return bytes(made)

    return st.one_of(st.lists(EDIT, min_size=1, max_size=4).map(apply), st.binary(max_size=200))


@contextmanager
def targets() -> Iterator[dict[str, Target]]:
    """Every reader with whole files to begin with, in a folder of their own."""
    with tempfile.TemporaryDirectory() as name:
        yield _targets(Path(name))


def _targets(folder: Path) -> dict[str, Target]:
    return {
        "TOML configs": _configs(folder),
        "manifests": _manifests(folder / "manifest"),
        "results parquet": _results(folder / "results"),
        "cell.json": _cell_record(folder / "cell"),
        "training.json": _training_record(folder / "training"),
        "train.jsonl": _train_log(folder / "log"),
        "pictures of a cell": _cell_pictures(folder / "composites"),
        "pictures of a mask": _shown_pictures(folder / "shown"),
        "records beside a manifest": _records(folder / "records"),
        "attributes": _attributes(folder / "attributes"),
        "statistics of a data set": _statistics(folder / "statistics"),
        "manifests of masks": _mask_manifests(folder / "exported"),
        "checkpoints": _checkpoints(folder / "checkpoint"),
        "checkpoints under a name that fits": _checkpoints(folder / "renamed", rename=True),
        "safetensors": _safetensors(folder / "weights"),
        "mask files": _masks(folder / "mask"),
        "image files": _images(folder / "image"),
        "file names": _names(folder / "names"),
        "zip members": _members(folder / "zip"),
        "lists": _lists(folder / "lists"),
        "lists beside images": _lists_beside_images(folder / "celeba"),
    }


def _configs(folder: Path) -> Target:
    path = folder / "a.toml"
    known = list(option_keys(run))
    value = st.recursive(
        st.one_of(st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.dates()),
        lambda inner: st.lists(inner, max_size=3),
        max_leaves=4,
    )
    lines = st.lists(st.tuples(st.sampled_from([*known, "modles", "a b"]), value), max_size=5)

    def text(pairs: list[tuple[str, Any]]) -> bytes:
        def shown(v: Any) -> str:
            return str(v).lower() if isinstance(v, bool) else json.dumps(v, default=str)

        return "\n".join(f"{json.dumps(k)} = {shown(v)}" for k, v in pairs).encode("utf-8", "surrogatepass")

    whole = b"models = ['mean']\nsize = 64\n[set.pconv]\nhole_weight = 3.0\n"

    def check(content: bytes) -> None:
        path.write_bytes(content)
        try:
            found = read_config_file(path, click.Context(run))
        except BenchError:
            return
        assert set(found) <= {option.name for option in option_keys(run).values()}

    return Target(st.one_of(edited(whole), lines.map(text)), check)


def _experiment(folder: Path) -> tuple[Path, dict[str, Any]]:
    """A sealed experiment whose manifest has the numbers of its results."""
    made = make_experiment(folder, models=("mgs-iim", "mean"), images=6, pictures=0)
    path = made / "manifest.json"
    manifest = json.loads(path.read_text())
    for cell in manifest["cells"]:
        cell["evaluation"]["numbers"] = cell_numbers(read_rows(made / cell["folder"] / "results.parquet"))
    manifest[SEAL] = manifest_checksum(manifest)
    path.write_text(json.dumps(manifest, indent=1))
    return path, manifest


def _manifests(folder: Path) -> Target:
    path, manifest = _experiment(folder)
    fields = st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
        lambda inner: st.one_of(
            st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=5), inner, max_size=2)
        ),
        max_leaves=4,
    )

    def with_field(change: tuple[list[int], Any]) -> bytes:
        """A sealed manifest with another value somewhere: only the check of its fields can object."""
        steps, value = change
        made = json.loads(json.dumps(manifest))
        node: Any = made
        for step in steps[:-1]:
            children = [k for k, v in _items(node) if isinstance(v, dict | list) and v]
            if not children:
                break
            node = node[children[step % len(children)]]
        node[[k for k, _ in _items(node)][steps[-1] % len(node)]] = value
        made[SEAL] = manifest_checksum(made)
        return json.dumps(made).encode()

    places = st.tuples(st.lists(st.integers(0, 99), min_size=1, max_size=5), fields).map(with_field)

    def check(content: bytes) -> None:
        path.write_bytes(content)
        try:
            found = read_manifest(path)
        except ManifestError:
            return
        assert found.get(SEAL, manifest_checksum(found)) == manifest_checksum(found)
        for reader in (lambda: read_record(path), lambda: load_experiment(path.parent)):
            try:
                reader()
            except (BenchError, ExperimentError):
                continue

    return Target(st.one_of(edited(path.read_bytes()), places), check)


def _items(node: Any) -> list[tuple[Any, Any]]:
    return list(node.items()) if isinstance(node, dict) else list(enumerate(node))


def _results(folder: Path) -> Target:
    manifest_path, manifest = _experiment(folder)
    cell = manifest["cells"][0]
    path = manifest_path.parent / cell["folder"] / "results.parquet"
    content, before = path.read_bytes(), read_rows(path)

    def check(made: bytes) -> None:
        path.write_bytes(made)
        try:
            found = read_rows(path)
        except SchemaError:
            return
        assert found.equals(before) or not rows_agree(found, cell["evaluation"])

    return Target(edited(content), check)


def _cell(folder: Path) -> tuple[Path, Cell, list[str]]:
    """Write a finished cell as a run does: its folder, what it is the cell of, and the ids of its images."""
    cell = Cell(model="mean", label="Mean pixel", mask="center", seed=0, training=None)
    rows = validate_rows(make_rows("mean", images=6))
    entry = {
        **{name: getattr(cell, name) for name in ("model", "label", "seed", "mask", "train_mask")},
        "status": "done",
        "summary": "one color",
        "where": {"torch": "2.5.0", "threads": 2},
        "evaluation": {
            "seconds": 1.5,
            "numbers": cell_numbers(rows),
            "rows_sha256": rows_digest(rows),
            "sets": {"fid": {"value": 41.2, "images": 6}},
        },
    }
    key = {"digest": cell.key, "parts": {"mask": "center"}}
    record = {"key": key, "metrics": {}, "setup": {"settings": {"size": 64}}}
    assert set(record) == set(CELL_RECORD)
    ids = rows["image_id"].tolist()
    pixels = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    cell_files.write_cell(folder, rows, {**entry, **record}, np.array(ids[:4]), pixels)
    return folder, cell, ids


def _cell_record(folder: Path) -> Target:
    place, cell, ids = _cell(folder)
    path = place / "cell.json"
    before = cell_files.load_cell(place, cell, ids)
    assert before is not None

    def check(made: bytes) -> None:
        path.write_bytes(made)
        try:
            found = cell_files.load_cell(place, cell, ids)
        except cell_files.DamagedCellError:
            return
        assert found is not None
        assert (found.entry, found.record) == (before.entry, before.record)

    return Target(st.one_of(edited(path.read_bytes()), _nested(path)), check)


def _nested(path: Path) -> st.SearchStrategy[bytes]:
    """JSON that is deeper, longer or of other kinds than any that is written."""
    whole = path.read_bytes()
    odd = (
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"9" * 5_000,
        b"NaN",
        b'"\\ud800"',
        b"[]",
        b"null",
        b"\xff\xfe" + whole,
    )
    sealed = (
        b'{"sha256": 3}',
        b'{"sha256": null}',
        b'{"sha256": ""}',
        whole + whole,
        whole.replace(b": ", b":NaN"),
    )
    return st.sampled_from([*odd, *sealed])


def _training_record(folder: Path) -> Target:
    folder.mkdir()
    plan: Any = SimpleNamespace(slug="pconv-center-seed0", key="0123456789abcdef")
    store: Any = SimpleNamespace(training=lambda slug, key: folder)
    path = folder / "training.json"
    value = {
        "key": plan.key,
        "seconds": 60.25,
        "num_steps": 400,
        "parameters": {"generator": 6_300_035},
        "events": [{"step": 3, "kind": "generator diverged", "detail": "its loss is 1e+03"}],
        "log": {"lines": 12, "sha256": "ab" * 32},
    }
    write_checked_json(path, value)
    before = read_checked_json(path)

    def check(made: bytes) -> None:
        path.write_bytes(made)
        found = read_training_record(store, plan)
        assert found is None or found == before

    return Target(st.one_of(edited(path.read_bytes()), _nested(path)), check)


def _train_log(folder: Path) -> Target:
    """A log has no seal of its own: its digest is in the sealed record, and what differs from it is said."""
    folder.mkdir()
    path = folder / "train.jsonl"
    lines: list[dict[str, Any]] = []
    for step in range(2, 13, 2):
        common = {"step": step, "images_seen": 16 * step, "seconds": 0.5 * step}
        terms = {"generator/loss": 1 / step, "discriminator/loss": 0.001, "generator/l1": None}
        lines.append({**common, "phase": "joint", "terms": terms})
    lines.append({"step": 12, "images_seen": 192, "seconds": 6.0, "validation": {"psnr_db": 21.5}})
    lines.append({"step": 4, "event": {"step": 4, "kind": "memory", "detail": "micro-batch halved"}})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    signature, whole = file_signature(path), path.read_bytes()
    before = read_train_log(path, signature)
    assert before[1] == ""

    def check(made: bytes) -> None:
        path.write_bytes(made)
        found, problem = read_train_log(path, signature)
        if made != whole and not problem:
            raise AssertionError("a log that is not what was written is taken for it")
        assert made != whole or len(found) == len(before[0])
        log = TrainLog(path)
        read = log.read()
        assert all(type(line["step"]) is int for line in read)
        training_instabilities.find_instabilities(read)
        log.rewind(6)
        assert all(line["step"] <= 6 for line in log.read())
        read_train_log(path)

    return Target(st.one_of(edited(whole), _nested(path)), check)


def _cell_pictures(folder: Path) -> Target:
    place, cell, ids = _cell(folder)
    path = place / "pictures.npz"

    def check(made: bytes) -> None:
        path.write_bytes(made)
        try:
            assert cell_files.load_cell(place, cell, ids) is not None
        except cell_files.DamagedCellError:
            return

    return Target(edited(path.read_bytes()), check)


def _shown_pictures(folder: Path) -> Target:
    """The images that a page shows: those of the mask and those of each cell."""
    made = make_experiment(folder, models=("mean", "biharmonic"), images=6, pictures=3, size=16)
    experiment = load_experiment(made)
    before = experiment.pictures("center")
    assert before is not None
    paths = [made / "pictures" / "center.npz", *sorted(made.glob("cells/*/pictures.npz"))]
    contents = {path: path.read_bytes() for path in paths}

    def check(given: tuple[Path, bytes]) -> None:
        path, content = given
        path.write_bytes(content)
        try:
            found = experiment.pictures("center")
        except ExperimentError:
            return
        finally:
            path.write_bytes(contents[path])
        assert found is not None
        assert found.ids == before.ids
        assert np.array_equal(found.image, before.image)
        assert np.array_equal(found.mask, before.mask)
        for name, pixels in before.composites.items():
            assert np.array_equal(found.composites[name], pixels)

    edits = [st.tuples(st.just(path), edited(content)) for path, content in contents.items()]
    return Target(st.one_of(edits), check)


def _records(folder: Path) -> Target:
    """The small sealed files whose damage is no error: each says what was written, or nothing."""
    made = make_experiment(folder / "runs", models=("mean",), images=4, pictures=0, size=16)
    jobs = {"ab" * 16: {"job": "7_0", "attempts": 2, "name": "mean-1", "state": "RUNNING"}}
    unit: Any = SimpleNamespace(key="ab" * 16, folder=lambda _: made / "units/mean-1")
    failures = {"one": {"reason": "no such loss", "error": "Traceback ..."}}
    outcome = {"state": "failed", "failures": failures, "host": "n1", "seconds": 2.5}
    write_checked_json(made / "jobs.json", jobs)
    write_checked_json(made / "units/mean-1/unit.json", {**outcome, "what": unit.key})
    write_title(made, "Does Table 4 hold?")
    render_index(list_experiments(made.parent), folder)
    numbers = [MetricComparison("Mean pixel on center, seed 0", "psnr_db", 20.0, 20.0, "equal")]
    (made / "reproduction.json").write_text(reproduction_as_json(Reproduction(made, numbers)))
    readers: dict[Path, Callable[[], Any]] = {
        made / "jobs.json": lambda: read_jobs(made),
        made / "units/mean-1/unit.json": lambda: read_outcome(None, unit),  # type: ignore[arg-type]
        made / "title.json": lambda: read_title(made),
        folder / index_page.CACHE: lambda: index_page._read_cache(folder),
        made / "reproduction.json": lambda: leaderboard._sealed_outcome(made, older=False),
    }
    before = {path: (path.read_bytes(), read()) for path, read in readers.items()}
    assert all(value for _, value in before.values())

    def check(given: tuple[Path, bytes]) -> None:
        path, content = given
        whole, value = before[path]
        path.write_bytes(content)
        try:
            found = readers[path]()
            read_units(made)
        finally:
            path.write_bytes(whole)
        assert not found or found == value

    edits = [
        st.tuples(st.just(path), st.one_of(edited(whole), _nested(path)))
        for path, (whole, _) in before.items()
    ]
    return Target(st.one_of(edits), check)


def _attributes(folder: Path) -> Target:
    ids = [f"{i:06d}.png" for i in range(12)]
    table = attribute_table(ids, {"Smiling": {name: i % 3 == 0 for i, name in enumerate(ids)}})
    write_attributes(table, folder)
    digest = attributes_digest(table)

    def check(made: bytes) -> None:
        (folder / ATTRIBUTES).write_bytes(made)
        try:
            found = read_attributes(folder, digest)
        except ValueError:
            return
        assert found.reset_index().equals(table)

    return Target(edited((folder / ATTRIBUTES).read_bytes()), check)


def _statistics(folder: Path) -> Target:
    """The mean image and the fingerprint, which are kept beside the cached images."""
    folder.mkdir()
    path = folder / "statistics.json"
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)
    train = ImageSet([str(i) for i in range(5)], pixels, None)
    total = pixels.sum(axis=0, dtype=np.int64)
    whole = DatasetStatistics("ab" * 32, [("1", "2")], fingerprint._mean(total, train))
    fingerprint._write(path, whole, total)

    def check(made: bytes) -> None:
        path.write_bytes(made)
        found = fingerprint._read(path, train)
        if found is not None:
            assert (found.fingerprint, found.duplicates) == (whole.fingerprint, whole.duplicates)
            assert np.array_equal(found.mean, whole.mean)

    return Target(st.one_of(edited(path.read_bytes()), _nested(path)), check)


def _mask_manifests(folder: Path) -> Target:
    """Which image a mask is for, and whether its hole is white, stands in the manifest of an exported test set."""
    ids = ["a.png", "b.png", "c.png"]
    drawn = draw_masks("freeform", ids, 32)
    path = export_test_set(folder, ids, drawn, {"mask": "freeform", "size": 32})

    def check(made: bytes) -> None:
        path.write_bytes(made)
        try:
            found = mask_files._read_export(folder, 32, MaskReading())
        except MaskFileError:
            return
        if found is None:  # JSON, and nothing that we write: masks of the user's own, which pair by name
            known = {"images", "files", "hole", "layout", "digest"}
            assert not isinstance(json.loads(made), dict) or len(known & set(json.loads(made))) < 2
            return
        assert np.array_equal(found.masks[[found.of_image[i] for i in ids]], drawn)

    return Target(st.one_of(edited(path.read_bytes()), _nested(path)), check)


def _checkpoints(folder: Path, *, rename: bool = False) -> Target:
    folder.mkdir()
    state = {"networks": {"weight": torch.arange(12.0).reshape(3, 4)}, "complete": True}
    path = checkpoint.save_checkpoint(folder, 7, state)
    content = path.read_bytes()

    def check(made: bytes) -> None:
        where = path
        if rename:
            where = folder / f"checkpoint-000000007-{hashlib.sha256(made).hexdigest()[:16]}.pt"
        where.write_bytes(made)
        try:
            found = checkpoint.load_checkpoint(where)
        except checkpoint.CheckpointError:
            return
        finally:
            where.unlink()
        assert found["format"] == checkpoint.FORMAT
        assert rename or made == content

    return Target(edited(content), check)


def _safetensors(folder: Path) -> Target:
    folder.mkdir()
    path = folder / "a.safetensors"
    entry = load_model("pconv")
    config, task = entry.config("smoke", width=4), Task(size=64)
    with torch.random.fork_rng(devices=[]):
        state = entry.model(config, task).networks["generator"].state_dict()
    pretrained.save_pretrained(
        pretrained.build_pretrained(entry, config, task, state, {"licence": "none"}), path
    )
    content = path.read_bytes()
    card, tensors = pretrained._read(path)
    header = 8 + int.from_bytes(content[:8], "little")
    heads = edited(content[:header]).map(lambda head: head + content[header:])

    def check(made: bytes) -> None:
        path.write_bytes(made)
        try:
            found, state = pretrained._read(path)
            pretrained.load_pretrained(path)
        except ModelError:
            return
        assert found == card
        assert state.keys() == tensors.keys()
        assert all(torch.equal(state[name], value) for name, value in tensors.items())

    return Target(st.one_of(heads, edited(content)), check)


def _masks(folder: Path) -> Target:
    folder.mkdir()
    path = folder / "a.png"
    hole = np.zeros((64, 64), np.uint8)
    hole[5:30, 7:40] = 255
    Image.fromarray(hole).save(path)

    def check(made: bytes) -> None:
        path.write_bytes(made)
        try:
            found = read_mask(path, 64)
        except MaskFileError:
            return
        assert np.array_equal(found, hole > 0)

    return Target(edited(path.read_bytes()), check)


def _images(folder: Path) -> Target:
    folder.mkdir()
    path = folder / "a"
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (70, 80, 3), dtype=np.uint8))
    contents = []
    for kind in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM"):
        stream = io.BytesIO()
        picture.save(stream, kind)
        contents.append(stream.getvalue())

    def check(made: bytes) -> None:
        try:
            square = decode_image(made, 64, "center")
        except ImageError:
            pass
        else:
            assert square.shape == (64, 64, 3)
            assert square.dtype == np.uint8
        path.write_bytes(made)
        try:
            photo = read_photo(path)
        except BenchError:
            return
        assert photo.pixels.ndim == 3

    return Target(st.one_of([edited(content) for content in contents]), check)


#: Any bytes that a file system takes as one name.
NAME = st.binary(min_size=1, max_size=60).filter(lambda b: b not in (b".", b"..") and not {0, 47} & set(b))


def _names(folder: Path) -> Target:
    folder.mkdir()
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "PNG")

    def check(name: bytes) -> None:
        path = folder / os.fsdecode(name + b".png")
        path.write_bytes(stream.getvalue())
        try:
            source = sources.find_source(folder)
            (found,) = source.ids
            assert sources.read_bytes(folder, source.paths[found]) == stream.getvalue()
            mask = PurePosixPath(mask_files.mask_image_name(found))
            assert not mask.is_absolute()
            assert ".." not in mask.parts
            short = mask_file_name(found)
            assert len(short) <= 60
            assert "/" not in short
        except (BenchError, MaskFileError):  # "._x.png" is macOS's own, and no picture
            return
        finally:
            path.unlink()

    return Target(NAME, check)


#: Whole lists of every form, to be damaged.
LISTS = (
    b"000001.jpg 0\n000002.jpg 1\n000003.jpg 2\n",
    b"\xef\xbb\xbfimage_id,partition\r\n000001.jpg,0\r\n000002.jpg,1\r\n",
    b"2\nMale Smiling\n000001.jpg  1 -1\n000002.jpg -1  1\n",
    b'name;identity\n"a/1.png";7\n"a;2.png";9\n',
    "000001.jpg 0\n000002.jpg 1\n".encode("utf-16"),
)


def _lists(folder: Path) -> Target:
    """Lists alone: a wrong line is named, and what is accepted stands in the file."""

    def check(made: bytes) -> None:
        try:
            listed = parse_list(made, "list.txt")
            text = escape_name(
                made.decode(
                    "utf-16" if made[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8", "surrogateescape"
                )
            )
            for name, values in listed.rows.items():
                name.encode("utf-8")
                assert len(values) == (len(listed.columns) or 1)
                assert 1 <= listed.line_numbers[name] <= len(made) + 1
                assert all(escape_name(value) in text or '"' in text for value in values)
            numbers = parse_numbers(listed)
        except BenchError as error:
            named = re.match(r"list\.txt(?::(\d+): |: not readable as text)", str(error))
            if not named or int(named[1] or 1) > len(re.split(rb"\r\n|\r|\n", made.replace(b"\0", b""))):
                raise AssertionError("the message does not name the line") from error
            return
        assert all(0 <= number < 2**63 for number in numbers.values())
        np.array(list(numbers.values()), np.int64)
        assert set(match_names(["000001.png", "x/000002.jpg"], numbers)) <= {"000001.png", "x/000002.jpg"}

    return Target(st.one_of(*map(edited, LISTS)), check)


def _lists_beside_images(folder: Path) -> Target:
    """Lists beside CelebA's images: refused in our words, or parts and people of images that are there."""
    (folder / "img_align_celeba").mkdir(parents=True)
    for number in (1, 2, 3):
        Image.new("RGB", (8, 8)).save(folder / "img_align_celeba" / f"{number:06d}.png")
    names = (
        "list_eval_partition.txt",
        "list_eval_partition.csv",
        "identity_CelebA.txt",
        "list_attr_celeba.txt",
    )

    def check(given: tuple[str, bytes]) -> None:
        name, made = given
        path = folder / name
        path.write_bytes(made)
        try:
            source = sources.find_source(folder)
        except BenchError as error:
            if "\n" in str(error):
                raise AssertionError("more than one line") from error
            return
        finally:
            path.unlink()
        assert source.ids == ["000001.jpg", "000002.jpg", "000003.jpg"]
        assert set(source.partition.values()) <= {0, 1, 2}
        assert set(source.partition) | set(source.identities) <= set(source.ids)

    return Target(st.tuples(st.sampled_from(names), st.one_of(*map(edited, LISTS))), check)


#: As zips call the system that made them.
_UNIX = 3


def _members(folder: Path) -> Target:
    folder.mkdir()
    path = folder / "img_align_celeba.zip"
    member = st.lists(
        st.sampled_from(["..", ".", "", "a", "img_align_celeba", "C:", "\\", "ä", "\u202e"]), max_size=5
    )
    names = st.lists(
        st.builds(lambda parts, s: s.join([*parts, "x.png"]), member, st.sampled_from(["/", "\\"]))
    )

    def check(given: tuple[list[str], int]) -> None:
        members, system = given
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the same name twice
            with zipfile.ZipFile(path, "w") as archive:
                for name in members:
                    info = zipfile.ZipInfo(name or "x")
                    info.create_system = system
                    archive.writestr(info, b"picture")
        try:
            source = sources.find_source(path)
        except BenchError:
            return
        finally:
            forget_open_zip()
        for found in source.ids:
            # A letter of names on Unix, and of names alone: what is a separator there has been replaced.
            assert system == _UNIX or "\\" not in found
            parts = PurePosixPath(found)
            assert not parts.is_absolute()
            assert ".." not in parts.parts
        assert sorted(p.name for p in folder.iterdir()) == [path.name]

    return Target(st.tuples(names, st.sampled_from([0, _UNIX])), check)


def attempt(target: Target, examples: int, number: int = 0) -> int:
    """Try so many inputs; how many were tried. A wrong outcome is raised with its input."""
    tried = 0

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    @seed(number)
    @given(target.inputs)
    def one(made: Any) -> None:
        nonlocal tried
        tried += 1
        target.read(made)

    one()
    return tried


def limit_memory(num_bytes: int = 3 * 2**30) -> None:
    """Let this process take so much more address space: what asks for more than a damaged file holds is a failure."""
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + num_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main() -> None:
    """Try inputs of every target in turn, until time is up or enough were tried."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=300, help="stop after so long")
    parser.add_argument("--inputs", type=int, help="stop after so many instead")
    parser.add_argument("--only", default="", help="names of targets with commas between")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    began = time.monotonic()
    counts: dict[str, int] = {}
    seconds: dict[str, float] = {}
    with targets() as known:
        chosen = [name.strip() for name in options.only.split(",") if name.strip()] or list(known)
        if unknown := set(chosen) - set(known):
            parser.error(f"no target {', '.join(sorted(unknown))}; there are {', '.join(known)}")
        limit_memory()
        with contextlib.suppress(KeyboardInterrupt):  # what was tried until then counts
            for number in itertools.count():
                tried = sum(counts.values())
                if tried >= options.inputs if options.inputs else time.monotonic() - began >= options.seconds:
                    break
                for name in chosen:
                    start = time.process_time()
                    counts[name] = counts.get(name, 0) + attempt(known[name], 200, number)
                    seconds[name] = seconds.get(name, 0.0) + time.process_time() - start
    for name, count in counts.items():
        sys.stdout.write(f"{count:>9,}  {seconds[name]:6.1f} s of CPU  {name}\n")
    sys.stdout.write(
        f"{sum(counts.values()):>9,}  inputs in all, none crashed, none was accepted for another\n"
    )


if __name__ == "__main__":
    main()
