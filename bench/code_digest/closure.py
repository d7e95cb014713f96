"""The definitions that are reachable from given ones, and the digest of them all."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from bench.code_digest.module import DESCRIPTIONS, Module
from bench.code_digest.qualified_names import QualifiedName
from bench.code_digest.source_tree import SourceTree
from bench.code_digest.syntax import is_naming

#: Modules, or packages with all that is in them, that decide no number.
OUTSIDE = (
    "bench.cli",
    "bench.data",  # images enter keys by their fingerprint
    "bench.errors",
    "bench.inpainting",
    "bench.perf",
    "bench.profiling",
    "bench.provenance",
    "bench.runner",
    "bench.scoring",
    "bench.training.checkpoint",
    "bench.training.metric_logger",
    "bench.training.signals",
    "bench.training.train_log",
    "models.contract_checks",
    "models.discovery",
    "models.errors",
    "models.export",
    "models.pretrained",
    "models.registry",
    "models.template",
    "reports",
)


@dataclass(frozen=True)
class CodeDigest:
    """A closure's digest, and that of each module's part of it, to say where a change is.

    Attributes:
        digest: hex SHA-256 over all definitions, whatever file they are in.
        modules: module -> digest of the definitions that it contributes.
    """

    digest: str
    modules: dict[str, str]

    def __or__(self, other: CodeDigest) -> CodeDigest:
        """Combine both closures into one."""
        modules = dict(self.modules)
        for name, part in other.modules.items():
            # A module with a part in both gets a digest of the two; one whose parts agree keeps its own, and
            # shows no change.
            modules[name] = part if modules.get(name, part) == part else _sha256(modules[name], part)
        return CodeDigest(_sha256(*sorted({self.digest, other.digest})), dict(sorted(modules.items())))


def closure(
    tree: SourceTree,
    places: Iterable[QualifiedName],
    mentions: Iterable[str] = (),
    without: Iterable[QualifiedName] = (),
) -> CodeDigest:
    """Return the digest of all that is reachable from ``places``.

    Args:
        tree: the sources.
        places: where to begin; a method stands for its class's frame too.
        mentions: names of methods and registry entries that are used from outside of the closure.
        without: definitions at which the search stops.

    Raises:
        LookupError: a place that does not exist.
    """
    return _Search(tree, places, mentions, without).run()


@dataclass
class _Class:
    """A class that has been reached: its frame counts, its methods as they are mentioned."""

    module: Module
    node: ast.ClassDef
    all_methods: bool
    taken: set[str] = field(default_factory=set)


class _Search:
    """One walk from roots to everything that is reachable."""

    def __init__(
        self,
        tree: SourceTree,
        places: Iterable[QualifiedName],
        mentions: Iterable[str],
        without: Iterable[QualifiedName],
    ) -> None:
        self._tree, self._mentions = tree, set(mentions)
        self._waiting = list(places)
        # Stops count as seen: whatever leads to them goes no further.
        self._seen: set[QualifiedName] = set(without)
        self._classes: list[_Class] = []
        self._digested: dict[str, set[str]] = {}

    def run(self) -> CodeDigest:
        for module, name in self._waiting:
            if self._tree.module(module) is None:
                raise LookupError(f"no module {module!r} (looking for {name!r})")
        # To a fixed point: a method reached late may mention another of a class reached early.
        while self._waiting or self._methods_wait() or self._entries_wait():
            while self._waiting:
                self._visit(self._waiting.pop())
        parts = {name: _sha256(*sorted(texts)) for name, texts in sorted(self._digested.items())}
        # A set: where the same definition was reached twice, or lies in another file, the whole digest is the
        # same.
        every = sorted({text for texts in self._digested.values() for text in texts})
        return CodeDigest(_sha256(*every), parts)

    def _methods_wait(self) -> bool:
        """Visit the methods that have been mentioned meanwhile; whether there were any."""
        found = False
        for reached in self._classes:
            for method in _methods(reached.node):
                # Special methods are called by operators and by Python itself, never by name.
                wanted = reached.all_methods or method.name in self._mentions or _is_special(method.name)
                if wanted and method.name not in reached.taken and method.name not in DESCRIPTIONS:
                    reached.taken.add(method.name)
                    found = True
                    same = [m for m in _methods(reached.node) if m.name == method.name]  # a property's setter
                    for node in same:
                        self._digest(reached.module, f"{reached.node.name}.{node.name}", node)
        return found

    def _entries_wait(self) -> bool:
        """Queue the registered functions that have been mentioned meanwhile; whether there were any."""
        for name in [n for n in self._digested if (n, "<effects>") in self._seen]:
            module = self._tree.module(name)
            for bound, nodes in module.bindings.items() if module else ():
                decorators = [d for node in nodes for d in getattr(node, "decorator_list", ())]
                entry = any(not is_naming(decorator) for decorator in decorators)
                # Entries may be mentioned as users spell them, with hyphens.
                mentioned = bound in self._mentions or bound.replace("_", "-") in self._mentions
                if entry and mentioned and (name, bound) not in self._seen:
                    self._waiting.append((name, bound))
        return bool(self._waiting)

    def _visit(self, place: QualifiedName) -> None:
        if place in self._seen or _is_outside(place[0]):
            return
        self._seen.add(place)
        module = self._tree.module(place[0])
        if module is None:
            return
        name = place[1]
        if not name:
            self._waiting += [(module.name, bound) for bound in module.bindings]
            # An empty name stands for the whole module.
            return
        top, _, method = name.partition(".")
        if method:
            self._method(module, top, method)
            # A method brings its class with it, whose frame holds the constants that the method reads.
            return
        if top in module.bindings:
            self._module_effects(module)
            if top in module.frames:
                self._class(module, top)
            for node in module.bindings[top]:
                if not isinstance(node, ast.ClassDef):
                    self._digest(module, top, node)
        elif top in module.imports:
            self._visit_import(module.imports[top])
        elif self._tree.module(f"{module.name}.{top}"):
            self._waiting.append((f"{module.name}.{top}", ""))
        # A module with __getattr__ may define anything, so all of it counts, as for "import *".
        elif name != "*" and "__getattr__" not in module.bindings:
            if top not in _module_attributes(module):
                raise LookupError(f"{module.name} defines no {top!r}")
        else:
            self._waiting.append((module.name, ""))

    def _method(self, module: Module, owner: str, method: str) -> None:
        nodes = [n for n in module.bindings.get(owner, []) if isinstance(n, ast.ClassDef)]
        if not any(found.name == method for node in nodes for found in _methods(node)):
            raise LookupError(f"{module.name} defines no {owner}.{method}")
        self._mentions.add(method)
        self._waiting.append((module.name, owner))

    def _visit_import(self, target: QualifiedName) -> None:
        source, name = target
        if name and self._tree.module(f"{source}.{name}"):
            self._waiting.append((f"{source}.{name}", ""))
        else:
            self._waiting.append((source, name))

    def _module_effects(self, module: Module) -> None:
        if (module.name, "<effects>") not in self._seen:
            self._seen.add((module.name, "<effects>"))
            for node in module.effects:
                self._digest(module, "", node)

    def _class(self, module: Module, name: str) -> None:
        """Take in a class without its methods; those follow as they are mentioned."""
        nodes = [n for n in module.bindings[name] if isinstance(n, ast.ClassDef)]
        for node, frame in zip(nodes, module.frames[name], strict=True):
            bases = [*node.bases, *(keyword.value for keyword in node.keywords)]
            every = any(self._tree.is_foreign(module, base) for base in bases)
            self._classes.append(_Class(module, node, every))
            self._digest(module, name, frame)

    def _digest(self, module: Module, name: str, node: ast.AST) -> None:
        """Take in a definition, and queue what it refers to."""
        found = self._tree.definition(module, node)
        # Mentions are global: whether the object that has the method is ours cannot be told from the text.
        self._mentions |= found.mentions
        self._waiting += found.reached
        # Without "@path": where a user's file lies decides nothing.
        self._digested.setdefault(module.name.split("@")[0], set()).add(_sha256(name, found.text))


def _methods(node: ast.ClassDef) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [s for s in node.body if isinstance(s, ast.FunctionDef | ast.AsyncFunctionDef)]


def _is_special(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _is_outside(module: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in OUTSIDE)


def _module_attributes(module: Module) -> set[str]:
    return {"__name__", "__file__", "__doc__", "__all__", "*"} | set(module.imports)


def _sha256(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
