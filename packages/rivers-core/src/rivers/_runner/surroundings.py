"""What a body shares with the process it runs in; put back as it was when the body changed it."""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from _signal import getsignal  # type: ignore[import-not-found]  # signal.getsignal costs 3 µs more, for looking each handler up in an enum
from typing import Any

__all__ = ["Surroundings"]

_SIGNALS = (int(signal.SIGINT), int(signal.SIGTERM))


class Surroundings:
    """A snapshot of working directory, environment, `sys.path`, warning filters, signal handlers and threads.

    Only the main thread takes one: elsewhere other threads may rightly change these while the body runs.
    """

    __slots__ = ("_cwd", "_env", "_filters", "_path", "_signals", "_threads")

    def __init__(self) -> None:
        self._cwd = _cwd()
        self._env = _environment().copy()
        self._path = sys.path[:]
        self._filters = warnings.filters[:]
        self._signals = [getsignal(number) for number in _SIGNALS]
        self._threads = threading.active_count()

    def restore(self) -> list[str]:
        """Put back what differs and name it; empty when nothing does."""
        changed: list[str] = []
        if _cwd() != self._cwd:
            changed.append("the working directory was restored")
            if self._cwd is not None:
                os.chdir(self._cwd)
        if _environment() != self._env:
            changed.append(f"environment variables were restored: {', '.join(self._restore_environment())}")
        if sys.path != self._path:
            changed.append("sys.path was restored")
            sys.path[:] = self._path
        if warnings.filters != self._filters:
            changed.append("the warning filters were restored")
            warnings.filters[:] = self._filters  # type: ignore[index]  # typed as a Sequence, is a list
        for number, handler in zip(_SIGNALS, self._signals, strict=True):
            if getsignal(number) is not handler and handler is not None:
                changed.append(f"the handler of {signal.Signals(number).name} was restored")
                signal.signal(number, handler)
        if threading.active_count() > self._threads:
            names = [thread.name for thread in threading.enumerate() if not thread.daemon][
                -(threading.active_count() - self._threads) :
            ]
            if names and names != ["MainThread"]:
                changed.append(f"threads go on that the step started: {', '.join(names)}")
        return changed

    def _restore_environment(self) -> list[str]:
        current = _environment()
        names = {name for name in {*current, *self._env} if current.get(name) != self._env.get(name)}
        for name in names:
            text = os.fsdecode(name)
            value = self._env.get(name)
            if value is None:
                os.environ.pop(text, None)
            else:
                os.environ[text] = os.fsdecode(value)
        return sorted(os.fsdecode(name) for name in names)


def _cwd() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # the directory was removed
        return None


def _environment() -> dict[Any, Any]:
    # os.environ.copy() decodes every variable (25 µs for 50); its storage compares in 1 µs.
    data: dict[Any, Any] | None = getattr(os.environ, "_data", None)
    return data if data is not None else os.environ.copy()
