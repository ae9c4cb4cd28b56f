"""Decode the fields of Kubernetes' objects that rivers reads, straight from the API's JSON.

Field names are those of the Kubernetes API reference in Python's spelling. Every field may be
missing; the decoder skips all others.
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
    """The metadata of any object; `deletion_timestamp` is set when its deletion has been requested."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None


class WaitingState(_Object, frozen=True):
    """The state of a container that has not started; `reason` is a word such as ErrImagePull."""

    reason: str = ""
    message: str = ""


class RunningState(_Object, frozen=True):
    """The state of a container that runs."""

    started_at: str | None = None


class TerminatedState(_Object, frozen=True):
    """The state of a container that has ended; without `started_at` it never ran."""

    exit_code: int = 0
    signal: int | None = None
    reason: str = ""
    message: str = ""
    started_at: str | None = None


class ContainerState(_Object, frozen=True):
    """The state of a container: one of the three, or none yet."""

    waiting: WaitingState | None = None
    running: RunningState | None = None
    terminated: TerminatedState | None = None


class ContainerStatus(_Object, frozen=True):
    """The status of one container; `image_id` is the digest of the image that was pulled."""

    name: str = ""
    image: str = ""
    image_id: str = msgspec.field(default="", name="imageID")
    restart_count: int = 0
    state: ContainerState = ContainerState()
    last_state: ContainerState = ContainerState()


class Condition(_Object, frozen=True):
    """A condition of a pod, such as PodScheduled=False with the scheduler's message, or DisruptionTarget=True."""

    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""


class ResourceLimits(_Object, frozen=True):
    """The resource limits of a container, as quantities."""

    limits: dict[str, str] = {}


class Container(_Object, frozen=True):
    """A container of a pod's manifest."""

    name: str = ""
    image: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    resources: ResourceLimits = ResourceLimits()


class PodSpec(_Object, frozen=True):
    """The specification of a pod; `node_name` is set when it is scheduled."""

    node_name: str = ""
    containers: tuple[Container, ...] = ()


class PodStatus(_Object, frozen=True):
    """The status of a pod; `phase` is Pending, Running, Succeeded, Failed or Unknown."""

    phase: str = "Pending"
    reason: str = ""
    message: str = ""
    pod_ip: str = msgspec.field(default="", name="podIP")
    conditions: tuple[Condition, ...] = ()
    init_container_statuses: tuple[ContainerStatus, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()


class Pod(_Object, frozen=True):
    """A pod, reduced to the fields that an attempt depends on."""

    metadata: Metadata = Metadata()
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    def container(self, name: str) -> ContainerStatus | None:
        """Return the status of one of its containers, or None if the kubelet has reported none."""
        return next((status for status in self.status.container_statuses if status.name == name), None)


class ListMeta(_Object, frozen=True):
    """The metadata of a list: the version from which a watch continues, and the token of the next page."""

    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class PodList(_Object, frozen=True):
    """A page of pods."""

    metadata: ListMeta = ListMeta()
    items: tuple[Pod, ...] = ()


class Event(_Object, frozen=True):
    """An event that a component of the cluster has recorded; its time is in one of the two fields."""

    type: str = ""
    reason: str = ""
    message: str = ""
    last_timestamp: str | None = None
    event_time: str | None = None


class EventList(_Object, frozen=True):
    """A page of events."""

    items: tuple[Event, ...] = ()


class StatusCause(_Object, frozen=True):
    """A field of a request that the API server refuses."""

    reason: str = ""
    message: str = ""
    field: str = ""


class StatusDetails(_Object, frozen=True):
    """The object that an error is about, and the seconds to wait before the next try."""

    name: str = ""
    kind: str = ""
    causes: tuple[StatusCause, ...] = ()
    retry_after_seconds: float | None = None


class Status(_Object, frozen=True):
    """The body of an error response."""

    code: int = 0
    reason: str = ""
    message: str = ""
    details: StatusDetails | None = None
