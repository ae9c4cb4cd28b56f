"""File descriptors 1 and 2 of a process that belongs to its runner: what native code and child processes write there.

    native code, children ──▶ fd 1, 2 ──▶ pipe ──▶ drain() ──▶ `feed`: the attempt that runs now
                                                      └──────▶ where fd 1 and 2 led before

A thread drains the pipes when something comes; whoever has a text of his own to tell drains them before, so that the
order is kept. Limits, all from the pipes being read in the process that writes to them: native code that writes more
than a pipe holds (256 KiB) in one go without ever letting go of the GIL waits for ever, as the reader needs it, too;
what is in the pipes when the process is killed or crashes is lost with it; a child that goes on after the attempt
cannot be told from the next attempt, and while none runs its text is passed on and told to nobody.
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

_PIPE = 256 * 1024
"""Bytes of a pipe. Linux lets a user have 64 MiB of pipes by default and refuses to enlarge another one then, which
leaves the workers after the 128th with the usual 64 KiB."""
_READ = 64 * 1024
"""Bytes of one read: malloc takes more than 128 KiB from the kernel, page by page, each time (three times slower)."""
_ROUNDS = 16
"""Reads of each pipe at most before something else is told: a full pipe is emptied, a child that goes on is left."""
_WRITE_TIMEOUT = 200
"""Milliseconds that the old destination may take nothing, before it is given up until it takes something again."""
_JOIN = 5.0
_BROKEN = select.POLLERR | select.POLLHUP | select.POLLNVAL
# All signals but faults are for the body's threads: for `sigwait` this one must not exist.
_FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}


class FdCapture:
    """Puts pipes in the place of fd 1 and 2 until it is closed; children inherit these and nothing else of it.

    `stdout` and `stderr` name the two. `feed` is called under a lock, by the drainer thread or by whoever drains, with
    bytes as they come. What the old destination does not take (it is full, closed, gone) is not passed on: a step never
    waits for it for more than 0.2 s. Forks write to the pipes, too.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal handler may print while this thread drains
        self._drains = 0  # the thread that is at it
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
        """From here on `feed` is told; fd 1 and 2 are put back where something else closed or replaced them."""
        for end in self._ends.values():
            end.renew()
        self.drain()  # that was before
        self._feed = feed

    def end(self) -> None:
        """Tell all that has been written; from here on nobody is told."""
        self.drain()
        with self._lock:
            self._feed = None

    def drain(self) -> None:
        """Tell and pass on what was written before this call."""
        self.forward("", b"")

    def forward(self, stream: str, data: bytes) -> bool:
        """Write printed text to where fd 1 or 2 led before, after all that was written before this call; tells it not.

        In a fork, which reads nothing, it is written to what they lead to now. False once this is closed.
        """
        mine = self._forked or self._drains == threading.get_ident()  # who is told may print, too
        if not mine:
            _flush_c()  # not under the lock: where the pipe is full, the drainer must be able to empty it
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
        """In a fork: only fd 1 and 2 are left, and what is printed goes there."""
        self._lock = threading.RLock()
        self._forked, self._feed = True, None
        with contextlib.suppress(OSError):  # the body closed files that are not its own
            os.close(self._wake)
            os.close(self._waker)
            for end in self._ends.values():
                end.keep_fd_only()

    def close(self) -> None:
        """Fd 1 and 2 lead again to where they led; a child that still writes to the pipes gets SIGPIPE from now on."""
        if self._forked:
            return
        self.end()
        for end in self._ends.values():
            end.restore()
        os.write(self._waker, b".")
        self._thread.join(_JOIN)
        if self._thread.is_alive():
            return  # its files stay open: their numbers must not become somebody else's beneath it
        self.drain()
        with self._lock:  # a thread that still prints must not meet numbers that belong to other files by now
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
                except Exception:  # noqa: BLE001 - whoever listens is told no more, the body must not wait for that
                    self._feed = None

    def _take(self, ready: list[tuple[int, int]]) -> bool:
        """Read each pipe once; False when one is at its end, which is when a body closed files that are not its own."""
        self._drains = threading.get_ident()
        try:
            for fd, _ in ready:
                try:
                    data = os.read(fd, _READ)
                except BlockingIOError:  # another thread was faster
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
    """Fd 1 or 2: its pipe, and where it led before."""

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
        with contextlib.suppress(OSError, AttributeError):  # the user has too many pipes, or this is not Linux
            fcntl.fcntl(self._writable, fcntl.F_SETPIPE_SZ, _PIPE)
        self._pipe = _identity(self._writable)
        self.old = _Destination(self._saved)

    def renew(self) -> None:
        """Let the fd lead to the pipe, and the pipe block, whatever a body has made of them."""
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
        """In a fork: were a reading end in it, whoever writes would wait for ever once the runner is gone."""
        self.close()
        self.old = _Destination(self._fd, timeout=None)


class _Destination:
    """Where texts are passed on to, as long as it takes them."""

    def __init__(self, fd: int, timeout: int | None = _WRITE_TIMEOUT) -> None:
        self._reopened = None if timeout is None else _reopen_nonblocking(fd)
        self._fd = fd if self._reopened is None else self._reopened
        # What may make a writer wait is given as much as surely fits when it says that it is ready.
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
            # Asked before it is written to: a body may have set SIGPIPE to end the process.
            if ready[0][1] & _BROKEN:
                return
            try:
                rest = rest[os.write(self._fd, rest[: self._piece]) :]
            except OSError:  # no space left, closed, or full all the same
                return
            self._wait = self._timeout

    def close(self) -> None:
        if self._reopened is not None:
            os.close(self._reopened)


def _reopen_nonblocking(fd: int) -> int | None:
    """Another way to the same pipe or terminal, that does not wait; O_NONBLOCK on `fd` would hit all who share it."""
    if not stat.S_ISFIFO(os.fstat(fd).st_mode) and not os.isatty(fd):
        return None
    try:
        return _move_above_stderr(os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY))
    except OSError:  # nobody reads it, it is another user's, or this is not Linux
        return None


def _move_above_stderr(fd: int) -> int:
    """The same file by a number that is not one of 0, 1 and 2, which may be free."""
    if fd > 2:
        return fd
    high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(fd)
    return high


def _identity(fd: int) -> tuple[int, int] | None:
    """Which file an fd leads to; None when it is closed."""
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
    """C's stdout keeps up to 4 KiB when it leads to a pipe. Only that stream is flushed: `fflush(NULL)` waits for every
    stream that another thread reads from, this one only for a thread that is writing."""
    try:
        libc = ctypes.CDLL(None)
        stdout = ctypes.c_void_p.in_dll(libc, "stdout")
        libc.fflush.argtypes = [ctypes.c_void_p]
    except (OSError, ValueError, AttributeError):  # a C library that calls it something else
        return lambda: None
    return lambda: libc.fflush(stdout)


_flush_c = _c_flusher()
