"""From a failure back to an exception: the body's own type where it is known here, with notes that say the rest."""

from __future__ import annotations

import builtins
import sys
from typing import Any

import msgspec

from rivers._plan.report import StepReport, StepState
from rivers.exceptions import (
    StepCancelledError,
    StepCrashedError,
    StepFailedError,
    StepOutOfMemoryError,
    StepTimeoutError,
)
from rivers.protocol.failure import Failure, FailureReason, describe

__all__ = ["exception_of"]

_BY_REASON: dict[FailureReason, type[StepFailedError]] = {
    FailureReason.TIMEOUT: StepTimeoutError,
    FailureReason.OUT_OF_MEMORY: StepOutOfMemoryError,
    FailureReason.INFRASTRUCTURE: StepCrashedError,
    FailureReason.CANCELLED: StepCancelledError,
}


def exception_of(
    report: StepReport, run_id: str, live: BaseException | None, others: list[StepReport]
) -> BaseException:
    """The exception to raise for a failed step.

    `live` is the body's own exception where it ran in this process; elsewhere its type is looked up among the modules
    that are loaded already (never imported for the sake of what a worker says) and made again from plain arguments.
    """
    failure = report.failure
    assert failure is not None
    error = live if live is not None else _rebuilt(failure) or _generic(report, failure, run_id)
    error.add_note(
        f"asset step {report.step!r} failed on executor {report.executor!r}, attempt {report.attempts}, run {run_id}"
        + (f", worker {report.worker}" if report.worker else "")
    )
    if failure.evidence is not None and live is None:
        error.add_note(describe(failure.evidence))
    if live is None and failure.traceback:
        error.add_note(f"traceback of the worker:\n{failure.traceback.rstrip()}")
    for other in others:
        if other.failure is not None:
            error.add_note(f"also failed: {other.step!r} ({other.failure.reason.value}: {other.failure.message:.200})")
    skipped = sum(other.state is StepState.SKIPPED for other in others)
    if skipped:
        error.add_note(f"{skipped} step{'s were' if skipped > 1 else ' was'} skipped for want of an upstream")
    return error


def _generic(report: StepReport, failure: Failure, run_id: str) -> StepFailedError:
    error = _BY_REASON.get(failure.reason, StepFailedError)(
        f"{failure.type}: {failure.message}" if failure.type else failure.message,
        run_id=run_id,
        step=report.step,
        attempt=report.attempts,
        executor=report.executor,
    )
    error.failure = failure
    return error


def _rebuilt(failure: Failure) -> BaseException | None:
    cls = _class(failure.type)
    if cls is None or not issubclass(cls, Exception):
        return None
    try:
        args: Any = msgspec.json.decode(failure.args) if failure.args is not None else [failure.message]
        error = cls.__new__(cls, *args)
        error.args = tuple(args)
        for note in failure.notes:
            error.add_note(note)
        str(error)  # a class that needs its own __init__ may not survive being shown
    except Exception:  # noqa: BLE001 - a stranger's class may need anything; then the generic error is raised
        return None
    return error


def _class(name: str) -> type[BaseException] | None:
    module, _, qualname = name.rpartition(".")
    while module and module not in sys.modules:
        module = module.rpartition(".")[0]
    found: Any = sys.modules[module] if module else builtins
    rest = name[len(module) + 1 :] if module else qualname
    for part in rest.split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, type) and issubclass(found, BaseException) else None
