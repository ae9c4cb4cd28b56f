"""Handle Ctrl-C and SIGTERM during a run: the first one cancels it, the second one ends the process."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType

from rivers_process.fork import restore_signal, set_signal

__all__ = ["Interrupts"]


class Interrupts:
    """Handlers for SIGINT and SIGTERM, in place during a run in the main thread and restored after it.

    Handlers of the application are left alone. The first signal makes `pending` true and interrupts a body that runs in
    this thread. A second one exits with 130 or 143; in an interactive session it raises KeyboardInterrupt instead.

    With `is_durable` SIGTERM ends the process at once, with 143: a later controller goes on with what runs.
    """

    def __init__(self, wake: Callable[[], None], is_durable: bool = False) -> None:
        self.pending = False
        self._is_durable = is_durable
        self._wake = wake
        self._in_body = 0
        self._shielded = 0
        self._deferred = False
        self._terminated = False
        self._installed: list[int] = []

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            ours = ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL))
            for number, default in ours:
                if signal.getsignal(number) is default:
                    # Not plainly `signal.signal`: a body's forked child would run our handler, and its parent's
                    # terminate() would raise KeyboardInterrupt there.
                    set_signal(number, self._handle)
                    self._installed.append(number)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._installed:
            restore_signal(self._installed.pop())

    def enter_body(self) -> None:
        """Allow signals to interrupt this thread, as it runs a body from here on."""
        self._in_body += 1

    def leave_body(self) -> None:
        """Undo one `enter_body`."""
        self._in_body -= 1

    def shield(self) -> None:
        """Defer the interrupt of a signal until `unshield`, as the run's own state changes from here on."""
        self._shielded += 1

    def unshield(self) -> None:
        """Undo one `shield`; the last one interrupts the body now if a signal has come meanwhile."""
        self._shielded -= 1
        if self._deferred and not self._shielded and threading.current_thread() is threading.main_thread():
            self._deferred = False
            if self._in_body:
                raise KeyboardInterrupt

    def note(self) -> None:
        """End the run as after Ctrl-C, since a body has raised KeyboardInterrupt."""
        self.pending = True

    def raise_if_any(self) -> None:
        """Raise SystemExit or KeyboardInterrupt if a signal has ended the run."""
        if self._terminated:
            raise SystemExit(128 + signal.SIGTERM)
        if self.pending:
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._is_durable and number == signal.SIGTERM:
            # As a kill would: cancelling the steps takes their grace, and an eviction may not leave as much time. The
            # signal's default action would not do: the kernel spares a container's first process from it.
            os._exit(128 + number)
        if self.pending:
            if hasattr(sys, "ps1"):
                raise KeyboardInterrupt
            # Not sys.exit: whatever kept the first signal from ending the run may keep SystemExit from it as well.
            os._exit(128 + number)
        self.pending = True
        self._terminated = number == signal.SIGTERM
        self._wake()
        # Outside a body the loop looks at `pending` by itself, and must not lose its place to an exception.
        if self._in_body:
            self._deferred = self._shielded > 0
            if not self._deferred:
                raise KeyboardInterrupt
