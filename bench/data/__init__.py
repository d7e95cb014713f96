"""Images: sources, crops, splits, the packed store and the procedural faces."""

from bench.data.dataset import Dataset, DataSpec, ImageSet, Skipped
from bench.data.open_dataset import is_prepared, open_data

__all__ = ["DataSpec", "Dataset", "ImageSet", "Skipped", "is_prepared", "open_data"]
