"""Values in a folder that this user's processes on this machine share, or on disk beside it when the folder is full.

    folder  in memory (or on disk)    LocalFiles: committed by hard links, in versions by run
    beside  on disk, or None          <run>~<random>: values that did not fit, each with a pointer in the folder

A pointer is committed like a value, so the same promises hold for a value on disk.
"""

from __future__ import annotations

import math
import os
import secrets
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress

from rivers._io.files.file_bytes import read_file, read_names, write_all
from rivers._io.files.key import SUFFIX, flat_name
from rivers._io.files.local_files import LocalFiles
from rivers._io.files.trailer import Damaged
from rivers._io.files.value_files import FULL, Chunks, size_of, write_error
from rivers._io.memo import Memo
from rivers._io.shared.mapped import lay_out, lay_out_pointer, map_file, parse_pointer
from rivers._io.shared.room import Memory, has_room, read_free_space, read_memory
from rivers.exceptions import OutputCommitError

__all__ = ["MachineFiles", "Parts", "link_values"]

# Smaller values are written without checking the free space.
_LOOK = 1 << 20
# Seconds for which a reading of the memory is used, for at most a 64th of it: reading takes about 200 µs.
_LOOK_AGAIN = 0.1
# Larger files are no pointers: those hold a path and the trailer with its note.
_MOST_OF_A_POINTER = 1 << 17
# Seconds for which a late attempt is refused because its run has ended; its worker is dead long before.
_REMEMBER_ENDED = 600.0

Parts = tuple[bytes, Sequence[memoryview]]
"""A value as a pickle and the buffers that belong to it."""


