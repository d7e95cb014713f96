"""Images: sources, crops, splits, the packed store and the procedural faces."""
