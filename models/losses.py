"""Losses shared by several architectures."""
