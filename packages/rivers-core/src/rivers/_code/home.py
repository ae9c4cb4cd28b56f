"""The modules whose code belongs together with a function."""

from __future__ import annotations

import functools
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
        filename = getattr(sys.modules.get(module), "__file__", None)
        if self._folder is None or filename is None:
            return False
        filename = os.path.abspath(filename)
        return filename.startswith(self._folder) and "site-packages" not in filename[len(self._folder) :]
