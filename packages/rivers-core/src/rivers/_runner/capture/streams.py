"""What a body prints and logs becomes events, while it runs, tagged with its attempt.

One router for the whole process, in place while at least one run listens; which attempt a text belongs to is a context
variable, so that runs side by side and code that belongs to no step are told apart. In a process that belongs to one
runner, what is written to fd 1 and 2 is told, too (see `descriptors`), and a text without an attempt of its own, such
as that of a thread, is the running one's.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, TextIO

from rivers._runner.capture.bounded_log import FIRST_BYTES, LAST_BYTES, PER_RECORD, Piece, Tail, clipped, cut, pieces
from rivers._runner.capture.descriptors import FdCapture
from rivers.protocol.result import LogRecord

__all__ = ["Capture", "StepOutput"]

_LINE = 8 * 1024
"""Characters of a printed line that are held until its end is there."""

_current: ContextVar[StepOutput | None] = ContextVar("rivers_step_output", default=None)


class StepOutput:
    """Where the texts of one attempt go: whole lines, the last one when the attempt ends.

    Threads that carry the attempt's context may write at the same time; what comes after the end is told no more.
    """

    __slots__ = ("_attempt_id", "_emit", "_lock", "_over", "_partial", "_tail", "_told", "_untold", "level")

    def __init__(self, attempt_id: str, level: int, emit: Callable[[LogRecord], None]) -> None:
        self._attempt_id = attempt_id
        self._emit = emit
        self._partial: dict[str, bytes] = {}  # of each stream the line that has not ended
        self._told = 0  # what counts for FIRST_BYTES
        self._untold = 0  # bytes that came and were not told
        self._tail = Tail()
        self._over = False
        self._lock = threading.RLock()  # a body may log from a signal handler or a __del__ while it prints
        self.level = level

    def enter(self) -> None:
        """From here on, in this context, texts belong to this attempt."""
        _current.set(self)
        if Capture.fds is not None:
            Capture.begin(self, Capture.fds)

    def text(self, stream: str, text: str) -> None:
        """Take printed text; lines are told when they are whole."""
        self.data(stream, text.encode("utf-8", "replace"))

    def data(self, stream: str, data: bytes) -> None:
        """Take printed text as bytes, which need not be UTF-8."""
        with self._lock:
            if self._over:
                return
            self._untold += len(data)
            data = self._partial.pop(stream, b"") + data
            start = 0
            while self._told < FIRST_BYTES:
                piece = cut(data, start)
                if piece is None:
                    self._partial[stream] = data[start:]
                    return
                self._tell(self._made(piece.text, stream), piece)
                start += piece.taken
            self._tail.add(stream, data[start:])

    @property
    def floods(self) -> bool:
        """Whether nothing more is told before the end."""
        return self._told >= FIRST_BYTES

    def record(self, record: logging.LogRecord) -> None:
        """Take a log record."""
        try:
            message = record.getMessage()
        except Exception as error:  # noqa: BLE001 - a user's arguments may fail to format in any way
            message = f"{record.msg!r:.200} (its arguments could not be formatted: {type(error).__name__})"
        message, size = clipped(message)
        made = self._made(message, "log", record.levelno, record.name)
        with self._lock:
            if self._over:
                return
            self._untold += size
            if self._told < FIRST_BYTES:
                self._tell(made, Piece(message, size, size))
            else:
                self._tail.add_record(made, size)

    def finish(self) -> None:
        """Tell what was printed without a final newline, and the end of a flood."""
        if Capture.running is self and Capture.fds is not None:
            Capture.end(Capture.fds)
        with self._lock:
            if self._over:
                return
            last = self._last()
            left_out = self._untold - sum(piece.taken for _, piece in last)
            if left_out:
                text = f"… {left_out} bytes of output left out …"
                self._pass_on(self._made(text, "log", logging.WARNING, "rivers"))
            for record, piece in last:
                self._tell(record, piece)
            self._over, self._tail = True, Tail()

    def _tell(self, record: LogRecord, piece: Piece) -> None:
        self._told += piece.size + PER_RECORD
        self._untold -= piece.taken
        self._pass_on(record)

    def _pass_on(self, record: LogRecord) -> None:
        before = _current.set(_NOBODY)  # whoever listens may print, too, and that is not the body's text
        try:
            self._emit(record)
        finally:
            _current.reset(before)

    def _last(self) -> list[tuple[LogRecord, Piece]]:
        """What is to be told at the end: of a flood as many records as fit in LAST_BYTES."""
        records = list(self._remaining())
        room = LAST_BYTES
        for index in range(len(records) - 1, -1, -1):
            room -= records[index][1].size + PER_RECORD
            if room < 0:
                return records[index + 1 :]
        return records

    def _remaining(self) -> Iterator[tuple[LogRecord, Piece]]:
        for chunk in self._tail.last():
            if chunk.record is not None:
                yield chunk.record, Piece(chunk.record.message, chunk.size, chunk.size)
                continue
            found, self._partial[chunk.stream] = pieces(self._partial.pop(chunk.stream, b"") + chunk.data)
            yield from ((self._made(piece.text, chunk.stream, time_of=chunk.since), piece) for piece in found)
        for stream, data in self._partial.items():
            yield from ((self._made(piece.text, stream), piece) for piece in pieces(data, last=True)[0])

    def _made(self, message: str, stream: str, level: int = 0, logger: str = "", time_of: float = 0.0) -> LogRecord:
        return LogRecord(
            attempt_id=self._attempt_id,
            message=message,
            level=level,
            logger=logger,
            stream=stream,
            time=time_of or time.time(),
        )


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


class _LineRouter(_Router):
    """The same in a process that belongs to one runner: whole lines, in order with what is written to fd 1 and 2.

    Once an attempt has told its first MiB, `print` writes to the fd itself, which costs no Python for each line, until
    the other stream, a record, a fork or a flush has to come after it; what native code and child processes write may
    then come before the last 8 KiB printed, as in any Python whose stdout is a pipe.
    """

    def __init__(self, fds: FdCapture, fd: int, original: TextIO | None, stream: str) -> None:
        # Not the original: that one may raise for characters that its encoding does not have. Buffered as Python does.
        buffering = 1 if stream == "stderr" else -1
        self._direct = open(fd, "w", buffering, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115 - kept
        super().__init__(original if original is not None else self._direct, stream)
        self._fds = fds
        self._held = ""  # lines go whole, as those of other threads, forks and native code come between
        self._lock = threading.RLock()

    def write(self, text: str) -> int:
        with self._lock:
            due = self._held = self._held + text
            if "\n" not in text and len(due) < _LINE:
                return len(text)
            self._held = ""
        self._send(due)
        return len(text)

    def flush(self) -> None:
        with self._lock:
            due, self._held = self._held, ""
        if due:
            self._send(due)
        else:
            self.flush_fd()

    def flush_fd(self) -> None:
        """Let what was written to the fd itself, also by `sys.stdout.buffer`, reach it."""
        for stream in (self._direct, self.original):
            try:
                stream.flush()
            except (OSError, ValueError):  # the body closed the fd or the stream
                pass

    def settle(self) -> None:
        """`print` comes here again."""
        self.__dict__.pop("write", None)
        self.flush_fd()

    def forget(self) -> None:
        """In a fork: the line that has not ended is the other process's."""
        self._held, self._lock = "", threading.RLock()

    def _send(self, due: str) -> None:
        Capture.settle()
        self.flush_fd()
        data = due.encode("utf-8", "replace")
        self._fds.pass_on(self.stream, data)
        output = _current.get() or Capture.running
        if output is None:
            return
        output.data(self.stream, data)
        if output.floods and output is Capture.running:
            Capture.direct = self
            self.__dict__["write"] = self._direct.write  # before the method: `print` finds it without any Python


