"""IO handlers: the interface of what stores and loads values."""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from rivers._io.context import InputContext, OutputContext
from rivers._io.memo import Memo
from rivers._io.settings import ResourceSettings

__all__ = ["AtomicIOHandler", "BaseIOHandler", "Reach"]


class Reach(enum.IntEnum):
    """The distance from which a handler's values can be read: this process, this machine, or anywhere."""

    PROCESS = 1
    MACHINE = 2
    ANYWHERE = 3


class BaseIOHandler(ResourceSettings, ABC):
    """Base of IO handlers: a pydantic-settings model, so that fields come from arguments or the environment.

    A worker in another process builds the handler again from its class and its fields as JSON.
    """

    @property
    def reach(self) -> Reach:
        """Return from where the stored values can be read; `resolve()` refuses a step that runs further away."""
        return Reach.ANYWHERE

    @abstractmethod
    def handle_output(self, context: OutputContext, obj: Any) -> None:
        """Store `obj` under `context.asset_name`.

        Called once per attempt; a retry calls it again, so write so that the last complete write wins.
        """

    @abstractmethod
    def load_input(self, context: InputContext) -> Any:
        """Return the value stored under `context.asset_name`; raise any error when there is none."""

    def read_memo(self, key: str) -> Memo | None:
        """Return the memo of the latest value under `key`; None if there is no value, or the handler keeps no memos.

        A run that skips what did not change calls it in the controller, before it starts: it reads no value. A handler
        keeps memos if it stores `OutputContext.fingerprint` in one act with the value.
        """
        return None

    def preflight(self) -> str | None:
        """Return the problem that keeps this handler from working in this process, such as a missing package, or None.

        `resolve()` calls it; it must not touch the store.
        """
        return None

    def end_run(self, run_id: str) -> None:
        """Release what was kept only for this run; the controller calls it once the run is over."""

    def suspend_run(self, run_id: str) -> None:
        """Take the end of a run that did not succeed and may be resumed; called in place of `end_run`."""
        self.end_run(run_id)


class AtomicIOHandler(BaseIOHandler):
    """A handler that publishes all outputs of a step together, once, or not at all.

    `stage` writes where no reader looks. `commit` publishes everything that one attempt has staged in one atomic act,
    and raises OutputCommitError if another attempt of the same run and step has committed before.
    """

    @abstractmethod
    def stage(self, context: OutputContext, obj: Any) -> None:
        """Write `obj` so that a later `commit` cannot fail for lack of space or permission."""

    @abstractmethod
    def commit(self, run_id: str, step: str, attempt_id: str, keys: Sequence[str]) -> None:
        """Publish what this attempt staged under `keys`, all of it or nothing; the first attempt of a step wins."""

    @abstractmethod
    def discard(self, run_id: str, step: str, attempt_id: str, keys: Sequence[str]) -> None:
        """Remove what this attempt staged and did not commit; ignore what is not there."""

    def suspend_run(self, run_id: str) -> None:
        """Keep what was kept for this run, as a later process may resume it and asks what it has committed."""

    @abstractmethod
    def committed(self, run_id: str, step: str) -> str | None:
        """Return the id of the attempt that committed this step in this run, or None.

        It finishes a publication that a kill cut short, so that what is committed is also visible.
        """

    def retract(self, run_id: str, step: str) -> None:
        """Forget that an attempt has committed this step in this run, so that another one can; keep the latest values.

        A controller that resumes a run calls it for a step that also has outputs in another store, which has lost them,
        such as the memory of a process. Without it such a step fails in the resumed run.
        """
        return

    def recall(self, context: OutputContext) -> str | None:
        """Return the `note` of the value that the run of `context` has committed under its key; None without one.

        Set on `context` what storing the value has set, such as metadata. A controller calls it for an attempt that it
        did not hear succeed; a handler without it loses what the body has said of its output.
        """
        return None

    def handle_output(self, context: OutputContext, obj: Any) -> None:
        """Stage and commit at once."""
        self.stage(context, obj)
        self.commit(context.run_id, context.step, context.attempt_id, (context.asset_name,))
