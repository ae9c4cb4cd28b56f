"""How an attempt ended whose worker did not tell, by the status of its pod: evidence first, then what it means.

    the termination message holds an outcome        that is the result
    the pod was taken away, or its container        infrastructure; never began: dispatched again free of charge
    OOMKilled                                       out of memory
    the container cannot be started                 infrastructure, and another attempt would meet the same
    anything else, by exit code or signal           infrastructure

Only what the body raised is an `error`, and that comes in an outcome. Who counts is the container `rivers-step`:
side-cars may run on, or have ended before.
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

# What an exit code of `rivers-worker` means (docs: command line)
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
_SAYS_NOTHING = frozenset({"", "Error", "Completed"})
MOST_MESSAGE = 500
MACHINE_WORDS = ("rivers-worker 1 ", "rivers-outcome 1 ")


def classify_pod_end(
    attempt_id: str, pod: Pod | None, *, gone: bool = False, cancelled: bool = False, started: bool = False
) -> StepResult:
    """The end of an attempt by its pod as it was last seen.

    `gone` is whether the pod was deleted by somebody else, `cancelled` whether this side has stopped it, `started`
    whether the body is known to have begun.
    """
    last = _last(pod)
    outcome = outcome_in(last.message, attempt_id) if last is not None else None
    if outcome is not None and (cancelled or outcome.ending is not Ending.CANCELLED):
        return outcome  # a worker that somebody else ends calls its body cancelled: that one was lost
    evidence = collect_evidence(pod, gone=gone, cancelled=cancelled)
    code = evidence.exit_code
    ran_out = evidence.timed_out or evidence.container_reason == "OOMKilled"
    began = started or ran_out or code in _BODY_BEGAN
    result = lost(attempt_id, evidence, started=began)
    if result.failure is None or result.ending is Ending.CANCELLED or result.failure.reason is FailureReason.TIMEOUT:
        return result
    if not began and (code in _FREE or (pod is not None and _lost_word(pod, gone) is not None)):
        return replace(result, ending=Ending.NOT_STARTED, failure=replace(result.failure, transient=True))
    if code in _HOPELESS or _start_error(pod) is not None:
        return replace(result, ending=Ending.FAILED, failure=replace(result.failure, transient=False))
    if _failed_init(pod) is not None and not evidence.container_reason:
        return replace(result, ending=Ending.FAILED)
    return result


def collect_evidence(pod: Pod | None, *, gone: bool = False, cancelled: bool = False) -> Evidence:
    """What can be seen of an attempt's pod. `gone` and `cancelled` are as for `ended`."""
    if pod is None:
        return Evidence(container_reason="Deleted" if gone else None, cancelled=cancelled)
    last, word = _last(pod), _lost_word(pod, gone)
    began = last is not None and _began(last)
    code, number = _code_and_signal(last) if last is not None and began else (None, None)
    reason = word or _own_reason(pod, last)
    out_of_memory = reason == "OOMKilled" or (number == signal.SIGKILL and word is None)
    return Evidence(
        exit_code=code,
        signal=number,
        container_reason=reason,
        node=pod.spec.node_name or None,
        worker=pod.metadata.name or None,
        memory_limit=_memory_limit(pod) if out_of_memory else None,
        timed_out=pod.status.reason == "DeadlineExceeded" and began,
        cancelled=cancelled,
        detail="; ".join(_details(pod, last if began else None)) or None,
    )


# ── the pod ──


def _lost_word(pod: Pod, gone: bool) -> str | None:
    """The word for a pod that was taken away, which wins over how its container ended: that may be the consequence."""
    by_reason = _LOST_BY_REASON.get(pod.status.reason)
    if by_reason is not None:
        return by_reason
    for condition in pod.status.conditions:
        if condition.type == "DisruptionTarget" and condition.status == "True":
            return _LOST_BY_CONDITION.get(condition.reason, "Evicted")
    return "Deleted" if gone or pod.metadata.deletion_timestamp is not None else None


