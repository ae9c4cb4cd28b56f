"""The modules whose code belongs together with a function."""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["CodeHome"]


class CodeHome:
    """The code that belongs together with a function: its top-level package, or the folder of a lone module."""

    def __init__(self, function: Callable[..., Any] | None) -> None:
        while isinstance(function, functools.partial):
            function = function.func
        module = getattr(function, "__module__", None) or "__main__"
        self._top = module.partition(".")[0]
        self._folder: str | None = None
        loaded = sys.modules.get(module)
        if not getattr(sys.modules.get(self._top), "__path__", None):
            filename = getattr(loaded, "__file__", None)
            self._folder = os.path.dirname(os.path.abspath(filename)) + os.sep if filename else None
        self._known: dict[Any, bool] = {}

    def owns(self, module: Any) -> bool:
        """Return whether a module is part of it."""
        known = self._known.get(module)
        if known is None:
            known = self._known[module] = isinstance(module, str) and self._owns(module)
        return known

    def has_file(self, module: str) -> bool:
        """Return whether the folder of a lone module has the file of another one, loaded or not."""
        top = os.path.join(self._folder, module.partition(".")[0]) if self._folder is not None else None
        return top is not None and (os.path.exists(f"{top}.py") or os.path.isdir(top))

    def _owns(self, module: str) -> bool:
        if module.partition(".")[0] == self._top:
            return True
        if self._folder is None or not module:
            return False
        loaded = sys.modules.get(module)
        if loaded is not None:
            return self._holds(getattr(loaded, "__file__", None))
        top = module.partition(".")[0]
        if top != module and top in sys.modules:
            return self._owns(top)
        # One that only a body imports: it is found as that import would find it.
        spec = importlib.util.find_spec(top)
        if spec is None:
            return False
        places = [spec.origin] if spec.has_location else list(spec.submodule_search_locations or ())
        return any(map(self._holds, places))

    def _holds(self, path: str | None) -> bool:
        """Return whether a file is in the folder, and of no installed package."""
        if self._folder is None or path is None:
            return False
        path = os.path.abspath(path)
        return path.startswith(self._folder) and "site-packages" not in path[len(self._folder) :]
