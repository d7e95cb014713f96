"""The claims of the paper, and what an experiment says about them."""
