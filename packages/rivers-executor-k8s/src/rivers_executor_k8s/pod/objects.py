"""What rivers reads of a cluster's objects: a few fields each, decoded straight from the API's JSON.

Names are Kubernetes' own in Python's spelling; the fields are described in its API reference (Pod v1, Event v1, Lease
coordination.k8s.io/v1). Everything may be missing, and what is not read here is skipped unparsed.
"""

from __future__ import annotations

import msgspec

__all__ = [
    "Condition",
    "Container",
    "ContainerState",
    "ContainerStatus",
    "Event",
    "EventList",
    "Metadata",
    "Pod",
    "PodList",
    "PodSpec",
    "PodStatus",
    "ResourceLimits",
    "RunningState",
    "Status",
    "TerminatedState",
    "WaitingState",
]


class _Object(msgspec.Struct, frozen=True, kw_only=True, gc=False, rename="camel"):
    pass


class Metadata(_Object, frozen=True):
    """Of any object. `deletion_timestamp` is set once its deletion was asked for."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None


class WaitingState(_Object, frozen=True):
    """Why a container has not started: `reason` is a word such as ErrImagePull."""

    reason: str = ""
    message: str = ""


class RunningState(_Object, frozen=True):
    """A container runs."""

    started_at: str | None = None


class TerminatedState(_Object, frozen=True):
    """How a container ended; `message` is its termination message. Without `started_at` it never ran."""

    exit_code: int = 0
    signal: int | None = None
    reason: str = ""
    message: str = ""
    started_at: str | None = None


class ContainerState(_Object, frozen=True):
    """One of the three, or none yet."""

    waiting: WaitingState | None = None
    running: RunningState | None = None
    terminated: TerminatedState | None = None


class ContainerStatus(_Object, frozen=True):
    """Of one container; `image_id` names what was really pulled."""

    name: str = ""
    image: str = ""
    image_id: str = msgspec.field(default="", name="imageID")
    restart_count: int = 0
    state: ContainerState = ContainerState()
    last_state: ContainerState = ContainerState()


class Condition(_Object, frozen=True):
    """Such as PodScheduled=False with the scheduler's words, or DisruptionTarget=True."""

    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""


class ResourceLimits(_Object, frozen=True):
    """What a container may use at most, as quantities."""

    limits: dict[str, str] = {}


class Container(_Object, frozen=True):
    """A container as its manifest has it."""

    name: str = ""
    image: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    resources: ResourceLimits = ResourceLimits()


class PodSpec(_Object, frozen=True):
    """`node_name` is set once the pod is scheduled."""

    node_name: str = ""
    containers: tuple[Container, ...] = ()


class PodStatus(_Object, frozen=True):
    """`phase` is Pending, Running, Succeeded, Failed or Unknown."""

    phase: str = "Pending"
    reason: str = ""
    message: str = ""
    pod_ip: str = msgspec.field(default="", name="podIP")
    conditions: tuple[Condition, ...] = ()
    init_container_statuses: tuple[ContainerStatus, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()


class Pod(_Object, frozen=True):
    """A pod, as far as an attempt depends on it."""

    metadata: Metadata = Metadata()
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    def container(self, name: str) -> ContainerStatus | None:
        """The status of one of its containers, when the kubelet has told any."""
        return next((status for status in self.status.container_statuses if status.name == name), None)


class ListMeta(_Object, frozen=True):
    """Of a list: where a watch goes on from, and the token of the next page."""

    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class PodList(_Object, frozen=True):
    """A page of pods."""

    metadata: ListMeta = ListMeta()
    items: tuple[Pod, ...] = ()


class Event(_Object, frozen=True):
    """What a component of the cluster has noted about an object; when, stands in either of the two times."""

    type: str = ""
    reason: str = ""
    message: str = ""
    last_timestamp: str | None = None
    event_time: str | None = None


class EventList(_Object, frozen=True):
    """A page of events."""

    items: tuple[Event, ...] = ()


class StatusCause(_Object, frozen=True):
    """A field that the API server finds fault with."""

    reason: str = ""
    message: str = ""
    field: str = ""


class StatusDetails(_Object, frozen=True):
    """`name` and `kind` of what is meant, and how long to wait before asking again."""

    name: str = ""
    kind: str = ""
    causes: tuple[StatusCause, ...] = ()
    retry_after_seconds: float | None = None


class Status(_Object, frozen=True):
    """The body of an answer that is an error."""

    code: int = 0
    reason: str = ""
    message: str = ""
    details: StatusDetails | None = None
