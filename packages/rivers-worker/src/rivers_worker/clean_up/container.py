"""Clean up what a container holds beside processes and files: shared memory, semaphores, message queues, mounts."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from rivers_process.cgroup import read_kernel_file
from rivers_worker.clean_up.scratch import remove_entry

__all__ = ["ContainerObjects"]

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - POSIX shared memory has no other home
TABLES = {"shm": "shmid", "sem": "semid", "msg": "msqid"}
"""Tables of System V objects below /proc/sysvipc, and their columns of ids."""
MOUNTS = Path("/proc/self/mountinfo")
IPC_RMID = 0
CONTROLS = {"shm": ("shmctl", (IPC_RMID, None)), "sem": ("semctl", (0, IPC_RMID)), "msg": ("msgctl", (IPC_RMID, None))}
HOST_NAMESPACE = 0xEFFFFFFF
"""Inode of the machine's own IPC namespace, PROC_IPC_INIT_INO of the kernel."""


class ContainerObjects:
    """The state of the container whose first process this is, when this was created."""

    def __init__(self) -> None:
        # A container may share the machine's objects (`docker run --ipc=host`), which others are using.
        self._owns_objects = os.stat("/proc/self/ns/ipc").st_ino != HOST_NAMESPACE
        self._names = {folder: _names(folder) for folder in (SHARED_MEMORY, *_queue_folders())}
        self._ids = {table: _own_ids(table) for table in TABLES}
        self._mounts, self._host = _mounts(), socket.gethostname()

    def restore(self, deadline: float) -> Iterator[str]:
        """Remove this user's new objects; yield a reason for each that stays, and for new mounts."""
        if self._owns_objects:
            for folder, before in self._names.items():
                yield from _remove_files(folder, before, deadline)
            for table, known in self._ids.items():
                yield from _remove_objects(table, known)
        # One may have gone by nobody's doing in here: the kernel drops it when its mount point is removed outside.
        for mount in _mounts() - self._mounts:
            yield f"there is a new mount: {mount}"
        if socket.gethostname() != self._host:
            yield f"the name of the host is {socket.gethostname()!r}, expected {self._host!r}"


def _remove_files(folder: Path, before: set[str], deadline: float) -> Iterator[str]:
    """Remove this user's new entries: the containers of a pod may share the folder."""
    new = _names(folder) - before
    if not new:
        return
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in new:
            try:
                if os.stat(name, dir_fd=fd, follow_symlinks=False).st_uid == os.getuid():
                    remove_entry(fd, name, deadline)
            except FileNotFoundError:
                continue
            except OSError as error:
                yield f"cannot remove {folder / name}: {error.strerror}"
    finally:
        os.close(fd)


def _remove_objects(table: str, known: set[int]) -> Iterator[str]:
    libc = ctypes.CDLL(None, use_errno=True)
    control, arguments = CONTROLS[table]
    for found in _own_ids(table) - known:
        if getattr(libc, control)(found, *arguments) != 0:
            yield f"cannot remove {TABLES[table]} {found} of System V: {os.strerror(ctypes.get_errno())}"


def _own_ids(table: str) -> set[int]:
    """Return the ids of the objects that this user has created."""
    header, *rows = [line.split() for line in read_kernel_file(Path("/proc/sysvipc", table)).splitlines()] or [[]]
    found = [dict(zip(header, row, strict=False)) for row in rows]
    return {int(row[TABLES[table]]) for row in found if row.get("cuid") == str(os.getuid())}


def _names(folder: Path) -> set[str]:
    with contextlib.suppress(OSError):
        return {*os.listdir(folder)}
    return set()


def _queue_folders() -> list[Path]:
    """Return where POSIX message queues can be seen; container runtimes mount them on /dev/mqueue."""
    lines = [line.split() for line in read_kernel_file(MOUNTS).splitlines()]
    return [Path(words[4]) for words in lines if words[words.index("-") + 1] == "mqueue"]


def _mounts() -> set[str]:
    """Return the mounts without their ids and options, which may change without anybody's doing."""
    lines = read_kernel_file(MOUNTS).splitlines()
    return {" ".join(line.split()[2:5]) for line in lines}
