"""Syntax trees as digests that comments, docstrings, annotations, formatting and the names of locals do not change.

tree ──▶ tokens, with numbers for locals and for what is looked up outside ──▶ digest
                                          └──────▶ references, which `hasher` follows
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from typing import NamedTuple, TypeAlias

__all__ = ["Reference", "Syntax", "digest_class", "digest_function", "digest_statements"]

FunctionNode: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

# These see the names of locals, which therefore stay as they are.
_SEE_LOCALS = frozenset({"locals", "vars", "dir", "eval", "exec"})
_SKIPPED = frozenset({"ctx", "type_comment", "kind", "type_params", "returns", "annotation"})
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


class Reference(NamedTuple):
    """A name that a piece of code looks up outside of itself, with the attributes that it takes of it.

    `module` is the module of a name that the code imports itself, with leading dots if it is relative; None otherwise.
    """

    name: str
    attributes: tuple[str, ...] = ()
    module: str | None = None


class Syntax(NamedTuple):
    """The digest of a piece of code, and its references in the order in which they first occur."""

    digest: bytes
    references: tuple[Reference, ...]


def digest_function(node: FunctionNode, is_dropped: Callable[[Reference], bool]) -> Syntax:
    """Return the syntax of a function or lambda; decorators for which `is_dropped` is true are left out."""
    encoder = _Encoder(node)
    if not isinstance(node, ast.Lambda):
        kept = [one for one in node.decorator_list if not _is_dropped(one, is_dropped)]
        encoder.decorators(kept, _Scope(None))
        encoder.function(node, _Scope(None), annotated=bool(kept))
    else:
        encoder.function(node, _Scope(None))
    return encoder.finish()


def digest_class(node: ast.ClassDef) -> Syntax:
    """Return the syntax of a class; annotations in its body count, as dataclasses and pydantic read them."""
    encoder = _Encoder(node)
    encoder.class_body(node, _Scope(None))
    return encoder.finish()


def digest_statements(nodes: Sequence[ast.stmt], name: str) -> Syntax:
    """Return the syntax of the statements of a module that bind a name."""
    encoder = _Encoder(*nodes, keeps_imports=True)
    scope = _Scope(None)
    scope.names[name] = "bound"
    encoder.statements(nodes, scope)
    return encoder.finish()


def _is_dropped(decorator: ast.expr, is_dropped: Callable[[Reference], bool]) -> bool:
    target = decorator.func if isinstance(decorator, ast.Call) else decorator
    chain = _chain(target)
    return chain is not None and is_dropped(Reference(*chain))


def _chain(node: ast.expr) -> tuple[str, tuple[str, ...]] | None:
    """Return the name and the attributes of `name.attribute…`; None for any other expression."""
    attributes: list[str] = []
    while isinstance(node, ast.Attribute):
        attributes.append(node.attr)
        node = node.value
    return (node.id, tuple(reversed(attributes))) if isinstance(node, ast.Name) else None


class _Scope:
    """The names of one scope: a token, or the references that local imports bind; "" until a local first occurs."""

    __slots__ = ("is_class", "names", "parent")

    def __init__(self, parent: _Scope | None, *, is_class: bool = False) -> None:
        self.parent = parent
        self.is_class = is_class
        self.names: dict[str, str | tuple[Reference, ...]] = {}

    def owner_of(self, name: str) -> _Scope | None:
        scope: _Scope | None = self
        while scope is not None:
            # A class's names are seen by its body alone, not by its methods.
            if name in scope.names and (scope is self or not scope.is_class):
                return scope
            scope = scope.parent
        return None


class _Encoder:
    """A writer of tokens, which numbers locals and references in the order in which they occur."""

    def __init__(self, *nodes: ast.AST, keeps_imports: bool = False) -> None:
        self._keeps_imports = keeps_imports
        self._tokens: list[str] = []
        self._references: dict[Reference, int] = {}
        self._locals = 0
        names = _names_in(nodes)
        self._keeps_names = not _SEE_LOCALS.isdisjoint(names)
        self._keeps_docstrings = "__doc__" in names

    def finish(self) -> Syntax:
        digest = blake2b("\0".join(self._tokens).encode("utf-8", "surrogatepass"), digest_size=16).digest()
        return Syntax(digest, tuple(self._references))

    # ── definitions ──

    def function(self, node: FunctionNode, outer: _Scope, *, annotated: bool = False) -> None:
        """Write a function without its name; `annotated` if a decorator may read its annotations."""
        scope = _Scope(outer)
        arguments = node.args
        for argument in _parameters(arguments):
            scope.names[argument.arg] = f"parameter {argument.arg}"
        body = [node.body] if isinstance(node, ast.Lambda) else node.body
        self._bind(body, scope)
        self._tokens += [type(node).__name__, "("]
        for group in (arguments.posonlyargs, arguments.args, [arguments.vararg], arguments.kwonlyargs):
            self._tokens += [argument.arg if argument else "" for argument in group] + [","]
        self._tokens.append(arguments.kwarg.arg if arguments.kwarg else "")
        # Defaults are evaluated where the function is defined.
        for default in (*arguments.defaults, *arguments.kw_defaults):
            self._value(default, outer)
        if annotated and not isinstance(node, ast.Lambda):
            for argument in _parameters(arguments):
                self._value(argument.annotation, outer)
            self._value(node.returns, outer)
        self._tokens.append(")")
        if isinstance(node, ast.Lambda):
            self._node(node.body, scope)
        else:
            self.statements(node.body, scope)

    def class_body(self, node: ast.ClassDef, outer: _Scope) -> None:
        self.decorators(node.decorator_list, outer)
        self._value(node.bases, outer)
        self._value(node.keywords, outer)
        scope = _Scope(outer, is_class=True)
        for name in _bound_names(node.body)[0]:
            scope.names[name] = f"attribute {name}"
        self.statements(node.body, scope)

    def decorators(self, nodes: Sequence[ast.expr], scope: _Scope) -> None:
        self._value(list(nodes), scope)

    def statements(self, nodes: Sequence[ast.stmt], scope: _Scope) -> None:
        self._tokens.append("[")
        for node in nodes:
            self._node(node, scope)
        self._tokens.append("]")

    def _bind(self, nodes: Sequence[ast.AST], scope: _Scope) -> None:
        names, imported = _bound_names(nodes)
        for name in names:
            scope.names.setdefault(name, name if self._keeps_names else "")
        scope.names.update(imported)

    # ── nodes ──

    def _node(self, node: ast.AST, scope: _Scope) -> None:
        """Write a node; the kinds that need no rule of their own are written field by field."""
        if isinstance(node, ast.Name | ast.Attribute):
            self._lookup(node, scope)
        elif isinstance(node, ast.Constant):
            self._tokens.append(f"{type(node.value).__name__} {node.value!r}")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            self._name(node.name, (), scope)
            self.decorators(node.decorator_list, scope)
            self.function(node, scope, annotated=bool(node.decorator_list))
        elif isinstance(node, ast.Lambda):
            self.function(node, scope)
        elif isinstance(node, ast.ClassDef):
            self._tokens.append("class")
            self._name(node.name, (), scope)
            self.class_body(node, scope)
        elif isinstance(node, _COMPREHENSIONS):
            inner = _Scope(scope)
            for generator in node.generators:
                self._bind([generator.target], inner)
            self._fields(node, inner)
        elif isinstance(node, ast.AnnAssign):
            self._annotated(node, scope)
        elif not self._is_without_effect(node):
            self._fields(node, scope)

    def _is_without_effect(self, node: ast.AST) -> bool:
        """Return whether a node is a docstring, another constant that stands by itself, a `pass`, or an import."""
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return not self._keeps_docstrings
        # An import within a function binds a name, and is followed where that is used.
        if isinstance(node, ast.Import | ast.ImportFrom):
            return not self._keeps_imports
        return isinstance(node, ast.Pass | ast.Global | ast.Nonlocal)

    def _annotated(self, node: ast.AnnAssign, scope: _Scope) -> None:
        if scope.is_class:
            self._tokens.append("field")
            self._node(node.annotation, scope)
        if node.value is not None or scope.is_class:
            # As the assignment without the annotation is written.
            self._tokens += ["Assign", "("]
            self._value([node.target], scope)
            self._value(node.value, scope)
            self._tokens.append(")")

    def _fields(self, node: ast.AST, scope: _Scope) -> None:
        self._tokens += [type(node).__name__, "("]
        for field, value in ast.iter_fields(node):
            if field in _SKIPPED:
                continue
            # Names that syntax trees hold as text: of `except … as name` and of patterns.
            if isinstance(value, str) and field in {"name", "rest"} and not isinstance(node, ast.alias):
                self._name(value, (), scope)
            else:
                self._value(value, scope)
        self._tokens.append(")")

    def _value(self, value: object, scope: _Scope) -> None:
        if isinstance(value, list):
            self._tokens.append("[")
            for item in value:
                self._value(item, scope)
            self._tokens.append("]")
        elif isinstance(value, ast.AST):
            self._node(value, scope)
        else:
            self._tokens.append(repr(value))

    # ── names ──

    def _lookup(self, node: ast.Name | ast.Attribute, scope: _Scope) -> None:
        chain = _chain(node)
        if chain is not None:
            self._name(*chain, scope)
        elif isinstance(node, ast.Attribute):
            self._tokens.append(f".{node.attr}")
            self._node(node.value, scope)

    def _name(self, name: str, attributes: tuple[str, ...], scope: _Scope) -> None:
        """Write a name: a local as a number, another name as a reference."""
        owner = scope.owner_of(name)
        found = owner.names[name] if owner is not None else (Reference(name),)
        if isinstance(found, tuple):
            for one in found:
                reference = one._replace(attributes=one.attributes + attributes)
                self._tokens.append(f"@{self._references.setdefault(reference, len(self._references))}")
            return
        if not found:
            # Numbered when it first occurs, so that a renamed local has the number of the old one.
            assert owner is not None
            found = owner.names[name] = f"local {self._locals}"
            self._locals += 1
        self._tokens += [found, *(f".{attribute}" for attribute in attributes)]


def _names_in(nodes: Iterable[ast.AST]) -> set[str]:
    """Return all names in these nodes, and `__doc__` if it is an attribute."""
    # Not ast.walk, which takes half the time of a hash: it visits the context of each name.
    names: set[str] = set()
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.Attribute):
            if node.attr == "__doc__":
                names.add(node.attr)
            waiting.append(node.value)
        else:
            waiting += ast.iter_child_nodes(node)
    return names


def _parameters(arguments: ast.arguments) -> list[ast.arg]:
    found = [*arguments.posonlyargs, *arguments.args, arguments.vararg, *arguments.kwonlyargs, arguments.kwarg]
    return [argument for argument in found if argument is not None]


def _bound_names(nodes: Iterable[ast.AST]) -> tuple[list[str], dict[str, tuple[Reference, ...]]]:
    """Return the names that a scope's nodes bind, and all that its imports may bind."""
    names: dict[str, None] = {}
    imported: dict[str, dict[Reference, None]] = {}
    declared: set[str] = set()
    waiting = list(reversed(list(nodes)))
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Name):
            if not isinstance(node.ctx, ast.Load):
                names[node.id] = None
        elif isinstance(node, ast.Nonlocal):
            declared.update(node.names)
        elif isinstance(node, ast.Global):
            for name in node.names:
                imported.setdefault(name, {})[Reference(name)] = None
        elif isinstance(node, ast.Import):
            for alias in node.names:
                module = alias.name if alias.asname else alias.name.partition(".")[0]
                imported.setdefault(alias.asname or module, {})[Reference("", (), module)] = None
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            for alias in node.names:
                imported.setdefault(alias.asname or alias.name, {})[Reference(alias.name, (), module)] = None
        else:
            bound = getattr(node, "rest" if isinstance(node, ast.MatchMapping) else "name", None)
            if isinstance(bound, str):
                names[bound] = None
            waiting += reversed(_same_scope(node))
    kept = [name for name in names if name not in declared and name not in imported]
    return kept, {name: tuple(found) for name, found in imported.items() if name not in declared}


def _same_scope(node: ast.AST) -> list[ast.AST]:
    """Return the children of a node that bind names in its own scope."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return [*node.decorator_list, *node.args.defaults, *filter(None, node.args.kw_defaults)]
    if isinstance(node, ast.ClassDef):
        return [*node.decorator_list, *node.bases]
    if isinstance(node, ast.Lambda):
        return [*node.args.defaults, *filter(None, node.args.kw_defaults)]
    if isinstance(node, _COMPREHENSIONS):
        # The targets are the comprehension's own; `:=` within binds in the function.
        return [one for one in ast.walk(node) if isinstance(one, ast.NamedExpr)]
    return list(ast.iter_child_nodes(node))
