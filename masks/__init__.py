"""Deterministic inpainting masks: pure functions of names, NumPy only."""
