"""What a body prints and logs becomes events, while it runs, tagged with its attempt.

One router for the whole process, in place while at least one run listens; which attempt a text belongs to is a context
variable, so that runs side by side and code that belongs to no step are told apart.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TextIO

from rivers.protocol.result import LogRecord

__all__ = ["Capture", "StepOutput"]

MAX_MESSAGE = 16 * 1024
"""Bytes of one log message that are kept (security.md 3.7)."""
FIRST_BYTES = 1024 * 1024
LAST_BYTES = 4 * 1024 * 1024
"""Of an attempt that floods its output the beginning is told at once, the last of it at the end (faults.md L16)."""

_current: ContextVar[StepOutput | None] = ContextVar("rivers_step_output", default=None)
# A fork of a body is not the attempt: what it prints goes on to the stream alone, as whoever listens is not in that
# process.
os.register_at_fork(after_in_child=lambda: _current.set(None))


class StepOutput:
    """Where the texts of one attempt go: whole lines, the last one when the attempt ends.

    Threads that carry the attempt's context may write at the same time; what comes after the end is told no more.
    """

    __slots__ = (
        "_attempt_id",
        "_dropped",
        "_emit",
        "_held",
        "_held_bytes",
        "_lock",
        "_over",
        "_partial",
        "_told",
        "level",
    )

    def __init__(self, attempt_id: str, level: int, emit: Callable[[LogRecord], None]) -> None:
        self._attempt_id = attempt_id
        self._emit = emit
        self._partial = {"stdout": "", "stderr": ""}
        self._told = 0
        self._held: deque[tuple[LogRecord, int]] = deque()
        self._held_bytes = 0
        self._dropped = 0
        self._over = False
        self._lock = threading.RLock()  # a body may log from a signal handler or a __del__ while it prints
        self.level = level

    def enter(self) -> None:
        """From here on, in this context, texts belong to this attempt."""
        _current.set(self)

    def text(self, stream: str, text: str) -> None:
        """Take printed text; lines are told when they are whole."""
        with self._lock:
            *lines, rest = (self._partial[stream] + text).split("\n")
            if len(rest) > MAX_MESSAGE:  # no newline in sight: told in pieces
                whole = len(rest) - len(rest) % MAX_MESSAGE
                lines += [rest[start : start + MAX_MESSAGE] for start in range(0, whole, MAX_MESSAGE)]
                rest = rest[whole:]
            self._partial[stream] = rest
            for line in lines:
                self._tell(line, stream)

    def record(self, record: logging.LogRecord) -> None:
        """Take a log record."""
        try:
            message = record.getMessage()
        except Exception as error:  # noqa: BLE001 - a user's arguments may fail to format in any way
            message = f"{record.msg!r:.200} (its arguments could not be formatted: {type(error).__name__})"
        with self._lock:
            self._tell(message, "log", record.levelno, record.name)

    def finish(self) -> None:
        """Tell what was printed without a final newline, and the end of a flood."""
        with self._lock:
            for stream, rest in self._partial.items():
                if rest:
                    self._tell(rest, stream)
            if self._dropped:
                self._pass_on(self._made(f"… {self._dropped} bytes of output left out …", "log", 30, "rivers"))
            for record, _ in self._held:
                self._pass_on(record)
            self._held.clear()
            self._over = True

    def _tell(self, message: str, stream: str, level: int = 0, logger: str = "") -> None:
        if self._over:
            return
        message, size = _clipped(message)
        record = self._made(message, stream, level, logger)
        if self._told < FIRST_BYTES:
            self._told += size
            self._pass_on(record)
            return
        self._held.append((record, size))
        self._held_bytes += size
        while self._held_bytes > LAST_BYTES:
            _, size = self._held.popleft()
            self._held_bytes -= size
            self._dropped += size

    def _pass_on(self, record: LogRecord) -> None:
        before = _current.set(None)  # whoever listens may print, too, and that is not the body's text
        try:
            self._emit(record)
        finally:
            _current.reset(before)

    def _made(self, message: str, stream: str, level: int, logger: str) -> LogRecord:
        return LogRecord(
            attempt_id=self._attempt_id, message=message, level=level, logger=logger, stream=stream, time=time.time()
        )


def _clipped(message: str) -> tuple[str, int]:
    """The message within its limit and valid UTF-8, and what it takes: its bytes and about 100 for the record."""
    if message.isascii() and len(message) <= MAX_MESSAGE:
        return message, len(message) + 100
    data = message.encode("utf-8", "replace")  # a surrogate has no bytes, and would stop a sink that writes
    if len(data) > MAX_MESSAGE:
        return data[: MAX_MESSAGE - 4].decode("utf-8", "ignore") + "…", MAX_MESSAGE + 100
    return data.decode(), len(data) + 100


class _Router(io.TextIOBase):
    """Stands in for sys.stdout or sys.stderr: passes everything on and tells the current attempt, if there is one."""

    def __init__(self, original: TextIO, stream: str) -> None:
        self.original = original
        self.stream = stream

    def write(self, text: str) -> int:
        try:
            return self.original.write(text)
        finally:  # also where the terminal is gone
            output = _current.get()
            if output is not None:
                output.text(self.stream, text)

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
    _routers: dict[str, _Router] = {}  # noqa: RUF012 - shared by design: there is one sys.stdout
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
                    router = cls._routers[name] = _Router(original, name)
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
            for name, router in cls._routers.items():
                if getattr(sys, name) is router:
                    setattr(sys, name, router.original)
            cls._routers.clear()
            logging.getLogger().removeHandler(cls._handler)
            logging.getLogger("rivers.step").setLevel(cls._level)

    @classmethod
    def restore_stream(cls, name: str, before: Any) -> bool:
        """Put back a stream that a body replaced; False when it was this class that did, for a run beside."""
        with cls._lock:
            now = getattr(sys, name)
            gone = isinstance(before, _Router) and cls._routers.get(name) is not before
            wanted = before.original if gone else before
            if now is wanted or isinstance(now, _Router):
                return False
            setattr(sys, name, wanted)
            return True

    @classmethod
    def restore_handlers(cls, before: list[logging.Handler]) -> bool:
        """Put back the root logger's handlers as they were, but for our own; False when there was nothing to do."""
        root = logging.root
        with cls._lock:
            own = [cls._handler] if cls._users else []
            wanted = [*(handler for handler in before if handler is not cls._handler), *own]
            if len(wanted) == len(root.handlers) and set(wanted) == set(root.handlers):
                return False
            root.handlers[:] = wanted
            return True
