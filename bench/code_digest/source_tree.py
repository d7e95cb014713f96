"""Modules of this program and of a user's file, and what the names in them refer to."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bench.code_digest.module import Module
from bench.code_digest.qualified_names import QualifiedName
from bench.code_digest.syntax import CanonicalSyntax

PACKAGES = ("bench", "masks", "models", "reports")


#: Bases that call no method of their subclasses by themselves.
_INERT_BASES = frozenset({"ABC", "Exception", "Generic", "NamedTuple", "Protocol", "ValueError", "object"})


#: Calls that may lead to any definition of a module.
_DYNAMIC = frozenset({"globals", "locals", "vars", "eval", "exec", "__import__", "import_module"})


@dataclass(frozen=True)
class Definition:
    """One definition: its canonical text, the definitions it refers to, and names that may be of methods.

    The node is kept so that its identity is not used again.
    """

    node: ast.AST
    text: str
    reached: frozenset[QualifiedName]
    mentions: frozenset[str]


class SourceTree:
    """Modules by name, parsed once: this program's packages, and a user's files by their paths.

    Args:
        roots: folders in which ``name/of/module.py`` is looked for; those of this program if not given.
    """

    def __init__(self, roots: Iterable[Path] | None = None) -> None:
        self._roots = list(roots) if roots is not None else [_package_root()]
        # Where packages are installed, those of others lie beside ours: there, these alone are followed.
        self._installed: dict[Path, set[str]] = {}
        if roots is None and _holds_installed_packages(self._roots[0]):
            self._installed[self._roots[0]] = set(PACKAGES)
        self._modules: dict[str, Module | None] = {}
        self._definitions: dict[int, Definition] = {}

    def with_file(self, path: Path) -> tuple[SourceTree, str]:
        """Return a tree that also knows a user's file and what it imports from its own folder or package, and its name.

        The user's modules are read anew each time.
        """
        tree = SourceTree(self._roots)
        tree._installed = {root: set(names) for root, names in self._installed.items()}
        # Parsed modules are shared, but not the misses: a name that was not found here may lie in the user's
        # folder.
        tree._modules = {name: module for name, module in self._modules.items() if module is not None}
        tree._definitions = dict(self._definitions)
        return tree, tree._add_file(path)

    def _add_file(self, path: Path) -> str:
        path = path.resolve()
        package, name = path.parent, path.stem
        # The dotted name starts at the outermost folder with an __init__.py, where Python's own import would
        # start.
        while (package / "__init__.py").is_file() and package != package.parent:
            name, package = f"{package.name}.{name}", package.parent
        for root in (package, path.parent):
            if root not in self._roots:
                self._roots.append(root)
            if root in self._installed or _holds_installed_packages(root):
                self._installed.setdefault(root, set()).add(name.partition(".")[0])
        found = self.module(name)
        if found is None or found.path != path:  # a module of the same name comes first: keep them apart
            name = f"{name}@{path}"
            self._modules[name] = Module(name, path)
        return name

    def module(self, name: str) -> Module | None:
        """Return a module by its dotted name, or ``None`` where it is not in the folders."""
        if name not in self._modules:
            relative = Path(*name.split("."))
            candidates = [
                root / place
                # Our roots come before the user's: a file of the user's named like one of our modules never
                # stands in for it.
                for root in self._roots
                if root not in self._installed or name.partition(".")[0] in self._installed[root]
                for place in (relative.with_suffix(".py"), relative / "__init__.py")
            ]
            path = next((p for p in candidates if p.is_file()), None)
            self._modules[name] = Module(name, path) if path else None
        return self._modules[name]

    def is_foreign(self, module: Module, base: ast.expr) -> bool:
        """Return whether a base class is of another library, which may call methods by names that we do not see."""
        text = base.value if isinstance(base, ast.Subscript) else base
        if isinstance(text, ast.Name) and text.id in module.bindings:
            return any(
                isinstance(n, ast.ClassDef) and any(self.is_foreign(module, b) for b in n.bases)
                for n in module.bindings[text.id]
            )
        last = text.attr if isinstance(text, ast.Attribute) else getattr(text, "id", "")
        if last in _INERT_BASES or last == "ABCMeta":
            return False
        target = self._resolve(module, text, {})
        if target is None or not target[1]:
            return True
        owner = self.module(target[0])
        if owner is None:
            return True
        return any(
            isinstance(n, ast.ClassDef) and any(self.is_foreign(owner, b) for b in n.bases)
            for n in owner.bindings.get(target[1], [])
        )

    def definition(self, module: Module, node: ast.AST) -> Definition:
        """Digest one definition and list what it refers to; worked out once."""
        # By identity, since nodes cannot be hashed by content; Definition keeps the node alive for it.
        found = self._definitions.get(id(node))
        if found is None:
            found = self._definitions[id(node)] = self._examine(module, node)
        return found

    def _examine(self, module: Module, node: ast.AST) -> Definition:
        # Imports inside of a function bind names in that function alone, and shadow those of the module.
        local = dict(module.imports_of(ast.walk(node)))
        canonical = CanonicalSyntax(lambda expression: self._resolve(module, expression, local))
        text = canonical.text(node)
        mentions = set()
        reached = canonical.reached | self._in_annotations(module, node, local)
        for part in ast.walk(node):
            # Every attribute and string may be the name of a method or an entry: too many rather than too
            # few.
            if isinstance(part, ast.Attribute):
                mentions.add(part.attr)
            elif isinstance(part, ast.Constant) and isinstance(part.value, str):
                mentions.add(part.value)
            elif isinstance(part, ast.Name) and part.id in _DYNAMIC:
                reached.add((module.name, ""))
        return Definition(node, text, frozenset(reached), frozenset(mentions))

    def _in_annotations(
        self, module: Module, node: ast.AST, local: dict[str, QualifiedName]
    ) -> set[QualifiedName]:
        found = set()
        for part in ast.walk(node):
            for annotation in (getattr(part, "annotation", None), getattr(part, "returns", None)):
                for name in ast.walk(annotation) if isinstance(annotation, ast.AST) else ():
                    if isinstance(name, ast.Name | ast.Attribute):
                        target = self._resolve(module, name, local)
                        # A chain a.b.c holds the nodes a and a.b as well: those resolve to modules, which
                        # would lead to everything in them.
                        if target and target[1]:
                            found.add(target)
        return found

    def _resolve(
        self, module: Module, node: ast.AST, local: dict[str, QualifiedName]
    ) -> QualifiedName | None:
        """Return the definition or module that a name or a chain ``a.b.c`` refers to; ``None`` if it is not ours."""
        if isinstance(node, ast.Name):
            if node.id in local:
                return self._follow(local[node.id])
            if node.id in module.bindings:
                return module.name, node.id
            if node.id in module.imports:
                return self._follow(module.imports[node.id])
            return None
        if isinstance(node, ast.Attribute):
            base = self._resolve(module, node.value, local)
            if base is None or base[1]:
                return None  # an attribute of a definition: by name, see the rules
            return self._follow((base[0], node.attr))
        return None

    def _follow(self, target: QualifiedName) -> QualifiedName | None:
        """Return where an imported name is defined, through modules that only pass it on."""
        source, name = target
        # Bounded, since two modules may import a name from each other.
        for _ in range(10):
            module = self.module(source)
            if module is None:
                # A package without a file of its own, or not ours.
                return (source, name) if not name and self._is_known_package(source) else None
            if not name or name in module.bindings:
                return source, name
            # Submodules come after names that the package binds itself, as in Python.
            if self.module(f"{source}.{name}"):
                return f"{source}.{name}", ""
            if name not in module.imports:
                return source, name
            source, name = module.imports[name]
        return source, name

    def _is_known_package(self, name: str) -> bool:
        return name.split(".")[0] in PACKAGES


def _package_root() -> Path:
    spec = importlib.util.find_spec("bench")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parents[1]


def _holds_installed_packages(folder: Path) -> bool:
    """Return whether packages of several projects are installed in a folder, as in ``site-packages``."""
    return next(folder.glob("*.dist-info"), None) is not None


@cache
def program_source() -> SourceTree:
    """Return the tree of the program's own modules; each is parsed when it is first needed."""
    return SourceTree()
