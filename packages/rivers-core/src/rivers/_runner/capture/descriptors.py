"""Capture file descriptors 1 and 2 of a process that belongs to its runner, for native code and child processes.

    native code, children ──▶ fd 1, 2 ──▶ pipe ──▶ drain() ──▶ `feed`: the attempt that runs now
                                                      └──────▶ the files that fd 1 and 2 were before

A thread drains the pipes as data arrives. Prints and log records drain them first, so that the order is kept.

The pipes are read in the process that writes to them, which has limits. Native code that writes more than a pipe holds
(256 KiB) in one call without releasing the GIL waits for ever, as the reader needs the GIL as well. A process that is
killed or crashes takes the data in the pipes with it. Output of a child that outlives its attempt counts as the next
attempt's, and while no attempt runs it is forwarded only.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import select
import signal
import stat
import threading
from collections.abc import Callable, Iterable

__all__ = ["FdCapture"]

# Bytes of a pipe. A Linux user has 64 MiB of pipes by default, so workers after the 128th keep the usual 64 KiB.
_PIPE = 256 * 1024
# Bytes of one read. Above 128 KiB malloc maps new pages for each buffer, which is three times slower.
_READ = 64 * 1024
# Reads of each pipe at most per drain: enough to empty a full pipe, and no endless loop with a busy child.
_ROUNDS = 16
# Milliseconds to wait for the old destination; after that it is skipped until it accepts data again.
_WRITE_TIMEOUT = 200
_JOIN = 5.0
_BROKEN = select.POLLERR | select.POLLHUP | select.POLLNVAL
# The drainer blocks all signals but faults, as a body may wait for them with `sigwait`.
_FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}


class FdCapture:
    """Pipes that replace fd 1 and 2 until `close`; children inherit only their writing ends, as fd 1 and 2.

    The streams are called `stdout` and `stderr`. `feed` is called with bytes as they arrive, under a lock, by the
    drainer thread or by the caller of `drain`. Data that the old destination does not accept, as it is full or closed,
    is dropped: a step waits for it for 0.2 s at most. Forks write to the pipes as well.
    """

    def __init__(self) -> None:
        # A signal handler may print while this thread drains.
        self._lock = threading.RLock()
        self._drains = 0  # the thread that drains now
        self._feed: Callable[[str, bytes], None] | None = None
        self._forked = self._closed = False
        self._ends = {"stdout": _End(1), "stderr": _End(2)}
        self._streams = {end.readable: stream for stream, end in self._ends.items()}
        self._wake, self._waker = map(_move_above_stderr, os.pipe())
        self._poll = _poll_of(self._streams)
        for end in self._ends.values():
            end.renew()
        self._thread = threading.Thread(target=self._drainer, name="rivers-output", daemon=True)
        self._thread.start()

    def begin(self, feed: Callable[[str, bytes], None]) -> None:
        """Pass data to `feed` from here on, after fd 1 and 2 were restored if they were closed or replaced."""
        for end in self._ends.values():
            end.renew()
        self.drain()  # earlier data
        self._feed = feed

    def end(self) -> None:
        """Pass on all data written so far; later data is forwarded only."""
        self.drain()
        with self._lock:
            self._feed = None

    def drain(self) -> None:
        """Read the data written before this call, feed and forward it."""
        self.forward("", b"")

    def forward(self, stream: str, data: bytes) -> bool:
        """Write printed text to the old file of fd 1 or 2, after all data that was written before this call.

        In a fork, which reads nothing, it goes to their current files. Returns False after `close`.
        """
        # `feed` may print.
        mine = self._forked or self._drains == threading.get_ident()
        if not mine:
            # Without the lock: the drainer must be able to empty a full pipe.
            _flush_c()
        with self._lock:
            if self._closed:
                return False
            if not mine:
                for _ in range(_ROUNDS):
                    ready = self._poll.poll(0)
                    if not ready or not self._take(ready):
                        break
            if data:
                self._ends[stream].old.write(data)
            return True

    def forked(self) -> None:
        """Keep only fd 1 and 2 in a forked child; prints go there."""
        self._lock = threading.RLock()
        self._forked, self._feed = True, None
        # The body closed them.
        with contextlib.suppress(OSError):
            os.close(self._wake)
            os.close(self._waker)
            for end in self._ends.values():
                end.keep_fd_only()

    def close(self) -> None:
        """Restore fd 1 and 2; a child that still writes to the pipes gets SIGPIPE from now on."""
        if self._forked:
            return
        self.end()
        for end in self._ends.values():
            end.restore()
        os.write(self._waker, b".")
        self._thread.join(_JOIN)
        if self._thread.is_alive():
            # Its files stay open, as their numbers must not be reused while it reads them.
            return
        self.drain()
        # A thread that still prints must not write to reused numbers.
        with self._lock:
            self._closed = True
            for fd in (self._wake, self._waker):
                os.close(fd)
            for end in self._ends.values():
                end.close()

    def _drainer(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - _FAULTS)
        poll = _poll_of([*self._streams, self._wake])
        while True:
            ready = poll.poll()
            if any(fd == self._wake or event & select.POLLNVAL for fd, event in ready):
                return
            with self._lock:
                try:
                    if not self._take(ready):
                        return
                except Exception:  # noqa: BLE001 - capture ends for this attempt, as its body must not wait
                    self._feed = None

    def _take(self, ready: list[tuple[int, int]]) -> bool:
        """Read each pipe once; return False at the end of one, which means that a body closed its other end."""
        self._drains = threading.get_ident()
        try:
            for fd, _ in ready:
                try:
                    data = os.read(fd, _READ)
                except BlockingIOError:
                    # Another thread was faster.
                    continue
                if not data:
                    return False
                stream = self._streams[fd]
                self._ends[stream].old.write(data)
                if self._feed is not None:
                    self._feed(stream, data)
        finally:
            self._drains = 0
        return True


class _End:
    """Fd 1 or 2, with its pipe and its old file."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._was_open = _identity(fd) is not None
        if not self._was_open:
            null = os.open(os.devnull, os.O_WRONLY)
            if null != fd:
                os.dup2(null, fd)
                os.close(null)
        self._saved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
        self.readable, self._writable = map(_move_above_stderr, os.pipe())
        os.set_blocking(self.readable, False)
        # The user has too many pipes, or this is not Linux.
        with contextlib.suppress(OSError, AttributeError):
            fcntl.fcntl(self._writable, fcntl.F_SETPIPE_SZ, _PIPE)
        self._pipe = _identity(self._writable)
        self.old = _Destination(self._saved)

    def renew(self) -> None:
        """Connect the fd to the pipe and make the pipe blocking, as a body may have changed either."""
        if not os.get_blocking(self._writable):
            os.set_blocking(self._writable, True)
        if _identity(self._fd) != self._pipe:
            os.dup2(self._writable, self._fd)

    def restore(self) -> None:
        if self._was_open:
            os.dup2(self._saved, self._fd)
        elif _identity(self._fd) is not None:
            os.close(self._fd)

    def close(self) -> None:
        self.old.close()
        for fd in (self.readable, self._writable, self._saved):
            os.close(fd)

    def keep_fd_only(self) -> None:
        """Close all but the fd in a forked child: with a reading end there, writers would wait for ever."""
        self.close()
        self.old = _Destination(self._fd, timeout=None)


