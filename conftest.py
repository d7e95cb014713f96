"""Examples in docstrings run in an empty folder; those that need weights or an extra are skipped without it."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Read the comments ``# needs the weights`` and ``# needs the extra NAME`` of examples."""
    checkpoints = Path(os.environ.get("TORCH_HOME", "")) / "hub" / "checkpoints"
    missing = {
        "# needs the weights": not (checkpoints / "vgg16-397923af.pth").is_file(),
        "# needs the extra dists": importlib.util.find_spec("torchmetrics") is None,
        "# needs the extra identity": importlib.util.find_spec("dlib") is None,
    }
    for item in items:
        if isinstance(item, pytest.DoctestItem) and item.dtest:
            for comment, is_missing in missing.items():
                if is_missing and comment in (item.dtest.docstring or ""):
                    item.add_marker(pytest.mark.skip(reason=comment.removeprefix("# ")))


@pytest.fixture(autouse=True)
def _empty_folder(request: pytest.FixtureRequest) -> Iterator[None]:
    """Keep examples and a clone's own experiments apart: what README's first command left decides no example."""
    if not isinstance(request.node, pytest.DoctestItem):
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(request.getfixturevalue("tmp_path"))
        yield
