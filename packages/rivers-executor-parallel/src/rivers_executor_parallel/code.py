"""Is the code that a process has imported still the code that a new one would import?"""

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
    """The user's modules of this process, as they were when they were first seen here.

    `__main__` is left out: its functions travel as they are in memory.
    """

    def __init__(self) -> None:
        self._seen: dict[str, tuple[Any, str, tuple[int, int] | None]] = {}
        self._looked_at = 0

    def look(self) -> None:
        """Note what was imported since the last look."""
        if len(sys.modules) == self._looked_at:
            return
        modules = dict(sys.modules)
        self._looked_at = len(modules)
        for name, module in modules.items():
            if name in self._seen or name == "__main__":
                continue
            file = getattr(module, "__file__", None)
            if isinstance(file, str) and not file.startswith(_INSTALLED):
                self._seen[name] = (getattr(module, "__spec__", None), file, _version(file))

    def changed(self) -> str | None:
        """A module that was reloaded, replaced, or whose file is another one now; None when all is as it was.

        Bytecode of a changed file is removed: Python tells it from the source's size and the second of its change, and
        would take it for good after an edit of one letter within the same second.
        """
        found: str | None = None
        for name, (spec, file, version) in self._seen.items():
            module = sys.modules.get(name)
            edited = _version(file) != version
            if edited:
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
