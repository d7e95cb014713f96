"""Intervals and comparisons over trainings, people and images."""
