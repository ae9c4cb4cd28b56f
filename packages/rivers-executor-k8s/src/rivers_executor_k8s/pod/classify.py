"""Classify the end of an attempt whose worker has reported no result, by the status of its pod.

    the termination message holds a result          that result
    the pod or its container was taken away         infrastructure; if never started: dispatched again free of charge
    OOMKilled                                       out of memory
    the container cannot be started                 infrastructure, not transient
    anything else, by exit code or signal           infrastructure

The reason `error` is for exceptions of the body only, and those arrive in a termination message. Only the container
`rivers-step` counts: side-cars may still run, or have ended before.
"""

from __future__ import annotations

import signal

from msgspec.structs import replace

from rivers.protocol import Ending, Evidence, FailureReason, StepResult, lost
from rivers.spi import parse_quantity
from rivers_executor_k8s.pod.names import STEP_CONTAINER
from rivers_executor_k8s.pod.objects import ContainerStatus, Pod, TerminatedState
from rivers_executor_k8s.pod.pending import explain_missing_entrypoint
from rivers_worker.client import outcome_in

__all__ = ["EXIT_CODES", "classify_pod_end", "collect_evidence"]

# Exit codes of `rivers-worker`; the page on its command line has the same table
EXIT_CODES = {
    0: "it ended as if all was done, and has left no result",
    10: "it reported a failure, which has not arrived",
    11: "it could not read the spec it was given",
    12: "it could not make or read its credentials, its log says why",
    13: "no controller called it for orphan_ttl seconds",
    14: "it speaks another version of the protocol: its image needs the controller's version of rivers-worker",
    15: "an output could not be committed",
    70: "a bug in rivers-worker, its log says more",
    143: "it was asked to end, as when its pod is deleted or its node drained",
}

_BODY_BEGAN = frozenset({0, 10, 15})
_HOPELESS = frozenset({11, 12, 14})
_FREE = frozenset({13})

_LOST_BY_REASON = {
    "Evicted": "Evicted",
    "Preempting": "Preempting",
    "NodeLost": "NodeLost",
    "NodeShutdown": "NodeShutdown",
    "Shutdown": "NodeShutdown",
    "Terminated": "Terminated",
}
_LOST_BY_CONDITION = {
    "EvictionByEvictionAPI": "Evicted",
    "DeletionByTaintManager": "Evicted",
    "PreemptionByScheduler": "Preempting",
    "DeletionByPodGC": "NodeLost",
    "TerminationByKubelet": "Terminated",
}
_NEVER_STARTED = frozenset({"StartError", "ContainerCannotRun", "ContainerStatusUnknown"})
_UNSPECIFIC = frozenset({"", "Error", "Completed"})
MOST_MESSAGE = 500
MACHINE_WORDS = ("rivers-worker 1 ", "rivers-outcome 1 ")


def classify_pod_end(
    attempt_id: str,
    pod: Pod | None,
    *,
    gone: bool = False,
    cancelled: bool = False,
    started: bool = False,
    served: bool = False,
) -> StepResult:
    """Return the result of an attempt by the last known state of its pod.

    `gone` is True if somebody else has deleted the pod, `cancelled` if this side has stopped it, `started` if the body
    is known to have begun, `served` if the worker has run another attempt before.
    """
    last = _last_termination(pod)
    outcome = outcome_in(last.message, attempt_id) if last is not None else None
    # A worker reports its body as cancelled when somebody else stops the pod: to the run that attempt is lost.
    if outcome is not None and (cancelled or outcome.ending is not Ending.CANCELLED):
        return outcome
    evidence = collect_evidence(pod, gone=gone, cancelled=cancelled)
    code = evidence.exit_code
    ran_out = evidence.timed_out or evidence.container_reason == "OOMKilled"
    # The exit code of a worker that has served others is about its last attempt, which this one may not have become.
    began = started or ran_out or (code in _BODY_BEGAN and not served)
    result = lost(attempt_id, evidence, started=began)
    if result.failure is None or result.ending is Ending.CANCELLED or result.failure.reason is FailureReason.TIMEOUT:
        return result
    if not began and (served or code in _FREE or (pod is not None and _find_disruption(pod, gone) is not None)):
        return replace(result, ending=Ending.NOT_STARTED, failure=replace(result.failure, transient=True))
    if code in _HOPELESS or _describe_start_error(pod) is not None:
        return replace(result, ending=Ending.FAILED, failure=replace(result.failure, transient=False))
    if _describe_failed_init(pod) is not None and not evidence.container_reason:
        return replace(result, ending=Ending.FAILED)
    return result


def collect_evidence(pod: Pod | None, *, gone: bool = False, cancelled: bool = False) -> Evidence:
    """Collect the evidence in an attempt's pod; `gone` and `cancelled` are those of `classify_pod_end`."""
    if pod is None:
        return Evidence(container_reason="Deleted" if gone else None, cancelled=cancelled)
    last, disruption = _last_termination(pod), _find_disruption(pod, gone)
    began = last is not None and _has_begun(last)
    code, number = _code_and_signal(last) if last is not None and began else (None, None)
    reason = disruption or _container_reason(pod, last)
    out_of_memory = reason == "OOMKilled" or (number == signal.SIGKILL and disruption is None)
    return Evidence(
        exit_code=code,
        signal=number,
        container_reason=reason,
        node=pod.spec.node_name or None,
        worker=pod.metadata.name or None,
        memory_limit=_memory_limit(pod) if out_of_memory else None,
        timed_out=pod.status.reason == "DeadlineExceeded" and began,
        cancelled=cancelled,
        detail="; ".join(_describe(pod, last if began else None)) or None,
    )


