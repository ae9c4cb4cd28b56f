"""What has been told of the pods that are watched: which news are news.

A watch may repeat events, replay old ones, or send two in the wrong order; a list tells how everything is, also that a
pod is not there any more. Versions are compared for equality only, as Kubernetes asks: which of two is the later one is
seen by how far the pod is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from rivers_executor_k8s.pod.objects import Pod

__all__ = ["PodCache", "is_behind"]

# Versions of a pod that are known again
REMEMBERED = 8
# Pods of which it is remembered that they are gone
MOST_GONE = 10_000

_PHASES = {"Pending": 0, "Succeeded": 2, "Failed": 2}


class PodCache:
    """The pods as they were told last. Each method says whether, or what, is to be told."""

    def __init__(self) -> None:
        self._pods: dict[str, Pod] = {}
        self._seen: dict[str, deque[str]] = {}
        self._gone: dict[str, None] = {}
        self._before: set[str] = set()
        self._touched: set[str] = set()

    def change(self, pod: Pod) -> bool:
        """A watch says that it is like this, or the answer to a create request does."""
        uid, version = pod.metadata.uid, pod.metadata.resource_version
        known = self._pods.get(uid)
        if not uid or uid in self._gone or version in self._seen.get(uid, ()):
            return False
        if known is not None and is_behind(pod, known):
            return False
        self._take(pod)
        return True

    def deletion(self, pod: Pod) -> bool:
        """A watch says that it was deleted, and what it was last."""
        uid = pod.metadata.uid
        if not uid or uid in self._gone:
            return False
        self._lose(uid)
        return True

    def before_list(self) -> None:
        """A list is about to be asked for: what is not known now cannot be missing in it."""
        self._before = set(self._pods)
        self._touched = set()

    def listed(self, pods: Iterable[Pod]) -> tuple[list[Pod], list[Pod]]:
        """The list is here: what has changed, and what is gone. What the watch has told meanwhile is newer."""
        changed, present = [], set()
        for pod in pods:
            uid = pod.metadata.uid
            present.add(uid)
            known = self._pods.get(uid)
            same = known is not None and known.metadata.resource_version == pod.metadata.resource_version
            if not (same or uid in self._touched or uid in self._gone):
                self._take(pod)
                changed.append(pod)
        missing = [uid for uid in self._pods if uid in self._before and uid not in present | self._touched]
        return changed, [self._lose(uid) for uid in missing]

    def _take(self, pod: Pod) -> None:
        uid = pod.metadata.uid
        self._pods[uid] = pod
        self._touched.add(uid)
        self._seen.setdefault(uid, deque(maxlen=REMEMBERED)).append(pod.metadata.resource_version)

    def _lose(self, uid: str) -> Pod:
        self._seen.pop(uid, None)
        self._touched.add(uid)
        self._gone[uid] = None
        if len(self._gone) > MOST_GONE:
            del self._gone[next(iter(self._gone))]
        return self._pods.pop(uid, Pod())


def is_behind(pod: Pod, other: Pod) -> bool:
    """Whether a pod is less far on its way than another state of it: ways of pods lead in one direction."""
    return _progress(pod) < _progress(other)


def _progress(pod: Pod) -> tuple[int, bool, int]:
    states = [status.state for status in pod.status.container_statuses]
    container = max((2 if s.terminated is not None else s.running is not None for s in states), default=0)
    return _PHASES.get(pod.status.phase, 1), pod.metadata.deletion_timestamp is not None, container
