"""Results on disk: the schema of rows, the manifest, and how to read an experiment."""
