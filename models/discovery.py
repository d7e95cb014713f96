"""Find models by reading names from the source of their files; import a file only when its model is chosen.

Three places are searched: this package, files or folders given by ``--models-from``, and the entry-point group
``inpaint_bench.models`` (each entry point names a module). A file that fails to import stays listed.
"""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote_to_bytes

from models.config_fields import describe_type, fits_type, type_hints
from models.errors import (
    BrokenModelError,
    DuplicateModelError,
    InvalidModelError,
    StopError,
    UnknownModelError,
)
from models.registry import ModelCard, ModelEntry, check_model_name, did_you_mean, get_model

ENTRY_POINT_GROUP = "inpaint_bench.models"
#: ``exec:FILE.toml`` is no registered model: it is a program that the file describes (:mod:`models.external_program`).
PROGRAM_PREFIX = "exec:"
#: ``--models all``: the paper's four and the training-free baselines.
ALL_GROUPS = ("paper", "untrained")
_PACKAGE = Path(__file__).parent
_TABLE_ORDER = [
    *("context-encoder", "glcic", "pconv", "mgs-iim"),
    *("mean", "mean-image", "linear", "biharmonic"),
]
_CARD_FIELDS = ("label", "summary", "paper", "groups", "overrides")


@dataclass(frozen=True)
class ModelListing:
    """A model's card, file and module; ``module`` is empty for a user's file."""

    card: ModelCard
    path: Path
    module: str = ""


def find_models(models_from: Sequence[Path] = ()) -> dict[str, ModelListing]:
    """List all models by name, the package's first, without importing any.

    Raises:
        DuplicateModelError: two files register one name.
        InvalidModelError: a path in ``models_from`` does not exist or registers nothing readable.
    """
    listings: dict[str, ModelListing] = {}

    def add(path: Path, module: str) -> int:
        cards = read_cards(path)
        for card in cards:
            if card.name in listings:
                raise DuplicateModelError(
                    f"model {card.name!r} is registered twice: in {listings[card.name].path} and in {path}"
                )
            listings[card.name] = ModelListing(card, path, module)
        return len(cards)

    # Files that register nothing, such as this one, have no cards.
    for path in _python_files(_PACKAGE):
        add(path, f"models.{path.stem}")
    for point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
        try:
            if not add(_file_of(point.module), point.module):
                raise InvalidModelError("nothing there is decorated with @register(...)")
        except (DuplicateModelError, KeyboardInterrupt, StopError):
            raise
        except BaseException as error:  # what a package's own file raises, sys.exit() too
            # A broken package must not take the others with it: list its entry point, and fail when it is chosen.
            card = ModelCard(name=point.name, label=point.name, summary=f"cannot be read: {error}")
            # setdefault: a broken entry point must not hide a model of the same name that works.
            listings.setdefault(point.name, ModelListing(card, Path(point.module), point.module))
    for given in map(find_user_file, models_from):
        files = _python_files(given) if given.is_dir() else [given]
        missing = next((path for path in files if not path.is_file()), None if files else given)
        if missing is not None:
            raise InvalidModelError(
                f"--models-from {missing}: no such file, or a folder without Python files"
            )
        # Resolved, since the path tells below whether a file has been imported already.
        if not sum(add(path.resolve(), "") for path in files):
            raise InvalidModelError(f"--models-from {given}: nothing there is decorated with @register(...)")
    return listings


def _python_files(folder: Path) -> list[Path]:
    """List the Python files of a folder by name; hidden ones are an editor's locks or macOS's companions of files."""
    found = sorted(folder.glob("*.py"))
    return [path for path in found if not path.name.startswith(".") and not path.is_dir()]


def user_paths(models_from: Iterable[str | Path]) -> list[Path]:
    """Return what a user gave for ``models_from`` as paths.

    Raises:
        InvalidModelError: one is empty; as a path, that would be the current folder, which nobody named.

    Examples:
        >>> [path.name for path in user_paths(["my_unet.py", Path("folder")])]
        ['my_unet.py', 'folder']
    """
    given = list(models_from)
    if "" in given:
        raise InvalidModelError("models_from: an empty path; give '.' for the current folder")
    return [Path(path) for path in given]


def find_user_file(given: Path) -> Path:
    """Return the path of a user's file, given as it is or with bytes that are not UTF-8 percent-encoded.

    Manifests, rows and commands hold such names in the second way.

    Raises:
        InvalidModelError: there are two files, one of each name: the wrong one would be run.
    """
    raw = Path(os.fsdecode(unquote_to_bytes(os.fsencode(given))))
    # Other percent signs are a file's own.
    written_so = "%" in str(given) and _is_utf8(given) and not _is_utf8(raw)
    if not written_so or not os.path.lexists(raw):
        return given
    if os.path.lexists(given):
        raise InvalidModelError(
            f"{given}: a file is called so, and another, whose name is not UTF-8, is written so; rename one of them"
        )
    return raw


