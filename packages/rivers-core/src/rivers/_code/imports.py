"""Imports within functions: the modules and names that they give."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from typing import Any, Final

from rivers._code.home import CodeHome
from rivers._code.syntax import Reference
from rivers._code.values import UnknownValueError

__all__ = ["MISSING", "Imports"]

MISSING: Final = object()
"""The value of a name that nothing has bound."""


class Imports:
    """The imports of code that belongs together; other packages are not imported for it.

    If `allowed` is false nothing is, and what is not loaded yet cannot be known.
    """

    def __init__(self, home: CodeHome, allowed: bool) -> None:
        self._home = home
        self._allowed = allowed

    def find(self, reference: Reference, module_globals: dict[str, Any]) -> Any:
        """Return what an import within a function gives; only modules of the same package are imported for it."""
        name = reference.module or ""
        if name.startswith("."):
            try:
                name = importlib.util.resolve_name(name, module_globals.get("__package__") or "")
            except ImportError:
                return MISSING
        module = self._module(name)
        return self.attribute(module, reference.name) if reference.name and module is not MISSING else module

    def _module(self, name: str) -> Any:
        module = sys.modules.get(name)
        if module is None and self._home.owns(name):
            if not self._allowed:
                raise UnknownValueError(f"it imports {name!r} when it runs")
            try:
                module = importlib.import_module(name)
            except Exception:  # noqa: BLE001 - the body will raise the same when it gets there
                return MISSING
        return module if module is not None else MISSING

    def attribute(self, module: types.ModuleType, name: str) -> Any:
        """Return an attribute of a module, also a module within it that only a body imports."""
        found = getattr(module, name, MISSING)
        is_package = found is MISSING and hasattr(module, "__path__")
        return self._module(f"{module.__name__}.{name}") if is_package else found
