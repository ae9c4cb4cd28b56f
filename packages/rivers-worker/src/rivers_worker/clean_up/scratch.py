"""Empty the folders that attempts may write to, but for what they held at the start."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["ScratchFolder", "remove_entry"]

# No link is followed: what it leads to is not this worker's.
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Entry(NamedTuple):
    """A file or folder of the start; `state` differs once it has changed, `below` are a folder's entries."""

    state: tuple[object, ...]
    below: dict[str, Entry] | None


class Level(NamedTuple):
    """A folder above the one that is being removed; `waiting` are the names of its folders that are left."""

    name: str
    identity: tuple[int, int]
    waiting: list[str]


class ScratchFolder:
    """A folder of this worker alone: its entries at the start stay, and all others are removed by `empty`.

    Raises:
        OSError: the folder cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()
        # Held open, as an attempt may put another folder or a link in its place.
        self._fd = os.open(self._path, FOLDER & ~os.O_NOFOLLOW)
        self._mode = stat.S_IMODE(os.fstat(self._fd).st_mode)
        self._attributes = _attributes(self._fd)
        self._before = _read_entries(self._fd, _mount_of(self._fd))

    def empty(self, deadline: float) -> Iterator[str]:
        """Remove the new entries until `deadline`; yield a reason for each that stays and for each change of others."""
        try:
            if _identity(self._fd) != _identity(self._path):
                yield f"another folder has taken the place of {self._path}"
                return
            self._restore_folder()
            if _attributes(self._fd) != self._attributes:
                yield f"the attributes of {self._path} have changed"
            yield from _empty(self._fd, self._before, self._path, deadline)
        except OSError as error:
            yield f"cannot empty {self._path}: {error.strerror}"

    def _restore_folder(self) -> None:
        if stat.S_IMODE(os.fstat(self._fd).st_mode) != self._mode:
            os.fchmod(self._fd, self._mode)
        # A default ACL of a folder, which is an attribute, changes the mode of every file to come.
        for name in _attributes(self._fd).keys() - self._attributes.keys():
            with contextlib.suppress(OSError):
                os.removexattr(self._fd, name)


def remove_entry(parent: int, name: str, deadline: float) -> None:
    """Remove a file, or a folder with all below it, from an open folder; it must not lead to another file system.

    Raises:
        OSError: it, or something below it, cannot be removed.
        TimeoutError: the deadline is over.
    """
    try:
        os.unlink(name, dir_fd=parent)
    except IsADirectoryError:
        _remove_folder(parent, name, deadline)


def _empty(fd: int, before: dict[str, Entry], path: Path, deadline: float) -> Iterator[str]:
    for name in os.listdir(fd):
        if name not in before:
            try:
                remove_entry(fd, name, deadline)
            except OSError as error:
                yield f"cannot remove {path / name}: {error.strerror or error}"
    mount = _mount_of(fd)
    for name, entry in before.items():
        found = _read_entry(fd, name, mount, deep=False)
        if found is None or found.state != entry.state:
            yield f"{path / name}, which was there at the start, {'has changed' if found else 'is gone'}"
        elif entry.below is not None:
            with _opened(fd, name) as below:
                yield from _empty(below, entry.below, path / name, deadline)


def _remove_folder(parent: int, name: str, deadline: float) -> None:
    """Remove a folder of any depth with one descriptor at a time, and neither recursion nor long paths."""
    fd = os.dup(parent)
    device = os.fstat(fd).st_dev
    levels = [Level("", _identity(fd), [name])]
    try:
        while len(levels) > 1 or levels[0].waiting:
            level = levels[-1]
            if level.waiting:
                below = level.waiting.pop()
                fd = _replace(fd, _open_to_clear(fd, below))
                if os.fstat(fd).st_dev != device:
                    raise OSError(errno.EXDEV, "another file system is mounted there")
                levels.append(Level(below, _identity(fd), _clear(fd, deadline)))
            else:
                fd = _replace(fd, os.open("..", FOLDER, dir_fd=fd))
                levels.pop()
                if _identity(fd) != levels[-1].identity:
                    raise OSError(errno.ESTALE, "a folder was moved meanwhile")
                os.rmdir(level.name, dir_fd=fd)
    finally:
        os.close(fd)


def _clear(fd: int, deadline: float) -> list[str]:
    """Remove all but the folders of an open folder; return the folders' names."""
    folders = []
    for name in os.listdir(fd):
        if time.monotonic() > deadline:
            raise TimeoutError(errno.ETIMEDOUT, "it takes too long")
        try:
            os.unlink(name, dir_fd=fd)
        except IsADirectoryError:
            folders.append(name)
    return folders


def _open_to_clear(parent: int, name: str) -> int:
    """Open a folder whose entries are to be removed, whatever its mode forbids its owner."""
    handle = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        if os.fstat(handle).st_mode & stat.S_IRWXU != stat.S_IRWXU:
            # Another user's folder may be writable for this one all the same.
            with contextlib.suppress(PermissionError):
                os.chmod(f"/proc/self/fd/{handle}", stat.S_IRWXU)
        return os.open(".", FOLDER, dir_fd=handle)
    finally:
        os.close(handle)


def _replace(fd: int, other: int) -> int:
    os.close(fd)
    return other


@contextlib.contextmanager
def _opened(parent: int, name: str) -> Iterator[int]:
    fd = os.open(name, FOLDER, dir_fd=parent)
    try:
        yield fd
    finally:
        os.close(fd)


def _read_entries(fd: int, mount: int) -> dict[str, Entry]:
    found = ((name, _read_entry(fd, name, mount)) for name in os.listdir(fd))
    return {name: entry for name, entry in found if entry is not None}


def _read_entry(parent: int, name: str, mount: int, *, deep: bool = True) -> Entry | None:
    """Return an entry with all below it that is not mounted there, or None if there is none."""
    try:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None
    state: tuple[object, ...] = (found.st_dev, found.st_ino, found.st_mode, found.st_uid, found.st_gid)
    if not stat.S_ISDIR(found.st_mode):
        # Nobody can set a ctime: it shows a change whose mtime was set back.
        return Entry((*state, found.st_size, found.st_mtime_ns, found.st_ctime_ns), None)
    # A folder that this user cannot read is none that an attempt can write to.
    with contextlib.suppress(PermissionError), _opened(parent, name) as fd:
        # What somebody has mounted there is theirs, on whatever device it is.
        if _mount_of(fd) == mount:
            return Entry((*state, _attributes(fd)), _read_entries(fd, mount) if deep else None)
    return Entry(state, None)


def _mount_of(fd: int) -> int:
    """Return the id of the mount that an open file is on: two mounts of one device differ in it."""
    lines = Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("mnt_id:"))


def _attributes(fd: int) -> dict[str, bytes]:
    """Return the extended attributes, as far as the file system has some."""
    try:
        return {name: os.getxattr(fd, name) for name in os.listxattr(fd)}
    except OSError:
        return {}


def _identity(file: int | Path) -> tuple[int, int]:
    found = os.stat(file)
    return found.st_dev, found.st_ino
