"""Compute the status of a pod as scheduler and kubelet write it; pure functions that return the next version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rivers_k8s_testing.store import now

__all__ = [
    "NODE",
    "STEP",
    "build_conditions",
    "is_over",
    "mark_deleting",
    "mark_disrupted",
    "mark_ended",
    "mark_evicted",
    "mark_finished",
    "mark_node_lost",
    "mark_running",
    "mark_scheduled",
    "mark_succeeded",
    "mark_unschedulable",
    "mark_waiting",
    "step_name",
]

Pod = Mapping[str, Any]
STEP = "rivers-step"
NODE = "node-1"
ADDRESS = "127.0.0.1"
_ORDER = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")


def is_over(pod: Pod) -> bool:
    """Return True if the pod's phase is final."""
    return pod.get("status", {}).get("phase") in {"Succeeded", "Failed"}


def step_name(pod: Pod) -> str:
    """Return the name of the container that is started: `rivers-step`, or the first one."""
    names = [str(container["name"]) for container in pod["spec"]["containers"]]
    return STEP if STEP in names else names[0]


def build_conditions(pod: Pod, **changed: tuple[str, str, str]) -> list[dict[str, Any]]:
    """Return the pod's conditions with some of them changed; a transition time changes with its status only."""
    found = {known["type"]: known for known in pod.get("status", {}).get("conditions", ())}
    for kind, (state, reason, message) in changed.items():
        before = found.get(kind, {})
        when = before["lastTransitionTime"] if before.get("status") == state else now()
        texts = {name: text for name, text in (("reason", reason), ("message", message)) if text}
        found[kind] = {"type": kind, "status": state, "lastProbeTime": None, "lastTransitionTime": when, **texts}
    return sorted(found.values(), key=lambda known: _ORDER.index(known["type"]) if known["type"] in _ORDER else -1)


def _with(pod: Pod, **status: Any) -> dict[str, Any]:
    return {**pod, "status": {**pod.get("status", {}), **status}}


def mark_unschedulable(pod: Pod, words: str) -> dict[str, Any]:
    """Set the scheduler's message that no node was found."""
    return _with(pod, conditions=build_conditions(pod, PodScheduled=("False", "Unschedulable", words)))


def mark_scheduled(pod: Pod) -> dict[str, Any]:
    """Bind the pod to the node."""
    bound = {**pod, "spec": {**pod["spec"], "nodeName": NODE}}
    return _with(bound, conditions=build_conditions(pod, PodScheduled=("True", "", "")))


def mark_waiting(pod: Pod, reason: str = "ContainerCreating", message: str = "") -> dict[str, Any]:
    """Let the containers wait for a reason such as ContainerCreating or ErrImagePull."""
    state = {"waiting": {"reason": reason, **({"message": message} if message else {})}}
    names = [container["name"] for container in pod["spec"]["containers"]]
    unready = ("False", "ContainersNotReady", f"containers with unready status: [{' '.join(names)}]")
    return _with(
        pod,
        hostIP=ADDRESS,
        startTime=pod["status"].get("startTime") or now(),
        conditions=build_conditions(pod, Initialized=("True", "", ""), Ready=unready, ContainersReady=unready),
        containerStatuses=[_container(container, state) for container in pod["spec"]["containers"]],
    )


def mark_running(pod: Pod) -> dict[str, Any]:
    """Let all containers run."""
    state = {"running": {"startedAt": now()}}
    ready = ("True", "", "")
    return _with(
        pod,
        phase="Running",
        hostIP=ADDRESS,
        podIP=ADDRESS,
        podIPs=[{"ip": ADDRESS}],
        startTime=pod["status"].get("startTime") or now(),
        conditions=build_conditions(
            pod, PodReadyToStartContainers=ready, Initialized=ready, Ready=ready, ContainersReady=ready
        ),
        initContainerStatuses=[
            _container(container, {"terminated": {"exitCode": 0, "reason": "Completed", "finishedAt": now()}})
            for container in pod["spec"].get("initContainers", ())
        ],
        containerStatuses=[_container(container, state) for container in pod["spec"]["containers"]],
    )


