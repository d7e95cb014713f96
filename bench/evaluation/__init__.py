"""Evaluation of trained models and untrained fills: metrics and per-image rows."""
