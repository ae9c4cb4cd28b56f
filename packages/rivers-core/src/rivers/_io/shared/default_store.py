"""The default store: a repository's values, in memory until a step of another process needs them.

    a run with all steps in this process    the objects themselves, in an InMemoryIOHandler
    a run with steps in other processes     files in a folder of this machine, mapped by their readers

The repository chooses one of the two for each run before it starts. The latest value of a key is the one that was
stored last, in either of them.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Sequence
from typing import Any

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from rivers._io.base import AtomicIOHandler, Reach
from rivers._io.context import InputContext, OutputContext
from rivers._io.files.trailer import Damaged
from rivers._io.files.value_files import commit_error
from rivers._io.memo import Memo, make_memo
from rivers._io.memory import InMemoryIOHandler
from rivers._io.one_shot import refuse_one_shot
from rivers._io.shared.machine_files import MachineFiles, Parts, link_values
from rivers._io.shared.machine_space import MachineSpace, choose_bases, is_private, make_space, sweep
from rivers._io.shared.mapped import take_apart
from rivers._io.shared.out_of_band import deserialize, serialize
from rivers._io.suspended import SuspendedRuns
from rivers.exceptions import ExecutionError, InputLoadError, ValueNotFoundError
from rivers.protocol.exception_text import describe_exception
from rivers_process.fork import renew_in_children

__all__ = ["DefaultStore"]

# Ended runs that are remembered as shared, so that a late attempt of theirs does not store in memory.
_ENDED_KEPT = 1000


class DefaultStore(AtomicIOHandler):
    """The IO handler of values without one of their own; the repository has one, and each of its workers another.

    `share` prepares a run whose values other processes reach. Its values are pickles with buffers out of band: arrays
    of numpy, Arrow and pandas are loaded without a copy, and are read-only. In a worker all runs are shared.

    Storing raises OutputCommitError for a value that cannot be pickled or stored, loading InputLoadError for one that
    is missing (`retryable`), damaged, or removed with the folder.
    """

    model_config = SettingsConfigDict(hide_input_in_errors=True)

    folder: str | None = None
    """The folder of shared values; None until the first run shares some."""

    beside: str | None = None
    """The folder of values that do not fit into `folder`; None if that is on disk already."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the arguments as the only source: a variable FOLDER is not meant for this."""
        return (init_settings,)

    def model_post_init(self, context: Any, /) -> None:
        # Plain attributes: reading one of pydantic's private attributes costs more than a microsecond.
        self._memory = InMemoryIOHandler()
        # When a value in memory was stored, by keys, since there is a folder.
        self._stored_at: dict[str, int] = {}
        self._is_worker = self.folder is not None
        self._shared: set[str] = set()
        self._ended: deque[str] = deque()
        self._suspended = SuspendedRuns()
        self._files: MachineFiles | None = None
        self._spaces: list[MachineSpace] = []
        self._lock = threading.RLock()
        self._closed = False
        self._is_inherited = False
        renew_in_children(self, DefaultStore._renew)

    def _renew(self) -> None:
        """In a forked child: the folder is the parent's, to read from until this process shares values of its own."""
        self._lock = threading.RLock()
        self._spaces = []
        self._shared = set()
        self._is_inherited = self.folder is not None and not self._is_worker

    @property
    def reach(self) -> Reach:
        return Reach.MACHINE

    # ── storing and loading ──────────────────────────────────────────────────────────────────────────────────────

    def handle_output(self, context: OutputContext, obj: Any) -> None:
        # No run has been shared yet: the common case of a repository that runs in this process only.
        if self.folder is None:
            self._memory.handle_output(context, obj)
            return
        key, run_id = context.asset_name, context.run_id
        if not self._is_shared(run_id):
            self._memory.handle_output(context, obj)
            self._note_times((key,))
        elif context.step and context.step != key:
            super().handle_output(context, obj)
        else:
            parts = _parts(obj, key, run_id, key)
            memo = make_memo(context, (parts[0], *parts[1]), obj)
            self._open().store(run_id, context.attempt_id, key, parts, time.monotonic_ns(), memo)

    def load_input(self, context: InputContext) -> Any:
        if self.folder is None or self._is_in_memory(context.run_id, context.asset_name):
            return self._memory.load_input(context)
        return self._load(context)

    def stage(self, context: OutputContext, obj: Any) -> None:
        if not self._is_shared(context.run_id):
            self._memory.stage(context, obj)
            return
        key = context.asset_name
        parts = _parts(obj, key, context.run_id, context.step)
        memo = make_memo(context, (parts[0], *parts[1]), obj)
        self._open().stage(context.run_id, context.step, context.attempt_id, key, parts, time.monotonic_ns(), memo)

    def commit(self, run_id: str, step: str, attempt_id: str, keys: Sequence[str]) -> None:
        if self._is_shared(run_id):
            self._open().commit(run_id, step, attempt_id, keys)
        else:
            self._memory.commit(run_id, step, attempt_id, keys)
            self._note_times(keys)

    def discard(self, run_id: str, step: str, attempt_id: str, keys: Sequence[str]) -> None:
        if self._is_shared(run_id):
            self._open().discard(run_id, step, attempt_id, keys)
        else:
            self._memory.discard(run_id, step, attempt_id, keys)

    def committed(self, run_id: str, step: str) -> str | None:
        if self._is_shared(run_id):
            return self._open().committed(run_id, step)
        return self._memory.committed(run_id, step)

    def retract(self, run_id: str, step: str) -> None:
        (self._open() if self._is_shared(run_id) else self._memory).retract(run_id, step)

    def recall(self, context: OutputContext) -> str | None:
        if not self._is_shared(context.run_id):
            return self._memory.recall(context)
        found = self._open().read_committed(context.run_id, context.asset_name)
        if found is None:
            return None
        context.data_version = found[0].version
        return found[0].note

    def read_memo(self, key: str) -> Memo | None:
        if self.folder is None or self._is_in_memory(None, key):
            return self._memory.read_memo(key)
        names = self._open().read_names(key)
        return names.memo() if names is not None else None

    # ── the repository's side ────────────────────────────────────────────────────────────────────────────────────

    def share(self, run_id: str) -> None:
        """Store the values of this run where all processes of this user on this machine reach them.

        Raises:
            ConfigurationError: no folder can be created for them.
            ExecutionError: the store is closed.
        """
        with self._lock:
            if self._closed:
                raise ExecutionError("the repository was shut down", hint="make a new CodeRepository")
            if self.folder is None or self._is_inherited or not os.path.isdir(self.folder):
                self._make_spaces()
            self._shared.add(run_id)

    def keys_in_memory(self) -> dict[str, list[str]]:
        """Return the keys of values in memory, by name; a fan-out has several, `name[…]` and `name[]`."""
        found: dict[str, list[str]] = {}
        for key in self._memory.stored_keys():
            found.setdefault(key.partition("[")[0], []).append(key)
        return found

    def hand_over(self, key: str) -> None:
        """Copy a value from memory to the folder, unless the folder has a newer one.

        Raises:
            OutputCommitError: it cannot be pickled or stored; the cause is the error of pickling.
        """
        with self._lock:
            files = self._open()
            written, stored = files.written(key), self._stored_at.get(key, 0)
            if written is None or written < stored:
                value = self._memory.load_input(InputContext(key))
                memo = self._memory.read_memo(key)
                files.store("", memo.attempt_id if memo else "", key, _parts(value, key, "", key), stored, memo)

    def end_run(self, run_id: str) -> None:
        if not self._is_shared(run_id):
            self._memory.end_run(run_id)
            return
        with self._lock:
            files = self._open()
            self._forget_older(files, run_id)
            self._ended.append(run_id)
            # A run stays among the shared ones after its end: a late attempt must not fall back to memory.
            if len(self._ended) > _ENDED_KEPT:
                self._shared.discard(self._ended.popleft())
            files.end_run(run_id, self._shared.difference(self._ended))

    def suspend_run(self, run_id: str) -> None:
        oldest = self._suspended.add(run_id)
        if oldest:
            self.end_run(oldest)

    def folders(self) -> tuple[str, ...]:
        """Return the folders that this process has created and removes: all that the store has on this machine."""
        return tuple(space.path for space in self._spaces) if not self._closed else ()

    def close(self) -> None:
        """Remove the shared values; values in memory stay for as long as the store lives."""
        with self._lock:
            self._closed = True
            for space in self._spaces:
                space.remove()

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _is_shared(self, run_id: str | None) -> bool:
        return run_id in self._shared or self._is_worker

    def _note_times(self, keys: Sequence[str]) -> None:
        """Note when values were stored in memory, as soon as a folder may hold older or newer ones."""
        if self.folder is not None:
            now = time.monotonic_ns()
            for key in keys:
                self._stored_at[key] = now

    def _is_in_memory(self, run_id: str | None, key: str) -> bool:
        """Return whether the value to load is the one in memory; a copy in the folder is no newer value."""
        if self._is_shared(run_id):
            return False
        if run_id is not None and self._memory.has(key, run_id):
            return True
        if not self._memory.has(key):
            return False
        written = self._open().written(key)
        return written is None or self._stored_at.get(key, 0) >= written

    def _forget_older(self, files: MachineFiles, run_id: str) -> None:
        """Drop values in memory that the run has replaced by newer ones."""
        key_finder = files.key_finder(run_id)
        for key in self._memory.stored_keys():
            if key_finder(key):
                written = files.written(key)
                if written is not None and written > self._stored_at.get(key, 0):
                    self._memory.forget(key)

    def _make_spaces(self) -> None:
        """Choose the folders' location, remove what dead processes have left there, and create the folders."""
        base, beside = choose_bases()
        sweep([base, beside] if beside is not None else [base])
        spaces: list[MachineSpace] = []
        weakref.finalize(self, _remove, spaces)
        spaces.append(make_space(base))
        if beside is not None:
            spaces.append(make_space(beside))
        if self._is_inherited and self.folder is not None:
            link_values(self.folder, spaces[0].path)
        self._spaces, self._files, self._is_inherited = spaces, None, False
        self.folder, self.beside = spaces[0].path, spaces[-1].path if beside is not None else None

    def _open(self) -> MachineFiles:
        files = self._files
        if files is None:
            assert self.folder is not None
            if os.path.lexists(self.folder) and not is_private(self.folder):
                raise ExecutionError(
                    f"{self.folder} is no folder of this user that is closed to others: its values are not loaded"
                )
            files = self._files = MachineFiles(self.folder, self.beside)
        return files

    def _load(self, context: InputContext) -> Any:
        key = context.asset_name
        files = self._open()
        try:
            data = files.read(context.run_id, key)
            parts = take_apart(data, key) if data is not None else None
        except Damaged as error:
            raise self._load_error(context, f"is damaged: {error}", hint=f"materialize {key!r} again") from error
        except OSError as error:
            raise self._load_error(context, f"cannot be read: {error}", retryable=True) from error
        if parts is None:
            raise self._missing(context)
        try:
            return deserialize(*parts)
        except MemoryError:
            raise
        except Exception as error:
            # Unpickling runs code of the value's classes.
            raise self._load_error(context, f"cannot be unpickled: {describe_exception(error)}") from error

    def _missing(self, context: InputContext) -> InputLoadError:
        folder = self.folder or ""
        if not os.path.isdir(folder):
            return self._load_error(context, f"was removed with {folder}", hint=_SHUT_DOWN)
        hint = f"materialize {context.asset_name!r} first, or include it in the selection"
        what = f"does not exist in {folder}"
        return self._load_error(context, what, retryable=True, hint=hint, kind=ValueNotFoundError)

    def _load_error(
        self,
        context: InputContext,
        what: str,
        *,
        retryable: bool = False,
        hint: str | None = None,
        kind: type[InputLoadError] = InputLoadError,
    ) -> InputLoadError:
        reader = f", an input of {context.downstream_asset!r}," if context.downstream_asset else ""
        message = f"the value of {context.asset_name!r}{reader} {what}"
        error = kind(message, hint=hint, run_id=context.run_id)
        error.retryable = retryable
        return error


_SHUT_DOWN = (
    "the repository was shut down, which removes the values of its runs with steps in other processes; give an "
    "io_handler to assets whose values must stay"
)


def _parts(value: Any, key: str, run_id: str, step: str) -> Parts:
    refuse_one_shot(value, key, run_id, step)
    try:
        return serialize(value)
    except MemoryError:
        raise
    except Exception as error:
        # Pickling runs code of the value's classes.
        raise commit_error(
            f"the value of {key!r}, a {type(value).__module__}.{type(value).__qualname__}, cannot be pickled for other "
            f"processes: {error}",
            run_id,
            step,
            retryable=False,
            hint="return data, without open files, locks, connections or local classes, or use another IO handler",
        ) from error


def _remove(spaces: list[MachineSpace]) -> None:
    for space in spaces:
        space.remove()
