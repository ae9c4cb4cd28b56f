"""Snapshots of what a process holds; the difference of two is what was left behind."""

from __future__ import annotations

import gc
import os
import threading
import time
from dataclasses import dataclass

from rivers_process.processes import child_processes, command_line, find_marked_processes

__all__ = ["Holdings", "find_leftovers"]


@dataclass(frozen=True)
class Holdings:
    """A snapshot of threads, descriptors and children of this process, and of entries of /dev/shm."""

    threads: frozenset[str]
    descriptors: frozenset[str]
    children: frozenset[str]
    shared: frozenset[str]

    @staticmethod
    def now() -> Holdings:
        """Take a snapshot."""
        return Holdings(
            threads=frozenset(f"{thread.name} {thread.ident}" for thread in threading.enumerate()),
            descriptors=frozenset(_descriptors()),
            children=frozenset(
                f"{child.pid} {child.state} {command_line(child.pid)}" for child in child_processes(os.getpid())
            ),
            shared=frozenset(_shared()),
        )


def find_leftovers(before: Holdings, mark: str, patience: float = 2.0) -> list[str]:
    """Return what is more than before, and marked processes, after `patience` seconds at most."""
    # gRPC's thread and its descriptors live as long as any channel's object, also one in a cycle of references.
    gc.collect()
    until = time.monotonic() + patience
    while (found := _find_leftovers(before, mark)) and time.monotonic() < until:
        time.sleep(0.02)
    return found


def _find_leftovers(before: Holdings, mark: str) -> list[str]:
    now = Holdings.now()
    found = [f"thread {name}" for name in now.threads - before.threads]
    found += [f"descriptor {name}" for name in now.descriptors - before.descriptors]
    found += [f"child {name}" for name in now.children - before.children]
    found += [f"/dev/shm/{name}" for name in now.shared - before.shared]
    found += [f"process {pid} {command_line(pid)}" for pid in find_marked_processes(mark)]
    return sorted(found)


def _children() -> list[str]:
    return [f"{child.pid} {child.state} {command_line(child.pid)}" for child in child_processes(os.getpid())]


def _descriptors() -> list[str]:
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            found.append(f"{number} {os.readlink(f'/proc/self/fd/{number}')}")
        except OSError:  # the one that lists them
            continue
    return found


def _shared() -> list[str]:
    """Return our entries of /dev/shm, by their name: other programs have theirs there, too."""
    return [name for name in os.listdir("/dev/shm") if str(os.getpid()) in name]