def _container(container: Mapping[str, Any], state: Mapping[str, Any]) -> dict[str, Any]:
    runs = "running" in state
    ran = runs or "terminated" in state
    return {
        "name": container["name"],
        "state": state,
        "lastState": {},
        "ready": runs,
        "started": runs,
        "restartCount": 0,
        "image": container["image"],
        "imageID": f"{container['image']}@sha256:{'0' * 64}" if ran else "",
    }


def mark_ended(pod: Pod, exit_code: int, reason: str, message: str, *, side_cars: bool = False) -> dict[str, Any]:
    """End the step's container, with `side_cars` the others as well; `mark_finished` sets the phase."""
    unready = ("False", "PodCompleted" if exit_code == 0 else "PodFailed", "")
    changed = build_conditions(pod, Ready=unready, ContainersReady=unready)
    names = [container["name"] for container in pod["spec"]["containers"]]
    name = step_name(pod)
    last: dict[str, dict[str, Any]] = {name: {"exitCode": exit_code, "reason": reason}}
    if message:
        last[name]["message"] = message
    if side_cars:
        last = {other: {"exitCode": 137, "reason": "Error"} for other in names} | last
    statuses = [
        _terminated(known, last[known["name"]]) if known["name"] in last else known
        for known in pod["status"].get("containerStatuses", ())
    ]
    return _with(pod, containerStatuses=statuses, conditions=changed)


def _terminated(known: Mapping[str, Any], last: Mapping[str, Any]) -> dict[str, Any]:
    if "terminated" in known["state"]:
        return dict(known)
    started = known["state"].get("running", {}).get("startedAt")
    state = {"terminated": {**last, "startedAt": started, "finishedAt": now()}}
    return {**known, "ready": False, "started": False, "state": state}


def mark_finished(pod: Pod) -> dict[str, Any]:
    """Set the final phase if all containers have ended; an earlier final phase stays."""
    ends = [known["state"].get("terminated") for known in pod["status"].get("containerStatuses", ())]
    if is_over(pod) or not all(ends):
        return dict(pod)
    failed = any(end["exitCode"] for end in ends)
    return _with(pod, phase="Failed" if failed else "Succeeded")


def mark_succeeded(pod: Pod, message: str) -> dict[str, Any]:
    """Let a running pod with one container succeed."""
    # The same as mark_ended and mark_finished at a fifth of their cost: benchmarks create thousands of such pods.
    status = pod["status"]
    last = {"exitCode": 0, "reason": "Completed", "message": message, "startedAt": status["startTime"]}
    statuses = [
        {**known, "ready": False, "started": False, "state": {"terminated": {**last, "finishedAt": now()}}}
        for known in status["containerStatuses"]
    ]
    return {**pod, "status": {**status, "phase": "Succeeded", "containerStatuses": statuses}}


def mark_disrupted(pod: Pod, reason: str, message: str) -> dict[str, Any]:
    """Set the condition DisruptionTarget."""
    return _with(pod, conditions=build_conditions(pod, DisruptionTarget=("True", reason, message)))


def mark_evicted(pod: Pod, reason: str, message: str) -> dict[str, Any]:
    """Set the phase Failed, as the kubelet does before the containers have ended."""
    return _with(pod, phase="Failed", reason=reason, message=message)


def mark_node_lost(pod: Pod) -> dict[str, Any]:
    """Mark the pod as not ready because its node does not report."""
    return _with(pod, conditions=build_conditions(pod, Ready=("False", "NodeNotReady", "Node is not ready")))


def mark_deleting(pod: Pod, when: str, grace: int) -> dict[str, Any]:
    """Mark the pod for deletion; its containers have `grace` seconds, until `when`."""
    metadata = pod["metadata"]
    deletion = {"deletionTimestamp": when, "deletionGracePeriodSeconds": grace}
    return {**pod, "metadata": {**metadata, "generation": metadata.get("generation", 1) + 1, **deletion}}
