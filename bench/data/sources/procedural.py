"""The embedded test bed: faces drawn by this program."""

from __future__ import annotations

from bench.data.sources.base import DataSource
from bench.data.sources.file_tree import FileTree


class ProceduralFaces(DataSource):
    """Faces that are drawn, never read: ``--data faces``."""

    name = "faces"
    title = "Procedural faces (embedded test bed, not real data)"
    license = "Drawn by this program; free to use."
    layout = "nothing to get: drawn when needed"
    published_split = "2,000 / 128 / 272 images, by index"
    aligned_faces = True
    procedural = True

    def select(self, tree: FileTree) -> None:
        """Recognize nothing: no file holds these faces."""
        return
