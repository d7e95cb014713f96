"""Errors of models before they are trained.

All but :class:`StopError` are ``ValueError``, so that a library user can catch them without an import from here.
"""


class StopError(BaseException):
    """A signal that ends the program: never a failure of the model file whose import it interrupts."""


class ModelError(ValueError):
    """Base of all errors of this module."""


class UnknownModelError(ModelError):
    """No model of that name is registered; the message carries suggestions."""


class DuplicateModelError(ModelError):
    """Two files register the same name."""


class InvalidModelError(ModelError):
    """A registered object is not an inpainting model (wrong type, missing member)."""


class BrokenModelError(ModelError):
    """The model's file failed to import; the message carries the traceback."""


class UnsupportedSizeError(ModelError):
    """The model cannot take images of this size; the message says which sizes it can."""


class MissingWeightsError(ModelError):
    """A frozen loss network needs weights that are neither cached nor downloadable; the message names the remedy."""


class MissingPackageError(ModelError):
    """The model needs an optional dependency that is not installed; the message says how to install it."""


class InvalidWeightsError(ModelError):
    """A weights file is damaged, of another program, or does not fit the model that it names."""
