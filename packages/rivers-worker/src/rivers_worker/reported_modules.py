"""Choose the modules that the next attempt's process imports, from those that an attempt reports.

User code can write the report itself, so it is limited like a spec: the next attempt may be of another step.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["modules_to_import"]

MAX_MODULES = 256
MAX_NAME = 200
"""Characters of a module's name."""


def modules_to_import(reported: object, allowed: Sequence[str]) -> tuple[str, ...]:
    """Return the reported modules that may be imported; `allowed` limits them, unless it is empty.

    Raises:
        ValueError: the report is no list of texts.
    """
    if not isinstance(reported, list) or not all(isinstance(name, str) for name in reported):
        raise ValueError("the reported modules are no list of names")
    names = [name for name in dict.fromkeys(reported) if _is_module(name) and (not allowed or _holds(allowed, name))]
    return tuple(names[:MAX_MODULES])


def _is_module(name: str) -> bool:
    return len(name) <= MAX_NAME and all(part.isidentifier() for part in name.split("."))


def _holds(allowed: Sequence[str], name: str) -> bool:
    return any(name == own or name.startswith(f"{own}.") for own in allowed)
