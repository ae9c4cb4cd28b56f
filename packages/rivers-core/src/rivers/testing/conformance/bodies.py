"""The step bodies of the laws, at module scope, so that any worker imports them from an installed rivers-core."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import ctypes
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from rivers._definitions.context import TaskExecutionContext
from rivers._io.base import BaseIOHandler
from rivers._io.context import InputContext, OutputContext
from rivers.testing.conformance.cases.faults import Unprintable
from rivers.testing.conformance.cases.raising import RAISING

__all__ = ["BEGUN", "TRIPPED", "UnsharedHandler", "answers", "oversleeps"]

BEGUN = "begun"
"""The line that a body prints once it runs."""
TRIPPED: list[int] = []
"""The ids of processes that have unpickled a `Tripwire`; this process must not be among them."""


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
    """Run on whatever it is asked, until it is killed: it is deaf before it says that it has begun."""
    until = time.monotonic() + seconds
    _say_begun_deafly()
    while time.monotonic() < until:
        # In C, where no code of Python runs that a handler could interrupt.
        with contextlib.suppress(BaseException):
            ctypes.CDLL(None).sleep(int(until - time.monotonic()) + 1)


def hangs() -> None:
    """Hang in C with the GIL, where no code of Python runs in the whole process."""
    _say_begun_deafly()
    ctypes.PyDLL(None).sleep(60)


def oversleeps() -> None:
    sleeps(600.0)


def _say_begun_deafly() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    # Another thread may have to send the line, and may take the signal for this one.
    with contextlib.suppress(BaseException):
        print(BEGUN, flush=True)
    with contextlib.suppress(BaseException):
        time.sleep(0.2)


def cleans_up() -> None:
    try:
        # Inside: the interrupt may come while the line is on its way.
        print(BEGUN, flush=True)
        until = time.monotonic() + 600
        while time.monotonic() < until:
            time.sleep(0.02)
    finally:
        time.sleep(0.2)
        print("cleaned up", flush=True)


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


# ── errors ──


class Unpicklable(Exception):
    """Holds what no pickle can hold."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()
        self.code = 7


def trip() -> str:
    TRIPPED.append(os.getpid())
    return "unpickled"


class Tripwire(Exception):
    """Notes where it is unpickled."""

    def __reduce__(self) -> Any:
        return trip, ()


def raises_named(name: str) -> None:
    RAISING[name]()


def raises_unpicklable() -> None:
    raise Unpicklable("holds a lock")


def raises_unprintable() -> None:
    raise Unprintable


def raises_tripwire() -> None:
    error = Tripwire("wire", Tripwire("argument"))
    error.detail = Tripwire("attribute")  # type: ignore[attr-defined]  # what somebody may add to an error
    raise error


def raises_chain() -> None:
    try:
        try:
            raise KeyError("first")
        except KeyError as error:
            raise OSError("second") from error
    except OSError:
        raise ValueError("third")  # noqa: B904 - an implicit chain


def raises_memory_error() -> None:
    raise MemoryError("no more")


# ── logs ──


def counts(lines: int) -> None:
    for number in range(lines):
        print(f"line {number}")


def floods(lines: int) -> None:
    for number in range(lines):
        print(f"{number:08} {'x' * 90}")


def prints_bytes() -> None:
    sys.stdout.buffer.write(bytes(range(256)) + b"\n\0\0\n")
    sys.stdout.buffer.flush()
    print("ünï 日本 \x1b[1m\0")
    print("y" * 40_000)
    print("no newline", end="")


def logs() -> None:
    logging.getLogger("a.library").warning("warned %d", 1)
    logging.getLogger("a.library").error("failed")
    print("printed")
    print("to stderr", file=sys.stderr)
    logging.getLogger("a.library").debug("too low")


def spoils_stdout() -> None:
    """Write what looks like a message of any protocol where a body's output goes."""
    garbage = b'\x00\x00\x00\x02hi\xff\xff\xff\xff\n{"kind": "result"}\n'
    for descriptor in (1, 2):
        os.write(descriptor, garbage)
    sys.stdout.flush()
    os.close(1)
    os.open(os.devnull, os.O_WRONLY)


# ── facts about a run ──


def describes(context: TaskExecutionContext) -> int:
    context.add_output_metadata({"rows": 3, "nested": {"a": [1, None, "ü"]}})
    context.register_data_version("v7")
    return 42


def exits_later() -> None:
    """Spoil the exit code of a worker that has reported its result."""
    atexit.register(os._exit, 1)


def starts_a_process() -> None:
    """Leave a process that has inherited the worker's environment, in the same process group."""
    subprocess.Popen(["sleep", "300"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def uses_a_temporary_file() -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"x")


def appends(path: str) -> None:
    with Path(path).open("a") as file:
        file.write("ran\n")


def appends_and_exits(path: str) -> None:
    appends(path)
    os._exit(3)


def appends_and_raises(path: str) -> None:
    appends(path)
    raise ConnectionError("worth a retry, which is core's")


def spans(seconds: float) -> None:
    """Print when the body has begun and when it ends, in seconds since the epoch."""
    print(f"from {time.time()}", flush=True)
    time.sleep(seconds)
    print(f"to {time.time()}", flush=True)


def makes(size: int) -> bytes:
    return os.urandom(1) * size


def measures(context: TaskExecutionContext, value: bytes) -> None:
    print(f"{len(value)} bytes")


def takes_memory(mebibytes: int) -> None:
    print(BEGUN, flush=True)
    taken = [b"x" * (1 << 20) for _ in range(mebibytes)]
    print(len(taken))


async def waits(seconds: float) -> None:
    print(BEGUN, flush=True)
    await asyncio.sleep(seconds)
