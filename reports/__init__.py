"""Tables, statistics, claims and HTML reports from stored results; no torch, no click."""
