"""The attributes of spans and metrics: semantic conventions where there are any, else names that begin with `rivers.`.

Conventions: `cicd.pipeline.*` for runs and steps, `error.type`, `code.*`, `k8s.pod.name`, `process.pid`.
"""

from __future__ import annotations

from typing import Any

from rivers._record.header import RunHeader, StepHeader
from rivers.protocol.failure import Evidence, FailureReason
from rivers.protocol.result import Timings

__all__ = [
    "SHORTEST_PHASE",
    "evidence_attributes",
    "failure_result",
    "phase_attributes",
    "run_attributes",
    "step_attributes",
    "worker_attributes",
]

SHORTEST_PHASE = 1e-4
"""Seconds from which a phase has a span and a point of its own: steps of microseconds would triple what is exported."""

_RESULTS = {
    FailureReason.ERROR: "failure",
    FailureReason.TIMEOUT: "timeout",
    FailureReason.CANCELLED: "cancellation",
}


def failure_result(reason: FailureReason) -> str:
    """Return the result of a task run, as `cicd.pipeline.task.run.result` has it; `error` is not the body's fault."""
    return _RESULTS.get(reason, "error")


def run_attributes(header: RunHeader) -> dict[str, Any]:
    """Return the attributes of a run's span."""
    git = header.git
    return {
        "cicd.pipeline.name": header.job or header.repository or None,
        "cicd.pipeline.run.id": header.run_id,
        "cicd.pipeline.action.name": "RUN",
        "vcs.ref.head.revision": git.commit if git is not None else None,
        "vcs.ref.head.name": git.branch if git is not None else None,
        "host.name": header.host or None,
        "process.pid": header.pid or None,
        "rivers.run.steps": len(header.steps),
        "rivers.run.executors": tuple(executor.text for executor in header.executors),
        "rivers.run.selection": header.selection or (),
        "rivers.run.partition": header.partition,
        "rivers.version": header.versions.get("rivers-core"),
        **{f"rivers.run.tag.{name}": value for name, value in header.tags.items()},
    }


def step_attributes(header: StepHeader, key: str, map_key: str | None, function: str | None) -> dict[str, Any]:
    """Return the attributes of a step's span; `function` is the qualified name of its body."""
    # A definition without a source file has none: one made in a prompt, or of a command.
    path, _, line = (header.location or "").rpartition(":")
    return {
        "cicd.pipeline.task.name": header.key,
        "cicd.pipeline.task.run.id": key,
        "code.function.name": function,
        "code.file.path": path if line.isdigit() else None,
        "code.line.number": int(line) if line.isdigit() else None,
        "rivers.step.key": key,
        "rivers.step.map_key": map_key,
        "rivers.step.kind": header.kind,
        "rivers.step.assets": header.assets,
        "rivers.step.group": header.group,
        "rivers.step.kinds": header.kinds,
        "rivers.step.tags": header.tags,
    }


def worker_attributes(executor: str, worker: str) -> dict[str, Any]:
    """Return the attributes of the place where an attempt runs."""
    found: dict[str, Any] = {"rivers.executor": executor, "rivers.worker": worker}
    # Executors of other publishers name their workers as they like.
    kind, _, number = worker.partition(" ")
    if kind == "pid" and number.isdigit():
        found["process.pid"] = int(number)
    elif executor == "kubernetes" and worker:
        found["k8s.pod.name"] = worker
    return found


def phase_attributes(timings: Timings) -> dict[str, Any]:
    """Return the seconds of an attempt by phase."""
    return {
        f"rivers.phase.{name}": seconds for name in Timings.__struct_fields__ if (seconds := getattr(timings, name))
    }


def evidence_attributes(evidence: Evidence) -> dict[str, Any]:
    """Return what was seen of a worker that was lost."""
    return {
        "process.exit.code": evidence.exit_code,
        "rivers.evidence.signal": evidence.signal,
        "rivers.evidence.container_reason": evidence.container_reason,
        "rivers.evidence.memory_peak": evidence.memory_peak,
        "rivers.evidence.memory_limit": evidence.memory_limit,
        "rivers.evidence.detail": evidence.detail,
        "k8s.node.name": evidence.node,
    }
