"""The one trainer: step loop, checkpoints, precision and devices."""
