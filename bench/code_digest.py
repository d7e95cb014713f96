"""Digests of the code that decides a number: the definitions reachable from given functions and classes, and no others.

A definition is a top-level function or assignment of a module, a class without its methods, or one method. Starting
from the roots, every name that a definition mentions is followed into the packages of this program and into the folder
of a user's model file. The rules, all of which include rather than leave out:

* a name leads to the definition it is bound to, through imports and aliases; a module that is used other than by
  ``module.name`` leads to everything in it;
* a method counts as soon as anything that counts mentions its name, as an attribute or in a string; of a class with a
  base from elsewhere (``nn.Module``), which may call anything, every method counts;
* annotations lead on as any other name does, although they are not part of what is digested;
* a decorated function, which may be an entry of a registry, counts if its module does and its name is mentioned;
* a definition that uses ``globals``, ``eval`` or ``importlib`` leads to everything in its module;
* statements at the top level of a module that define nothing (``torch.set_...``) count with anything in it.

What is digested is the syntax tree without docstrings, comments, annotations, import statements, the text of errors,
file names and the order of definitions. A name is digested as what it refers to, so that a function may move to another
file, and an import may be written otherwise. Nothing is imported to make a digest.

Modules that show, log, estimate, export or save are where the search stops (:data:`OUTSIDE`).
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

PACKAGES = ("bench", "masks", "models", "reports")

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
    "models.contract",
    "models.discovery",
    "models.errors",
    "models.export",
    "models.pretrained",
    "models.registry",
    "models.template",
    "reports",
)

#: Members of a class that describe it, or whose values enter keys by themselves (``presets``).
_DESCRIPTIONS = frozenset({"ambiguities", "presets"})
#: Decorators that give a name and a description.
_NAMING_DECORATORS = frozenset({"register", "register_mask", "image_metric", "distribution_metric"})
#: Bases that call no method of their subclasses by themselves.
_INERT_BASES = frozenset({"ABC", "Exception", "Generic", "NamedTuple", "Protocol", "ValueError", "object"})
#: Calls that may lead to any definition of a module.
_DYNAMIC = frozenset({"globals", "locals", "vars", "eval", "exec", "__import__", "import_module"})

#: Module and qualified name of a definition (``("models.glcic", "GLCIC.loss")``); of a module's own statements, ``""``.
Place = tuple[str, str]


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


def place_of(function: Callable[..., Any] | type) -> Place:
    """Return where a function or class is defined; look through wrappers and partial applications.

    >>> import json
    >>> place_of(json.JSONDecoder.decode)
    ('json.decoder', 'JSONDecoder.decode')
    """
    function = _unwrap(function)
    # A function made inside another counts by that one, which holds its text; a lambda has no name to find,
    # so all of its module counts.
    name = function.__qualname__.split(".<locals>")[0]
    return function.__module__, "" if "<lambda>" in name else name


def _unwrap(function: Any) -> Any:
    while True:
        if isinstance(function, functools.partial):
            function = function.func
        # functools.wraps leaves a trace of the function below; a class may have that attribute without being
        # a wrapper.
        elif hasattr(function, "__wrapped__") and not isinstance(function, type):
            function = function.__wrapped__
        else:
            return function


def bound_arguments(function: Any) -> list[str]:
    """List what partial applications have fixed of a function, as text: it decides numbers as code does.

    >>> bound_arguments(functools.partial(round, ndigits=2))
    ['ndigits=2']
    """
    found = []
    while True:
        if isinstance(function, functools.partial):
            # A callable that is bound is code: its place is followed, and its repr holds an address that
            # changes with every run.
            found += [repr(a) for a in function.args if not callable(a)]
            found += [f"{k}={v!r}" for k, v in sorted(function.keywords.items()) if not callable(v)]
            function = function.func
        elif hasattr(function, "__wrapped__") and not isinstance(function, type):
            function = function.__wrapped__
        else:
            return found


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
        self._modules: dict[str, _Module | None] = {}
        self._definitions: dict[int, _Definition] = {}

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
            self._modules[name] = _Module(name, path)
        return name

    def module(self, name: str) -> _Module | None:
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
            self._modules[name] = _Module(name, path) if path else None
        return self._modules[name]

    def closure(
        self, places: Iterable[Place], mentions: Iterable[str] = (), without: Iterable[Place] = ()
    ) -> CodeDigest:
        """Return the digest of all that is reachable from ``places``.

        Args:
            places: where to begin; a method stands for its class's frame too.
            mentions: names of methods and registry entries that are used from outside of the closure.
            without: definitions at which the search stops.

        Raises:
            LookupError: a place that does not exist.
        """
        return _Search(self, places, mentions, without).run()

    def is_foreign(self, module: _Module, base: ast.expr) -> bool:
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

    def definition(self, module: _Module, node: ast.AST) -> _Definition:
        """Digest one definition and list what it refers to; worked out once."""
        # By identity, since nodes cannot be hashed by content; _Definition keeps the node alive for it.
        found = self._definitions.get(id(node))
        if found is None:
            found = self._definitions[id(node)] = self._examine(module, node)
        return found

    def _examine(self, module: _Module, node: ast.AST) -> _Definition:
        # Imports inside of a function bind names in that function alone, and shadow those of the module.
        local = dict(module.imports_of(ast.walk(node)))
        canonical = _Canonical(lambda expression: self._resolve(module, expression, local))
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
        return _Definition(node, text, frozenset(reached), frozenset(mentions))

    def _in_annotations(self, module: _Module, node: ast.AST, local: dict[str, Place]) -> set[Place]:
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

    def _resolve(self, module: _Module, node: ast.AST, local: dict[str, Place]) -> Place | None:
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

    def _follow(self, target: Place) -> Place | None:
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


@dataclass(frozen=True)
class _Definition:
    """One definition: its canonical text, the definitions it refers to, and names that may be of methods.

    The node is kept so that its identity is not used again.
    """

    node: ast.AST
    text: str
    reached: frozenset[Place]
    mentions: frozenset[str]


@dataclass
class _Module:
    """A parsed module: what each of its top-level names is bound to."""

    name: str
    path: Path

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text(encoding="utf-8"), str(self.path))

    @cached_property
    def bindings(self) -> dict[str, list[ast.stmt]]:
        """Name -> the statements that bind it (several for a name that is assigned twice)."""
        found: dict[str, list[ast.stmt]] = {}
        for node in _flat(self.tree.body):
            for name in _bound_names(node):
                found.setdefault(name, []).append(node)
        return found

    @cached_property
    def imports(self) -> dict[str, Place]:
        """Name -> what an import at the top level binds it to; a module itself is ``(module, "")``."""
        return dict(self.imports_of(_flat(self.tree.body, typing_only=True)))

    @cached_property
    def effects(self) -> list[ast.stmt]:
        """Statements that bind nothing: they count with anything of the module."""
        # Walked without the guarded imports of TYPE_CHECKING, which never run.
        nodes = _flat(self.tree.body)
        return [n for n in nodes if not _bound_names(n) and not isinstance(n, ast.Import | ast.ImportFrom)]

    @cached_property
    def frames(self) -> dict[str, list[ast.ClassDef]]:
        """Class -> the class without its methods and what describes it (several if it is defined twice)."""
        found: dict[str, list[ast.ClassDef]] = {}
        for name, nodes in self.bindings.items():
            for node in nodes:
                if isinstance(node, ast.ClassDef):
                    body = [
                        s for s in node.body if not _is_method(s) and not set(_bound_names(s)) & _DESCRIPTIONS
                    ]
                    # A copy: the original keeps its methods, which are digested one by one when they are
                    # reached.
                    found.setdefault(name, []).append(
                        ast.ClassDef(
                            name=node.name,
                            bases=node.bases,
                            keywords=node.keywords,
                            decorator_list=[d for d in node.decorator_list if not _is_naming(d)],
                            body=body,
                        )
                    )
        return found

    def imports_of(self, nodes: Iterable[ast.AST]) -> Iterator[tuple[str, Place]]:
        for node in nodes:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.asname:
                        yield alias.asname, (alias.name, "")
                    else:  # "import a.b" binds a
                        yield alias.name.split(".")[0], (alias.name.split(".")[0], "")
            elif isinstance(node, ast.ImportFrom):
                source = self._absolute(node)
                for alias in node.names:
                    yield alias.asname or alias.name, (source, alias.name)

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self.name.split("@")[0].split(".")
        # A package's own file counts as one level below the package, so "." means the package itself there.
        keep = len(parts) - node.level + (self.path.name == "__init__.py")
        return ".".join([*parts[: max(keep, 0)], *([node.module] if node.module else [])])


def _flat(body: Iterable[ast.stmt], *, typing_only: bool = False) -> Iterator[ast.stmt]:
    """Yield the statements of a module, including those under ``if``, ``try`` and ``with``, without docstrings."""
    for node in body:
        if isinstance(node, ast.If):
            # Names imported for annotations alone still lead on, but are never part of what runs.
            if typing_only or "TYPE_CHECKING" not in ast.dump(node.test):
                yield from _flat([*node.body, *node.orelse], typing_only=typing_only)
            if "TYPE_CHECKING" not in ast.dump(node.test):
                # The condition decides which branch binds the name, so it counts with the module's other
                # statements.
                yield ast.copy_location(ast.Expr(node.test), node)
        elif isinstance(node, ast.Try):
            handlers = [s for handler in node.handlers for s in handler.body]
            yield from _flat([*node.body, *handlers, *node.orelse, *node.finalbody], typing_only=typing_only)
        elif isinstance(node, ast.With):
            yield from (ast.copy_location(ast.Expr(item.context_expr), node) for item in node.items)
            yield from _flat(node.body, typing_only=typing_only)
        elif not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            yield node


def _bound_names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign | ast.AugAssign):
        targets = [node.target]
    return [
        n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    ]


@dataclass
class _Class:
    """A class that has been reached: its frame counts, its methods as they are mentioned."""

    module: _Module
    node: ast.ClassDef
    all_methods: bool
    taken: set[str] = field(default_factory=set)


class _Search:
    """One walk from roots to everything that is reachable."""

    def __init__(
        self, tree: SourceTree, places: Iterable[Place], mentions: Iterable[str], without: Iterable[Place]
    ) -> None:
        self._tree, self._mentions = tree, set(mentions)
        self._waiting = list(places)
        # Stops count as seen: whatever leads to them goes no further.
        self._seen: set[Place] = set(without)
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
                if wanted and method.name not in reached.taken and method.name not in _DESCRIPTIONS:
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
                entry = any(not _is_naming(decorator) for decorator in decorators)
                # Entries may be mentioned as users spell them, with hyphens.
                mentioned = bound in self._mentions or bound.replace("_", "-") in self._mentions
                if entry and mentioned and (name, bound) not in self._seen:
                    self._waiting.append((name, bound))
        return bool(self._waiting)

    def _visit(self, place: Place) -> None:
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

    def _method(self, module: _Module, owner: str, method: str) -> None:
        nodes = [n for n in module.bindings.get(owner, []) if isinstance(n, ast.ClassDef)]
        if not any(found.name == method for node in nodes for found in _methods(node)):
            raise LookupError(f"{module.name} defines no {owner}.{method}")
        self._mentions.add(method)
        self._waiting.append((module.name, owner))

    def _visit_import(self, target: Place) -> None:
        source, name = target
        if name and self._tree.module(f"{source}.{name}"):
            self._waiting.append((f"{source}.{name}", ""))
        else:
            self._waiting.append((source, name))

    def _module_effects(self, module: _Module) -> None:
        if (module.name, "<effects>") not in self._seen:
            self._seen.add((module.name, "<effects>"))
            for node in module.effects:
                self._digest(module, "", node)

    def _class(self, module: _Module, name: str) -> None:
        """Take in a class without its methods; those follow as they are mentioned."""
        nodes = [n for n in module.bindings[name] if isinstance(n, ast.ClassDef)]
        for node, frame in zip(nodes, module.frames[name], strict=True):
            bases = [*node.bases, *(keyword.value for keyword in node.keywords)]
            every = any(self._tree.is_foreign(module, base) for base in bases)
            self._classes.append(_Class(module, node, every))
            self._digest(module, name, frame)

    def _digest(self, module: _Module, name: str, node: ast.AST) -> None:
        """Take in a definition, and queue what it refers to."""
        found = self._tree.definition(module, node)
        # Mentions are global: whether the object that has the method is ours cannot be told from the text.
        self._mentions |= found.mentions
        self._waiting += found.reached
        # Without "@path": where a user's file lies decides nothing.
        self._digested.setdefault(module.name.split("@")[0], set()).add(_sha256(name, found.text))


class _Canonical:
    """A syntax tree as text, the same on every Python and whatever a reader may be told beside the code."""

    def __init__(self, resolve: Callable[[ast.AST], Place | None]) -> None:
        self._resolve = resolve
        #: Names of variables of the functions that we are in.
        self._scopes: list[set[str]] = []
        #: Definitions that were referred to.
        self.reached: set[Place] = set()

    def text(self, node: Any) -> str:
        if isinstance(node, list):
            return "[" + ",".join(t for item in node if (t := self.text(item))) + "]"
        if not isinstance(node, ast.AST):
            return repr(node)
        if (variables := _variables(node)) is not None:
            self._scopes.append(variables)
            text = self._node(node)
            self._scopes.pop()
            return text
        return self._node(node)

    def _node(self, node: ast.AST) -> str:
        if not self._is_variable(node) and (target := self._resolve(node)):
            self.reached.add(target)
            # By name and not by module, so that a definition may move to another file.
            return f"<{target[1] or target[0].rpartition('.')[2]}>"
        if isinstance(node, ast.Import | ast.ImportFrom) or _is_text_alone(node):
            return ""
        if isinstance(node, ast.Raise):  # what an error says decides no number
            kind = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            return f"Raise({self.text(kind)})"
        if isinstance(node, ast.AnnAssign):
            value = self.text(node.value) if node.value else ""
            # As a plain assignment, since annotations are not digested.
            return f"Assign([{self.text(node.target)}],{value})"
        fields = [
            f"{name}={self.text(value)}"
            for name, value in _fields(node)
            if name not in _NOT_DIGESTED and value is not None and value != []
        ]
        return f"{type(node).__name__}({','.join(fields)})"

    def _is_variable(self, node: ast.AST) -> bool:
        """Return whether a name, or a chain of attributes, begins with a variable of an enclosing function."""
        while isinstance(node, ast.Attribute):
            node = node.value
        # A parameter that is named like a function of the module is not that function.
        return not isinstance(node, ast.Name) or any(node.id in scope for scope in self._scopes)


def _variables(node: ast.AST) -> set[str] | None:
    """Return the variables of a function's or comprehension's own scope; ``None`` for a node without a scope."""
    if isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
        parts = [n for g in node.generators for n in ast.walk(g.target)]
        return {n.id for n in parts if isinstance(n, ast.Name)}
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        return None
    given = node.args
    arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    found = {a.arg for a in arguments if a}
    shared: set[str] = set()
    waiting: list[ast.AST] = list(node.body) if isinstance(node.body, list) else [node.body]
    # Walked by hand and not by ast.walk: what inner functions and comprehensions store is theirs.
    while waiting:
        part = waiting.pop()
        if isinstance(part, ast.Global):
            shared.update(part.names)
        elif isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            found.add(part.id)
        elif isinstance(part, ast.ExceptHandler) and part.name:
            found.add(part.name)
        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(part.name)
        elif _variables_of_own(part):
            waiting.extend(ast.iter_child_nodes(part))
    return found - shared


def _variables_of_own(node: ast.AST) -> bool:
    """Return whether what is stored in a node is stored in the scope around it."""
    return not isinstance(node, ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp)


def _fields(node: ast.AST) -> Iterator[tuple[str, Any]]:
    for name, value in ast.iter_fields(node):
        yield name, [d for d in value if not _is_naming(d)] if name == "decorator_list" else value


_NOT_DIGESTED = frozenset(
    {"annotation", "returns", "type_comment", "type_params", "type_ignores", "ctx", "kind"}
)


def _is_text_alone(node: ast.AST) -> bool:
    """Return whether a node is a docstring, or another constant that stands alone as a statement."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _methods(node: ast.ClassDef) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [s for s in node.body if isinstance(s, ast.FunctionDef | ast.AsyncFunctionDef)]


def _is_method(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def _is_special(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _is_naming(node: ast.expr) -> bool:
    call = node.func if isinstance(node, ast.Call) else node
    return getattr(call, "id", getattr(call, "attr", "")) in _NAMING_DECORATORS


def _is_outside(module: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in OUTSIDE)


def _module_attributes(module: _Module) -> set[str]:
    return {"__name__", "__file__", "__doc__", "__all__", "*"} | set(module.imports)


def _package_root() -> Path:
    spec = importlib.util.find_spec("bench")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parents[1]


def _holds_installed_packages(folder: Path) -> bool:
    """Return whether packages of several projects are installed in a folder, as in ``site-packages``."""
    return next(folder.glob("*.dist-info"), None) is not None


def _sha256(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


@cache
def program_source() -> SourceTree:
    """Return the tree of the program's own modules; each is parsed when it is first needed."""
    return SourceTree()
