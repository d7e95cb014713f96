"""The version, which packaging reads from this file; a leaf that imports nothing."""

__version__ = "0.1.0"
