"""A run that goes on in a thread of its own, to be watched, disturbed and ended by a test."""

from __future__ import annotations

import queue
import threading
import uuid
from typing import Any

import rivers as rs
from rivers._executor.drive import RunLoop  # a run whose grace can be chosen
from rivers._executor.registry import backend_for
from rivers._executor.run_options import RunOptions
from rivers._record.header import RunHeader
from rivers._record.redact import Redactor
from rivers._repository.run import make_result
from rivers.exceptions import GraphValidationError

__all__ = ["Going"]


class Going:
    """A run that goes on in a thread of its own; `until` waits for an event, `end` for the result."""

    def __init__(self, repo: rs.CodeRepository, grace: float, retry: rs.RetryPolicy | None) -> None:
        self.events: list[Any] = []
        self._told: queue.SimpleQueue[Any] = queue.SimpleQueue()
        plan = repo._planner.plan(None, False, None, None, retry)
        self.loop = RunLoop(
            plan,
            [backend_for(executor) for executor in plan.executors],
            RunOptions(run_id=uuid.uuid4().hex, key=b"k" * 32, random=lambda: 0.5, sinks=[self._told.put], grace=grace),
            lambda backends: [backend.shutdown(20.0) for backend in backends] and None,
        )
        self.refused: GraphValidationError | None = None
        self.thread = threading.Thread(target=self._run, name="going")
        self.thread.start()

    def _run(self) -> None:
        try:
            self.loop.run()
        except GraphValidationError as error:
            self.refused = error

    def until(self, kind: str, step: str | None = None, **fields: Any) -> Any:
        """The next event of this class, of this step, with these fields."""
        while True:
            event = self._told.get(timeout=30)
            self.events.append(event)
            if (
                type(event).__name__ == kind
                and (step is None or event.step == step)
                and all(getattr(event, name) == value for name, value in fields.items())
            ):
                return event
            assert "RunFinished" != type(event).__name__, "the run is over"

    def cancel(self) -> None:
        self.loop.cancel()

    def end(self) -> rs.RunResult:
        """Wait for the result."""
        self.thread.join(60)
        assert not self.thread.is_alive()
        assert self.refused is None, self.refused
        while not self._told.empty():
            self.events.append(self._told.get())
        header = RunHeader(format=0, run_id=self.loop.run_id, started=0.0)
        return make_result(self.loop.plan, self.loop, None, lambda: (header, Redactor(())))[0]