def _own_reason(pod: Pod, last: TerminatedState | None) -> str | None:
    """The kubelet's word for the container's end, or for why it did not take the pod (`OutOfcpu`, `NodeAffinity`)."""
    said = last.reason if last is not None and last.reason not in _SAYS_NOTHING else None
    if said is None or said == "ContainerStatusUnknown":
        return pod.status.reason or said or ("Restarted" if _restarts(pod) else None)
    return said


def _details(pod: Pod, ran: TerminatedState | None) -> list[str]:
    """What a person wants to know beside the numbers; `ran` is the end of a command that has begun."""
    words = [EXIT_CODES.get(ran.exit_code, "") if ran is not None else ""]
    if _restarts(pod):
        words.append(f"its container was started {_restarts(pod) + 1} times, and only the first one counts")
    words.append(_start_error(pod) or _failed_init(pod) or "")
    if pod.status.reason == "DeadlineExceeded" and ran is None:
        words.append("the worker had not started when the pod's activeDeadlineSeconds had passed")
    words.append(" ".join(pod.status.message.split()))
    words += [" ".join(c.message.split()) for c in pod.status.conditions if c.type == "DisruptionTarget"]
    if ran is not None:
        # What the worker says to machines is none of a person's business, and a tail may begin in the middle of it.
        lines = [line for line in ran.message.splitlines() if not (line.startswith(MACHINE_WORDS) or len(line) > 400)]
        words.append(" ".join(" ".join(lines).split())[-MOST_MESSAGE:])
    return [text for text in words if text]


# ── the container ──


def _status(pod: Pod | None) -> ContainerStatus | None:
    return pod.container(STEP_CONTAINER) if pod is not None else None


def _last(pod: Pod | None) -> TerminatedState | None:
    """How the worker's container ended, the first time: a restarted one holds another worker, told nothing."""
    status = _status(pod)
    if status is None:
        return None
    return status.last_state.terminated if status.restart_count else status.state.terminated


def _restarts(pod: Pod) -> int:
    status = _status(pod)
    return status.restart_count if status is not None else 0


def _began(last: TerminatedState) -> bool:
    """Whether its command has run; the times of one that has not are missing, or the epoch."""
    return last.reason not in _NEVER_STARTED or not (last.started_at or "1970-").startswith("1970-")


def _code_and_signal(last: TerminatedState) -> tuple[int | None, int | None]:
    """An exit code, or the signal that a code above 128 stands for: runtimes do not tell them apart."""
    number = last.signal or last.exit_code - 128
    if last.reason == "ContainerStatusUnknown":
        return None, None  # 137 is what the kubelet writes when it has not seen the end
    return (None, number) if number in set(signal.Signals) else (last.exit_code, None)


def _start_error(pod: Pod | None) -> str | None:
    """Why the container's command cannot be started."""
    status = _status(pod)
    last = status.state.terminated if status is not None else None
    if status is None or last is None or last.reason not in ("StartError", "ContainerCannotRun"):
        return None
    return (
        explain_missing_entrypoint(status.image, last.message)
        or f"image {status.image!r}: {' '.join(last.message.split())}"
    )


def _failed_init(pod: Pod | None) -> str | None:
    """Which init container has failed, so that the worker's was never started."""
    for status in pod.status.init_container_statuses if pod is not None and _last(pod) is None else ():
        end = status.state.terminated
        if end is not None and (end.exit_code or end.reason == "OOMKilled"):
            said = f": {' '.join(end.message.split())[-MOST_MESSAGE:]}" if end.message else ""
            reason = f" ({end.reason})" if end.reason not in _SAYS_NOTHING else ""
            return f"init container {status.name!r} exited with code {end.exit_code}{reason}{said}"
    return None


def _memory_limit(pod: Pod) -> int | None:
    for container in pod.spec.containers:
        if container.name == STEP_CONTAINER and "memory" in container.resources.limits:
            return int(parse_quantity(container.resources.limits["memory"]))
    return None