def _is_utf8(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def read_cards(path: Path) -> list[ModelCard]:
    """Read the cards of every ``@register(...)`` in a file from its syntax tree; nothing is executed.

    Raises:
        InvalidModelError: the file is not Python, or an argument of ``@register`` is not a literal.
    """
    try:
        return list(_cards_in(path.read_text(encoding="utf-8"), path))
    except InvalidModelError:
        raise
    # Python's parser answers what is nested too deep with the last two.
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InvalidModelError(
            f"{path}: not readable as Python: {str(error) or 'nested too deep'}"
        ) from error


@lru_cache(256)
def _cards_in(text: str, path: Path) -> tuple[ModelCard, ...]:
    """Return the cards in the text of a file; parsing all models takes longer than most of what asks for one."""
    cards = []
    for node in ast.parse(text, filename=str(path)).body:
        if isinstance(node, ast.ClassDef):
            for call in node.decorator_list:
                # By its bare name: what another name stands for is known only after an import.
                if isinstance(call, ast.Call) and getattr(call.func, "id", None) == "register":
                    cards.append(_card(call, path))
    return tuple(cards)


def _card(call: ast.Call, path: Path) -> ModelCard:
    try:
        (name,) = (ast.literal_eval(arg) for arg in call.args)
        fields = {k.arg: ast.literal_eval(k.value) for k in call.keywords if k.arg in _CARD_FIELDS}
        check_model_name(name, f"{path}:{call.lineno}: ")
        hints = type_hints(ModelCard)
        for field, value in fields.items():
            if not fits_type(value, hints[field]):
                raise TypeError(f"{field} must be {describe_type(hints[field])}, not {value!r}")
        if not isinstance(fields.get("overrides", {}), dict):
            raise TypeError("overrides must be a dictionary")
        # Rows and manifests hold these texts; a literal may hold half a character, which UTF-8 cannot.
        "".join(map(str, fields.values())).encode()
        return ModelCard(name=name, **fields)
    except InvalidModelError:
        raise
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidModelError(
            f"{path}:{call.lineno}: the arguments of @register must be literals of their types, the first one the name "
            f"({error})"
        ) from error


def load_model(name: str, models_from: Sequence[Path] = ()) -> ModelEntry:
    """Import the file that registers ``name`` and return its entry.

    Raises:
        UnknownModelError: with suggestions.
        BrokenModelError: the file failed to import; the message ends with the traceback.
    """
    if name.startswith(PROGRAM_PREFIX):
        from models.external_program import load_program

        return load_program(name)
    listings = find_models(models_from)
    if name not in listings:
        raise UnknownModelError(f"unknown model {name!r}{did_you_mean(name, listings)}")
    listing = listings[name]
    try:
        _import(listing)
        return get_model(name)
    except (KeyboardInterrupt, StopError):
        raise
    except BaseException as error:
        # An error without a message says at least what it is.
        reason: object = str(error) or type(error).__name__
        if isinstance(error, SystemExit):  # sys.exit(), or argparse that met our command line
            reason = "it ends the program while it is imported; move that below if __name__ == '__main__':"
        raise BrokenModelError(
            f"model {name!r} cannot be used, its file {listing.path} failed to import: {reason}\n"
            f"{traceback.format_exc()}"
        ) from error


def expand_models(names: Iterable[str], models_from: Sequence[Path] = ()) -> list[str]:
    """Expand names, groups, ``all`` (the paper's four and four baselines) and ``everything`` to model names.

    The order is that of first mention, without repetition.

    Examples:
        >>> expand_models(["mean", "all"])[:3]
        ['mean', 'context-encoder', 'glcic']

    Raises:
        UnknownModelError: neither a name nor a group, with suggestions.
    """
    listings = find_models(models_from)
    groups: dict[str, list[str]] = {}
    for name, listing in listings.items():
        for group in listing.card.groups:
            groups.setdefault(group, []).append(name)
    groups["all"] = [n for group in ALL_GROUPS for n in _in_table_order(groups.get(group, []))]
    groups["everything"] = list(listings)
    chosen: dict[str, None] = {}
    for name in names:
        if name in groups:
            chosen.update(dict.fromkeys(groups[name]))
        elif name in listings or name.startswith(PROGRAM_PREFIX):
            chosen[name] = None
        else:
            raise UnknownModelError(f"unknown model {name!r}{did_you_mean(name, [*listings, *groups])}")
    return list(chosen)


def _in_table_order(names: list[str]) -> list[str]:
    """Sort by the paper's Table 4, then the baselines; models that a user adds to a group come last."""
    return sorted(
        names, key=lambda name: _TABLE_ORDER.index(name) if name in _TABLE_ORDER else len(_TABLE_ORDER)
    )


def _import(listing: ModelListing) -> ModuleType:
    if listing.module:
        return importlib.import_module(listing.module)
    name = f"inpaint_bench_user_{listing.path.stem}"
    loaded = sys.modules.get(name)
    # Loaded once a process: a second load would register a second class under the same name.
    if loaded is not None and getattr(loaded, "__file__", None) == str(listing.path):
        return loaded
    spec = importlib.util.spec_from_file_location(name, listing.path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{listing.path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    # Before the file runs: dataclasses look up the module of their class by its name.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        # A half-imported module must not be taken for the model the next time.
        del sys.modules[name]
        raise
    return module


def _file_of(module: str) -> Path:
    """Return the file of a module, importing at most its parent packages.

    Raises:
        ImportError: there is none.
    """
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.origin:
        raise ImportError(f"there is no module {module!r}")
    return Path(spec.origin)
