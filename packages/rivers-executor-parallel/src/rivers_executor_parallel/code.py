"""Detect that modules which this process has imported were changed since."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import sysconfig
from typing import Any

__all__ = ["LoadedCode"]

_INSTALLED = tuple(
    {f"{sysconfig.get_path(name)}/" for name in ("stdlib", "platstdlib", "purelib", "platlib")}
)  # changes with an installation, and never under a running program that should notice


class LoadedCode:
    """The user's modules of this process, as they were when they were recorded.

    `__main__` is left out: its functions travel as they are in memory.
    """

    def __init__(self) -> None:
        self._recorded: dict[str, tuple[Any, str, tuple[int, int] | None]] = {}
        self._count = 0

    def record(self) -> None:
        """Record the modules that were imported since the last call."""
        if len(sys.modules) == self._count:
            return
        modules = dict(sys.modules)
        self._count = len(modules)
        for name, module in modules.items():
            if name in self._recorded or name == "__main__":
                continue
            file = getattr(module, "__file__", None)
            if isinstance(file, str) and not file.startswith(_INSTALLED):
                self._recorded[name] = (getattr(module, "__spec__", None), file, _version(file))

    def find_changed(self) -> str | None:
        """Return a module that was reloaded, replaced, or whose file was changed; else None.

        Bytecode of a changed file is removed.
        """
        found: str | None = None
        for name, (spec, file, version) in self._recorded.items():
            module = sys.modules.get(name)
            edited = _version(file) != version
            if edited:
                # Python compares the size of the source and the second of its change: an edit of one letter within a
                # second would leave the old bytecode in use.
                with contextlib.suppress(OSError, NotImplementedError):
                    os.unlink(importlib.util.cache_from_source(file))
            # `importlib.reload` keeps the module and gives it a new spec.
            if edited or module is None or getattr(module, "__spec__", None) is not spec:
                found = found or name
        return found


def _version(file: str) -> tuple[int, int] | None:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
