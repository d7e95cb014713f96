"""Examples in docstrings that need published weights or an extra are skipped where those are missing."""

from __future__ import annotations

import importlib.util
import os
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
