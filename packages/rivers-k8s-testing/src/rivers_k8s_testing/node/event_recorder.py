"""Record the Event objects that a cluster's components write about a pod."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from rivers_k8s_testing.store import Store, now

__all__ = ["EventRecorder"]


class EventRecorder:
    """A recorder of events in a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._numbers = itertools.count(1)

    def record(self, pod: Mapping[str, Any], kind: str, reason: str, message: str) -> None:
        """Record an event about a pod; `kind` is Normal or Warning."""
        about = pod["metadata"]
        name = f"{about['name']}.{next(self._numbers):x}"
        source = "default-scheduler" if reason in {"Scheduled", "FailedScheduling"} else "kubelet"
        event = {
            "kind": "Event",
            "apiVersion": "v1",
            "metadata": {"name": name, "namespace": about["namespace"], "uid": name, "creationTimestamp": now()},
            "involvedObject": {
                "kind": "Pod",
                "apiVersion": "v1",
                "namespace": about["namespace"],
                "name": about["name"],
                "uid": about["uid"],
                "resourceVersion": about["resourceVersion"],
            },
            "type": kind,
            "reason": reason,
            "message": message,
            "source": {"component": source},
            "count": 1,
            "firstTimestamp": now(),
            "lastTimestamp": now(),
        }
        self._store.put(("events", about["namespace"], name), event)
