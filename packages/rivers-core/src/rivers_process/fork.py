"""State of this process that a forked child must not share: signal handlers, descriptors, crash reports.

A child of `os.fork` or of multiprocessing is the user's process. It gets back the dispositions that the process had
before rivers changed them, and holds none of rivers' pipes open. What is started by exec needs none of this: Python
handlers end with exec, and descriptors are opened with O_CLOEXEC.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import threading
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

__all__ = [
    "close_in_children",
    "dump_tracebacks",
    "ignore_signal",
    "keep_in_children",
    "renew_in_children",
    "restore_signal",
    "set_signal",
]

Owner = TypeVar("Owner")
Handler = Callable[[int, FrameType | None], Any]

_handlers: dict[int, tuple[Any, Any]] = {}
_dumping: set[int] = set()
_crash_dumps: list[bool] = []
_descriptors: set[int] = set()
_renewals: list[tuple[weakref.ref[Any], Callable[[Any], None]]] = []
_masks = threading.local()


def set_signal(number: int, handler: Handler) -> None:
    """Install a signal handler for this process alone; a forked child has the disposition of before.

    To be called in the main thread.
    """
    previous = signal.signal(number, handler)
    _handlers[number] = (handler, _handlers[number][1] if number in _handlers else previous)


def ignore_signal(number: int) -> None:
    """Ignore a signal here, unless it is ignored already, and not in the programs that this process starts.

    SIG_IGN would survive exec, a handler does not.
    """
    if signal.getsignal(number) != signal.SIG_IGN:
        set_signal(number, _do_nothing)


def restore_signal(number: int) -> None:
    """Undo `set_signal`."""
    # In a forked child it was restored.
    if number not in _handlers:
        return
    handler, previous = _handlers.pop(number)
    if signal.getsignal(number) is handler:
        signal.signal(number, previous)


def dump_tracebacks(number: int, descriptor: int) -> None:
    """Write all threads' tracebacks to a file upon a crash and upon a signal, in this process and in no child.

    The handler of the signal runs afterwards.
    """
    if not _dumping:
        _crash_dumps.append(faulthandler.is_enabled())
    faulthandler.enable(descriptor)
    faulthandler.register(number, descriptor, chain=True)
    _dumping.add(number)


def close_in_children(*descriptors: int) -> None:
    """Close these descriptors in every child that is forked from now on."""
    _descriptors.update(descriptors)


def keep_in_children(*descriptors: int) -> None:
    """Undo `close_in_children`, before a descriptor is closed and its number is another's."""
    _descriptors.difference_update(descriptors)


def renew_in_children(owner: Owner, renew: Callable[[Owner], None]) -> None:
    """Call a function with its owner in every forked child, for as long as the owner lives.

    For objects that hold locks or have threads: the lock may be held at the fork, and the threads do not exist there.
    """
    # Neither WeakMethod nor a callback of the reference: at the end of the interpreter both find their globals cleared.
    _renewals[:] = [known for known in _renewals if known[0]() is not None]
    _renewals.append((weakref.ref(owner), renew))


def _do_nothing(number: int, frame: FrameType | None) -> None:
    """Take a signal that is not for this process."""


def _before_fork() -> None:
    # A signal between the fork and the hook below would run our handler in the child, or be lost with it. Blocked, it
    # waits for the child's own disposition.
    _masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, _handlers.keys() | _dumping)


def _after_fork() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.before)


def _in_child() -> None:
    for number in _dumping:
        faulthandler.unregister(number)
    for number, (handler, previous) in _handlers.items():
        current = signal.getsignal(number)
        # Set again also where a body has changed it: unregister has put back what was there before faulthandler.
        signal.signal(number, previous if current is handler else current)
    if _crash_dumps:
        faulthandler.disable()
        # PYTHONFAULTHANDLER, or the program's own call.
        if _crash_dumps.pop():
            faulthandler.enable(2)
    for descriptor in _descriptors:
        # A body has closed it.
        with contextlib.suppress(OSError):
            os.close(descriptor)
    # Cleared: the descriptors are closed, and a child of this child must not close reused numbers again.
    _dumping.clear()
    _handlers.clear()
    _descriptors.clear()
    _after_fork()
    # A copy: a renewal may itself register an owner.
    for reference, renew in [*_renewals]:
        owner = reference()
        if owner is not None:
            renew(owner)


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_child)
