"""Images: sources, crops, splits, the packed store and the procedural faces."""

from bench.data.dataset import Dataset, DataSpec, ImageSet, Skipped
from bench.data.loading import open_data

__all__ = ["DataSpec", "Dataset", "ImageSet", "Skipped", "open_data"]
