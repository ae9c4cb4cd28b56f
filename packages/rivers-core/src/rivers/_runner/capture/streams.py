"""Capture what bodies print and log, and emit it as events of their attempts while they run.

There is one capture for the whole process, in place while at least one run has a listener. A context variable carries
the attempt that a text belongs to, so runs side by side and code outside of steps do not mix.

    print ──▶ sys.stdout: StreamProxy ──▶ the stream that was there before
                               └────────▶ StepOutput ──▶ events

In a process that belongs to one runner, texts written to fd 1 and 2 are captured as well (see `ProcessOutput`), and a
text that carries no attempt, such as that of a thread, belongs to the running one.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections import deque
from typing import Any, TextIO

from rivers._runner.capture.process_output import ProcessOutput
from rivers._runner.capture.proxy import StreamProxy
from rivers._runner.capture.step_output import StepOutput, current

__all__ = ["Capture", "StepOutput"]


class _LogHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        process = Capture.process
        output = current.get() or (process.running if process is not None else None)
        if output is not None and record.levelno >= output.level:
            if process is not None:
                process.drain()
            output.record(record)


class Capture:
    """The capture of this process: proxies and a log handler, installed while runs need them."""

    process: ProcessOutput | None = None
    """Set in a process that belongs to one runner."""

    _lock = threading.Lock()
    _users = 0
    _proxies = {name: StreamProxy(name) for name in ("stdout", "stderr")}  # noqa: RUF012 - one for the process
    _before: dict[str, TextIO | None] = {}  # noqa: RUF012 - the streams that installed proxies replaced
    # Other threads may be printing to a stream without a reference to it: see StreamProxy.
    _displaced: deque[Any] = deque(maxlen=32)  # noqa: RUF012 - one for the process
    _handler = _LogHandler()
    _level = logging.NOTSET

    @classmethod
    def install(cls, level: int, *, owns_process: bool = False) -> None:
        """Install the capture, or count one more user of it; with `owns_process` capture fd 1 and 2, too."""
        with cls._lock:
            cls._users += 1
            if cls._users > 1:
                return
            process = cls.process = ProcessOutput() if owns_process else None
            for name, proxy in cls._proxies.items():
                cls._publish(name, proxy)
                proxy.route = process.writers[name] if process is not None else None
            logging.getLogger().addHandler(cls._handler)
            steps = logging.getLogger("rivers.step")
            cls._level = steps.level
            if steps.level == logging.NOTSET:
                # From INFO on, and below that where the program's root logger lets it through.
                steps.setLevel(max(level, min(logging.INFO, steps.getEffectiveLevel())))

    @classmethod
    def _publish(cls, name: str, proxy: StreamProxy) -> None:
        """Make the proxy sys.stdout or sys.stderr, unless the stream there writes to it already."""
        now = getattr(sys, name)
        if now is proxy or (now is None and cls.process is None):
            return
        if proxy.target is not None and now is not None and proxy.is_wrapped_by(now):
            return
        cls._before[name] = now
        proxy.target = now if now is not None or cls.process is None else cls.process.writers[name].file
        setattr(sys, name, proxy)

    @classmethod
    def remove(cls) -> None:
        """Count one user less; after the last one restore the streams and the loggers."""
        with cls._lock:
            cls._users -= 1
            if cls._users:
                return
            process = cls.process
            if process is not None:
                process.settle()
                process.flush()
            for name, proxy in cls._proxies.items():
                if name in cls._before and getattr(sys, name) is proxy:
                    setattr(sys, name, cls._before[name])
                proxy.route = None
            cls._before.clear()
            logging.getLogger().removeHandler(cls._handler)
            logging.getLogger("rivers.step").setLevel(cls._level)
            cls.process = None
        if process is not None:
            process.running = None
            process.fds.close()

    @classmethod
    def begin(cls, output: StepOutput) -> None:
        """Assign output of this context to an attempt; in a process of one runner all output."""
        output.enter()
        process = cls.process
        if process is None:
            return
        # An earlier body may have replaced or closed these.
        for name, proxy in cls._proxies.items():
            if getattr(sys, name) is not proxy:
                cls._displaced.append(getattr(sys, name))
                setattr(sys, name, proxy)
        if cls._handler not in logging.root.handlers:
            logging.root.addHandler(cls._handler)
        process.begin(output)

    @classmethod
    def end(cls, output: StepOutput) -> None:
        """End the output of an attempt, with all that was written before."""
        process = cls.process
        if process is not None and process.running is output:
            process.end()
        output.finish()

    @classmethod
    def settle(cls) -> None:
        """Flush buffered output, which a forked child would print once more."""
        if cls.process is not None:
            cls.process.settle()

    @classmethod
    def forked(cls) -> None:
        """Stop the capture in a forked child, where no listener is.

        Its prints go to the stream only; in a process of one runner that is a pipe, which the runner reads.
        """
        # Another thread of the parent may have held it.
        cls._lock = threading.Lock()
        current.set(None)
        if cls.process is not None:
            cls.process.forked()
            # It would keep warnings from stderr.
            logging.root.removeHandler(cls._handler)

    @classmethod
    def restore_stream(cls, name: str, before: Any) -> bool:
        """Restore a stream that a body replaced; return False if this class replaced it, for a concurrent run."""
        with cls._lock:
            now, proxy = getattr(sys, name), cls._proxies.get(name)
            gone = before is proxy and proxy is not None and name not in cls._before
            wanted = proxy.target if gone and proxy is not None else before
            if now is wanted or now is proxy:
                return False
            cls._displaced.append(now)
            setattr(sys, name, wanted)
            return True

    @classmethod
    def restore_handlers(cls, logger: logging.Logger, before: list[logging.Handler]) -> bool:
        """Restore a logger's handlers except our own; return False if there was nothing to do."""
        with cls._lock:
            own = [cls._handler] if cls._users and logger is logging.root else []
            wanted = [*cls.foreign_handlers(before), *own]
            if len(wanted) == len(logger.handlers) and set(wanted) == set(logger.handlers):
                return False
            logger.handlers[:] = wanted
            return True

    @classmethod
    def foreign_handlers(cls, handlers: list[logging.Handler]) -> list[logging.Handler]:
        """Return the handlers that are not the capture's."""
        return [handler for handler in handlers if handler is not cls._handler]


# Flushed before a fork: the child would print buffered output once more.
os.register_at_fork(before=Capture.settle, after_in_child=Capture.forked)
