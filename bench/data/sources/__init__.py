"""Data sources: one class in one module each (see :class:`~bench.data.sources.base.DataSource`)."""

from bench.data.sources.base import DataSource, FoundImages
from bench.data.sources.file_tree import read_bytes
from bench.data.sources.find_source import find_source
from bench.data.sources.registry import data_sources

__all__ = ["DataSource", "FoundImages", "data_sources", "find_source", "read_bytes"]
