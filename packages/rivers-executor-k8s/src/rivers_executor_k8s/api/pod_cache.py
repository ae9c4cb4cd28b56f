"""Cache the watched pods; drop events that repeat a known state.

A watch may repeat events, replay old ones, or deliver two in the wrong order. A list shows every pod as it is now, and
that a pod is gone. Resource versions are compared for equality only, as Kubernetes asks: the later of two states is the
one in which the pod has progressed further.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from rivers_executor_k8s.pod.objects import Pod

__all__ = ["PodCache", "is_behind"]

# Resource versions of a pod that are recognized when a watch replays them
REMEMBERED = 8
# Deleted pods that are remembered: a replayed event must not bring one back
MOST_GONE = 10_000

_PHASES = {"Pending": 0, "Succeeded": 2, "Failed": 2}


class PodCache:
    """The last known state of each pod; its methods return the changes that are new."""

    def __init__(self) -> None:
        self._pods: dict[str, Pod] = {}
        self._seen: dict[str, deque[str]] = {}
        self._gone: dict[str, None] = {}
        self._before: set[str] = set()
        self._touched: set[str] = set()

    def update(self, pod: Pod) -> bool:
        """Take a pod's state from a watch or a create request; return True if it is new."""
        uid, version = pod.metadata.uid, pod.metadata.resource_version
        known = self._pods.get(uid)
        if not uid or uid in self._gone or version in self._seen.get(uid, ()):
            return False
        if known is not None and is_behind(pod, known):
            return False
        self._store(pod)
        return True

    def remove(self, pod: Pod) -> bool:
        """Take a pod's deletion from a watch; return True if it is new."""
        uid = pod.metadata.uid
        if not uid or uid in self._gone:
            return False
        self._forget(uid)
        return True

    def begin_list(self) -> None:
        """Prepare for a list request."""
        # Only a pod that is known now can be missing in the list; one created meanwhile may be in it or not.
        self._before = set(self._pods)
        self._touched = set()

    def apply_list(self, pods: Iterable[Pod]) -> tuple[list[Pod], list[Pod]]:
        """Take a list of all pods; return those that have changed and those that are gone."""
        # Events that the watch delivered since begin_list are newer than the list.
        changed, present = [], set()
        for pod in pods:
            uid = pod.metadata.uid
            present.add(uid)
            known = self._pods.get(uid)
            same = known is not None and known.metadata.resource_version == pod.metadata.resource_version
            if not (same or uid in self._touched or uid in self._gone):
                self._store(pod)
                changed.append(pod)
        missing = [uid for uid in self._pods if uid in self._before and uid not in present | self._touched]
        return changed, [self._forget(uid) for uid in missing]

    def _store(self, pod: Pod) -> None:
        uid = pod.metadata.uid
        self._pods[uid] = pod
        self._touched.add(uid)
        self._seen.setdefault(uid, deque(maxlen=REMEMBERED)).append(pod.metadata.resource_version)

    def _forget(self, uid: str) -> Pod:
        self._seen.pop(uid, None)
        self._touched.add(uid)
        self._gone[uid] = None
        if len(self._gone) > MOST_GONE:
            del self._gone[next(iter(self._gone))]
        return self._pods.pop(uid, Pod())


def is_behind(pod: Pod, other: Pod) -> bool:
    """Return True if a pod has progressed less far than in another state of it."""
    # A pod never goes back: phases, deletion and container states have one direction.
    return _progress(pod) < _progress(other)


def _progress(pod: Pod) -> tuple[int, bool, int]:
    states = [status.state for status in pod.status.container_statuses]
    container = max((2 if s.terminated is not None else s.running is not None for s in states), default=0)
    return _PHASES.get(pod.status.phase, 1), pod.metadata.deletion_timestamp is not None, container
