"""Explain why a pod is pending and whether the cause can clear.

    the scheduler  ──▶  init containers, then  ──▶  events of the
    finds no node       the worker's container      cluster's components

A cause is fatal if another minute cannot change it: an image that the registry refuses, a missing ConfigMap, Secret or
key, an image without `rivers-worker`. A full cluster and a registry that does not answer are waited for. The patterns
match the messages of containerd, Docker and CRI-O, which the kubelet passes on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rivers_executor_k8s.pod.names import STEP_CONTAINER
from rivers_executor_k8s.pod.objects import ContainerStatus, Event, Pod

__all__ = ["PendingCause", "explain_missing_entrypoint", "find_cause"]

# Seconds that a missing ConfigMap, Secret or key gets to appear: it may be created together with the pod
CONFIG_PATIENCE = 10.0
# The same for one that a volume needs: only events report it, and they are read some seconds later
MOUNT_PATIENCE = 8.0
MOST_TEXT = 2000


@dataclass(frozen=True)
class PendingCause:
    """A cause for which a pod is pending: Kubernetes' own `reason` (`Unschedulable`, `ErrImagePull`) and a message.

    A `fatal` cause ends the attempt when it has lasted for `patience` seconds, any other at `startup_timeout`.
    """

    reason: str
    message: str
    fatal: bool = False
    patience: float = 0.0


def find_cause(pod: Pod, events: Sequence[Event] = ()) -> PendingCause | None:
    """Return the cause for which the worker's container has not started, by the pod's status, then by its events.

    Return None if it has started, if the pod has ended (see `classify_pod_end`), or if no cause is known yet.
    """
    step = pod.container(STEP_CONTAINER)
    begun = step is not None and (step.state.running is not None or step.state.terminated is not None)
    if begun or pod.status.phase in ("Succeeded", "Failed"):
        return None
    return _find_in_conditions(pod) or _find_in_containers(pod, step, events) or _find_in_events(events)


def explain_missing_entrypoint(image: str, message: str) -> str | None:
    """Return the fault of an image whose command cannot be started, or None for any other message."""
    if re.search(r"no command specified", message, re.IGNORECASE):
        return f"image {image!r} has no command: build it on the rivers-worker image ({_normalize(message)})"
    found = _NO_EXECUTABLE.search(message)
    if found is None:
        return None
    name = next((group for group in found.groups() if group), "its command")
    wrong = "cannot be executed" if "permission denied" in message.lower() else "was not found"
    return f"{name} {wrong} in image {image!r}: build it on the rivers-worker image ({_normalize(message)})"


# ── the scheduler ──


def _find_in_conditions(pod: Pod) -> PendingCause | None:
    for condition in pod.status.conditions:
        if condition.type == "PodScheduled" and condition.status == "False":
            return PendingCause(
                condition.reason or "Unschedulable", _normalize(condition.message) or "no node was found for it"
            )
    return None


# ── containers ──

_QUIET = frozenset({"", "ContainerCreating", "PodInitializing"})


def _find_in_containers(pod: Pod, step: ContainerStatus | None, events: Sequence[Event]) -> PendingCause | None:
    """Return the cause of the container that holds the pod up: an init container's first, then the worker's."""
    inits = [status for status in pod.status.init_container_statuses if status.state.terminated is None]
    for status in [*inits, *([step] if step is not None else [])]:
        waiting = status.state.waiting
        if waiting is not None and waiting.reason not in _QUIET:
            cause = _explain(waiting.reason, waiting.message, status, pod, events)
            if cause is not None and status is not step:
                text = f"init container {status.name!r}: {cause.message}"
                return PendingCause(cause.reason, text, cause.fatal, cause.patience)
            return cause
    running = [status.name for status in inits if status.state.running is not None]
    if running and (step is None or step.state.waiting is None or step.state.waiting.reason == "PodInitializing"):
        return PendingCause("Initializing", f"init container {running[-1]!r} runs")
    return None


def _explain(
    reason: str, message: str, status: ContainerStatus, pod: Pod, events: Sequence[Event]
) -> PendingCause | None:
    image, text = status.image, _normalize(message)
    match reason:
        case "InvalidImageName":
            return PendingCause(reason, f"{image!r} is not the name of an image: {text}", fatal=True)
        case "ErrImageNeverPull":
            where = f"on node {pod.spec.node_name}" if pod.spec.node_name else "on its node"
            return PendingCause(reason, f"image {image!r} is not {where}, and may not be pulled: {text}", fatal=True)
        case "ErrImagePull" | "ImagePullBackOff":
            return _explain_pull(image, message, events)
        case "CreateContainerConfigError":
            fatal = _NO_CACHE.search(text) is None
            return PendingCause(
                reason, text + _suggest_fix(text), fatal=fatal, patience=CONFIG_PATIENCE if fatal else 0.0
            )
        case "SignatureValidationFailed":
            return PendingCause(reason, f"image {image!r}: {text}", fatal=True)
        case _:
            missing = explain_missing_entrypoint(image, message)
            return PendingCause(reason, missing or text or "the kubelet says no more", fatal=missing is not None)


# The kubelet could not ask the API server for the ConfigMap or Secret, which may exist
_NO_CACHE = re.compile(r"failed to sync|timed out")


def _suggest_fix(text: str) -> str:
    """Return a hint for a container whose configuration cannot be resolved."""
    if "runAsNonRoot" in text:
        return ": build the image with a numeric USER other than 0, as the rivers-worker image has"
    if "not found" in text or "find key" in text:
        return ": make it in this namespace, or take it out of the pod_template"
    return ""


# ── images ──

_NO_ANSWER = re.compile(
    r"too ?many ?requests|\b429\b|QPS|rate limit"
    r"|\b5\d\d [A-Z]|HTTP status: 5\d\d|StatusCode: 5\d\d|unavailable"
    r"|connection (refused|reset)|no route to host|unreachable|no such host|server misbehaving|dial tcp"
    r"|timeout|timed out|deadline exceeded|request canceled|\bEOF\b|x509|tls:",
    re.IGNORECASE,
)
_REFUSED = re.compile(
    r"not found|manifest unknown|name unknown|unknown manifest|does not exist|no such image|no match for platform"
    r"|no matching manifest|unauthori[sz]ed|not authori[sz]ed|denied|authentication required|no basic auth credentials"
    r"|invalid username/password|\b40[134] (not found|unauthorized|forbidden)|(HTTP status|StatusCode): 40[134]"
    r"|did not resolve to an alias",
    re.IGNORECASE,
)
_BACK_OFF = re.compile(r'^Back-off pulling image "[^"]*"(: )?(ErrImagePull: )?')
_FAILED_PULL = re.compile(r'^Failed to pull image "[^"]*": ')


def _explain_pull(image: str, message: str, events: Sequence[Event]) -> PendingCause | None:
    """Return one cause for both states of a failed pull, as the kubelet alternates between them."""
    # Before Kubernetes 1.31 ImagePullBackOff does not carry the registry's error; an event does.
    text = _normalize(_BACK_OFF.sub("", message))
    if not text:
        failed = [event.message for event in events if event.message.startswith(f'Failed to pull image "{image}": ')]
        if not failed:
            return None
        text = _normalize(_FAILED_PULL.sub("", failed[-1]))
    if not _is_refused(image, text):
        return PendingCause("ErrImagePull", f"image {image!r} cannot be pulled yet: {text}")
    hint = "is its name right, and does the pod_template name the imagePullSecrets it needs?"
    return PendingCause("ErrImagePull", f"image {image!r} cannot be pulled: {text} – {hint}", fatal=True)


def _is_refused(image: str, text: str) -> bool:
    """Return True if the registry has answered that this user gets no such image."""
    # An image may be called `not-found`: names and addresses are taken out before the patterns are searched.
    repository = re.sub(r"(@[^@/]*|:[^:/]*)$", "", image)
    bare = re.sub(r"https?://\S+", "", text)
    for name in (image, repository):
        bare = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", "", bare)
    return _NO_ANSWER.search(bare) is None and _REFUSED.search(bare) is not None


# ── commands ──

_NO_EXECUTABLE = re.compile(
    r'exec: "([^"]+)": (?:executable file not found|stat |permission denied|no such file|is a directory)'
    r"|executable file [`'\"]?([^`'\" ]+)[`'\"]? not found"
    r"|cannot find `([^`]+)` in \$PATH",
    re.IGNORECASE,
)


# ── events ──

_PROGRESS = frozenset({"Scheduled", "Pulling", "Pulled", "Created", "Started", "SuccessfulAttachVolume"})
_IN_STATUS = frozenset({"Failed", "FailedScheduling"})
_MISSING = re.compile(
    r'(secret|configmap) "[^"]*" not found|references non-existent (secret|config) key', re.IGNORECASE
)


def _find_in_events(events: Sequence[Event]) -> PendingCause | None:
    """Return the cause in the latest events; a later success clears an earlier failure."""
    cause: PendingCause | None = None
    for event in sorted(events, key=lambda event: event.last_timestamp or event.event_time or ""):
        text = _normalize(event.message)
        if event.reason in _PROGRESS:
            cause = PendingCause(event.reason, text) if event.reason == "Pulling" else None
        elif event.reason == "FailedMount" and _MISSING.search(text):
            cause = PendingCause(event.reason, text + _suggest_fix(text), fatal=True, patience=MOUNT_PATIENCE)
        elif event.reason.startswith("Failed") and event.reason not in _IN_STATUS:
            cause = PendingCause(event.reason, text)
        elif event.reason == "NetworkNotReady":
            cause = PendingCause(event.reason, text)
    return cause


_NOISE = re.compile(r' ?"?\b[0-9a-f]{64}\b"?|rpc error: code = (?:Unknown|NotFound) desc = ')


def _normalize(text: str) -> str:
    """Return the text in one line, without the ids of containers and sandboxes, which change with every try."""
    line = _NOISE.sub("", " ".join(text.split()))
    return line if len(line) <= MOST_TEXT else line[: MOST_TEXT - 1] + "…"
