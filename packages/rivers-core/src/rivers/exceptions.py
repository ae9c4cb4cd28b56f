"""The errors of rivers; all derive from `RiversError`.

RiversError
├── DefinitionError            a mistake in definitions or arguments, found before anything runs
│   ├── AssetDefinitionError · TaskDefinitionError · ResultDefinitionError
│   ├── ConfigurationError · InvalidMetadataError
│   ├── GraphValidationError   several of them at once, in `.problems`
│   └── AssetNotFoundError · NodeNotFoundError · RefResolutionError
├── ExecutorNotInstalledError
├── RecordError                the record of a run cannot be found or read
├── ResumeError                a run cannot be carried on
├── ExecutionError             a run or a step went wrong
│   ├── StepFailedError → StepTimeoutError · StepOutOfMemoryError · StepCrashedError · StepCancelledError
│   ├── AssetOutputValidationError · InputLoadError → ValueNotFoundError · OutputCommitError
│   └── RunCancelledError
└── SpecDecodeError → SpecVersionError · SpecTooLargeError · SpecTooDeepError · SpecLimitError
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "AssetDefinitionError",
    "AssetNotFoundError",
    "AssetOutputValidationError",
    "ConfigurationError",
    "DefinitionError",
    "ExecutionError",
    "ExecutorNotInstalledError",
    "GraphValidationError",
    "InputLoadError",
    "InvalidMetadataError",
    "NodeNotFoundError",
    "OutputCommitError",
    "Problem",
    "RecordError",
    "RefResolutionError",
    "ResultDefinitionError",
    "ResumeError",
    "RiversError",
    "RunCancelledError",
    "SpecDecodeError",
    "SpecLimitError",
    "SpecTooDeepError",
    "SpecTooLargeError",
    "SpecVersionError",
    "StepCancelledError",
    "StepCrashedError",
    "StepFailedError",
    "StepOutOfMemoryError",
    "StepTimeoutError",
    "TaskDefinitionError",
    "ValueNotFoundError",
]


class RiversError(Exception):
    """The base class of rivers' errors.

    The text describes the problem and `hint` the remedy. `run_id`, `step`, `attempt` and `executor` name the attempt
    that the error belongs to, if any. `result` is the RunResult, once there is one.
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        run_id: str | None = None,
        step: str | None = None,
        attempt: int | None = None,
        executor: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.run_id = run_id
        self.step = step
        self.attempt = attempt
        self.executor = executor
        self.result: Any = None

    def __str__(self) -> str:
        where = [
            f"{name} {value}"
            for name, value in (
                ("run", self.run_id),
                ("step", self.step),
                ("attempt", self.attempt),
                ("executor", self.executor),
            )
            if value is not None
        ]
        text = f"{self.message} ({', '.join(where)})" if where else self.message
        return f"{text}\n  → {self.hint}" if self.hint else text


class DefinitionError(RiversError, ValueError):
    """A mistake in definitions or arguments; nothing was started."""


class AssetDefinitionError(DefinitionError):
    """A mistake in an asset's own definition: name, parameters, metadata, outputs."""


class TaskDefinitionError(DefinitionError):
    """A mistake in a `Task` or `BashTask`, or in its use within a graph asset."""


class ResultDefinitionError(DefinitionError):
    """A malformed `Output` or `DynamicOutput`, or a wrong way to return or yield them."""


class ConfigurationError(DefinitionError):
    """An invalid parameter, config value, executor name or resource."""


class InvalidMetadataError(DefinitionError):
    """A metadata value that is no JSON, or metadata of more than 256 KiB."""


class RefResolutionError(DefinitionError):
    """A function, IO handler or resource that cannot be found by its module and qualname."""


class AssetNotFoundError(DefinitionError, LookupError):
    """A name that no asset of the repository has."""


class NodeNotFoundError(DefinitionError, LookupError):
    """A name that no asset, task, job or graph node of the repository has."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake, found before anything runs.

    `where` is `file:line` of the definition, or None; `allowed` holds the values that are accepted, `closest` the one
    of them nearest to the given value.
    """

    message: str
    asset: str | None = None
    where: str | None = None
    allowed: Sequence[str] = field(default=())
    closest: str | None = None

    def __str__(self) -> str:
        head = " ".join(
            part
            for part in (f"asset {self.asset!r}" if self.asset else "", f"({self.where})" if self.where else "")
            if part
        )
        text = f"{head}: {self.message}" if head else self.message
        if self.closest:
            text += f"; did you mean {self.closest!r}?"
        if self.allowed:
            shown = ", ".join(repr(value) for value in list(self.allowed)[:10])
            text += f" Expected one of: {shown}{', …' if len(self.allowed) > 10 else ''}."
        return text


class GraphValidationError(DefinitionError):
    """All mistakes of a repository at once; `problems` holds each of them."""

    def __init__(self, problems: Sequence[Problem] | str) -> None:
        self.problems: tuple[Problem, ...] = (Problem(problems),) if isinstance(problems, str) else tuple(problems)
        count = len(self.problems)
        lines = "\n".join(f"  - {problem}" for problem in self.problems)
        super().__init__(f"{count} problem{'s' if count != 1 else ''} in the repository:\n{lines}")


class ExecutorNotInstalledError(RiversError, ImportError):
    """An executor whose package is not installed."""


class RecordError(RiversError, LookupError):
    """The record of a run is missing, damaged, of a newer format, or not named uniquely."""


class ResumeError(RiversError):
    """A run that cannot be resumed or retried; nothing was started."""


class ExecutionError(RiversError):
    """The failure of a run or of one of its steps."""


class RunCancelledError(ExecutionError):
    """The cancellation of a run before its end."""


class StepFailedError(ExecutionError):
    """A failed step whose own exception cannot be raised here; `failure` has its type, text and traceback."""

    failure: Any = None


class StepTimeoutError(StepFailedError, TimeoutError):
    """A step that ran longer than its `timeout`."""


class StepOutOfMemoryError(StepFailedError, MemoryError):
    """A step that was ended as memory ran out."""


class StepCrashedError(StepFailedError):
    """A step whose worker ended under it: by a signal, an exit, or with its machine."""


class StepCancelledError(StepFailedError):
    """A step that was cancelled before its outputs were committed."""


class AssetOutputValidationError(ExecutionError):
    """A return value that does not fit its hint or the declared outputs; nothing was stored."""


class InputLoadError(ExecutionError):
    """An upstream's value that is missing, corrupt or unreadable.

    `retryable` is True when it is missing (it may yet come), False when it is corrupt.
    """

    retryable: bool = False


class ValueNotFoundError(InputLoadError):
    """A value that is not stored; an input of all partitions leaves it out."""

    retryable = True


class OutputCommitError(ExecutionError):
    """An output that could not be stored; no part of it is visible.

    `retryable` is False when another try cannot help (permission, read-only file system).
    """

    retryable: bool = True


class SpecDecodeError(RiversError, ValueError):
    """Bytes that are no valid StepSpec, StepResult or event."""


class SpecVersionError(SpecDecodeError):
    """A spec of another major version of the protocol."""


class SpecTooLargeError(SpecDecodeError):
    """More bytes or more values than `rivers.protocol.LIMITS` allows."""


class SpecTooDeepError(SpecDecodeError):
    """A spec or event that nests deeper than 32 levels."""


class SpecLimitError(SpecDecodeError):
    """A field outside its limit (length, pattern, range)."""
