"""Count operations and memory without running a training."""
