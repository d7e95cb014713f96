"""Completing images of any size and kind with one model: ``bench inpaint``."""