class _LogHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        output = _current.get() or Capture.running
        if output is not None and record.levelno >= output.level:
            if Capture.fds is not None:
                Capture.settle()
                Capture.fds.drain()
            output.record(record)


class Capture:
    """Keeps the router in place; count of runs that want it, so that the last one out restores everything."""

    fds: FdCapture | None = None
    """There in a process that belongs to one runner."""
    running: StepOutput | None = None
    """The attempt of that runner, whose is every text that carries no attempt of its own."""
    direct: _LineRouter | None = None
    """The stream that is printed to in a flood."""

    _lock = threading.Lock()
    _users = 0
    _before: dict[str, TextIO | None] = {}  # noqa: RUF012 - shared by design: there is one sys.stdout
    _routers: dict[str, _Router] = {}  # noqa: RUF012 - the same
    _handler = _LogHandler()
    _level = logging.NOTSET

    @classmethod
    def install(cls, level: int, *, owns_process: bool = False) -> None:
        """Put the router in place, or count one more user of it; with `owns_process` capture fd 1 and 2, too."""
        with cls._lock:
            if owns_process and not cls._users:
                cls.fds = FdCapture()
            cls._users += 1
            if cls._users > 1:
                return
            for fd, name in ((1, "stdout"), (2, "stderr")):
                original = cls._before[name] = getattr(sys, name)
                if cls.fds is not None:
                    cls._routers[name] = _LineRouter(cls.fds, fd, original, name)
                elif original is not None:
                    cls._routers[name] = _Router(original, name)
                setattr(sys, name, cls._routers.get(name))
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
            cls.settle()
            for name, router in cls._routers.items():
                if cls.fds is not None:
                    router.flush()
                if getattr(sys, name) is router:
                    setattr(sys, name, cls._before[name])
            cls._routers.clear()
            cls._before.clear()
            logging.getLogger().removeHandler(cls._handler)
            logging.getLogger("rivers.step").setLevel(cls._level)
            fds, cls.fds, cls.running = cls.fds, None, None
        if fds is not None:
            fds.close()

    @classmethod
    def begin(cls, output: StepOutput, fds: FdCapture) -> None:
        """The process is this attempt's; what an earlier body replaced or closed is put back."""
        for name, router in cls._routers.items():
            if getattr(sys, name) is not router:
                setattr(sys, name, router)
        if cls._handler not in logging.root.handlers:
            logging.root.addHandler(cls._handler)
        fds.begin(output.data)
        cls.running = output

    @classmethod
    def end(cls, fds: FdCapture) -> None:
        """The running attempt is told all that was written, and from here on nobody."""
        cls.settle()
        for router in cls._routers.values():
            router.flush()
        fds.end()
        cls.running = None

    @classmethod
    def settle(cls) -> None:
        """What was printed in a flood is in the pipe."""
        router, cls.direct = cls.direct, None
        if router is not None:
            router.settle()

    @classmethod
    def forked(cls) -> None:
        """A fork of a body is not the attempt, and whoever listens is not in that process.

        What it prints goes on to the stream alone; in a process of one runner that is a pipe, which the runner reads.
        """
        _current.set(None)
        cls.running = None
        if cls.fds is not None:
            cls.fds.forked()
            for router in cls._routers.values():
                if isinstance(router, _LineRouter):
                    router.forget()
            logging.root.removeHandler(cls._handler)  # it would keep warnings from stderr

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


_NOBODY = StepOutput("", sys.maxsize, lambda record: None)
_NOBODY.finish()
# Settled before: what is held in this process would be printed by the fork, too.
os.register_at_fork(before=Capture.settle, after_in_child=Capture.forked)
