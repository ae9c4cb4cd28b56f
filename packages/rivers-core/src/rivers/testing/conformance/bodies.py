"""The step bodies of the laws, at module scope, so that any worker imports them from an installed rivers-core."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import Any

from rivers._io.base import BaseIOHandler
from rivers._io.context import InputContext, OutputContext

__all__ = ["BEGUN", "UnsharedHandler"]

BEGUN = "begun"
"""The line that a body prints once it runs."""


class UnsharedHandler(BaseIOHandler):
    """A handler for machines that share no store: it stores nothing and loads None."""

    def handle_output(self, context: OutputContext, obj: Any) -> None:
        """Store nothing."""

    def load_input(self, context: InputContext) -> None:
        """Return None."""


def nothing() -> None:
    pass


def answers() -> int:
    return 42


def says(words: list[str]) -> None:
    for word in words:
        print(word, flush=True)


def raises(text: str) -> None:
    raise ValueError(text)


def sleeps(seconds: float) -> None:
    print(BEGUN, flush=True)
    # Short sleeps: a signal that comes right before a sleep is handled after it.
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.02)


def stubborn(seconds: float) -> None:
    """Run on whatever it is asked, until it is killed."""
    print(BEGUN, flush=True)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with contextlib.suppress(BaseException):
            time.sleep(0.02)


def exits(code: int) -> None:
    """End the worker without a result, as native code or the platform may."""
    print(BEGUN, flush=True)
    os._exit(code)


def dies(number: int) -> None:
    print(BEGUN, flush=True)
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    time.sleep(30)
