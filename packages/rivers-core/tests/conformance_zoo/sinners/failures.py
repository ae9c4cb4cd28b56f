"""Backends that lose a part of a body's exception on the way."""

from __future__ import annotations

import os
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace
from sinner import sinner
from zoo_backend import ZooAttempt, ZooBackend
from zoo_worker import Task, work

from rivers.protocol import Evidence, Failure, FailureReason, StepResult


def changed(change: Callable[[Failure], Failure]) -> type[ZooBackend]:
    """Return a backend that reports another failure than the worker did, of steps that store nothing."""

    class Changed(ZooBackend):
        def finish(self, attempt: ZooAttempt, result: StepResult | None, evidence: Evidence) -> None:
            if result is not None and result.failure is not None and attempt.stores_nothing:
                result = replace(result, failure=change(result.failure))
            super().finish(attempt, result, evidence)

    return Changed


def without_attributes(failure: Failure) -> Failure:
    if "BaseExceptionGroup" in failure.mro:
        return failure
    state = msgspec.json.decode(failure.state) if failure.state else {}
    kept = {name: value for name, value in state.items() if name not in {"attributes", "state"}}
    return replace(failure, state=msgspec.json.encode(kept).decode() if kept != state and kept else None)


def without_causes(failure: Failure) -> Failure:
    """Keep the last traceback of a chain, which begins after the last line that links two."""
    text = failure.traceback or ""
    for link in ("direct cause of the following exception:", "another exception occurred:"):
        text = text.rpartition(link)[2]
    return replace(failure, traceback=text.lstrip())


def without_frames(failure: Failure) -> Failure:
    """Keep the lines of a traceback that name exceptions, without the indented ones that name files and code."""
    lines = (failure.traceback or "").splitlines()
    is_group = "BaseExceptionGroup" in failure.mro
    return failure if is_group else replace(failure, traceback="\n".join(x for x in lines if not x.startswith(" ")))


def without_members(failure: Failure) -> Failure:
    is_group = "BaseExceptionGroup" in failure.mro
    return replace(failure, traceback="ExceptionGroup: several") if is_group else failure


def without_memory(failure: Failure) -> Failure:
    return replace(failure, reason=FailureReason.ERROR) if failure.type == "MemoryError" else failure


sinner("loses an exception's type", "exception-type")(
    changed(lambda failure: replace(failure, type="RuntimeError", mro=("RuntimeError", "Exception")))
)
sinner("loses an exception's message", "exception-type")(
    changed(lambda failure: replace(failure, message=failure.message[:3]))
)
sinner("loses an exception's base classes", "exception-type", only=True)(
    changed(lambda failure: replace(failure, mro=failure.mro[:1]))
)
sinner("loses an exception's arguments", "exception-arguments", only=True)(
    changed(lambda failure: replace(failure, args=None))
)
sinner("loses an exception's attributes", "exception-attributes", only=True)(changed(without_attributes))
sinner("loses an exception's notes", "exception-notes", only=True)(changed(lambda failure: replace(failure, notes=())))
sinner("loses the frames of a traceback", "exception-traceback", only=True)(changed(without_frames))
sinner("loses an exception's causes", "exception-chain", only=True)(changed(without_causes))
sinner("loses the members of a group", "exception-group", only=True)(changed(without_members))
sinner("takes a MemoryError for any other", "memory-error", only=True)(changed(without_memory))


def work_prints_exceptions(task: Task, pipe: Any) -> None:
    work(task, pipe, keep_error=lambda _, error: os.write(2, f"{error}\n".encode()))


@sinner("prints every exception", "exception-unprintable", only=True)
class PrintedExceptions(ZooBackend):
    work = staticmethod(work_prints_exceptions)


def pickle_of(attempt_id: str) -> Path:
    return Path(tempfile.gettempdir(), f"zoo-{attempt_id}.pickle")


def work_pickles_exceptions(task: Task, pipe: Any) -> None:
    def keep(attempt_id: str, error: BaseException) -> None:
        try:
            pickle_of(attempt_id).write_bytes(pickle.dumps(error))
        except Exception:  # what cannot be pickled has no file
            pass

    work(task, pipe, keep_error=keep)


@sinner("unpickles exceptions", "nothing-unpickled", only=True)
class UnpickledExceptions(ZooBackend):
    """Unpickles a body's exception in the controller, as `concurrent.futures` and many others do."""

    work = staticmethod(work_pickles_exceptions)

    def finish(self, attempt: ZooAttempt, result: StepResult | None, evidence: Evidence) -> None:
        path = pickle_of(attempt.id)
        if path.exists():
            try:
                pickle.loads(path.read_bytes())
            except Exception:  # an exception that cannot be rebuilt; its result has all that is needed
                pass
            path.unlink()
        super().finish(attempt, result, evidence)


@sinner("needs exceptions that can be pickled", "exception-unpicklable", only=True)
class PicklableExceptions(ZooBackend):
    """Reports that an exception cannot be pickled, instead of the exception."""

    work = staticmethod(work_pickles_exceptions)

    def finish(self, attempt: ZooAttempt, result: StepResult | None, evidence: Evidence) -> None:
        has_pickle = pickle_of(attempt.id).exists()
        pickle_of(attempt.id).unlink(missing_ok=True)
        if result is not None and result.failure is not None and not has_pickle and attempt.stores_nothing:
            failure = replace(result.failure, type="TypeError", message="cannot pickle it")
            result = replace(result, failure=failure) if result.failure.traceback else result
        super().finish(attempt, result, evidence)
