"""What a body prints and logs becomes events, while it runs, tagged with its attempt.

One router for the whole process, in place while at least one run listens; which attempt a text belongs to is a context
variable, so that runs side by side and code that belongs to no step are told apart.
"""

from __future__ import annotations

import io
import logging
import sys
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TextIO

from rivers.protocol.result import LogRecord

__all__ = ["Capture", "StepOutput"]

MAX_MESSAGE = 16 * 1024
"""Bytes of one log message that are kept (security.md 3.7)."""

_current: ContextVar[StepOutput | None] = ContextVar("rivers_step_output", default=None)


class StepOutput:
    """Where the texts of one attempt go: whole lines, the last one when the attempt ends."""

    __slots__ = ("_attempt_id", "_emit", "_partial", "level")

    def __init__(self, attempt_id: str, level: int, emit: Callable[[LogRecord], None]) -> None:
        self._attempt_id = attempt_id
        self._emit = emit
        self._partial = {"stdout": "", "stderr": ""}
        self.level = level

    def enter(self) -> None:
        """From here on, in this context, texts belong to this attempt."""
        _current.set(self)

    def text(self, stream: str, text: str) -> None:
        """Take printed text; lines are told when they are whole."""
        *lines, rest = (self._partial[stream] + text).split("\n")
        for line in lines:
            self._tell(line, stream)
        while len(rest) > MAX_MESSAGE:
            self._tell(rest[:MAX_MESSAGE], stream)
            rest = rest[MAX_MESSAGE:]
        self._partial[stream] = rest

    def record(self, record: logging.LogRecord) -> None:
        """Take a log record."""
        try:
            message = record.getMessage()
        except Exception as error:  # noqa: BLE001 - a user's arguments may fail to format in any way
            message = f"{record.msg!r:.200} (its arguments could not be formatted: {type(error).__name__})"
        self._tell(message, "log", record.levelno, record.name)

    def finish(self) -> None:
        """Tell what was printed without a final newline."""
        for stream, rest in self._partial.items():
            if rest:
                self._tell(rest, stream)
                self._partial[stream] = ""

    def _tell(self, message: str, stream: str, level: int = 0, logger: str = "") -> None:
        clipped = message if len(message) <= MAX_MESSAGE else message[: MAX_MESSAGE - 1] + "…"
        self._emit(
            LogRecord(
                attempt_id=self._attempt_id,
                message=clipped,
                level=level,
                logger=logger,
                stream=stream,
                time=time.time(),
            )
        )


class _Router(io.TextIOBase):
    """Stands in for sys.stdout or sys.stderr: passes everything on and tells the current attempt, if there is one."""

    def __init__(self, original: TextIO, stream: str) -> None:
        self.original = original
        self.stream = stream

    def write(self, text: str) -> int:
        output = _current.get()
        if output is not None:
            output.text(self.stream, text)
        return self.original.write(text)

    def flush(self) -> None:
        self.original.flush()

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self.original.isatty()

    def fileno(self) -> int:
        return self.original.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]  # io types it as a plain attribute
        return self.original.encoding

    def __getattr__(self, name: str) -> Any:
        return getattr(self.original, name)


class _LogHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        output = _current.get()
        if output is not None and record.levelno >= output.level:
            output.record(record)


class Capture:
    """Keeps the router in place; count of runs that want it, so that the last one out restores everything."""

    _lock = threading.Lock()
    _users = 0
    _routers: list[tuple[str, _Router]] = []  # noqa: RUF012 - shared by design: there is one sys.stdout
    _handler = _LogHandler()
    _level = logging.NOTSET

    @classmethod
    def install(cls, level: int) -> None:
        """Put the router in place, or count one more user of it."""
        with cls._lock:
            cls._users += 1
            if cls._users > 1:
                return
            for name in ("stdout", "stderr"):
                original = getattr(sys, name)
                if original is not None:
                    router = _Router(original, name)
                    cls._routers.append((name, router))
                    setattr(sys, name, router)
            logging.getLogger().addHandler(cls._handler)
            steps = logging.getLogger("rivers.step")
            cls._level = steps.level
            if steps.level == logging.NOTSET:
                steps.setLevel(level)

    @classmethod
    def remove(cls) -> None:
        """One user less; the last one restores the streams and the loggers."""
        with cls._lock:
            cls._users -= 1
            if cls._users:
                return
            for name, router in cls._routers:
                if getattr(sys, name) is router:  # a body may have put something else there, and is restored elsewhere
                    setattr(sys, name, router.original)
            cls._routers.clear()
            logging.getLogger().removeHandler(cls._handler)
            logging.getLogger("rivers.step").setLevel(cls._level)
