"""Run commands of `rivers run`, one for each partition, in processes of their own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from types import FrameType
from typing import IO, Any

__all__ = ["PartitionEnd", "carry_out_all"]

TAIL = 64 * 1024
"""Bytes at the end of what a run has printed that are kept."""

# The run must not outlive the backfill: the next call would find it going on. `rivers` itself stays as it is.
_PROGRAM = (
    "import sys; from rivers_process.prctl import die_with_parent; "
    "die_with_parent(int(sys.argv.pop(1))) or sys.exit(4); "
    "from rivers_cli.main import main; main()"
)
_STATUS = {2: "refused", 4: "cancelled", 130: "cancelled", 143: "cancelled"}


@dataclass(frozen=True, slots=True)
class PartitionEnd:
    """The end of a partition's run: `status` is success, failure, cancelled, refused or killed.

    `output` is what it has printed to standard error, at most the last 64 KiB.
    """

    partition: str
    status: str
    run_id: str | None = None
    seconds: float = 0.0
    output: str = ""


@dataclass(slots=True)
class _RunProcess:
    """The process of one partition's run."""

    partition: str
    process: subprocess.Popen[bytes]
    out: IO[bytes]
    err: IO[bytes]
    started: float = field(default_factory=time.monotonic)

    def end(self) -> PartitionEnd:
        """Return how it has ended, once it has."""
        code = self.process.returncode
        answer = _read_answer(self.out)
        output = _tail(self.err)
        if code < 0:
            status, output = "killed", f"{output}\nkilled by {signal.Signals(-code).name}".strip()
        else:
            status = "success" if code == 0 else answer.get("status") or _STATUS.get(code, "failure")
        return PartitionEnd(self.partition, status, answer.get("run_id"), time.monotonic() - self.started, output)


def carry_out_all(
    commands: Sequence[tuple[str, Sequence[str]]], most: int, report: Callable[[PartitionEnd], None]
) -> int | None:
    """Run `rivers` with the arguments of each partition, at most so many at once, and report each end.

    Fewer run at once where the system cannot start so many. The first SIGINT or SIGTERM is passed on to what runs, and
    nothing more starts; the second one kills. Return the number of the first, or None.
    """
    news: SimpleQueue[_RunProcess | int] = SimpleQueue()
    waiting, running = deque(commands), dict[str, _RunProcess]()
    stopped: int | None = None
    with _signals_in(news):
        try:
            while running or (waiting and stopped is None):
                if stopped is None:
                    most = _start_more(waiting, running, most, news, report)
                if not running:
                    break
                found = news.get()
                if isinstance(found, _RunProcess):
                    del running[found.partition]
                    report(found.end())
                    continue
                for one in running.values():
                    one.process.send_signal(found if stopped is None else signal.SIGKILL)
                stopped = stopped or found
        finally:
            for one in running.values():
                one.process.kill()
    return stopped


def _start_more(
    waiting: deque[tuple[str, Sequence[str]]],
    running: dict[str, _RunProcess],
    most: int,
    news: SimpleQueue[_RunProcess | int],
    report: Callable[[PartitionEnd], None],
) -> int:
    """Start what waits while fewer than `most` run, and return how many may run at once from now on."""
    while waiting and len(running) < most:
        partition, arguments = waiting.popleft()
        try:
            running[partition] = _start(partition, arguments, news)
        except OSError as error:
            if running:
                # Of open files, processes or memory there is room for these alone.
                waiting.appendleft((partition, arguments))
                return len(running)
            report(PartitionEnd(partition, "failure", output=f"cannot start its run: {error.strerror}"))
    return most


def _start(partition: str, arguments: Sequence[str], news: SimpleQueue[_RunProcess | int]) -> _RunProcess:
    # Files without a name: a pipe would have to be read, and a kill leaves nothing of them.
    out, err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 - closed once they are read
    process = subprocess.Popen(  # noqa: S603 - the options of the user's own command line
        [sys.executable, "-c", _PROGRAM, str(os.getpid()), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=err,
        # Else Ctrl-C in a terminal would reach it twice: from there, and from us.
        start_new_session=True,
    )
    found = _RunProcess(partition, process, out, err)

    def wait() -> None:
        process.wait()
        news.put(found)

    threading.Thread(target=wait, name=f"rivers-partition-{partition}", daemon=True).start()
    return found


@contextlib.contextmanager
def _signals_in(news: SimpleQueue[_RunProcess | int]) -> Iterator[None]:
    """Put SIGINT and SIGTERM into the queue, whose `put` may interrupt its `get`."""

    def note(number: int, frame: FrameType | None) -> None:
        news.put(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _read_answer(out: IO[bytes]) -> dict[str, Any]:
    """Return what `--json` has printed; nothing if the run was refused or killed."""
    out.seek(0)
    with out, contextlib.suppress(ValueError):
        answer = json.loads(out.read())
        if isinstance(answer, dict):
            return answer
    return {}


def _tail(err: IO[bytes]) -> str:
    with err:
        err.seek(max(0, err.seek(0, os.SEEK_END) - TAIL))
        return err.read().decode(errors="replace").strip()
