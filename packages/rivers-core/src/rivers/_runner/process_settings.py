"""Settings of the process that one function reads and another one sets."""

from __future__ import annotations

import gc
import os
import sys
import threading
import warnings
from collections.abc import Callable
from functools import partial
from locale import LC_ALL, setlocale
from socket import getdefaulttimeout, setdefaulttimeout
from typing import Any, NamedTuple

__all__ = ["SETTINGS", "ProcessSetting", "read_settings", "read_umask"]


class ProcessSetting(NamedTuple):
    """One value of the process. One that `imports_keep` stays where the step imported modules meanwhile."""

    name: str
    set: Callable[[Any], Any]
    imports_keep: bool = True


def _attribute(module: Any, name: str) -> ProcessSetting:
    return ProcessSetting(f"{module.__name__}.{name}", partial(setattr, module, name))


def _cwd() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        # The directory was removed.
        return None


def _set_cwd(path: str | None) -> None:
    if path is not None:
        os.chdir(path)


def _set_gc(enabled: bool) -> None:
    (gc.enable if enabled else gc.disable)()


SETTINGS = (
    ProcessSetting("the working directory", _set_cwd, imports_keep=False),
    ProcessSetting("the locale", partial(setlocale, LC_ALL)),
    ProcessSetting("the recursion limit", sys.setrecursionlimit),
    ProcessSetting("the thread switch interval", sys.setswitchinterval),
    ProcessSetting("the socket default timeout", setdefaulttimeout),
    ProcessSetting("gc.enable", _set_gc),
    ProcessSetting("the gc thresholds", lambda thresholds: gc.set_threshold(*thresholds)),
    _attribute(sys, "excepthook"),
    _attribute(sys, "unraisablehook"),
    _attribute(threading, "excepthook"),
    _attribute(warnings, "showwarning"),
)
"""In the order of `read_settings`."""


def read_settings() -> list[Any]:
    """Return the value of each of SETTINGS."""
    return [
        _cwd(),
        setlocale(LC_ALL),
        sys.getrecursionlimit(),
        sys.getswitchinterval(),
        getdefaulttimeout(),
        gc.isenabled(),
        gc.get_threshold(),
        sys.excepthook,
        sys.unraisablehook,
        threading.excepthook,
        warnings.showwarning,
    ]


class _Umask:
    last: int | None = None


def read_umask() -> int:
    """Return the umask, which can be read only by setting it; Linux shows it in a file as well, at 40 us."""
    last = _Umask.last if _Umask.last is not None else _shown_umask()
    now = _Umask.last = os.umask(last)
    if now != last:
        os.umask(now)
    return now


def _shown_umask() -> int:
    try:
        with open("/proc/self/status") as file:
            return next(int(line.split()[1], 8) for line in file if line.startswith("Umask:"))
    except (OSError, StopIteration):
        now = os.umask(0o077)
        os.umask(now)
        return now
