"""Measure how fast a model trains and completes."""
