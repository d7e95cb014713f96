"""Syntax trees as text, without what a reader may be told beside the code."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import Any

from bench.code_digest.qualified_names import QualifiedName

#: Decorators that give a name and a description.
_NAMING_DECORATORS = frozenset({"register", "register_mask", "image_metric", "distribution_metric"})


class CanonicalSyntax:
    """A syntax tree as text, the same on every Python and whatever a reader may be told beside the code."""

    def __init__(self, resolve: Callable[[ast.AST], QualifiedName | None]) -> None:
        self._resolve = resolve
        #: Names of variables of the functions that we are in.
        self._scopes: list[set[str]] = []
        #: Definitions that were referred to.
        self.reached: set[QualifiedName] = set()

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
        yield name, [d for d in value if not is_naming(d)] if name == "decorator_list" else value


_NOT_DIGESTED = frozenset(
    {"annotation", "returns", "type_comment", "type_params", "type_ignores", "ctx", "kind"}
)


def _is_text_alone(node: ast.AST) -> bool:
    """Return whether a node is a docstring, or another constant that stands alone as a statement."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def is_naming(node: ast.expr) -> bool:
    call = node.func if isinstance(node, ast.Call) else node
    return getattr(call, "id", getattr(call, "attr", "")) in _NAMING_DECORATORS
