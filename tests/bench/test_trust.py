"""What the source may not do, and who may read the cache."""

from __future__ import annotations

import ast
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

import bench
from bench.data import DataSpec
from bench.data.cache import cache_folder

ROOT = Path(bench.__file__).parents[1]
FILES = [path for name in ("bench", "masks", "models", "reports") for path in (ROOT / name).rglob("*.py")]


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    """(file and line, dotted name, call) of every call in the product."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield f"{path.relative_to(ROOT)}:{node.lineno}", ast.unparse(node.func), node


def test_pickles_are_opened_as_plain_weights_only() -> None:
    loads = [(where, call) for where, name, call in calls() if name == "torch.load"]
    assert loads
    for where, call in loads:
        said = {k.arg: ast.unparse(k.value) for k in call.keywords}
        assert said.get("weights_only") == "True", where
    assert not [where for where, name, _ in calls() if name in ("pickle.load", "pickle.loads")]
    for where, name, call in calls():
        if name == "np.load":
            said = {k.arg: ast.unparse(k.value) for k in call.keywords}
            assert said.get("allow_pickle", "False") == "False", where


def test_no_shell_is_ever_called() -> None:
    for where, name, call in calls():
        assert name not in ("os.system", "os.popen", "eval", "exec"), where
        assert not any(k.arg == "shell" for k in call.keywords), where


#: Files that rename otherwise: lock files, a trial of the disk, the name of a damaged manifest that is kept, and a
#: cache of models, which must not import reports and flushes by itself.
RENAMES = {
    "bench/runner/ownership.py",
    "bench/runner/doctor.py",
    "bench/runner/manifest_writer.py",
    "models/external_program.py",
}


def test_one_function_renames_files() -> None:
    """Whatever is published by a rename is flushed before and after (``reports/results/atomic_io.py``)."""
    for where, name, call in calls():
        method = name.rpartition(".")[2]
        moves = method == "rename" or (method == "replace" and len(call.args) == 1 and not call.keywords)
        if moves and not any(k.arg == "columns" for k in call.keywords):
            assert where.partition(":")[0] in {"reports/results/atomic_io.py", *RENAMES}, where


def test_nothing_is_ever_extracted_from_an_archive() -> None:
    assert not [where for where, name, _ in calls() if name.endswith((".extractall", ".extract"))]


def test_the_cache_is_its_users_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert stat.S_IMODE(cache_folder(DataSpec()).stat().st_mode) == 0o700
