"""Processes found by a mark in their environment and by their parents; attributes set by prctl."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator

import pytest

from rivers_process.processes import (
    KILL_MARKED_IN_SHELL,
    child_processes,
    command_line,
    descendants,
    find_marked_processes,
    kill_processes,
    read_process,
)

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a command with a mark; what is left of it is killed at the end."""
    started = []

    def start(*command: str, **env: str) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(command, env={**os.environ, **env}, stdout=subprocess.PIPE))
        return started[-1]

    yield start
    for process in started:
        with process:
            kill_processes([*descendants(process.pid), process.pid])


def test_marks_are_beginnings_of_entries(start: Start) -> None:
    """A mark is found at the beginning of an entry alone, whole where it ends with NUL."""
    value = uuid.uuid4().hex
    pid = start("sleep", "60", MARKED=f"{value}.1", OTHER=f"is no MARKED={value}.2").pid
    until(lambda: find_marked_processes(f"MARKED={value}"))

    assert [pid] == find_marked_processes(f"MARKED={value}")
    assert [pid] == find_marked_processes(f"MARKED={value}.2", f"MARKED={value}.1\0")
    assert [] == find_marked_processes(f"MARKED={value}.2", f"MARKED={value}\0", f"ARKED={value}")


def test_the_caller_is_not_found() -> None:
    """A process does not find itself by a mark of its own."""
    value = uuid.uuid4().hex
    code = f"from rivers_process.processes import find_marked_processes as f; print(f('MARKED={value}'))"

    assert b"[]\n" == subprocess.check_output([sys.executable, "-c", code], env={**os.environ, "MARKED": value})


def test_a_shell_kills_what_is_marked(start: Start) -> None:
    """The function for shells kills the marked processes and no others."""
    value = uuid.uuid4().hex
    marked, other = start("sleep", "60", MARKED=f"{value}.1"), start("sleep", "60", MARKED="x")
    until(lambda: find_marked_processes(f"MARKED={value}"))
    subprocess.run(["/bin/sh", "-c", f"{KILL_MARKED_IN_SHELL}kill_marked MARKED={value}."], check=True)

    assert -signal.SIGKILL == marked.wait(10)
    assert None is other.poll()


def test_descendants_and_children(start: Start) -> None:
    """Children are one level, with zombies; descendants are all levels."""
    top = start("/bin/sh", "-c", "/bin/sh -c 'sleep 61; :' & sleep 62 & exec sleep 63")
    until(lambda: len(descendants(top.pid)) == 3)
    children = child_processes(top.pid)

    assert 2 == len(children)
    assert {top.pid} == {child.parent for child in children}
    assert {child.pid for child in children} < set(descendants(top.pid))
    assert "sleep 63" == command_line(top.pid)


def test_a_process_that_has_ended(start: Start) -> None:
    """A zombie is reported as such; of a process that is gone there is nothing."""
    process = start("true")
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    zombie = read_process(process.pid)
    process.wait()

    assert zombie is not None
    assert (os.getpid(), "Z") == (zombie.parent, zombie.state)
    assert (None, "") == (read_process(process.pid), command_line(process.pid))
    kill_processes([process.pid])


def test_a_child_dies_with_its_parent(start: Start) -> None:
    """The kernel kills a process that asked for it as soon as its parent has ended; an orphan learns that it is one."""
    code = (
        "import os, time; from rivers_process.prctl import die_with_parent as d; "
        "print(os.getpid(), d(os.getppid()), d(1 << 22), flush=True); time.sleep(60)"
    )
    parent = start("/bin/sh", "-c", f'{sys.executable} -c "{code}" & wait')
    assert parent.stdout is not None
    pid, own, other = parent.stdout.readline().split()
    parent.kill()

    assert (b"True", b"False") == (own, other)
    until(lambda: (process := read_process(int(pid))) is None or process.state == "Z")


def test_orphans_are_adopted() -> None:
    """A process that adopts orphans is the parent of a grandchild whose parent has ended."""
    code = (
        "import os, subprocess; from rivers_process.prctl import adopt_orphans; adopt_orphans();"
        "pid = int(subprocess.check_output(['/bin/sh', '-c', 'sleep 60 >/dev/null & echo $!']));"
        "from rivers_process.processes import read_process; print(read_process(pid).parent == os.getpid());"
        "os.kill(pid, 9)"
    )

    assert b"True\n" == subprocess.check_output([sys.executable, "-c", code])


def until(reached: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)
