"""inpaint-bench: a reproducibility benchmark suite for image inpainting."""

from pathlib import Path

from bench.sibling_packages import import_sibling_packages
from bench.version import __version__

import_sibling_packages(Path(__file__).resolve().parents[1])

__all__ = ["__version__"]
