"""Sources of loaded modules: syntax trees that are proven to be those of the live code."""

from __future__ import annotations

import ast
import linecache
import os
import types
from collections.abc import Iterator
from typing import Any

from rivers._code.syntax import FunctionNode

__all__ = ["ModuleSource", "load_source"]

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_loaded: dict[str, tuple[object, ModuleSource | None]] = {}


class ModuleSource:
    """The source of a module: its functions by line, its classes by qualified name, its statements by bound name."""

    def __init__(self, text: str, filename: str) -> None:
        tree = ast.parse(text)
        self.classes: dict[str, list[ast.ClassDef]] = {}
        self.bindings: dict[str, list[ast.stmt]] = {}
        self._functions: dict[tuple[int, str], list[FunctionNode]] = {}
        self._codes: dict[tuple[int, str], list[types.CodeType]] = {}
        self._index(tree, "")
        self._bind(tree.body)
        for code in _codes(compile(text, filename, "exec", dont_inherit=True)):
            self._codes.setdefault((code.co_firstlineno, code.co_name), []).append(code)

    def function(self, code: types.CodeType) -> FunctionNode | None:
        """Return the function whose code is `code`; None if the file was edited since, or there are several."""
        where = (code.co_firstlineno, code.co_name)
        nodes = self._functions.get(where, ())
        # Equality of code compares the instructions, constants and names, so an edited file is never taken for the
        # code that runs.
        return nodes[0] if len(nodes) == 1 and code in self._codes.get(where, ()) else None

    def _index(self, node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            inner = prefix
            if isinstance(child, _FUNCTIONS):
                name = "<lambda>" if isinstance(child, ast.Lambda) else child.name
                line = child.lineno
                if not isinstance(child, ast.Lambda) and child.decorator_list:
                    line = child.decorator_list[0].lineno
                self._functions.setdefault((line, name), []).append(child)
                inner = f"{prefix}{name}.<locals>."
            elif isinstance(child, ast.ClassDef):
                # Several of one name: one of them is in an `else`, or replaces another.
                self.classes.setdefault(prefix + child.name, []).append(child)
                inner = f"{prefix}{child.name}."
            self._index(child, inner)

    def _bind(self, body: list[ast.stmt]) -> None:
        for statement in body:
            for name in _names_bound_by(statement):
                self.bindings.setdefault(name, []).append(statement)


def load_source(filename: str, module_globals: dict[str, Any]) -> ModuleSource | None:
    """Return the source of a module as it is now; None if there is none that can be read."""
    state = _state(filename)
    if state is None:
        lines = linecache.getlines(filename, module_globals)
        state = "".join(lines)
    # A reload or a notebook's cell replaces the text under the same name.
    known = _loaded.get(filename)
    if known is None or known[0] != state:
        linecache.checkcache(filename)
        text = "".join(linecache.getlines(filename, module_globals))
        known = _loaded[filename] = (state, _parse(text, filename))
    return known[1]


def _state(filename: str) -> object:
    try:
        found = os.stat(filename)
    except OSError:
        # A cell of a notebook has no file.
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _parse(text: str, filename: str) -> ModuleSource | None:
    try:
        return ModuleSource(text, filename) if text else None
    except (SyntaxError, ValueError, RecursionError):
        # Edited since it was imported, and in the middle of an edit now.
        return None


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    waiting = [code]
    while waiting:
        found = [one for one in waiting.pop().co_consts if isinstance(one, types.CodeType)]
        yield from found
        waiting += found


def _names_bound_by(statement: ast.stmt) -> set[str]:
    """Return the names of the module that a statement binds, also within `if`, `try`, `with` and loops."""
    names: set[str] = set()
    waiting: list[ast.AST] = [statement]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
            continue
        elif isinstance(node, ast.alias):
            names.add(node.asname or node.name.partition(".")[0])
        waiting += ast.iter_child_nodes(node)
    return names
