"""Models x masks x seeds: plan the cells, do what is not done, isolate failures, keep the manifest."""
