"""A parsed module: its definitions, imports and other statements."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bench.code_digest.qualified_names import QualifiedName
from bench.code_digest.syntax import is_naming

#: Members of a class that describe it, or whose values enter keys by themselves (``presets``).
DESCRIPTIONS = frozenset({"ambiguities", "presets"})


@dataclass
class Module:
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
            for name in bound_names(node):
                found.setdefault(name, []).append(node)
        return found

    @cached_property
    def imports(self) -> dict[str, QualifiedName]:
        """Name -> what an import at the top level binds it to; a module itself is ``(module, "")``."""
        return dict(self.imports_of(_flat(self.tree.body, typing_only=True)))

    @cached_property
    def effects(self) -> list[ast.stmt]:
        """Statements that bind nothing: they count with anything of the module."""
        # Walked without the guarded imports of TYPE_CHECKING, which never run.
        nodes = _flat(self.tree.body)
        return [n for n in nodes if not bound_names(n) and not isinstance(n, ast.Import | ast.ImportFrom)]

    @cached_property
    def frames(self) -> dict[str, list[ast.ClassDef]]:
        """Class -> the class without its methods and what describes it (several if it is defined twice)."""
        found: dict[str, list[ast.ClassDef]] = {}
        for name, nodes in self.bindings.items():
            for node in nodes:
                if isinstance(node, ast.ClassDef):
                    body = [
                        s for s in node.body if not is_method(s) and not set(bound_names(s)) & DESCRIPTIONS
                    ]
                    # A copy: the original keeps its methods, which are digested one by one when they are
                    # reached.
                    found.setdefault(name, []).append(
                        ast.ClassDef(
                            name=node.name,
                            bases=node.bases,
                            keywords=node.keywords,
                            decorator_list=[d for d in node.decorator_list if not is_naming(d)],
                            body=body,
                        )
                    )
        return found

    def imports_of(self, nodes: Iterable[ast.AST]) -> Iterator[tuple[str, QualifiedName]]:
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


def bound_names(node: ast.stmt) -> list[str]:
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


def is_method(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
