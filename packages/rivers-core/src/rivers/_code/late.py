"""Imports within functions, for hashes that must be the same before and after such a function has run."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

from rivers._code.home import CodeHome
from rivers._code.syntax import Reference
from rivers._code.values import UnknownValueError

__all__ = ["late_token"]


def late_token(home: CodeHome, reference: Reference, module_globals: dict[str, Any]) -> str | None:
    """Return the token of what a function imports of another package: its name. None for what is loaded of its own.

    Raises:
        UnknownValueError: it is of its own package and not loaded yet.
    """
    name = reference.module or ""
    if name.startswith("."):
        try:
            name = importlib.util.resolve_name(name, module_globals.get("__package__") or "")
        except ImportError:
            return f"late {name}"
    if not (home.owns(name) or home.has_file(name)):
        return f"late {name} {reference.name}{''.join(f'.{one}' for one in reference.attributes)}"
    module = sys.modules.get(name)
    if module is None or (reference.name and not hasattr(module, reference.name)):
        raise UnknownValueError(f"it imports {name!r} when it runs")
    return None
