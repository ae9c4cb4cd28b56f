"""InMemoryIOHandler: values as objects of this process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rivers._io.base import AtomicIOHandler, Reach
from rivers._io.context import InputContext, OutputContext
from rivers._io.files.value_files import commit_error, too_late_error
from rivers._io.memo import Memo, short_version
from rivers._io.one_shot import own_copy, refuse_one_shot
from rivers._io.suspended import SuspendedRuns
from rivers.exceptions import ValueNotFoundError

__all__ = ["InMemoryIOHandler"]

_MISSING = object()


class _Run:
    """The values, staged values and winning attempts of one run."""

    __slots__ = ("commits", "memos", "notes", "staged", "values")

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.memos: dict[tuple[str, str], Memo] = {}
        self.commits: dict[str, tuple[str]] = {}
        self.staged: dict[tuple[str, str], Any] = {}
        self.notes: dict[tuple[str, str], str] = {}


class InMemoryIOHandler(AtomicIOHandler):
    """An IO handler that keeps values as objects of this process, without copies, for as long as it lives.

    A step that runs in another process cannot reach them; `resolve()` refuses that.

    Storing raises OutputCommitError for an attempt that commits second, and for an iterator or an open file, which only
    one reader could use. Loading raises ValueNotFoundError for a missing value.
    """

    def model_post_init(self, context: Any, /) -> None:
        # Plain attributes: reading one of pydantic's private attributes costs more than a microsecond.
        self._latest: dict[str, Any] = {}
        self._memos: dict[str, Memo] = {}
        self._runs: dict[str, _Run] = {}
        self._suspended = SuspendedRuns()

    @property
    def reach(self) -> Reach:
        return Reach.PROCESS

    def handle_output(self, context: OutputContext, obj: Any) -> None:
        key = context.asset_name
        run_id = context.run_id
        refuse_one_shot(obj, key, run_id, context.step or key)
        obj = own_copy(obj)
        if run_id:
            run = self._runs.get(run_id) or self._run(run_id)
            claim = (context.attempt_id,)
            # setdefault is atomic: of two threads exactly one wins.
            winner = run.commits.setdefault(context.step or key, claim)
            if winner is not claim:
                self._check_winner(run_id, context.step or key, winner[0], context.attempt_id)
                return
            run.values[key] = obj
            if context.note is not None:
                run.notes[context.attempt_id, key] = context.note
        if context.fingerprint is None and not self._memos:
            self._latest[key] = obj
        else:
            self._replace(key, obj, _memo_of(context))

    def load_input(self, context: InputContext) -> Any:
        key = context.asset_name
        if context.run_id is not None:
            run = self._runs.get(context.run_id)
            if run is not None:
                value = run.values.get(key, _MISSING)
                if value is not _MISSING:
                    return own_copy(value)
        value = self._latest.get(key, _MISSING)
        if value is _MISSING:
            reader = f", an input of {context.downstream_asset!r}," if context.downstream_asset else ""
            raise ValueNotFoundError(
                f"the value of {key!r}{reader} does not exist in memory",
                hint=f"materialize {key!r} first with this handler, or include it in the selection; values in memory "
                "are lost when the process ends",
                run_id=context.run_id,
            )
        return own_copy(value)

    def stage(self, context: OutputContext, obj: Any) -> None:
        refuse_one_shot(obj, context.asset_name, context.run_id, context.step)
        run = self._run(context.run_id)
        run.staged[context.attempt_id, context.asset_name] = own_copy(obj)
        if context.note is not None:
            run.notes[context.attempt_id, context.asset_name] = context.note
        memo = _memo_of(context)
        if memo is not None:
            run.memos[context.attempt_id, context.asset_name] = memo

    def commit(self, run_id: str, step: str, attempt_id: str, keys: Sequence[str]) -> None:
        run = self._run(run_id)
        claim = (attempt_id,)
        winner = run.commits.get(step) if run_id else None
        missing = [key for key in keys if (attempt_id, key) not in run.staged]
        if missing and winner is None:
            raise commit_error(f"attempt {attempt_id!r} has not staged {missing}", run_id, step, retryable=True)
        if run_id:
            winner = run.commits.setdefault(step, claim)
        # Staged values are dropped whoever wins; a repeated commit of the winner finds none and changes nothing.
        staged = {key: run.staged.pop((attempt_id, key), None) for key in keys}
        memos = {key: run.memos.pop((attempt_id, key), None) for key in keys} if run.memos else {}
        if winner is not None and winner is not claim:
            self._check_winner(run_id, step, winner[0], attempt_id)
            return
        if run_id:
            run.values.update(staged)
        if not memos and not self._memos:
            self._latest.update(staged)
            return
        for key, obj in staged.items():
            self._replace(key, obj, memos.get(key))

    def discard(self, run_id: str, step: str, attempt_id: str, keys: Sequence[str]) -> None:
        run = self._runs.get(run_id)
        if run is not None:
            for key in keys:
                run.staged.pop((attempt_id, key), None)
                run.memos.pop((attempt_id, key), None)
                run.notes.pop((attempt_id, key), None)

    def committed(self, run_id: str, step: str) -> str | None:
        run = self._runs.get(run_id)
        winner = run.commits.get(step) if run else None
        return winner[0] if winner else None

    def retract(self, run_id: str, step: str) -> None:
        run = self._runs.get(run_id)
        if run is not None:
            run.commits.pop(step, None)

    def recall(self, context: OutputContext) -> str | None:
        run = self._runs.get(context.run_id)
        return run.notes.get((context.attempt_id, context.asset_name)) if run is not None else None

    def end_run(self, run_id: str) -> None:
        self._runs.pop(run_id, None)

    def suspend_run(self, run_id: str) -> None:
        oldest = self._suspended.add(run_id)
        if oldest:
            self.end_run(oldest)

    def read_memo(self, key: str) -> Memo | None:
        return self._memos.get(key)

    def has(self, key: str, run_id: str | None = None) -> bool:
        """Return whether there is a latest value, or with `run_id` a value of that run."""
        if run_id is None:
            return key in self._latest
        run = self._runs.get(run_id)
        return run is not None and key in run.values

    def stored_keys(self) -> list[str]:
        """Return the keys that have a latest value."""
        return list(self._latest)

    def forget(self, key: str) -> None:
        """Drop the latest value."""
        self._memos.pop(key, None)
        self._latest.pop(key, None)

    def _replace(self, key: str, obj: Any, memo: Memo | None) -> None:
        # No memo may ever stand beside another attempt's value.
        self._memos.pop(key, None)
        self._latest[key] = obj
        if memo is not None:
            self._memos[key] = memo

    def _run(self, run_id: str) -> _Run:
        return self._runs.setdefault(run_id, _Run())

    def _check_winner(self, run_id: str, step: str, winner: str, attempt_id: str) -> None:
        """Raise OutputCommitError unless the winner stores again, which changes nothing."""
        if winner != attempt_id:
            raise too_late_error(run_id, step, attempt_id, winner)


def _memo_of(context: OutputContext) -> Memo | None:
    """Return the memo of an object: to hash its content would cost a pickle, so the attempt stands for its version."""
    if context.fingerprint is None:
        return None
    version = short_version(context.data_version) if context.data_version is not None else context.attempt_id
    return Memo(context.attempt_id, version, context.fingerprint)
