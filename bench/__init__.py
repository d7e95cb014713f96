"""inpaint-bench: a reproducibility benchmark suite for image inpainting."""

__version__ = "0.1.0"
