"""Restore the state of the process that a body changed and that other steps and the program share."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import warnings

# signal.getsignal looks each handler up in an enum: 30 us more for a step, where one that stores a small pickle on
# tmpfs takes 200 us.
from _signal import getsignal, pthread_sigmask  # type: ignore[import-not-found]  # typeshed leaves it out
from collections.abc import Sequence
from locale import Error as LocaleError
from signal import ITIMER_REAL, SIG_BLOCK, getitimer
from typing import Any

from rivers._runner.capture.streams import Capture
from rivers._runner.logger_snapshot import LoggerSnapshot
from rivers._runner.process_settings import SETTINGS, read_settings, read_umask
from rivers._runner.timers import pending_timers, restore_timers

__all__ = ["ProcessSnapshot"]

_STREAMS = ("stdin", "stdout", "stderr")
_SIGNALS = tuple(
    int(getattr(signal, f"SIG{name}"))
    for name in (
        *("HUP", "INT", "QUIT", "USR1", "USR2", "PIPE", "ALRM", "VTALRM", "PROF", "TERM", "CHLD", "CONT", "TSTP"),
        *("TTIN", "TTOU", "URG", "XCPU", "WINCH", "IO"),
    )
)


class ProcessSnapshot:
    """The state of the process that bodies share: environment, working directory, streams, signals, logging and others.

    A runner renews its snapshot before each step. Only a runner in the main thread has one: beside another thread, the
    main thread may rightly change these. A thread that a body leaves behind cannot be ended, only named. The docs page
    on definitions lists what is not restored.
    """

    __slots__ = (
        "_blocked",
        "_env",
        "_filters",
        "_handlers",
        "_has_cpu_timers",
        "_last_module",
        "_loggers",
        "_path",
        "_settings",
        "_streams",
        "_threads",
        "_time",
        "_timers",
        "_tzname",
        "_umask",
    )

    def __init__(self) -> None:
        self._umask = read_umask()
        self._read_slow()
        self._read_quick()

    def renew(self) -> None:
        """Read the state again before the next step.

        State that takes system calls to read is taken as restored after the last step, unless modules or loggers were
        added since.
        """
        if _last_module() != self._last_module or not self._loggers.is_complete():
            self._read_slow()
        self._read_quick()

    def _read_quick(self) -> None:
        self._env = _environment().copy()
        self._path = sys.path[:]
        self._filters = warnings.filters[:]
        self._streams = (sys.stdin, sys.stdout, sys.stderr)

    def _read_slow(self) -> None:
        self._last_module = _last_module()
        self._settings = read_settings()
        self._handlers = [*map(getsignal, _SIGNALS)]
        self._blocked = pthread_sigmask(SIG_BLOCK, ())
        self._timers, self._time = pending_timers(), time.monotonic()
        # Without a handler those that count processor time end the process, so programs that have none use none.
        self._has_cpu_timers = any(getsignal(number) != signal.SIG_DFL for number in (signal.SIGVTALRM, signal.SIGPROF))
        self._tzname = time.tzname
        self._loggers = LoggerSnapshot()
        self._threads = {*threading.enumerate()}

    def restore(self) -> list[str]:
        """Restore the state and return what was changed, one line each."""
        changed: list[str] = []
        # Timers before handlers: a pending alarm whose handler is gone ends the process.
        same_handlers = [*map(getsignal, _SIGNALS)] == self._handlers
        if getitimer(ITIMER_REAL) != self._timers[0] or not same_handlers or self._has_cpu_timers:
            changed += restore_timers(self._timers, self._time)
        if pthread_sigmask(SIG_BLOCK, ()) != self._blocked:
            pthread_sigmask(signal.SIG_SETMASK, [*self._blocked])
            changed.append("the mask of blocked signals was restored")
        if not same_handlers:
            changed += self._restore_signals()
        if read_settings() != self._settings:
            changed += self._restore_settings()
        if _environment() != self._env:
            changed += self._restore_environment()
        if time.tzname != self._tzname:
            changed += self._restore_time_zone()
        if sys.path != self._path:
            changed += self._restore_list("sys.path", sys.path, self._path)
        if warnings.filters != self._filters and _without_sdk(warnings.filters) != _without_sdk(self._filters):
            changed += self._restore_list("the warning filters", warnings.filters, self._filters)
        if os.umask(self._umask) != self._umask:
            changed.append("the umask was restored")
        if (sys.stdin, sys.stdout, sys.stderr) != self._streams:
            changed += self._restore_streams()
        if self._loggers.is_changed():
            changed += self._loggers.restore(keep_added=self._has_imported())
        if threading.active_count() > len(self._threads):
            changed += self._name_threads()
        return changed

    def _has_imported(self) -> bool:
        """Return whether modules outside the standard library were imported since.

        What such a module added to the process when it was first imported stays, as the module itself stays.
        """
        names = [*sys.modules]
        new = names[names.index(self._last_module) + 1 :] if self._last_module in names else names
        return any(name.partition(".")[0] not in sys.stdlib_module_names for name in new)

    def _restore_signals(self) -> list[str]:
        changed: list[str] = []
        for number, handler in zip(_SIGNALS, self._handlers, strict=True):
            # None is a handler that was not installed from Python, and cannot be put back.
            if getsignal(number) is not handler and handler is not None:
                changed.append(f"the handler of {signal.Signals(number).name} was restored")
                signal.signal(number, handler)
        return changed

    def _restore_settings(self) -> list[str]:
        changed: list[str] = []
        for setting, before, now in zip(SETTINGS, self._settings, read_settings(), strict=True):
            if now == before or (setting.imports_keep and self._has_imported()):
                continue
            try:
                setting.set(before)
                changed.append(f"{setting.name} was restored")
            except (OSError, ValueError, LocaleError) as error:
                # The directory was removed, for one.
                changed.append(f"{setting.name} could not be restored: {error}")
        return changed

    def _restore_environment(self) -> list[str]:
        current, before = _environment(), self._env
        names = {name for name in {*current, *before} if current.get(name) != before.get(name)}
        if self._has_imported():
            names &= {*before}
        for name in names:
            text = os.fsdecode(name)
            if name in before:
                os.environ[text] = os.fsdecode(before[name])
            else:
                os.environ.pop(text, None)
        texts = sorted(map(os.fsdecode, names))
        # The C library has read it, which Python need not know.
        if "TZ" in texts:
            time.tzset()
        return [f"environment variables were restored: {', '.join(texts)}"] if texts else []

    def _restore_time_zone(self) -> list[str]:
        if _environment().get(b"TZ") != self._env.get(b"TZ"):
            # The variable was set by an import, and stays.
            return []
        time.tzset()
        return ["the time zone was restored"]

    def _restore_list(self, name: str, now: Any, before: Sequence[Any]) -> list[str]:
        added = [one for one in now if one not in before] if self._has_imported() else []
        if added and len(now) == len(added) + len(before) and all(one in now for one in before):
            return []
        now[:] = [*added, *before]
        if now is warnings.filters:
            # It makes modules forget which warnings the old filters let through.
            with warnings.catch_warnings():
                pass
        return [f"{name} was restored" if name == "sys.path" else f"{name} were restored"]

    def _restore_streams(self) -> list[str]:
        return [
            f"sys.{name} was restored"
            for name, stream in zip(_STREAMS, self._streams, strict=True)
            if getattr(sys, name) is not stream and Capture.restore_stream(name, stream)
        ]

    def _name_threads(self) -> list[str]:
        known, self._threads = self._threads, {*threading.enumerate()}
        # Threads of asyncio.to_thread are the event loop's: it keeps them for the next step and ends them itself.
        names = [
            thread.name
            for thread in self._threads
            if thread not in known and not thread.daemon and not thread.name.startswith("asyncio_")
        ]
        return [f"threads go on that were started meanwhile: {', '.join(names)}"] if names else []


def _without_sdk(filters: Sequence[Any]) -> list[Any]:
    """Return warning filters but for the one that OpenTelemetry's SDK sets whenever a body asks it for a tracer."""
    return [one for one in filters if getattr(one[3], "pattern", None) != "opentelemetry.sdk.trace"]


def _environment() -> dict[Any, Any]:
    # os.environ.copy() decodes every variable: 60 us more for a step with 50 of them, where one that stores a small
    # pickle on tmpfs takes 200 us.
    data: dict[Any, Any] | None = getattr(os.environ, "_data", None)
    return data if data is not None else os.environ.copy()


def _last_module() -> str:
    try:
        return next(reversed(sys.modules))
    except RuntimeError:
        # Another thread imports.
        return [*sys.modules][-1]
