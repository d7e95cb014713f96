"""Experiments that travel: kept files and bundles, import and merge."""
