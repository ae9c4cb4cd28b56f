"""The Lease that a run holds: one controller per run, and a sign of life for whoever finds its pods later.

    take ──▶ renewed every 10 s ──▶ let go, after the last pod is gone

Whether a lease is stale is judged by the API server's clock alone: its own record of the last update against the
creation of the lease that was just made here. Clocks of controllers may be wrong by minutes, and a live run's pods must
not be swept for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import os
import socket
from typing import Any

from rivers.exceptions import ExecutionError
from rivers_executor_k8s.api import ApiError, ApiUnreachableError
from rivers_executor_k8s.cluster import Cluster
from rivers_executor_k8s.manifest import Owner
from rivers_executor_k8s.names import MANAGED, RUN_LABEL, keeps_failed, label_value

__all__ = ["RunLock", "RunLockedError", "sweep"]

LEASE_SECONDS = 60
"""A lease that was not renewed for so long is nobody's."""
RENEW_EVERY = 10.0


class RunLockedError(ExecutionError):
    """Another controller carries out the run of this id."""


class RunLock:
    """The lease of one run; `epoch` is how often it has changed hands, which workers compare."""

    def __init__(self, cluster: Cluster, run_id: str, owner: Owner | None) -> None:
        self.epoch = 0
        self.lost = False
        self._cluster = cluster
        self._run_id = run_id
        self._name = lease_name(label_value(run_id))
        self._owner = owner
        self._holder = f"{socket.gethostname()}/{os.getpid()}"
        self._lease: dict[str, Any] = {}
        self._renewing: asyncio.Task[None] | None = None

    async def take(self) -> dt.datetime:
        """Take the lease and keep renewing it; returns the API server's time.

        Raises:
            RunLockedError: somebody else holds it and is alive.
            ApiError, ApiUnreachableError: the API server does not let us, or does not answer.
        """
        try:
            self._lease = await self._cluster.create_lease(self._manifest())
        except ApiError as error:
            if error.status != 409:
                raise
            await self._take_over()
        self._renewing = asyncio.ensure_future(self._renew())
        return last_update(self._lease)

    async def let_go(self) -> None:
        """Give it back, if it is still ours."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait((self._renewing,), timeout=1.0)
        if self._lease and not self.lost:
            with contextlib.suppress(ApiError, ApiUnreachableError):
                await self._cluster.delete_lease(self._name, self._lease["metadata"]["uid"])

    async def _take_over(self) -> None:
        found = await self._cluster.get_lease(self._name)
        if found is None:
            self._lease = await self._cluster.create_lease(self._manifest())
            return
        holder = found["spec"].get("holderIdentity", "somebody")
        before = found["metadata"]["resourceVersion"]
        if holder != self._holder:
            await asyncio.sleep(RENEW_EVERY * 1.5)  # whoever is alive renews meanwhile
            found = await self._cluster.get_lease(self._name) or found
            if found["metadata"]["resourceVersion"] != before:
                raise RunLockedError(
                    f"run {self._run_id!r} is carried out by another controller, {holder}",
                    hint=f"wait for it, or end it; it holds the lease {self._name} in {self._cluster.namespace!r}",
                    run_id=self._run_id,
                )
        self.epoch = found["spec"].get("leaseTransitions", 0) + 1
        ours = self._manifest()
        ours["metadata"]["resourceVersion"] = before
        self._lease = await self._cluster.update_lease(self._name, ours)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_EVERY)
            ours = self._manifest()
            ours["metadata"]["resourceVersion"] = self._lease["metadata"]["resourceVersion"]
            try:
                self._lease = await self._cluster.update_lease(self._name, ours)
            except ApiError as error:
                if error.status in (404, 409):  # deleted, or taken over: workers obey the higher epoch
                    self.lost = True
                    return
            except ApiUnreachableError:
                continue

    def _manifest(self) -> dict[str, Any]:
        now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        owners = [self._owner.reference()] if self._owner is not None else []
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": self._name,
                "labels": {"app.kubernetes.io/managed-by": "rivers", RUN_LABEL: label_value(self._run_id)},
                "ownerReferences": owners,
            },
            "spec": {
                "holderIdentity": self._holder,
                "leaseDurationSeconds": LEASE_SECONDS,
                "renewTime": now,
                "leaseTransitions": self.epoch,
            },
        }


def lease_name(run_label: str) -> str:
    """The name of the lease of a run, by the value of its label."""
    return f"rivers-run-{run_label.lower().replace('_', '-').replace('.', '-')}"


def last_update(lease: dict[str, Any]) -> dt.datetime:
    """When the API server took the last update of a lease, by its own clock; else what the holder wrote."""
    metadata = lease["metadata"]
    times = [field["time"] for field in metadata.get("managedFields", ()) if "time" in field]
    written = lease["spec"].get("renewTime") or metadata.get("creationTimestamp")
    return dt.datetime.fromisoformat(max(times) if times else written)


async def sweep(cluster: Cluster, own_run: str, now: dt.datetime) -> int:
    """Delete the pods and leases of runs whose controller is gone; returns how many pods.

    `now` is the API server's time. Nothing of a run that renews its lease is touched, and each pod is deleted by its
    uid. Failed pods that their user wanted to keep stay.
    """
    orphans: dict[str, list[Any]] = {}
    pods, _ = await cluster.list_pods(MANAGED)
    for pod in pods:
        run = pod.metadata.labels.get(RUN_LABEL)
        if run is not None and run != label_value(own_run):
            orphans.setdefault(run, []).append(pod)
    count = 0
    for run, left in orphans.items():
        lease = await cluster.get_lease(lease_name(run))
        if lease is not None and (now - last_update(lease)).total_seconds() < LEASE_SECONDS:
            continue
        for pod in left:
            if pod.metadata.deletion_timestamp is None and not (keeps_failed(pod) and pod.status.phase == "Failed"):
                await cluster.delete_pod(pod.metadata.name, pod.metadata.uid, grace=1)
                count += 1
        if lease is not None:
            await cluster.delete_lease(lease_name(run), lease["metadata"]["uid"])
    return count