class _Destination:
    """A file that data is forwarded to while it accepts it."""

    def __init__(self, fd: int, timeout: int | None = _WRITE_TIMEOUT) -> None:
        self._reopened = None if timeout is None else _reopen_nonblocking(fd)
        self._fd = fd if self._reopened is None else self._reopened
        # A blocking file gets only as much as surely fits if poll() reports it as ready.
        self._piece = select.PIPE_BUF if self._reopened is None else _READ
        self._timeout = self._wait = timeout
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLOUT)

    def write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            ready = self._poll.poll(self._wait)
            if not ready:
                self._wait = 0
                return
            # Checked before the write: a body may have let SIGPIPE end the process.
            if ready[0][1] & _BROKEN:
                return
            try:
                rest = rest[os.write(self._fd, rest[: self._piece]) :]
            except OSError:
                # No space left, closed, or full despite poll().
                return
            self._wait = self._timeout

    def close(self) -> None:
        if self._reopened is not None:
            os.close(self._reopened)


def _reopen_nonblocking(fd: int) -> int | None:
    """Open the same pipe or terminal again as non-blocking; O_NONBLOCK on `fd` would affect all who share it."""
    if not stat.S_ISFIFO(os.fstat(fd).st_mode) and not os.isatty(fd):
        return None
    try:
        return _move_above_stderr(os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY))
    except OSError:
        # It has no reader, or another owner, or this is not Linux.
        return None


def _move_above_stderr(fd: int) -> int:
    """Return the same file under a number above 2, as 0, 1 and 2 may be free."""
    if fd > 2:
        return fd
    high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(fd)
    return high


def _identity(fd: int) -> tuple[int, int] | None:
    """Return the identity of the file behind an fd; None if it is closed."""
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _poll_of(fds: Iterable[int]) -> select.poll:
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return poll


def _c_flusher() -> Callable[[], object]:
    """Return a function that flushes C's stdout, which holds up to 4 KiB before a pipe.

    `fflush(NULL)` would wait for every stream that another thread reads from.
    """
    try:
        libc = ctypes.CDLL(None)
        stdout = ctypes.c_void_p.in_dll(libc, "stdout")
        libc.fflush.argtypes = [ctypes.c_void_p]
    except (OSError, ValueError, AttributeError):
        # A C library with another name for it.
        return lambda: None
    return lambda: libc.fflush(stdout)


_flush_c = _c_flusher()
