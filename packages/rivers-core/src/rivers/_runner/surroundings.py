"""What a body shares with the process it runs in; put back as it was when the body changed it."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import warnings
from _signal import getsignal  # type: ignore[import-not-found]  # signal.getsignal costs 3 µs more, for looking each handler up in an enum
from typing import Any

from rivers._runner.capture.streams import Capture

__all__ = ["Surroundings"]

_SIGNALS = tuple(
    int(getattr(signal, name))
    for name in ("SIGHUP", "SIGINT", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGPIPE", "SIGALRM", "SIGTERM", "SIGCHLD")
    if hasattr(signal, name)
)
_STREAMS = ("stdin", "stdout", "stderr")


class Surroundings:
    """A snapshot of what bodies share: working directory, environment, streams, logging, signals, and the like.

    Only the main thread takes one: elsewhere other threads may rightly change these while the body runs. A thread that
    a body leaves behind cannot be ended, it is only named. Not covered: locale, umask, resource limits, timers, random
    seeds, patched attributes.
    """

    __slots__ = ("_cwd", "_env", "_filters", "_logging", "_path", "_signals", "_streams", "_threads")

    def __init__(self) -> None:
        self._cwd = _cwd()
        self._env = _environment().copy()
        self._path = sys.path[:]
        self._filters = warnings.filters[:]
        self._signals = tuple(map(getsignal, _SIGNALS))
        self._streams = (sys.stdin, sys.stdout, sys.stderr)
        self._logging = (logging.root.handlers[:], logging.root.level, _disabled())
        self._threads = _thread_ids()

    def restore(self) -> list[str]:
        """Put back what differs and name it; empty when nothing does."""
        changed: list[str] = []
        if _cwd() != self._cwd and self._cwd is not None:
            try:
                os.chdir(self._cwd)
                changed.append("the working directory was restored")
            except OSError as error:
                changed.append(f"the working directory could not be restored: {error}")
        if _environment() != self._env:
            changed.append(f"environment variables were restored: {', '.join(self._restore_environment())}")
        if sys.path != self._path:
            changed.append("sys.path was restored")
            sys.path[:] = self._path
        if warnings.filters != self._filters:
            changed.append("the warning filters were restored")
            warnings.filters[:] = self._filters  # type: ignore[index]  # typed as a Sequence, is a list
        changed += self._restore_signals()
        changed += self._restore_output()
        left = _thread_ids() - self._threads
        if left:
            # Threads of asyncio.to_thread are the event loop's: it keeps them for the next step and ends them itself.
            names = [
                thread.name
                for thread in threading.enumerate()
                if thread.ident in left and not thread.daemon and not thread.name.startswith("asyncio_")
            ]
            if names:
                changed.append(f"threads go on that were started meanwhile: {', '.join(names)}")
        return changed

    def _restore_signals(self) -> list[str]:
        changed: list[str] = []
        if tuple(map(getsignal, _SIGNALS)) == self._signals:
            return changed
        for number, handler in zip(_SIGNALS, self._signals, strict=True):
            if getsignal(number) is not handler and handler is not None:
                changed.append(f"the handler of {signal.Signals(number).name} was restored")
                signal.signal(number, handler)
        return changed

    def _restore_output(self) -> list[str]:
        changed: list[str] = []
        if (sys.stdin, sys.stdout, sys.stderr) != self._streams:
            for name, stream in zip(_STREAMS, self._streams, strict=True):
                if getattr(sys, name) is not stream and Capture.restore_stream(name, stream):
                    changed.append(f"sys.{name} was restored")
        root = logging.root
        handlers, level, disabled = self._logging
        moved = root.handlers != handlers and Capture.restore_handlers(handlers)
        if moved or root.level != level or _disabled() != disabled:
            changed.append("the logging configuration was restored")
            root.setLevel(level)
            logging.disable(disabled)
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


def _thread_ids() -> set[Any]:
    # threading.enumerate() takes a lock and builds a list (1 µs); the table of threads itself is copied in 0.1 µs.
    active: dict[Any, Any] | None = getattr(threading, "_active", None)
    return set(active) if active is not None else {thread.ident for thread in threading.enumerate()}


def _disabled() -> int:
    # `logging.disable` keeps its level behind a property written in Python, which costs 0.2 µs each time.
    level: int | None = getattr(logging.root.manager, "_disable", None)
    return level if level is not None else logging.root.manager.disable
