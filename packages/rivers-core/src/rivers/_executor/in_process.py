"""The in-process backend: runs every step in the thread that submits it, by the same runner as a worker."""

from __future__ import annotations

import threading

from rivers._definitions.executor import Executor
from rivers._executor.backend import Capabilities, ExecutorBackend, Run, Sink
from rivers._io.base import Reach
from rivers._runner.results import interrupted_result, warning_record
from rivers._runner.runner import Runner
from rivers.protocol.spec import StepSpec

__all__ = ["InProcessBackend"]

_CAPABILITIES = Capabilities(
    blocking=True,
    isolation="none",
    timeout="cooperative",
    closures="local",
    reach=Reach.PROCESS,
    streams=True,
    max_sync=1,
    max_async=1,
)


class InProcessBackend(ExecutorBackend):
    """The backend of `Executor.in_process()`.

    A body cannot be killed here: a timeout or a cancel reaches an async body at its next await, and a sync body when
    it returns, before anything is stored.
    """

    executor_type = Executor.InProcess

    def __init__(self, executor: Executor) -> None:
        super().__init__(executor)
        self._runner: Runner | None = None
        self._emit: Sink | None = None

    @property
    def capabilities(self) -> Capabilities:
        return _CAPABILITIES

    def open(self, run: Run, emit: Sink) -> None:
        self._emit = emit
        self._runner = Runner(
            emit,
            local=run.local,
            next_item=run.next_item,
            keep_error=run.keep_error,
            grace=run.grace,
            pickle_key=run.key,
            guard=threading.current_thread() is threading.main_thread(),
        )

    def submit(self, spec: StepSpec) -> None:
        assert self._runner is not None
        assert self._emit is not None
        try:
            result = self._runner.run_step(spec)
        except KeyboardInterrupt as error:
            self._emit(interrupted_result(spec.attempt_id, error, self._runner.worker))
            # The loop notes it as Ctrl-C, whether it was one or the body raised it.
            raise
        self._emit(result)

    def cancel(self, attempt_id: str, grace: float) -> None:
        if self._runner is not None:
            # No interrupt: core calls this in the midst of its own work, in the very thread that runs the body.
            self._runner.stop(attempt_id, interrupt=False)

    def close(self, deadline: float) -> None:
        if self._runner is not None and self._emit is not None:
            for problem in self._runner.close():
                self._emit(warning_record(problem))
        self._runner = None
