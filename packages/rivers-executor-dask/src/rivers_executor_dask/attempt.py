"""One attempt in the controller, and the resources that it requests of Dask."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from distributed import KilledWorker
from msgspec.structs import replace

from rivers.protocol import Ending, Evidence, Failure, FailureReason, StepResult, StepSpec, describe_exception, lost
from rivers.spi import parse_quantity
from rivers_executor_dask.executor import DaskExecutor, parse_resources

__all__ = ["DaskAttempt", "failed_task", "requested_resources"]


@dataclass(slots=True)
class DaskAttempt:
    """An attempt that has no result yet. `start` is the start of its task that may run the body, on `worker`.

    `answering` is the request that gives it the spec, `tasks` are all that wait for something of the attempt.
    """

    attempt_id: str
    spec: bytes
    resources: dict[str, float]
    future: Any = None
    start: str | None = None
    worker: str | None = None
    is_started: bool = False
    cancelled: bool = False
    result: StepResult | None = None
    detail: str | None = None
    answering: asyncio.Task[Any] | None = None
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    def end(self, evidence: Evidence) -> StepResult:
        """Return the result: the worker's own, or one made of the evidence."""
        if self.result is not None:
            return self.result
        known = replace(
            evidence,
            cancelled=evidence.cancelled or self.cancelled,
            detail=self.detail or evidence.detail,
            worker=evidence.worker or self.worker,
        )
        # A worker that lies would lie to an attempt that costs nothing, too, without end.
        return lost(self.attempt_id, known, started=self.is_started or self.detail is not None)


def failed_task(attempt: DaskAttempt, error: object) -> StepResult:
    """Return the result of an attempt whose Dask task has failed; `error` is the task's exception.

    Without a claim the task could not be loaded, which no other attempt can help, or the workers on which it waited
    have died, one after another.
    """
    detail = describe_exception(error) if isinstance(error, BaseException) else "of an unknown cause"
    if attempt.start is not None:
        return attempt.end(Evidence(detail=detail))
    message, may_help = f"the attempt did not start: {detail}", isinstance(error, KilledWorker)
    failure = Failure(reason=FailureReason.INFRASTRUCTURE, type="", message=message, transient=may_help)
    return StepResult(attempt_id=attempt.attempt_id, ending=Ending.FAILED, failure=failure)


def requested_resources(spec: StepSpec, executor: DaskExecutor, offered: frozenset[str]) -> dict[str, float]:
    """Return the abstract resources of Dask that a step needs: those of its executor, and those of its `Compute`.

    GPUs are always asked for, CPU and MEMORY (bytes) where a worker offers them: Dask knows only the names that its
    workers were started with, and most are started with none.
    """
    asked = parse_resources(executor.for_step(spec.metadata).resources)
    compute = spec.compute
    if compute is not None:
        for name, quantity in (("GPU", compute.gpu), ("CPU", compute.cpu), ("MEMORY", compute.memory)):
            if quantity is not None and (name == "GPU" or name in offered):
                asked.setdefault(name, float(parse_quantity(quantity)))
    return asked
