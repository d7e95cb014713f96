"""Register models by name, with one decorator on the class; every mistake raises an error."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from models.config_fields import describe_type, fits_type, type_hints
from models.errors import DuplicateModelError, InvalidModelError, UnknownModelError

if TYPE_CHECKING:
    from models.base import InpaintingModel

M = TypeVar("M", bound="type[InpaintingModel]")


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """The literal arguments of a model's ``@register``, known without importing its file.

    Attributes:
        name: as given on the command line.
        label: as printed in tables.
        summary: one line.
        paper: author, venue and year, with a link.
        groups: names for several models at once: ``paper``, ``untrained``, ``ablations``, ``modern``.
        overrides: config fields in which this name differs from its class's defaults.
    """

    name: str
    label: str
    summary: str
    paper: str = ""
    groups: tuple[str, ...] = ()
    overrides: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """A card with its class."""

    card: ModelCard
    model: type[InpaintingModel]

    def config(self, preset: str = "quick", **changes: Any) -> Any:
        """Build the config: class defaults, then the preset, then this name's overrides, then ``changes``.

        Raises:
            InvalidModelError: a field that the config does not have (with suggestions), or a value that it rejects.
        """
        fields = {**self.model.presets.get(preset, {}), **self.card.overrides, **changes}
        known = [f.name for f in dataclasses.fields(self.model.Config)]
        for name in fields:
            if name not in known:
                raise InvalidModelError(f"{self.card.name} has no option {name!r}{did_you_mean(name, known)}")
        # Only what a user gave: presets and overrides stand in the model's
        # own file, and the config checks them.
        hints = type_hints(self.model.Config)
        for name, value in changes.items():
            if name in hints and not fits_type(value, hints[name]):
                raise InvalidModelError(
                    f"{self.card.name}.{name}: {value!r} is not {describe_type(hints[name])}"
                )
        try:
            return self.model.Config(**fields)
        except (TypeError, ValueError) as error:
            raise InvalidModelError(f"{self.card.name}: {error}") from error


_ENTRIES: dict[str, ModelEntry] = {}


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a clause that suggests near matches, or lists all names where nothing is near.

    Examples:
        >>> did_you_mean("glcci", ["glcic", "pconv"])
        "; did you mean 'glcic'?"
        >>> did_you_mean("x", ["glcic", "pconv"])
        '; there are: glcic, pconv'
    """
    known = list(known)
    # Lower case, as all names of this package are.
    near = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)
    if near:
        return "; did you mean " + " or ".join(repr(n) for n in near) + "?"
    return "; there are: " + ", ".join(known)


def check_model_name(name: object, where: str = "") -> None:
    """Refuse a model name that is no part of a file name or of a list of names.

    Raises:
        InvalidModelError: it is not made of letters, digits, ``.``, ``_``, ``+`` and ``-``.

    Examples:
        >>> check_model_name("my unet")
        Traceback (most recent call last):
        ...
        models.errors.InvalidModelError: model name 'my unet': give letters, digits, '.', '-', '_' or '+' (at most 60)
    """
    if not (isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,59}", name)):
        raise InvalidModelError(
            f"{where}model name {name!r}: give letters, digits, '.', '-', '_' or '+' (at most 60)"
        )


def register(
    name: str,
    *,
    label: str,
    summary: str,
    paper: str = "",
    groups: tuple[str, ...] = (),
    overrides: Mapping[str, Any] | None = None,
) -> Callable[[M], M]:
    """Register the decorated class as ``name``; arguments must be literals, since they are read from the source.

    Stack it to register variants of one class that differ in ``overrides``.

    Raises:
        DuplicateModelError: another class has the name.
        InvalidModelError: not an :class:`~models.base.InpaintingModel`, no dataclass ``Config``, or overrides that the
            config rejects.
    """
    check_model_name(name)
    card = ModelCard(
        name=name, label=label, summary=summary, paper=paper, groups=groups, overrides=dict(overrides or {})
    )

    def decorate(model: M) -> M:
        # Late, because models.base needs torch, and listing models must not wait for it.
        from models.base import InpaintingModel

        if not (isinstance(model, type) and issubclass(model, InpaintingModel)):
            raise InvalidModelError(f"{name}: {model!r} is not a subclass of models.base.InpaintingModel")
        if not dataclasses.is_dataclass(getattr(model, "Config", None)):
            raise InvalidModelError(f"{name}: {model.__name__}.Config must be a dataclass")
        # The same class again is no clash: a file may be loaded twice in one process, by a test for example.
        held = _ENTRIES.get(name)
        if held is not None and _origin(held.model) != _origin(model):
            raise DuplicateModelError(
                f"model {name!r} is registered twice: by {held.model.__module__} and by {model.__module__}"
            )
        entry = ModelEntry(card=card, model=model)
        # Build the default config now, so that wrong overrides fail at import rather than in a run.
        entry.config()
        _ENTRIES[name] = entry
        return model

    return decorate


def _origin(model: type) -> tuple[str, str]:
    """Identify a class by module and name, so that a file may be loaded again."""
    return model.__module__, model.__qualname__


def get_model(name: str) -> ModelEntry:
    """Return the entry of an imported model; :func:`models.discovery.load_model` imports it first.

    Raises:
        UnknownModelError: with suggestions.
    """
    try:
        return _ENTRIES[name]
    except KeyError:
        raise UnknownModelError(f"unknown model {name!r}{did_you_mean(name, _ENTRIES)}") from None
