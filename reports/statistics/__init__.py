"""Intervals, comparisons and rankings over trainings, people and images."""
