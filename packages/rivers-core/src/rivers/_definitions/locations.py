"""Source locations: `file:line` of a function, of a class and of the code that calls rivers."""

from __future__ import annotations

import linecache
import re
import sys
from functools import partial
from types import FrameType

__all__ = ["caller_location", "calling_module", "source_location"]


def source_location(definition: object) -> str | None:
    """Return `file:line` where a function or class was written, None for what has no source (builtins, C code).

    Goes through partials, methods, instances with `__call__` and decorators made with `functools.wraps`. Reads no file,
    except for a class before Python 3.13.
    """
    # Bounded, as a `__wrapped__` may lead back to itself.
    for _ in range(100):
        if isinstance(definition, partial):
            definition = definition.func
            continue
        # `__func__` of a bound method, `__wrapped__` of functools.wraps.
        inner = getattr(definition, "__wrapped__", None) or getattr(definition, "__func__", None)
        if inner is None or isinstance(definition, type):
            break
        definition = inner
    code = getattr(definition, "__code__", None)
    if code is None and not isinstance(definition, type):
        code = getattr(getattr(type(definition), "__call__", None), "__code__", None)  # noqa: B004 - its code is wanted
    if code is not None:
        return f"{code.co_filename}:{code.co_firstlineno}"
    return _class_location(definition) if isinstance(definition, type) else None


def caller_location() -> str | None:
    """Return `file:line` of the nearest caller outside rivers: where a definition without a function was written."""
    frame = _frame_outside()
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else None


def calling_module() -> str:
    """Return the name of the module of the nearest caller outside rivers, empty where there is none."""
    frame = _frame_outside()
    return str(frame.f_globals.get("__name__")) if frame is not None else ""


def _frame_outside() -> FrameType | None:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == "rivers":
        frame = frame.f_back
    return frame


def _class_location(cls: type) -> str | None:
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    if file is None:
        return None
    # Python 3.13 knows the line; before, the file is searched for the class.
    line: int | None = cls.__dict__.get("__firstlineno__")
    if line is None:
        head = re.compile(rf"\s*class\s+{re.escape(cls.__name__)}\b")
        line = next((number for number, text in enumerate(linecache.getlines(file), 1) if head.match(text)), None)
    return f"{file}:{line}" if line is not None else None
