"""Folders that this user's processes on this machine share, and that end with the process that created them.

    <base>/rivers-<user id>-<32 hex digits>      mode 0700; its owner holds a lock (flock) on the folder itself

The kernel releases the lock when the owner dies, however that happens; the next process that creates such a folder
removes the unlocked ones. Cleaners of temporary files (systemd-tmpfiles) skip locked folders, too.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Sequence
from contextlib import suppress

from rivers._io.home import expand_home
from rivers._io.shared.room import is_roomy, read_free_space, read_memory
from rivers.exceptions import ConfigurationError
from rivers_process.fork import close_in_children, keep_in_children

__all__ = ["MachineSpace", "choose_bases", "is_private", "make_space", "sweep"]

VARIABLE = "RIVERS_DEFAULT_STORE"
"""The environment variable that names the folder for spaces; unset, free space decides."""

IN_MEMORY = "/dev/shm"  # noqa: S108 - each space in it is a folder of its own, closed to others, under an unguessable name
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class MachineSpace:
    """A folder that this process owns for as long as it lives."""

    def __init__(self, path: str, lock: int) -> None:
        self.path = path
        self._lock = lock
        self._owner = os.getpid()
        # A lock of flock lives as long as any copy of its descriptor: a forked child must not keep the folder alive.
        close_in_children(lock)

    def remove(self) -> None:
        """Remove the folder and its content; do nothing the second time, or in a forked child."""
        if self._lock >= 0 and os.getpid() == self._owner:
            _remove(self.path)
            keep_in_children(self._lock)
            os.close(self._lock)
            self._lock = -1


def choose_bases() -> tuple[str, str | None]:
    """Return the folder for spaces, in memory if that is roomy, and the folder for values that do not fit there.

    Raises:
        ConfigurationError: RIVERS_DEFAULT_STORE names no folder that this user can write to.
    """
    disk = tempfile.gettempdir()
    given = os.environ.get(VARIABLE)
    if given:
        base = os.path.abspath(expand_home(given, VARIABLE))
        if not os.path.isdir(base) or not os.access(base, os.W_OK | os.X_OK):
            raise ConfigurationError(
                f"invalid {VARIABLE}={given!r}: expected an existing folder that this user can write to"
            )
    else:
        base = IN_MEMORY if _is_usable(IN_MEMORY) else disk
    return base, disk if os.stat(base).st_dev != os.stat(disk).st_dev else None


def make_space(base: str) -> MachineSpace:
    """Create a folder in `base` and lock it.

    Raises:
        ConfigurationError: `base` does not allow it.
    """
    try:
        while True:
            path = f"{base}/rivers-{os.geteuid()}-{secrets.token_hex(16)}"
            os.mkdir(path, 0o700)
            lock = _lock_folder(path)
            # Else another process swept between mkdir and lock, and removes it.
            if lock is not None:
                return MachineSpace(path, lock)
    except OSError as error:
        raise ConfigurationError(
            f"the repository's default store cannot be made in {base}: {error.strerror or error}",
            hint=f"set {VARIABLE} to a folder on a local file system that this user can write to",
        ) from error


def is_private(path: str) -> bool:
    """Return whether this is a folder of this user and closed to others; False also if it does not exist."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077


def sweep(folders: Sequence[str]) -> None:
    """Remove the spaces that dead processes of this user have left in these folders."""
    for base in folders:
        with suppress(OSError):
            for name in os.listdir(base):
                if name.startswith(f"rivers-{os.geteuid()}-") and is_private(f"{base}/{name}"):
                    _sweep_one(f"{base}/{name}")


def _sweep_one(path: str) -> None:
    with suppress(OSError):
        lock = _lock_folder(path)
        if lock is not None:
            try:
                _remove(path)
            finally:
                os.close(lock)


def _lock_folder(path: str) -> int | None:
    """Lock a folder and return the descriptor, or None if another process holds it or has removed the folder."""
    try:
        lock = os.open(path, _FOLDER)
    except FileNotFoundError:
        return None
    try:
        # A lock belongs to the open file, so a forked child shares it until both have closed the descriptor.
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(lock), os.lstat(path)):
            return lock
    except (BlockingIOError, FileNotFoundError):
        # Held by another process, or removed since it was opened.
        pass
    except BaseException:
        os.close(lock)
        raise
    os.close(lock)
    return None


def _remove(path: str) -> None:
    """Rename the folder, then remove it: a late writer finds no folder and creates nothing in it."""
    gone = path if path.endswith("~") else f"{path}~"
    with suppress(OSError):
        os.rename(path, gone)
    shutil.rmtree(gone, ignore_errors=True)


def _is_usable(folder: str) -> bool:
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK | os.X_OK):
        return False
    return is_roomy(read_free_space(folder)[1], read_memory())