class MachineFiles:
    """Values in `folder` or, if they do not fit, in `beside`; the caller creates and removes both folders."""

    def __init__(self, folder: str, beside: str | None) -> None:
        self._folder = folder
        self._beside = beside
        self._seen: Memory | None = None
        self._look_again = 0.0
        self._unlooked = 0
        # No run is swept by age: the owner of the folder ends its runs or removes the folder.
        self._files = LocalFiles(
            folder,
            fsync=False,
            sweep_after=math.inf,
            forget_after=_REMEMBER_ENDED,
            read_value=map_file,
            make_root=False,
        )
        self.commit = self._files.commit
        self.discard = self._files.discard
        self.committed = self._files.committed
        self.path = self._files.path
        self.retract = self._files.retract
        self.read_names = self._files.read_names
        self.read_committed = self._files.read_committed

    def store(
        self, run_id: str, attempt_id: str, key: str, parts: Parts, written: int, memo: Memo | None = None
    ) -> None:
        """Stage and commit the only output of the step `key`; without a run, make it the latest value."""

        def write(chunks: Chunks) -> None:
            self._files.store(run_id, attempt_id, key, chunks)

        self._write(write, run_id, key, attempt_id, key, parts, written, memo)

    def stage(
        self,
        run_id: str,
        step: str,
        attempt_id: str,
        key: str,
        parts: Parts,
        written: int,
        memo: Memo | None = None,
    ) -> None:
        """Write a value where no reader looks."""

        def write(chunks: Chunks) -> None:
            self._files.stage(run_id, step, attempt_id, key, chunks)

        self._write(write, run_id, step, attempt_id, key, parts, written, memo)

    def read(self, run_id: str | None, key: str) -> memoryview | None:
        """Return the run's version of the value, else the latest, else None."""
        for _ in range(2):
            data = self._files.read(run_id, key)
            path = parse_pointer(data) if data is not None else None
            if path is None:
                return data
            data = map_file(path)
            if data is not None:
                return data
            # The pointer was replaced and its target removed between the two reads: read the new pointer.
        return None

    def written(self, key: str) -> int | None:
        """Return the latest value's `written`, as it was passed to `store`; None if there is no value."""
        try:
            names = read_names(self._files.path(key))
        except OSError:
            # Damaged: loading it raises the error.
            return None
        return names.written if names is not None else None

    def key_finder(self, run_id: str) -> Callable[[str], bool]:
        """Return a function that finds out whether the run, which has not ended yet, has committed a key."""
        names: set[str] = set()
        with suppress(FileNotFoundError):
            names.update(os.listdir(f"{self._folder}/.rivers/runs/{flat_name(run_id)}"))
        return lambda key: flat_name(key) + SUFFIX in names

    def end_run(self, run_id: str, active: Collection[str]) -> None:
        """Remove what was kept for the run, and values on disk without a pointer, except for `active` runs."""
        self._files.end_run(run_id)
        if self._beside is not None:
            self._sweep_beside(self._beside, {flat_name(run) for run in active})

    def _write(
        self,
        write: Callable[[Chunks], None],
        run_id: str,
        step: str,
        attempt_id: str,
        key: str,
        parts: Parts,
        written: int,
        memo: Memo | None,
    ) -> None:
        chunks = lay_out(*parts, attempt_id, key, written, memo)
        size = size_of(chunks)
        if self._beside is None or size < _LOOK or self._has_room(size):
            try:
                write(chunks)
                return
            except OutputCommitError as error:
                # The estimate was wrong, or another process was faster: the disk is the way out.
                if self._beside is None or getattr(error.__cause__, "errno", None) not in FULL:
                    raise
        path = self._write_beside(chunks, size, run_id, step)
        write(lay_out_pointer(path, attempt_id, key, written, memo))

    def _has_room(self, size: int) -> bool:
        try:
            total, free = read_free_space(self._folder)
        except OSError:
            # The folder no longer exists: writing raises the error.
            return True
        now = time.monotonic()
        if now >= self._look_again or size > self._unlooked:
            self._seen = read_memory()
            self._look_again = now + _LOOK_AGAIN
            self._unlooked = self._seen.available // 64 if self._seen is not None else 0
        self._unlooked -= size
        return has_room(size, total, free, self._seen)

    def _write_beside(self, chunks: Chunks, size: int, run_id: str, step: str) -> str:
        path = f"{self._beside}/{flat_name(run_id)}~{secrets.token_hex(8)}"
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                write_all(fd, chunks)
            except BaseException:
                os.unlink(path)
                raise
            finally:
                os.close(fd)
        except OSError as error:
            raise write_error(error, path, size, run_id, step) from error
        return path

    def _sweep_beside(self, beside: str, active: Collection[str]) -> None:
        with suppress(FileNotFoundError):
            found = [name for name in os.listdir(beside) if name.partition("~")[0] not in active]
            if found:
                # Pointers are read after the listing, so that a value that comes meanwhile is not in `found`.
                needed = set(self._pointers())
                for name in found:
                    if f"{beside}/{name}" not in needed:
                        with suppress(FileNotFoundError):
                            os.unlink(f"{beside}/{name}")

    def _pointers(self) -> Iterator[str]:
        """Yield the paths in the folder's pointers."""
        for parent, _, names in os.walk(self._folder):
            for name in names:
                with suppress(OSError, Damaged):
                    if os.path.getsize(f"{parent}/{name}") < _MOST_OF_A_POINTER:
                        data = read_file(f"{parent}/{name}")
                        path = parse_pointer(data) if data is not None else None
                        if path is not None:
                            yield path


def link_values(source: str, target: str) -> None:
    """Give another folder the latest values of this one, as they are now; what belongs to runs that go on is left out.

    Values are replaced, never written in place, so that a hard link keeps the one of this moment.
    """
    for folder, below, names in os.walk(source):
        if folder == source and ".rivers" in below:
            below.remove(".rivers")
        goal = target + folder.removeprefix(source)
        os.makedirs(goal, mode=0o700, exist_ok=True)
        for name in names:
            # Replaced or removed meanwhile.
            with suppress(FileNotFoundError):
                os.link(f"{folder}/{name}", f"{goal}/{name}")
