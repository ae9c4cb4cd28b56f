"""Laws of leftovers: a run leaves no process, thread, descriptor, socket, file or object of the platform."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rivers.testing.conformance.bodies import BEGUN
from rivers.testing.conformance.law import Law, expect, law
from rivers.testing.conformance.needs import ISOLATED, LEFTOVERS
from rivers.testing.conformance.session import BackendSession
from rivers.testing.conformance.subject import Subject
from rivers_process.processes import command_line, descendants, find_marked_processes

__all__ = ["LAWS", "MARK", "find_marked", "marked_environment"]

MARK = "RIVERS_CONFORMANCE_MARK"
"""The variable that processes of a law inherit, and by which those that are left are found."""
PATIENCE = 5.0
"""Seconds within which what is being released must be gone."""


@dataclass
class _Left:
    """Everything that the second of two equal runs has left, a line each."""

    processes: list[str] = field(default_factory=list)
    of_bodies: list[str] = field(default_factory=list)
    threads: list[str] = field(default_factory=list)
    descriptors: list[str] = field(default_factory=list)
    sockets: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    objects: list[str] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)


@contextlib.contextmanager
def marked_environment(folder: Path) -> Iterator[str]:
    """Have processes inherit a mark, and temporary files made in a folder, for as long as the block lasts."""
    mark = uuid.uuid4().hex
    before, tempdir = {name: os.environ.get(name) for name in (MARK, "TMPDIR")}, tempfile.tempdir
    os.environ |= {MARK: mark, "TMPDIR": str(folder)}
    tempfile.tempdir = None
    try:
        yield f"{MARK}={mark}"
    finally:
        tempfile.tempdir = tempdir
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def find_marked(mark: str) -> list[str]:
    """Return pid and command of the processes with a mark, but for Python's own resource trackers."""
    lines = [f"{pid} {command_line(pid)}" for pid in find_marked_processes(mark)]
    # A process that has ended meanwhile has no command line.
    return [line for line in lines if not line.endswith(" ") and "resource_tracker" not in line]


def _use(subject: Subject) -> None:
    """Use the executor in every way that could leave something."""
    can = subject.capabilities
    with BackendSession(subject, grace=0.5) as session:
        session.run("nothing")
        session.run("raises", text="x")
        if can.isolation != "none":
            session.run("exits", code=3)
            session.run("uses_a_temporary_file")
        if can.timeout == "kill":
            attempt = session.submit("stubborn", seconds=60.0)
            session.wait_for_text(attempt, BEGUN)
            session.cancel(attempt)
            session.result(attempt)
            session.wait_for_text(session.submit("stubborn", seconds=60.0), BEGUN)


def _measure(subject: Subject) -> _Left:
    """Use the executor twice: what the first use has left for good is the process's, what the second one adds is lost.

    An event loop, a resource tracker or a pool of threads of a library are made once and live as long as this process.
    """
    # Objects of other runs and of other people may be there.
    objects = set(subject.objects())
    with marked_environment(subject.new_folder()) as mark:
        _use(subject)
        # What the first use is still releasing is not to be taken for the state before the second.
        _wait_for_none(lambda: find_marked(mark), PATIENCE)
        threads, opened, files = _threads(), _open_files(), _temporary_files()
        state, known = _process_state(), _children()
        _use(subject)
        left = _Left(
            changes=[name for name, value in _process_state().items() if state[name] != value],
            processes=_wait_for_none(lambda: sorted({*find_marked(mark), *(_children() - known)}), PATIENCE),
            threads=_wait_for_none(lambda: [t.name for t in _threads() - threads], PATIENCE),
            files=_wait_for_none(lambda: sorted(_temporary_files() - files), PATIENCE),
        )
        more = _wait_for_none(lambda: sorted((_open_files() - opened).elements()), PATIENCE)
        left.sockets = [name for name in more if name == "socket"]
        left.descriptors = [name for name in more if name != "socket"]
    left.objects = _wait_for_none(lambda: sorted(set(subject.objects()) - objects), subject.patience)
    return left


def _measure_bodies(subject: Subject) -> list[str]:
    """Return the processes that a body has started and that outlive the run."""
    with marked_environment(subject.new_folder()) as mark:
        with BackendSession(subject) as session:
            session.run("starts_a_process")
        return _wait_for_none(lambda: find_marked(mark), PATIENCE)


def _left(subject: Subject) -> _Left:
    left: _Left = subject.share("leftovers", lambda: _measure(subject))
    return left


def _wait_for_none(find: Callable[[], Sequence[str]], patience: float) -> list[str]:
    until = time.monotonic() + patience
    while (left := find()) and time.monotonic() < until:
        time.sleep(0.05)
    return list(left)


