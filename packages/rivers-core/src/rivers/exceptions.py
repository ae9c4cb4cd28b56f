"""Every error that rivers raises on purpose; all derive from `RiversError`.

RiversError
├── DefinitionError            what the user wrote is wrong; found before anything runs
│   ├── AssetDefinitionError · TaskDefinitionError · ResultDefinitionError
│   ├── ConfigurationError · InvalidMetadataError
│   ├── GraphValidationError   several of them at once, in `.problems`
│   └── AssetNotFoundError · NodeNotFoundError · RefResolutionError
├── ExecutorNotInstalledError
├── ExecutionError             a run or a step went wrong
│   ├── StepFailedError → StepTimeoutError · StepOutOfMemoryError · StepCrashedError · StepCancelledError
│   ├── AssetOutputValidationError · InputLoadError · OutputCommitError
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
    "RefResolutionError",
    "ResultDefinitionError",
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
]


class RiversError(Exception):
    """Base of everything rivers raises.

    The text says what was seen; `hint` says what to do about it. Where the error belongs to an attempt, the
    fields say to which: `run_id`, `step`, `attempt`, `executor`. `result` is the RunResult, once there is one.
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
    """What the user wrote cannot be run; nothing was started."""


class AssetDefinitionError(DefinitionError):
    """An asset's own definition is wrong: name, parameters, metadata, outputs."""


class TaskDefinitionError(DefinitionError):
    """A `Task` or `BashTask` is wrong in itself or is used outside what a graph asset allows."""


class ResultDefinitionError(DefinitionError):
    """An `Output`, `DynamicOutput` or the way a body handed them over is malformed."""


class ConfigurationError(DefinitionError):
    """A parameter, a config value, an executor name or a resource is not acceptable."""


class InvalidMetadataError(DefinitionError):
    """A metadata value is not JSON, or metadata is larger than 256 KiB."""


class RefResolutionError(DefinitionError):
    """A function, IO handler or resource cannot be found again by its (module, qualname)."""


class AssetNotFoundError(DefinitionError, LookupError):
    """No asset of that name is in the repository."""


class NodeNotFoundError(DefinitionError, LookupError):
    """No asset, task, job or graph node of that name is in the repository."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, found before anything runs.

    `where` is `file:line` of the definition (or None), `allowed` names what would be accepted and `closest` the
    accepted value nearest to what was given.
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
            text += f" Allowed: {shown}{', …' if len(self.allowed) > 10 else ''}."
        return text


class GraphValidationError(DefinitionError):
    """All mistakes of a repository at once; `problems` holds them one by one."""

    def __init__(self, problems: Sequence[Problem] | str) -> None:
        self.problems: tuple[Problem, ...] = (Problem(problems),) if isinstance(problems, str) else tuple(problems)
        count = len(self.problems)
        lines = "\n".join(f"  - {problem}" for problem in self.problems)
        super().__init__(f"{count} problem{'s' if count != 1 else ''} in the repository:\n{lines}")


class ExecutorNotInstalledError(RiversError, ImportError):
    """The executor is known by name, but the package that carries it out is not installed."""


class ExecutionError(RiversError):
    """A run or one of its steps went wrong."""


class RunCancelledError(ExecutionError):
    """The run was cancelled before it was over."""


class StepFailedError(ExecutionError):
    """A step failed and its own exception type could not be raised here; `failure` says why."""

    failure: Any = None


class StepTimeoutError(StepFailedError, TimeoutError):
    """The step ran longer than its `timeout`."""


class StepOutOfMemoryError(StepFailedError, MemoryError):
    """The step was ended for want of memory."""


class StepCrashedError(StepFailedError):
    """The worker went away under the step: a signal, an exit, a lost machine."""


class StepCancelledError(StepFailedError):
    """The step was cancelled before its outputs were committed."""


class AssetOutputValidationError(ExecutionError):
    """What the body returned does not fit its return hint or its declared outputs; nothing was stored."""


class InputLoadError(ExecutionError):
    """An upstream's value is missing, corrupt or unreadable.

    `retryable` is True when it is missing (it may yet come), False when it is corrupt.
    """

    retryable: bool = False


class OutputCommitError(ExecutionError):
    """An output could not be stored; no part of it is visible.

    `retryable` is False when another try cannot help (permission, read-only file system).
    """

    retryable: bool = True


class SpecDecodeError(RiversError, ValueError):
    """Bytes that are no acceptable StepSpec, StepResult or event."""


class SpecVersionError(SpecDecodeError):
    """The other side speaks another major version of the protocol."""


class SpecTooLargeError(SpecDecodeError):
    """More bytes or more values than `rivers.protocol.LIMITS` allows."""


class SpecTooDeepError(SpecDecodeError):
    """Nested deeper than 32 levels."""


class SpecLimitError(SpecDecodeError):
    """Well formed, but a field is outside its limit (length, pattern, range)."""
