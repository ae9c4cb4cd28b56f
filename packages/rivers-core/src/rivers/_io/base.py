"""The IO handler: the one thing that stores and loads values; nothing else ever sees them cross a boundary."""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from rivers._io.context import InputContext, OutputContext
from rivers._io.settings import ResourceSettings

__all__ = ["AtomicIOHandler", "BaseIOHandler", "Reach"]


class Reach(enum.IntEnum):
    """From where a handler's values can be read: this process, every process of this machine, or anywhere."""

    PROCESS = 1
    MACHINE = 2
    ANYWHERE = 3


class BaseIOHandler(ResourceSettings, ABC):
    """Base of IO handlers: a pydantic-settings model, so that fields come from arguments or the environment.

    A worker in another process builds the handler again from its class and its fields as JSON.
    """

    @property
    def reach(self) -> Reach:
        """From where the stored values can be read; a step that runs further away is refused by `resolve()`."""
        return Reach.ANYWHERE

    @abstractmethod
    def handle_output(self, context: OutputContext, obj: Any) -> None:
        """Store `obj` under `context.asset_name`.

        Called once per attempt; a retry calls it again, so write so that the last complete write wins.
        """

    @abstractmethod
    def load_input(self, context: InputContext) -> Any:
        """Return the value stored under `context.asset_name`; raise any error when there is none."""

    def preflight(self) -> str | None:
        """Say what keeps this handler from working in this process, such as a missing package; None when nothing does.

        Asked by `resolve()`; touches no store.
        """
        return None

    def end_run(self, run_id: str) -> None:
        """Called in the controller once the run is over: let go of what was kept only for this run."""


class AtomicIOHandler(BaseIOHandler):
    """A handler whose writes of one step become visible together, once, or not at all.

    `stage` writes where no reader looks; `commit` makes everything staged for one attempt visible in one atomic act,
    and fails with `OutputCommitError` where another attempt of the same run and step has committed before.
    """

    @abstractmethod
    def stage(self, context: OutputContext, obj: Any) -> None:
        """Write `obj` so that a later `commit` cannot fail for want of space or permission."""

    @abstractmethod
    def commit(self, run_id: str, step: str, attempt_id: str, keys: Sequence[str]) -> None:
        """Publish what this attempt staged under `keys`: all of it or nothing, first attempt of a step wins."""

    @abstractmethod
    def discard(self, run_id: str, step: str, attempt_id: str, keys: Sequence[str]) -> None:
        """Remove what this attempt staged and did not commit; never raises for what is not there."""

    @abstractmethod
    def committed(self, run_id: str, step: str) -> str | None:
        """The id of the attempt that committed this step in this run, or None.

        Finishes a publication that was cut short by a kill, so that what is committed is also visible.
        """

    def handle_output(self, context: OutputContext, obj: Any) -> None:
        """Stage and commit at once."""
        self.stage(context, obj)
        self.commit(context.run_id, context.step, context.attempt_id, (context.asset_name,))
