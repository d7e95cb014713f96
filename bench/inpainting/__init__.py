"""Completing pictures of any size and kind with one model: ``bench inpaint``."""