# ── the pod ──


def _find_disruption(pod: Pod, gone: bool) -> str | None:
    """Return the reason for which the pod was taken away, None if it was not."""
    # It takes precedence over the container's exit code, which is often its consequence.
    by_reason = _LOST_BY_REASON.get(pod.status.reason)
    if by_reason is not None:
        return by_reason
    for condition in pod.status.conditions:
        if condition.type == "DisruptionTarget" and condition.status == "True":
            return _LOST_BY_CONDITION.get(condition.reason, "Evicted")
    return "Deleted" if gone or pod.metadata.deletion_timestamp is not None else None


def _container_reason(pod: Pod, last: TerminatedState | None) -> str | None:
    """Return the kubelet's reason for the container's end, or for refusing the pod (`OutOfcpu`, `NodeAffinity`)."""
    reason = last.reason if last is not None and last.reason not in _UNSPECIFIC else None
    if reason is None or reason == "ContainerStatusUnknown":
        return pod.status.reason or reason or ("Restarted" if _restarts(pod) else None)
    return reason


def _describe(pod: Pod, ran: TerminatedState | None) -> list[str]:
    """Return sentences for a person, beside the numbers; `ran` is the end of a command that has begun."""
    words = [EXIT_CODES.get(ran.exit_code, "") if ran is not None else ""]
    if _restarts(pod):
        words.append(f"its container was started {_restarts(pod) + 1} times, and only the first one counts")
    words.append(_describe_start_error(pod) or _describe_failed_init(pod) or "")
    if pod.status.reason == "DeadlineExceeded" and ran is None:
        words.append("the worker had not started when the pod's activeDeadlineSeconds had passed")
    words.append(" ".join(pod.status.message.split()))
    words += [" ".join(c.message.split()) for c in pod.status.conditions if c.type == "DisruptionTarget"]
    if ran is not None:
        # Lines for machines are left out; the kubelet's tail of the log may begin in the middle of one.
        lines = [line for line in ran.message.splitlines() if not (line.startswith(MACHINE_WORDS) or len(line) > 400)]
        words.append(" ".join(" ".join(lines).split())[-MOST_MESSAGE:])
    return [text for text in words if text]


# ── the container ──


def _step_status(pod: Pod | None) -> ContainerStatus | None:
    return pod.container(STEP_CONTAINER) if pod is not None else None


def _last_termination(pod: Pod | None) -> TerminatedState | None:
    """Return the first end of the worker's container."""
    status = _step_status(pod)
    if status is None:
        return None
    # A restarted container holds another worker, which knows nothing of the attempt.
    return status.last_state.terminated if status.restart_count else status.state.terminated


def _restarts(pod: Pod) -> int:
    status = _step_status(pod)
    return status.restart_count if status is not None else 0


def _has_begun(last: TerminatedState) -> bool:
    """Return True if the container's command has run."""
    # Otherwise its start time is missing or, with containerd, the epoch.
    return last.reason not in _NEVER_STARTED or not (last.started_at or "1970-").startswith("1970-")


def _code_and_signal(last: TerminatedState) -> tuple[int | None, int | None]:
    """Return the exit code, or the signal that a code above 128 stands for."""
    # Runtimes do not distinguish the two: `exit 137` counts as SIGKILL.
    number = last.signal or last.exit_code - 128
    if last.reason == "ContainerStatusUnknown":
        return None, None  # the kubelet writes 137 when it has missed the end
    return (None, number) if number in set(signal.Signals) else (last.exit_code, None)


def _describe_start_error(pod: Pod | None) -> str | None:
    """Return the reason for which the container's command could not be started, if that happened."""
    status = _step_status(pod)
    last = status.state.terminated if status is not None else None
    if status is None or last is None or last.reason not in ("StartError", "ContainerCannotRun"):
        return None
    return (
        explain_missing_entrypoint(status.image, last.message)
        or f"image {status.image!r}: {' '.join(last.message.split())}"
    )


def _describe_failed_init(pod: Pod | None) -> str | None:
    """Return the name and end of an init container that has failed, so that the worker's never started."""
    for status in pod.status.init_container_statuses if pod is not None and _last_termination(pod) is None else ():
        end = status.state.terminated
        if end is not None and (end.exit_code or end.reason == "OOMKilled"):
            message = f": {' '.join(end.message.split())[-MOST_MESSAGE:]}" if end.message else ""
            reason = f" ({end.reason})" if end.reason not in _UNSPECIFIC else ""
            return f"init container {status.name!r} exited with code {end.exit_code}{reason}{message}"
    return None


def _memory_limit(pod: Pod) -> int | None:
    for container in pod.spec.containers:
        if container.name == STEP_CONTAINER and "memory" in container.resources.limits:
            return int(parse_quantity(container.resources.limits["memory"]))
    return None
