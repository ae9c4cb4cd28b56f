"""The status of a pod as scheduler and kubelet write it: pure, from a pod to the next version of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rivers_k8s_testing.store import now

__all__ = [
    "NODE",
    "STEP",
    "conditions",
    "deleting",
    "disrupted",
    "ended",
    "evicted",
    "finished",
    "instant",
    "is_over",
    "node_lost",
    "running",
    "scheduled",
    "step_name",
    "unschedulable",
    "waiting",
]

Pod = Mapping[str, Any]
STEP = "rivers-step"
NODE = "node-1"
ADDRESS = "127.0.0.1"
_ORDER = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")


def is_over(pod: Pod) -> bool:
    """Whether its phase is a last one."""
    return pod.get("status", {}).get("phase") in {"Succeeded", "Failed"}


def step_name(pod: Pod) -> str:
    """The container that is really started: `rivers-step`, or the first where none is called so."""
    names = [str(container["name"]) for container in pod["spec"]["containers"]]
    return STEP if STEP in names else names[0]


def conditions(pod: Pod, **changed: tuple[str, str, str]) -> list[dict[str, Any]]:
    """Its conditions, with some of another status, reason and message; a time stays as long as its status."""
    found = {known["type"]: known for known in pod.get("status", {}).get("conditions", ())}
    for kind, (state, reason, message) in changed.items():
        before = found.get(kind, {})
        when = before["lastTransitionTime"] if before.get("status") == state else now()
        said = {name: text for name, text in (("reason", reason), ("message", message)) if text}
        found[kind] = {"type": kind, "status": state, "lastProbeTime": None, "lastTransitionTime": when, **said}
    return sorted(found.values(), key=lambda known: _ORDER.index(known["type"]) if known["type"] in _ORDER else -1)


def _with(pod: Pod, **status: Any) -> dict[str, Any]:
    return {**pod, "status": {**pod.get("status", {}), **status}}


def unschedulable(pod: Pod, words: str) -> dict[str, Any]:
    """The scheduler has found no node, and says why."""
    return _with(pod, conditions=conditions(pod, PodScheduled=("False", "Unschedulable", words)))


def scheduled(pod: Pod) -> dict[str, Any]:
    """Bound to the node."""
    bound = {**pod, "spec": {**pod["spec"], "nodeName": NODE}}
    return _with(bound, conditions=conditions(pod, PodScheduled=("True", "", "")))


def waiting(pod: Pod, reason: str = "ContainerCreating", message: str = "") -> dict[str, Any]:
    """Its containers have not started, for a reason such as ContainerCreating or ErrImagePull."""
    state = {"waiting": {"reason": reason, **({"message": message} if message else {})}}
    names = [container["name"] for container in pod["spec"]["containers"]]
    unready = ("False", "ContainersNotReady", f"containers with unready status: [{' '.join(names)}]")
    return _with(
        pod,
        hostIP=ADDRESS,
        startTime=pod["status"].get("startTime") or now(),
        conditions=conditions(pod, Initialized=("True", "", ""), Ready=unready, ContainersReady=unready),
        containerStatuses=[_container(container, state) for container in pod["spec"]["containers"]],
    )


def running(pod: Pod) -> dict[str, Any]:
    """All of its containers run."""
    state = {"running": {"startedAt": now()}}
    ready = ("True", "", "")
    return _with(
        pod,
        phase="Running",
        hostIP=ADDRESS,
        podIP=ADDRESS,
        podIPs=[{"ip": ADDRESS}],
        startTime=pod["status"].get("startTime") or now(),
        conditions=conditions(
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


def ended(pod: Pod, exit_code: int, reason: str, message: str, *, all_of_it: bool = False) -> dict[str, Any]:
    """The step's container has ended, with `all_of_it` its side-cars, too; the phase follows with `finished`."""
    unready = ("False", "PodCompleted" if exit_code == 0 else "PodFailed", "")
    changed = conditions(pod, Ready=unready, ContainersReady=unready)
    names = [container["name"] for container in pod["spec"]["containers"]]
    name = step_name(pod)
    last: dict[str, dict[str, Any]] = {name: {"exitCode": exit_code, "reason": reason}}
    if message:
        last[name]["message"] = message
    if all_of_it:
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


def finished(pod: Pod) -> dict[str, Any]:
    """Its phase is a last one, if all of its containers have ended; one that it has already stays."""
    ends = [known["state"].get("terminated") for known in pod["status"].get("containerStatuses", ())]
    if is_over(pod) or not all(ends):
        return dict(pod)
    failed = any(end["exitCode"] for end in ends)
    return _with(pod, phase="Failed" if failed else "Succeeded")


def instant(pod: Pod, message: str) -> dict[str, Any]:
    """A running pod has succeeded: what `ended` says of a pod with one container, at a fifth of its cost."""
    status = pod["status"]
    last = {"exitCode": 0, "reason": "Completed", "message": message, "startedAt": status["startTime"]}
    statuses = [
        {**known, "ready": False, "started": False, "state": {"terminated": {**last, "finishedAt": now()}}}
        for known in status["containerStatuses"]
    ]
    return {**pod, "status": {**status, "phase": "Succeeded", "containerStatuses": statuses}}


def disrupted(pod: Pod, reason: str, message: str) -> dict[str, Any]:
    """Somebody ends the pod for a reason that is not its own."""
    return _with(pod, conditions=conditions(pod, DisruptionTarget=("True", reason, message)))


def evicted(pod: Pod, reason: str, message: str) -> dict[str, Any]:
    """The kubelet has ended it: phase Failed at once, whatever its containers do."""
    return _with(pod, phase="Failed", reason=reason, message=message)


def node_lost(pod: Pod) -> dict[str, Any]:
    """Its node does not report any more; nobody knows what its containers do."""
    return _with(pod, conditions=conditions(pod, Ready=("False", "NodeNotReady", "Node is not ready")))


def deleting(pod: Pod, when: str, grace: int) -> dict[str, Any]:
    """Its deletion was asked for; its containers have until `when`, `grace` seconds."""
    metadata = pod["metadata"]
    asked = {"deletionTimestamp": when, "deletionGracePeriodSeconds": grace}
    return {**pod, "metadata": {**metadata, "generation": metadata.get("generation", 1) + 1, **asked}}
