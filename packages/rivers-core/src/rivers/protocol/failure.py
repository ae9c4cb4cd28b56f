"""The failure of an attempt: evidence of a lost worker, its classification, and the failure as a value."""

from __future__ import annotations

import enum
import signal

import msgspec

from rivers.protocol.exception_text import labelled

__all__ = ["Evidence", "Failure", "FailureReason", "classify", "describe"]

_LOST_POD_REASONS = frozenset({"Evicted", "Preempting", "NodeShutdown", "NodeLost", "Terminated", "Deleted"})


class FailureReason(enum.Enum):
    """The reason of a failure, by which a retry policy and an operator decide.

    ERROR is what the body raised, and nothing else is. CANCELLED is never retried.
    """

    ERROR = "error"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out_of_memory"
    INFRASTRUCTURE = "infrastructure"
    CANCELLED = "cancelled"


# gc=False: a failure holds no reference cycle, and a run of many steps keeps many of them.
class Evidence(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Observations of a worker that was stopped, or that ended without a result; what is not known is None.

    `memory_peak` and `memory_limit` are bytes, `oom_kills` is the increase of the cgroup's counter during the attempt,
    `container_reason` is the platform's word (`OOMKilled`, `Evicted`), `native_traceback` is faulthandler's text,
    `detail` is free text, such as where an async body was abandoned.
    """

    exit_code: int | None = None
    signal: int | None = None
    container_reason: str | None = None
    node: str | None = None
    worker: str | None = None
    memory_peak: int | None = None
    memory_limit: int | None = None
    oom_kills: int | None = None
    timed_out: bool = False
    cancelled: bool = False
    native_traceback: str | None = None
    detail: str | None = None


HINT = "→ "
"""A note of an exception that begins with this is advice from rivers."""


class Failure(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The failure of one attempt as a value.

    `type` is `module.qualname` of the exception (builtins without module), `mro` the same for it and its bases,
    `args` the exception's arguments as a JSON array (None where JSON has no such value), `state` a JSON object of its
    attributes and of arguments that JSON has no value for (`rivers._runner.exception_state`), `traceback` the worker's
    text with causes, at most 64 KiB. `transient` is False where another attempt cannot help.
    """

    reason: FailureReason
    type: str
    message: str
    mro: tuple[str, ...] = ()
    args: str | None = None
    traceback: str | None = None
    notes: tuple[str, ...] = ()
    evidence: Evidence | None = None
    transient: bool = True
    state: str | None = None

    @property
    def summary(self) -> str:
        """Return type and message, such as `KeyError: 'x'`, and any hints; without an exception, the message alone."""
        hints = [f"\n  {note}" for note in self.notes if note.startswith(HINT)]
        return "".join([labelled(self.type, self.message), *hints])


def classify(evidence: Evidence) -> FailureReason:
    """Turn evidence into a reason, by one rule for every executor.

    A lost pod wins over a container's OOMKilled, as the kill may be the eviction's; a bare 137 or 143 is
    infrastructure; exit 0 without a result is infrastructure, too.
    """
    # Core stopped it: whatever the worker died of then was the consequence.
    if evidence.timed_out:
        return FailureReason.TIMEOUT
    if evidence.cancelled:
        return FailureReason.CANCELLED
    # Before OOMKilled: an eviction may kill the container for memory, and the node is what is to blame.
    if evidence.container_reason in _LOST_POD_REASONS:
        return FailureReason.INFRASTRUCTURE
    if evidence.container_reason == "OOMKilled" or (evidence.oom_kills or 0) > 0:
        return FailureReason.OUT_OF_MEMORY
    # A bare SIGKILL proves nothing: the OOM killer, a person and a node that shuts down all send it.
    return FailureReason.INFRASTRUCTURE


def describe(evidence: Evidence) -> str:
    """Describe evidence on one line, with the names of signals."""
    parts: list[str] = []
    if evidence.timed_out:
        parts.append("stopped for its timeout")
    if evidence.cancelled:
        parts.append("stopped for a cancel")
    if evidence.signal is not None:
        try:
            name = signal.Signals(evidence.signal).name
        # Real-time signals have no name.
        except ValueError:
            name = "an unknown signal"
        parts.append(f"killed by {name} ({evidence.signal})")
    elif evidence.exit_code is not None:
        # "Before committing" also for 0: an exit code is no result.
        parts.append(f"exited with code {evidence.exit_code} before committing")
    if evidence.container_reason:
        parts.append(f"container reason {evidence.container_reason}")
    if evidence.oom_kills:
        parts.append(f"{evidence.oom_kills} OOM kill{'s' if evidence.oom_kills > 1 else ''} in its cgroup")
    if evidence.memory_limit is not None:
        peak = "?" if evidence.memory_peak is None else f"{evidence.memory_peak / 2**20:.0f}"
        parts.append(f"memory {peak} of {evidence.memory_limit / 2**20:.0f} MiB")
    if evidence.node:
        parts.append(f"on node {evidence.node}")
    if evidence.worker:
        parts.append(f"worker {evidence.worker}")
    if evidence.detail:
        parts.append(evidence.detail)
    return "; ".join(parts) if parts else "the worker ended without reporting a result"
