"""Values as files of a local folder: a hard link commits, a rename publishes.

    write staged file → fsync → link to the run's name → rename to the latest name → fsync folder
                                └ the commit:            └ a reader sees the old or the new value, whole
                                  one attempt wins

The run's own folder is not forced to disk: only the run reads it, and no run of this machine survives a power cut.

A staged name that still exists after its commit shows that publication was cut short; the next process finishes it.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

import msgspec

from rivers._io.files.file_bytes import (
    fill_file,
    is_newer,
    peek_names,
    peek_trailer,
    read_marker,
    read_names,
    remove_files,
    sync_folder,
)
from rivers._io.files.key import SUFFIX, flat_name, object_path
from rivers._io.files.sweep import LocalSweep
from rivers._io.files.trailer import Names
from rivers._io.files.value_files import (
    Chunks,
    Marker,
    RunEndedError,
    commit_error,
    run_over_error,
    size_of,
    too_late_error,
    write_error,
)
from rivers.exceptions import OutputCommitError

__all__ = ["LocalFiles"]

DataT = TypeVar("DataT")

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_REMEMBERED = 4096  # keys whose paths are cached


class LocalFiles(Generic[DataT]):
    """A folder of values that implements `ValueFiles`.

    Leftovers of other runs are removed at an age of `sweep_after` seconds, marks of ended runs at `forget_after` (by
    default the same). `read_value` reads a value's file. With `make_root=False` a missing root is an error.
    """

    def __init__(
        self,
        root: str,
        *,
        fsync: bool,
        sweep_after: float,
        forget_after: float | None = None,
        read_value: Callable[[str], DataT | None],
        make_root: bool = True,
    ) -> None:
        self._root = root.rstrip("/")
        self._read_value = read_value
        self._make_root = make_root
        self._runs = f"{self._root}/.rivers/runs"
        self._ended = f"{self._root}/.rivers/ended"
        self._fsync = fsync
        self.sweep = LocalSweep(
            f"{self._root}/.rivers",
            runs_age=sweep_after,
            marks_age=sweep_after if forget_after is None else forget_after,
            remove_run=self._remove_run,
        ).sweep
        self._located: dict[str, tuple[str, str, str]] = {}
        self._writable: set[str] = set()
        self._last_run = ("", f"{self._runs}/{flat_name('')}")

    def path(self, key: str) -> str:
        return self._locate(key)[0]

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────

    def read(self, run_id: str | None, key: str) -> DataT | None:
        latest, _, flat = self._locate(key)
        data = self._read_value(f"{self._run(run_id)}/{flat}{SUFFIX}") if run_id else None
        return data if data is not None else self._read_value(latest)

    def read_names(self, key: str) -> Names | None:
        return peek_names(self._locate(key)[0])

    def read_committed(self, run_id: str, key: str) -> tuple[Names, int] | None:
        return peek_trailer(f"{self._run(run_id)}/{flat_name(key)}{SUFFIX}")

    def committed(self, run_id: str, step: str) -> str | None:
        run = self._run(run_id)
        try:
            return self._finish(run, step) if run_id else None
        except OSError as error:
            raise self._explain(error, run, (), run_id, step) from error

    # ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────

    def store(self, run_id: str, attempt_id: str, key: str, chunks: Chunks) -> None:
        _, folder, flat = self._locate(key)
        run = self._run(run_id)
        staged = f"{run}/{flat_name(attempt_id or os.urandom(16).hex())}~{flat}"
        try:
            if folder not in self._writable:
                self._ensure_writable(folder)
            self._write(staged, chunks)
            if run_id:
                self._commit_one(run, staged, f"{run}/{flat}{SUFFIX}", run_id, key, attempt_id)
            else:
                self._publish(staged, key)
        except OSError as error:
            raise self._explain(error, staged, chunks, run_id, key) from error

    def stage(self, run_id: str, step: str, attempt_id: str, key: str, chunks: Chunks) -> None:
        _, folder, flat = self._locate(key)
        staged = f"{self._run(run_id)}/{flat_name(attempt_id)}~{flat}"
        try:
            if folder not in self._writable:
                self._ensure_writable(folder)
            self._write(staged, chunks)
        except OSError as error:
            raise self._explain(error, staged, chunks, run_id, step) from error

    def commit(self, run_id: str, step: str, attempt_id: str, keys: Sequence[str]) -> None:
        run = self._run(run_id)
        marker = f"{run}/{flat_name(step)}.commit"
        staged = {key: self._staged(run, attempt_id, key) for key in keys}
        try:
            missing = [key for key, path in staged.items() if not os.path.exists(path)]
            if missing:
                self._check_committed(run, run_id, step, attempt_id, missing)
            elif not run_id:
                for key, path in staged.items():
                    self._publish(path, key)
            elif tuple(keys) == (step,):
                self._commit_one(run, staged[step], f"{run}/{flat_name(step)}{SUFFIX}", run_id, step, attempt_id)
            else:
                self._commit_several(run, marker, run_id, step, attempt_id, tuple(keys))
        except OSError as error:
            raise self._explain(error, marker, (), run_id, step) from error

    def discard(self, run_id: str, step: str, attempt_id: str, keys: Sequence[str]) -> None:
        run = self._run(run_id)
        with suppress(OSError):
            if run_id and self._finish(run, step) == attempt_id:
                return
        remove_files(self._staged(run, attempt_id, key) for key in keys)

    def retract(self, run_id: str, step: str) -> None:
        run = self._run(run_id)
        if run_id and self.committed(run_id, step) is not None:
            marker = f"{run}/{flat_name(step)}.commit"
            found = read_marker(marker)
            # The marker last: after a kill the commit is either whole or known to be partial.
            remove_files([f"{run}/{flat_name(key)}{SUFFIX}" for key in (found.keys if found else (step,))] + [marker])

    def end_run(self, run_id: str) -> None:
        if not run_id or not os.path.isdir(self._runs):
            return
        with suppress(OSError):
            # First the mark, then the folder: an attempt that creates the folder again finds the mark and is refused.
            self._make_folders(self._ended)
            os.close(os.open(f"{self._ended}/{flat_name(run_id)}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666))
        with suppress(OSError):
            self._remove_run(self._run(run_id))
        self.sweep()

    # ── the commit ───────────────────────────────────────────────────────────────────────────────────────────────

    def _commit_one(self, run: str, staged: str, version: str, run_id: str, key: str, attempt_id: str) -> None:
        """Commit a step whose only output has the step's name: the link is commit, marker and version in one."""
        try:
            os.link(staged, version)
        except FileExistsError:
            # link() fails atomically, on NFS too: of two attempts exactly one created the name.
            os.unlink(staged)
            names = read_names(version)
            winner = names.attempt_id if names else "unknown"
            if winner == attempt_id:
                # This attempt stores a second time: keep what it has committed, and make sure that it is published.
                os.link(version, staged)
            self._finish(run, key)
            if winner != attempt_id:
                raise too_late_error(run_id, key, attempt_id, winner) from None
            return
        self._publish(staged, key)

    def _commit_several(
        self, run: str, marker: str, run_id: str, step: str, attempt_id: str, keys: tuple[str, ...]
    ) -> None:
        """Commit by a marker that names all keys; the link of the marker is the commit."""
        written = f"{run}/{flat_name(attempt_id)}~.commit"
        self._write(written, [msgspec.json.encode(Marker(written=time.time_ns(), attempt_id=attempt_id, keys=keys))])
        try:
            os.link(written, marker)
        except FileExistsError:
            remove_files([written])
            winner = self._finish(run, step)
            if winner != attempt_id:
                remove_files(self._staged(run, attempt_id, key) for key in keys)
                raise too_late_error(run_id, step, attempt_id, winner or "unknown") from None
            return
        # From here on the step is committed. A kill leaves staged names, which `_finish` publishes.
        os.unlink(written)
        folders: set[str] = set()
        for key in keys:
            staged = self._staged(run, attempt_id, key)
            # A losing attempt or the controller may finish this publication meanwhile: then a name exists or is gone.
            with suppress(FileExistsError, FileNotFoundError):
                os.link(staged, f"{run}/{flat_name(key)}{SUFFIX}")
            folders.add(self._rename(staged, key))
        for folder in folders:  # 1,000 elements of a fan-out share one fsync
            self._sync(folder)

    def _publish(self, staged: str, key: str) -> None:
        self._sync(self._rename(staged, key))

    def _rename(self, staged: str, key: str) -> str:
        """Make the staged file the latest value and return the folder to sync."""
        latest, folder, _ = self._locate(key)
        try:
            os.rename(staged, latest)
        except FileNotFoundError:
            # Either the folder was removed meanwhile, or another process has finished this publication.
            self._make_folders(folder)
            with suppress(FileNotFoundError):
                os.rename(staged, latest)
        return folder

    def _finish(self, run: str, step: str) -> str | None:
        """Publish what the winner of `step` has committed but not yet published, and return the winner."""
        marker = read_marker(f"{run}/{flat_name(step)}.commit")
        if marker is None:
            names = read_names(f"{run}/{flat_name(step)}{SUFFIX}")
            if names is None:
                return None
            marker = Marker(written=names.written, attempt_id=names.attempt_id, keys=(step,))
        for key in marker.keys:
            self._finish_publication(run, self._staged(run, marker.attempt_id, key), key)
        return marker.attempt_id

    def _finish_publication(self, run: str, staged: str, key: str) -> None:
        """Publish one staged value, unless the latest value was written after it."""
        owed = read_names(staged)
        if owed is None:
            return
        with suppress(FileNotFoundError):
            with suppress(FileExistsError):
                os.link(staged, f"{run}/{flat_name(key)}{SUFFIX}")
            if not is_newer(self._locate(key)[0], owed.written):
                self._publish(staged, key)
            # It still exists if it was not published, and after a rename between two names of one file, which POSIX
            # defines to do nothing.
            os.unlink(staged)

    def _check_committed(self, run: str, run_id: str, step: str, attempt_id: str, missing: Sequence[str]) -> None:
        """Return if the attempt has committed before, and so has nothing staged; raise if it cannot commit."""
        winner = self._finish(run, step) if run_id else None
        if winner == attempt_id:
            return
        if winner is not None:
            raise too_late_error(run_id, step, attempt_id, winner)
        if self._has_ended(run):
            raise run_over_error(run_id, step)
        raise commit_error(f"attempt {attempt_id!r} has not staged {missing}", run_id, step, retryable=True)

    # ── ends and leftovers ───────────────────────────────────────────────────────────────────────────────────────

    def _remove_run(self, run: str) -> None:
        """Publish what is committed and not yet published, then remove the run's folder."""
        names = os.listdir(run)
        if any("~" in name for name in names):
            for name in names:
                with suppress(OSError):
                    self._finish_from(run, name)
            names = os.listdir(run)
        remove_files(f"{run}/{name}" for name in names)
        with suppress(OSError):
            os.rmdir(run)

    def _finish_from(self, run: str, name: str) -> None:
        """Finish the publication that a marker or a staged file shows to be cut short."""
        path = f"{run}/{name}"
        if name.endswith(".commit") and "~" not in name:
            marker = read_marker(path)
            if marker is not None:
                for key in marker.keys:
                    self._finish_publication(run, self._staged(run, marker.attempt_id, key), key)
        # A staged file with two links is committed: the second link is the run's version.
        elif "~" in name and os.stat(path).st_nlink > 1:
            names = read_names(path)
            if names:
                self._finish_publication(run, path, names.key)

    # ── files and folders ────────────────────────────────────────────────────────────────────────────────────────

    def _locate(self, key: str) -> tuple[str, str, str]:
        """Return the latest value's path, its folder, and the key's flat name inside a run's folder."""
        located = self._located.get(key)
        if located is None:
            latest = f"{self._root}/{object_path(key)}"
            located = (latest, latest.rpartition("/")[0], flat_name(key))
            if len(self._located) >= _REMEMBERED:
                self._located.clear()
            self._located[key] = located
        return located

    def _run(self, run_id: str) -> str:
        run = self._last_run  # read once: a thread of another run may replace it
        if run[0] != run_id:
            run = self._last_run = (run_id, f"{self._runs}/{flat_name(run_id)}")
        return run[1]

    def _has_ended(self, run: str) -> bool:
        return os.path.exists(f"{self._ended}/{run.rpartition('/')[2]}")

    def _staged(self, run: str, attempt_id: str, key: str) -> str:
        return f"{run}/{flat_name(attempt_id)}~{flat_name(key)}"

    def _write(self, path: str, chunks: Chunks) -> None:
        """Write a new file and force it to disk; remove it if that fails."""
        try:
            fd = os.open(path, _CREATE, 0o666)
        except FileNotFoundError:
            # The first value of the run, or a late one: create the folder before the look at the mark of the end, as
            # the end writes the mark before it removes the folder.
            run = path.rpartition("/")[0]
            self._make_folders(run)
            if self._has_ended(run):
                with suppress(OSError):
                    os.rmdir(run)
                raise RunEndedError from None
            fd = os.open(path, _CREATE, 0o666)
        except FileExistsError:
            # An earlier call of this attempt left it. Unlink, never truncate: the run's version may be the same file.
            os.unlink(path)
            fd = os.open(path, _CREATE, 0o666)
        fill_file(fd, path, chunks, is_synced=self._fsync)

    def _ensure_writable(self, folder: str) -> None:
        """Create the latest value's folder before the commit, so that publication cannot fail for lack of it."""
        self._make_folders(folder)
        if not os.access(folder, os.W_OK | os.X_OK):
            number = errno.EROFS if os.statvfs(folder).f_flag & os.ST_RDONLY else errno.EACCES
            raise OSError(number, os.strerror(number), folder)
        if len(self._writable) >= _REMEMBERED:
            self._writable.clear()
        self._writable.add(folder)

    def _make_folders(self, folder: str) -> None:
        if folder == self._root and not self._make_root:
            os.stat(folder)  # raises where it is not there
            return
        try:
            os.mkdir(folder)
        except FileExistsError:
            return
        except FileNotFoundError:
            self._make_folders(folder.rpartition("/")[0] or "/")
            with suppress(FileExistsError):
                os.mkdir(folder)
        self._sync(folder.rpartition("/")[0] or "/")

    def _sync(self, folder: str) -> None:
        if self._fsync:
            sync_folder(folder)

    # ── errors ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _explain(self, error: OSError, path: str, chunks: Chunks, run_id: str, step: str) -> OutputCommitError:
        if isinstance(error, RunEndedError):
            return run_over_error(run_id, step)
        if isinstance(error, FileNotFoundError) and run_id and self._has_ended(self._run(run_id)):
            return run_over_error(run_id, step)
        if not self._make_root and not os.path.isdir(self._root):
            return commit_error(
                f"this attempt comes too late: {self._root}, where the repository keeps its values, no longer exists",
                run_id,
                step,
                retryable=False,
                hint="the repository was shut down, or its process has ended",
            )
        return write_error(error, path, size_of(chunks), run_id, step)