def _threads() -> set[threading.Thread]:
    """Return the threads, but for the one that grpc.aio keeps for as long as a process lives, and replaces at times."""
    return {thread for thread in threading.enumerate() if "_poll_wrapper" not in thread.name}


def _open_files() -> Counter[str]:
    """Count what descriptors lead to, by kind: numbers of pipes and sockets are new each time."""
    # What waits for the cycle collector is closed, not lost.
    gc.collect()
    found = []
    for descriptor in os.listdir("/proc/self/fd"):
        # The descriptor of the listing itself is closed by now.
        with contextlib.suppress(OSError):
            found.append(os.readlink(f"/proc/self/fd/{descriptor}").partition(":[")[0])
    return Counter(found)


def _temporary_files() -> set[str]:
    folder = Path(tempfile.gettempdir())
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def _children() -> set[str]:
    """Return the processes below this one, also those that have ended and that nobody has waited for.

    A fork server may start them without the environment that carries the mark.
    """
    found = {pid: command_line(pid) or "(zombie)" for pid in descendants(os.getpid())}
    return {f"{pid} {command}" for pid, command in found.items() if "resource_tracker" not in command}


def _process_state() -> dict[str, Any]:
    root = logging.getLogger()
    return {
        "os.environ": dict(os.environ),
        "the working directory": os.getcwd(),
        "the handlers of signals": [
            signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)
        ],
        "sys.stdout": sys.stdout,
        "sys.stderr": sys.stderr,
        "the root logger": (root.level, list(root.handlers)),
        "sys.path": list(sys.path),
    }


def _expect_none(lines: list[str], what: str) -> None:
    expect(not lines, f"a run left {len(lines)} {what}: {', '.join(lines[:5])}")


@law(
    "no-process-left",
    demand="When a run is closed and the backend shut down, none of its processes is left, also no zombie.",
    reason="processes hold memory, licences and locks, and pile up in a long-lived controller.",
)
def no_process(subject: Subject) -> None:
    """Look for processes that have inherited the environment, and for children that nobody reaped."""
    _expect_none(_left(subject).processes, "processes")


@law(
    "no-process-of-a-body-left",
    demand="A process that a body has started is gone when the run is closed.",
    reason="a forgotten server of a body keeps its port and its memory until somebody logs in.",
    needs=(ISOLATED,),
)
def no_process_of_a_body(subject: Subject) -> None:
    """Run a body that leaves a process behind."""
    _expect_none(_measure_bodies(subject), "processes of a body")


@law(
    "no-thread-left",
    demand="A run leaves no thread.",
    reason="a thread for each run adds up in a notebook or a server, and keeps the interpreter from ending.",
)
def no_thread(subject: Subject) -> None:
    """Compare the threads after two equal runs."""
    _expect_none(_left(subject).threads, "threads")


@law(
    "no-descriptor-left",
    demand="A run leaves no file, pipe or other descriptor open.",
    reason="a process has 1,024 of them, and the error comes where nobody looks for it.",
)
def no_descriptor(subject: Subject) -> None:
    """Compare the open descriptors after two equal runs."""
    _expect_none(_left(subject).descriptors, "descriptors")


@law(
    "no-socket-left",
    demand="A run leaves no socket open.",
    reason="a socket holds its peer, too, and ports run out.",
)
def no_socket(subject: Subject) -> None:
    """Compare the open sockets after two equal runs."""
    _expect_none(_left(subject).sockets, "sockets")


@law(
    "no-file-left",
    demand="A run leaves no temporary file.",
    reason="the folder is memory on many machines, and nobody cleans it but a restart.",
)
def no_file(subject: Subject) -> None:
    """Compare the folder for temporary files after two equal runs."""
    _expect_none(_left(subject).files, "temporary files")


@law(
    "no-object-left",
    demand="A run leaves no object on its platform: no job, pod, task or secret.",
    reason="objects cost money and quota, and the next person has to ask whose they are.",
    needs=(LEFTOVERS,),
)
def no_object(subject: Subject) -> None:
    """Ask the hook `leftovers` before and after."""
    _expect_none(_left(subject).objects, "objects")


@law(
    "process-as-found",
    demand="A run leaves the controller's process as it found it: environment, working directory, signals, streams.",
    reason="the controller is somebody's program, notebook or server.",
)
def as_found(subject: Subject) -> None:
    """Compare the state of this process before and after a run."""
    changes = _left(subject).changes
    expect(not changes, f"a run changed {', '.join(changes)}")


LAWS: tuple[Law, ...] = (
    no_process,
    no_process_of_a_body,
    no_thread,
    no_descriptor,
    no_socket,
    no_file,
    no_object,
    as_found,
)
