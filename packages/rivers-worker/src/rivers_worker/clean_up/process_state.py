"""Restore what an attempt can change about other processes of its user: limits, priorities, CPUs, stopped or not."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import resource
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from rivers_process.cgroup import read_kernel_file
from rivers_process.processes import read_process

__all__ = ["ProcessState"]

# RLIMIT_OFILE is the old name of RLIMIT_NOFILE.
NAMES = sorted(name for name in dir(resource) if name.startswith("RLIMIT_") and name != "RLIMIT_OFILE")
LIMITS = {getattr(resource, name): name for name in NAMES}
IO_PRIORITY_CALLS = {"x86_64": (251, 252), "aarch64": (30, 31)}
"""Numbers of ioprio_set and ioprio_get, which glibc does not wrap, by machine."""
IOPRIO_WHO_PROCESS = 1
STOPPED = ("T", "t")
ENDED = ("", "Z", "X")
ALL_CPUS = range(1024)
"""More than any machine of ours has; the kernel ignores those that do not exist."""
PAUSE = 0.001


class ThreadPriorities(NamedTuple):
    """The scheduling of one thread; Linux keeps it per thread, and so can it be changed from outside."""

    policy: int
    nice: int
    io_priority: int | None


class ProcessState:
    """This process's limits and priorities when it is created, which it and its kept children return to."""

    def __init__(self) -> None:
        self._limits = {limit: resource.getrlimit(limit) for limit in LIMITS}
        self._priorities = _priorities(os.getpid())
        self._cpus = os.sched_getaffinity(0)
        self._files = _kernel_files(os.getpid())

    def restore_limits(self, pid: int) -> Iterator[str]:
        """Restore the resource limits of a process; yield a reason for each that stays changed."""
        for limit, wanted in self._limits.items():
            if resource.prlimit(pid, limit) != wanted:
                # Without privileges a lowered hard limit cannot be raised.
                with contextlib.suppress(OSError, ValueError):
                    resource.prlimit(pid, limit, wanted)
                if (found := resource.prlimit(pid, limit)) != wanted:
                    yield f"{LIMITS[limit]} of process {pid} is {found}, expected {wanted}"

    def restore_threads(self, pid: int) -> Iterator[str]:
        """Restore the priorities of a process's threads; yield a reason for each change that stays."""
        for thread in map(int, os.listdir(f"/proc/{pid}/task")):
            # It may end meanwhile.
            with contextlib.suppress(ProcessLookupError):
                found = _priorities(thread)
                if found != self._priorities:
                    _set_priorities(thread, self._priorities)
                    found = _priorities(thread)
                if os.sched_getaffinity(thread) != self._cpus:
                    _set_cpus(thread, self._cpus)
                if found != self._priorities:
                    yield f"thread {thread} of process {pid} has {found}, expected {self._priorities}"
        if _kernel_files(pid) != self._files:
            # Without privileges it can be raised only.
            with contextlib.suppress(OSError):
                Path(f"/proc/{pid}/oom_score_adj").write_text(self._files["oom_score_adj"], encoding="ascii")
        files = _kernel_files(pid)
        yield from (
            f"{name} of process {pid} is {files[name]!r}, expected {wanted!r}"
            for name, wanted in self._files.items()
            if files[name] != wanted
        )

    def restore_kept(self, pid: int, deadline: float) -> Iterator[str]:
        """Restore a child that stays, and let it go on if it was stopped; yield a reason for what stays changed."""
        while (state := _state(pid)) in STOPPED and time.monotonic() < deadline:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
            time.sleep(PAUSE)
        if state in ENDED:
            yield f"process {pid}, which serves all attempts, has ended"
            return
        if state in STOPPED:
            yield f"process {pid}, which serves all attempts, is stopped"
        try:
            yield from self.restore_limits(pid)
            yield from self.restore_threads(pid)
        except (FileNotFoundError, ProcessLookupError):
            yield f"process {pid}, which serves all attempts, has ended meanwhile"


def _state(pid: int) -> str:
    process = read_process(pid)
    return process.state if process else ""


def _kernel_files(pid: int) -> dict[str, str]:
    return {name: read_kernel_file(Path(f"/proc/{pid}/{name}")).strip() for name in ("oom_score_adj", "cgroup")}


def _priorities(thread: int) -> ThreadPriorities:
    return ThreadPriorities(
        os.sched_getscheduler(thread),
        os.getpriority(os.PRIO_PROCESS, thread),
        _io_priority(thread),
    )


def _set_priorities(thread: int, wanted: ThreadPriorities) -> None:
    """Set what can be set: a lower nice value may need privileges."""
    settings: list[Callable[[], Any]] = [
        lambda: os.sched_setscheduler(thread, wanted.policy, os.sched_param(0)),
        lambda: os.setpriority(os.PRIO_PROCESS, thread, wanted.nice),
        lambda: _set_io_priority(thread, wanted.io_priority),
    ]
    for setting in settings:
        with contextlib.suppress(PermissionError, OSError):
            setting()


def _set_cpus(thread: int, wanted: set[int]) -> None:
    """Let a thread run on these CPUs, as far as its cpuset has them: Kubernetes changes that while a pod runs."""
    os.sched_setaffinity(thread, ALL_CPUS)
    available = os.sched_getaffinity(thread)
    # The cpuset may change right now.
    with contextlib.suppress(OSError):
        os.sched_setaffinity(thread, wanted & available or available)


def _io_priority(thread: int) -> int | None:
    calls = IO_PRIORITY_CALLS.get(platform.machine())
    return None if calls is None else ctypes.CDLL(None).syscall(calls[1], IOPRIO_WHO_PROCESS, thread)


def _set_io_priority(thread: int, wanted: int | None) -> None:
    calls = IO_PRIORITY_CALLS.get(platform.machine())
    if calls is not None and wanted is not None:
        ctypes.CDLL(None).syscall(calls[0], IOPRIO_WHO_PROCESS, thread, wanted)
