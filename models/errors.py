"""What can go wrong with a model before it is trained. All are ``ValueError`` so that a library user needs no
import from here to catch them.
"""


class ModelError(ValueError):
    """Base of the errors below."""


class UnknownModelError(ModelError):
    """No model of that name is registered; the message carries suggestions."""


class DuplicateModelError(ModelError):
    """Two files register the same name."""


class InvalidModelError(ModelError):
    """What was registered is not an inpainting model (wrong type, missing member)."""


class BrokenModelError(ModelError):
    """The model's file failed to import; the message carries the traceback."""


class UnsupportedSizeError(ModelError):
    """The model cannot work at that image size; the message says which sizes it can."""


class MissingWeightsError(ModelError):
    """A frozen loss network needs weights that are neither cached nor downloadable; the message names the remedy."""


class MissingPackageError(ModelError):
    """The model needs an optional dependency that is not installed; the message says how to install it."""


class InvalidWeightsError(ModelError):
    """A file of shared weights is damaged, foreign, or does not fit the model it names."""
