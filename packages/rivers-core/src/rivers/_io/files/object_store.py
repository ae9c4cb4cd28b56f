"""Values as objects of a bucket: a conditional create commits, server-side copies publish.

    one output with its step's name     create <step>.pkl, the value itself          → copy to the latest name
    the same, large or staged before    put staged → create <step>.pkl, a pointer    → copy to the latest name
    several outputs                     put staged → create <step>.commit → pointers → copies to the latest names
                                                     └ the commit: one attempt wins

A pointer is a value without a pickle: its trailer names the attempt whose staged object holds the value.

This module alone imports obstore (extra `objectstore`); a handler imports it when it first uses a store.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotFoundError,
)
from obstore.store import from_url

from rivers._io.files.key import SUFFIX
from rivers._io.files.object_names import Commit, ObjectNames, Stored
from rivers._io.files.store_address import address_of
from rivers._io.files.store_errors import StoreRefusedError, explain, short_text
from rivers._io.files.store_secrets import check_environment
from rivers._io.files.sweep import MOST_MARKS, seconds_between
from rivers._io.files.trailer import TAIL_BYTES, Damaged, Names, Trailer, find_pointed_attempt, seal, trailer_size
from rivers._io.files.value_files import Chunks, Marker, commit_error, run_over_error, size_of, too_late_error
from rivers.exceptions import ConfigurationError, OutputCommitError

__all__ = ["ObjectFiles"]

_MISSING = (NotFoundError, FileNotFoundError)
_EXISTS = (AlreadyExistsError, FileExistsError)
_FAILED = (BaseError, OSError)

_RETRIES = {"max_retries": 5, "retry_timeout": timedelta(seconds=60)}
# Bytes; above, an upload in parts is faster and stays within the client's time limit per request.
_ONE_REQUEST = 8 * 2**20


class ObjectFiles(ObjectNames):
    """A prefix of a bucket that implements `ValueFiles`; leftovers are removed at an age of `sweep_after` seconds."""

    def __init__(self, store: Any, *, prefix: str, sweep_after: float) -> None:
        super().__init__(prefix)
        self._store = _open(store)
        self._url = address_of(store)
        self._sweep_after = timedelta(seconds=sweep_after)
        self._sweep_every = timedelta(seconds=seconds_between(sweep_after))
        self._not_before = 0.0

    def path(self, key: str) -> str:
        return f"{self._url}/{self._latest(key)}"

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────

    def read(self, run_id: str | None, key: str) -> memoryview | None:
        try:
            data = self._get(self._version(self._run(run_id), key)) if run_id else None
            if data is None or run_id is None:
                return self._get(self._latest(key))
            attempt_id = find_pointed_attempt(data)
            return data if attempt_id is None else self._get(self._staged(self._run(run_id), attempt_id, key))
        except _FAILED as error:
            refusal = explain(error, self._url)
            if refusal is not None:
                raise StoreRefusedError(errno.EACCES, refusal.message, self.path(key), refusal.hint) from error
            raise OSError(errno.EIO, short_text(error), self.path(key)) from error

    def read_names(self, key: str) -> Names | None:
        try:
            found = self._read_trailer(self._latest(key))
        except (*_FAILED, Damaged):
            return None
        return found.names if found is not None else None

    def read_committed(self, run_id: str, key: str) -> tuple[Names, int] | None:
        run = self._run(run_id)
        try:
            found = self._read_trailer(self._version(run, key))
            if found is not None and found.is_pointer:
                found = self._read_trailer(self._staged(run, found.names.attempt_id, key))
        except (*_FAILED, Damaged):
            return None
        return (found.names, found.size) if found is not None else None

    def committed(self, run_id: str, step: str) -> str | None:
        with self._errors(run_id, step, step):
            return self._finish(self._run(run_id), step) if run_id else None

    # ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────

    def store(self, run_id: str, attempt_id: str, key: str, chunks: Chunks) -> None:
        if run_id and size_of(chunks) > _ONE_REQUEST:
            self.stage(run_id, key, attempt_id, key, chunks)
            self.commit(run_id, key, attempt_id, (key,))
            return
        with self._errors(run_id, key, key):
            if run_id:
                version = self._version(self._run(run_id), key)
                # A conditional create needs the whole body in one request.
                self._create(version, b"".join(chunks), run_id, key, attempt_id)
                obstore.copy(self._store, version, self._latest(key))
            else:
                obstore.put(self._store, self._latest(key), b"".join(chunks))

    def stage(self, run_id: str, step: str, attempt_id: str, key: str, chunks: Chunks) -> None:
        with self._errors(run_id, step, key):
            obstore.put(self._store, self._staged(self._run(run_id), attempt_id, key), b"".join(chunks))

    def commit(self, run_id: str, step: str, attempt_id: str, keys: Sequence[str]) -> None:
        run = self._run(run_id)
        staged = {key: self._staged(run, attempt_id, key) for key in keys}
        with self._errors(run_id, step, step):
            try:
                if run_id and tuple(keys) == (step,):
                    pointer = seal([], attempt_id, step)
                    self._create(self._version(run, step), pointer, run_id, step, attempt_id)
                elif run_id:
                    marker = msgspec.json.encode(
                        Marker(written=time.time_ns(), attempt_id=attempt_id, keys=tuple(keys))
                    )
                    self._create(self._marker(run, step), marker, run_id, step, attempt_id)
                    self._write_pointers(run, attempt_id, keys)
            except OutputCommitError:
                self._delete(staged.values())
                raise
            # Committed. If a copy fails, the next reader of the run's pointers or its end publishes again.
            try:
                for key, path in staged.items():
                    obstore.copy(self._store, path, self._latest(key))
            except _MISSING as error:
                # Nothing was staged, or the run was ended meanwhile: a commit of nothing must not stand.
                self._delete([self._version(run, key) for key in keys])
                self._delete([self._marker(run, step)])
                if self._get(self._end_mark(run_id)) is not None:
                    raise run_over_error(run_id, step) from error
                message = f"attempt {attempt_id!r} has not staged {', '.join(keys)}"
                raise commit_error(message, run_id, step, retryable=True) from error
        if not run_id:
            self._delete(staged.values())

    def discard(self, run_id: str, step: str, attempt_id: str, keys: Sequence[str]) -> None:
        run = self._run(run_id)
        with suppress(*_FAILED):
            if run_id and self._finish(run, step) == attempt_id:
                return
        self._delete(self._staged(run, attempt_id, key) for key in keys)

    def retract(self, run_id: str, step: str) -> None:
        run = self._run(run_id)
        with self._errors(run_id, step, step):
            if run_id and self._finish(run, step) is not None:
                commit = self._by_marker(run, self._marker(run, step))
                self._delete([self._version(run, key) for key in (commit.sources if commit is not None else (step,))])
                # Last: after a kill the commit is either whole or known to be partial.
                self._delete([self._marker(run, step)])

    def end_run(self, run_id: str) -> None:
        if not run_id:
            return
        with suppress(*_FAILED):
            # First the mark, then the run's objects: an attempt that creates one again finds the mark and is refused.
            obstore.put(self._store, self._end_mark(run_id), b"")
            self._delete(self._list(self._run(run_id)))
            self._sweep_if_due()

    # ── the commit ───────────────────────────────────────────────────────────────────────────────────────────────

    def _create(self, path: str, data: bytes, run_id: str, step: str, attempt_id: str) -> None:
        """Create the object that is the commit; raise if another attempt or the run's end came first.

        If it exists with this attempt's name, the answer to an earlier request was lost, and the commit is done.
        """
        try:
            obstore.put(self._store, path, data, mode="create", use_multipart=False)
        except _EXISTS:
            winner = self._finish(self._run(run_id), step)
            if winner != attempt_id:
                raise too_late_error(run_id, step, attempt_id, winner or "unknown") from None
        # Checked after the create: the end of the run puts its mark before it lists the objects to delete, so that one
        # of the two sees the other.
        if self._get(self._end_mark(run_id)) is not None:
            self._delete([path])
            raise run_over_error(run_id, step)

    def _write_pointers(self, run: str, attempt_id: str, keys: Iterable[str]) -> None:
        """Write each key's version in the run: a pointer to the staged object."""
        for key in keys:
            obstore.put(self._store, self._version(run, key), seal([], attempt_id, key))

    def _finish(self, run: str, step: str) -> str | None:
        """Publish what the winner of `step` has committed but not yet published, and return the winner."""
        commit = self._by_marker(run, self._marker(run, step))
        if commit is not None:
            self._write_pointers(run, commit.attempt_id, commit.sources)
        else:
            commit = self._by_version(run, self._version(run, step))
        if commit is None:
            return None
        self._finish_publication(commit)
        return commit.attempt_id

    def _by_marker(self, run: str, path: str) -> Commit | None:
        try:
            found = obstore.get(self._store, path)
        except _MISSING:
            return None
        marker = msgspec.json.decode(memoryview(found.bytes()), type=Marker)
        sources = {key: self._staged(run, marker.attempt_id, key) for key in marker.keys}
        return Commit((found.meta["last_modified"], marker.written), marker.attempt_id, sources)

    def _by_version(self, run: str, path: str) -> Commit | None:
        found = self._read_trailer(path)
        if found is None:
            return None
        names = found.names
        source = self._staged(run, names.attempt_id, names.key) if found.is_pointer else path
        return Commit((found.modified, names.written), names.attempt_id, {names.key: source})

    def _read_trailer(self, path: str) -> Stored | None:
        """Return what the end of an object says; None if there is no object."""
        try:
            meta = obstore.head(self._store, path)
            start = max(0, meta["size"] - TAIL_BYTES)
            tail = memoryview(obstore.get_range(self._store, path, start=start, end=meta["size"]))
            whole = trailer_size(tail)
            if len(tail) < whole <= meta["size"]:
                start = meta["size"] - whole
                tail = memoryview(obstore.get_range(self._store, path, start=start, end=meta["size"]))
        except _MISSING:
            return None
        trailer = Trailer(tail, meta["size"])
        return Stored(trailer.names(), meta["last_modified"], trailer.pickled == 0, meta["size"])

    def _finish_publication(self, commit: Commit) -> None:
        """Publish a commit, except for keys whose latest value was written after it."""
        for key, source in commit.sources.items():
            latest = None
            with suppress(Damaged):
                latest = self._read_trailer(self._latest(key))
            # The store's clock counts in seconds; the writers' clocks decide within one.
            if latest is None or (latest.modified, latest.names.written) <= commit.when:
                obstore.copy(self._store, source, self._latest(key))

    # ── leftovers ────────────────────────────────────────────────────────────────────────────────────────────────

    def sweep(self) -> None:
        with suppress(*_FAILED):
            self._sweep_if_due()

    def _sweep_if_due(self) -> None:
        """Sweep, unless this or another process did so less than an hour ago; to find out costs at most one GET."""
        if time.monotonic() < self._not_before:
            return
        self._not_before = time.monotonic() + self._sweep_every.total_seconds()
        path, after = f"{self._base}.rivers/swept", ""
        with suppress(*_MISSING):
            found = obstore.get(self._store, path)
            if datetime.now(UTC) - found.meta["last_modified"] < self._sweep_every:
                return
            after = bytes(found.bytes()).decode(errors="replace")
        # Put before the sweep, so that a process that ends meanwhile does not start another one.
        obstore.put(self._store, path, after.encode())
        self._sweep_runs()
        obstore.put(self._store, path, self._sweep_marks(after).encode())

    def _sweep_runs(self) -> None:
        """Remove leftovers of killed runs that are old enough, after publishing what they have committed."""
        before = datetime.now(UTC) - self._sweep_after
        runs = f"{self._base}.rivers/runs"
        for run in obstore.list_with_delimiter(self._store, runs)["common_prefixes"]:
            paths = self._list(run, before)
            for path in paths:
                with suppress(*_FAILED, Damaged, msgspec.DecodeError):
                    by = self._by_version if path.endswith(SUFFIX) else self._by_marker
                    commit = None if "~" in path.rpartition("/")[2] else by(run, path)
                    if commit is not None:
                        self._finish_publication(commit)
            self._delete(paths)

    def _sweep_marks(self, after: str) -> str:
        """Remove old marks of ended runs among a bounded number, and return the name after which to go on."""
        before = datetime.now(UTC) - self._sweep_after
        seen = 0
        marks = f"{self._base}.rivers/ended"
        for chunk in obstore.list(self._store, marks, offset=after or None, chunk_size=1000):
            self._delete([item["path"] for item in chunk if item["last_modified"] < before])
            seen += len(chunk)
            if seen >= MOST_MARKS:
                return str(chunk[-1]["path"])
        return ""

    def _list(self, run: str, before: datetime | None = None) -> list[str]:
        """Return the names of a run's objects, or none if one of them is younger than `before`."""
        paths: list[str] = []
        for chunk in obstore.list(self._store, run):
            if before is not None and any(item["last_modified"] >= before for item in chunk):
                return []
            paths += [item["path"] for item in chunk]
        return paths

    # ── names and requests ───────────────────────────────────────────────────────────────────────────────────────

    def _get(self, path: str) -> memoryview | None:
        try:
            return memoryview(obstore.get(self._store, path).bytes())
        except _MISSING as error:
            if explain(error, self._url) is not None:
                raise
            return None

    def _delete(self, paths: Iterable[str]) -> None:
        names = list(paths)
        if names:
            with suppress(*_FAILED):
                obstore.delete(self._store, names)

    @contextmanager
    def _errors(self, run_id: str, step: str, key: str) -> Iterator[None]:
        try:
            yield
        except (Damaged, msgspec.DecodeError) as error:
            raise commit_error(
                f"the commit of step {step!r} is damaged: {error}", run_id, step, retryable=False
            ) from error
        except _FAILED as error:
            refusal = explain(error, self._url)
            if refusal is not None:
                message = f"{self.path(key)}: {refusal.message}"
                raise commit_error(message, run_id, step, retryable=False, hint=refusal.hint) from error
            if not isinstance(error, _MISSING):
                raise commit_error(f"{self.path(key)}: {short_text(error)}", run_id, step, retryable=True) from error
            # A copy found no source: the run's objects were removed meanwhile, or were never staged.
            if run_id and self._get(self._end_mark(run_id)) is not None:
                raise run_over_error(run_id, step) from error
            raise commit_error(f"nothing staged for {key!r}", run_id, step, retryable=True) from error


def _open(store: Any) -> Any:
    if isinstance(store, str):
        store = {"url": store}
    if isinstance(store, dict):
        options: dict[str, Any] = {
            "retry_config": _RETRIES,
            **{name: value for name, value in store.items() if name not in ("url", "environment")},
        }
        check_environment(store.get("environment", []), store["url"])
        options["retry_config"] = _durations(options["retry_config"])
        try:
            return from_url(store["url"], **options)
        except _FAILED as error:
            raise ConfigurationError(f"{store['url']} cannot be opened: {short_text(error)}") from None
    return store


def _durations(retry: dict[str, Any]) -> dict[str, Any]:
    """Convert the seconds of JSON to the timedeltas that obstore takes."""
    durations = ("retry_timeout", "init_backoff", "max_backoff")
    return {
        name: _durations(value)
        if isinstance(value, dict)
        else timedelta(seconds=value)
        if name in durations and not isinstance(value, timedelta)
        else value
        for name, value in retry.items()
    }
