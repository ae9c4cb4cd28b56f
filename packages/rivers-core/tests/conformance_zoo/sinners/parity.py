"""Backends that change what a repository gets back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace
from sinner import sinner
from zoo_backend import ZooAttempt, ZooBackend
from zoo_worker import Task, work

from rivers.io_handlers import PickleIOHandler
from rivers.protocol import Evidence, LogRecord, OutputRecord, StepEvent, StepResult, StepStarted


def changed_outputs(change: Callable[[OutputRecord], OutputRecord]) -> type[ZooBackend]:
    """Return a backend that reports other outputs than the worker did."""

    class Changed(ZooBackend):
        def finish(self, attempt: ZooAttempt, result: StepResult | None, evidence: Evidence) -> None:
            if result is not None:
                result = replace(result, outputs=tuple(map(change, result.outputs)))
            super().finish(attempt, result, evidence)

    return Changed


sinner("loses an output's metadata", "output-metadata")(changed_outputs(lambda output: replace(output, metadata=None)))
sinner("loses an output's data version", "output-metadata")(
    changed_outputs(lambda output: replace(output, data_version=None))
)
sinner("loses the data versions of outputs with nested metadata", "output-metadata", only=True)(
    changed_outputs(lambda output: replace(output, data_version=None) if '"nested"' in str(output.metadata) else output)
)
sinner("loses the keys of a mapped task", "same-results")(
    changed_outputs(lambda output: replace(output, map_keys=None))
)


@sinner("loses the arguments of exceptions in steps with outputs", "same-results", only=True)
class NoArguments(ZooBackend):
    def finish(self, attempt: ZooAttempt, result: StepResult | None, evidence: Evidence) -> None:
        if result is not None and result.failure is not None and not attempt.stores_nothing:
            result = replace(result, failure=replace(result.failure, args=None))
        super().finish(attempt, result, evidence)


def work_lossily(task: Task, pipe: Any) -> None:
    """Store whole numbers without their last bit, as a lossy codec does."""
    store = PickleIOHandler.handle_output

    def handle_output(self: PickleIOHandler, context: Any, obj: Any) -> Any:
        return store(self, context, obj & ~1 if type(obj) is int else obj)

    PickleIOHandler.handle_output = handle_output  # type: ignore[method-assign]
    work(task, pipe)


@sinner("stores whole numbers without their last bit", "same-values", only=True)
class LossyInts(ZooBackend):
    work = staticmethod(work_lossily)


@sinner("loses the start of async steps", "same-events", only=True)
class NoAsyncStart(ZooBackend):
    def forward(self, attempt: ZooAttempt, event: StepEvent) -> None:
        if not (isinstance(event, StepStarted) and attempt.spec.is_async):
            self.emit(event)


@sinner("changes the logs of steps with outputs", "same-logs", only=True)
class ChangedLogs(ZooBackend):
    def forward(self, attempt: ZooAttempt, event: StepEvent) -> None:
        if isinstance(event, LogRecord) and not attempt.stores_nothing:
            event = replace(event, message=event.message.upper())
        self.emit(event)
