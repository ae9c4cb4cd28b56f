"""Hold the run's Lease: one controller per run, and a heartbeat for later clean-up.

    take ──▶ renewed every 10 s ──▶ released, after the last pod is gone

Only the API server's clock decides whether a lease is stale: its record of the last update against the creation of the
lease that was just made here. Clocks of controllers may be wrong by minutes, and the pods of a live run must stay.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import math
import os
import socket
from collections.abc import Callable
from typing import Any

from rivers.exceptions import ExecutionError
from rivers_executor_k8s.api.client import ApiError, ApiUnreachableError
from rivers_executor_k8s.api.namespace import Cluster
from rivers_executor_k8s.pod.manifest import Owner
from rivers_executor_k8s.pod.names import RUN_LABEL, label_value

__all__ = ["LEASE_SECONDS", "RENEW_EVERY", "RunLease", "RunLeaseHeldError", "last_update", "lease_name"]

LEASE_SECONDS = 60
"""Seconds after which a lease that was not renewed belongs to nobody."""
RENEW_EVERY = 10.0

_HELD = ("holderIdentity", "leaseTransitions")


class RunLeaseHeldError(ExecutionError):
    """A run id whose lease another controller holds."""


class RunLease:
    """The lease of one run, renewed every `every` seconds.

    `epoch` counts how often it has changed hands, from the given one at least; workers obey the higher one. A holder
    that has not renewed it for one and a half times `every` is not alive. What belongs to the run may be deleted
    `lasts` seconds after the last renewal.
    """

    def __init__(
        self,
        cluster: Cluster,
        run_id: str,
        owner: Owner | None,
        every: float = RENEW_EVERY,
        *,
        epoch: int = 0,
        lasts: float = LEASE_SECONDS,
    ) -> None:
        self.epoch = self._least_epoch = epoch
        self._lasts = math.ceil(lasts)
        self.lost = False
        self._cluster = cluster
        self._run_id = run_id
        self._name = lease_name(label_value(run_id))
        self._owner = owner
        self._every = every
        self._holder = f"{socket.gethostname()}/{os.getpid()}"
        self._lease: dict[str, Any] = {}
        self._renewal: asyncio.Task[None] | None = None

    async def take(self, report: Callable[[str], None] = lambda text: None) -> dt.datetime:
        """Take the lease and keep renewing it; return the API server's time. `report` takes what it waits for.

        Raises:
            RunLeaseHeldError: another controller holds it and is alive.
            ApiError, ApiUnreachableError: the API server refuses, or does not answer.
        """
        try:
            self._lease = await self._cluster.create_lease(self._manifest())
        except ApiError as error:
            if error.status != 409:
                raise
            await self._take_over(report)
        self._renewal = asyncio.ensure_future(self._renew())
        return last_update(self._lease)

    @property
    def as_owner(self) -> Owner:
        """The lease as the owner of pods that are to outlive their controller."""
        return Owner(self._name, self._lease["metadata"]["uid"], "Lease", "coordination.k8s.io/v1")

    async def release(self) -> None:
        """Stop renewing the lease, and delete it if this controller still holds it."""
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.wait((self._renewal,), timeout=1.0)
        if self._lease and not self.lost:
            with contextlib.suppress(ApiError, ApiUnreachableError):
                await self._cluster.delete_lease(self._name, self._lease["metadata"]["uid"])

    async def _take_over(self, report: Callable[[str], None]) -> None:
        found = await self._cluster.get_lease(self._name)
        before = found
        if found is not None and found["spec"].get("holderIdentity") != self._holder:
            seconds = self._every * 1.5
            holder = found["spec"].get("holderIdentity")
            report(f"waits {seconds:g} s to see whether {holder}, who holds the run's lease {self._name}, is alive")
            await asyncio.sleep(seconds)  # a live holder renews it meanwhile, or releases it
            found = await self._cluster.get_lease(self._name)
        if found is not None and before is not None and _version(found) != _version(before):
            raise self._held_error(found)
        transitions = found["spec"].get("leaseTransitions", 0) + 1 if found is not None else 0
        self.epoch = max(transitions, self._least_epoch)
        ours = self._manifest()
        try:
            if found is None:
                self._lease = await self._cluster.create_lease(ours)
            else:
                ours["metadata"]["resourceVersion"] = _version(found)
                self._lease = await self._cluster.update_lease(self._name, ours)
        except ApiError as error:
            if error.status not in (404, 409):
                raise
            raise self._held_error(
                await self._cluster.get_lease(self._name)
            ) from error  # another controller was quicker

    def _held_error(self, found: dict[str, Any] | None) -> RunLeaseHeldError:
        holder = (found or {"spec": {}})["spec"].get("holderIdentity", "somebody")
        return RunLeaseHeldError(
            f"run {self._run_id!r} is carried out by another controller, {holder}",
            hint=f"wait for it, or end it; it holds the lease {self._name} in {self._cluster.namespace!r}",
            run_id=self._run_id,
        )

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            ours = self._manifest()
            ours["metadata"]["resourceVersion"] = _version(self._lease)
            try:
                self._lease = await self._cluster.update_lease(self._name, ours)
            except ApiError as error:
                if error.status in (404, 409) and not await self._still_holds_lease():
                    self.lost = True  # deleted or taken over: workers obey the higher epoch
                    return
            except ApiUnreachableError:
                continue

    async def _still_holds_lease(self) -> bool:
        """Return whether this controller still holds the lease that it could not renew.

        An API server that hung may carry out a renewal after this side has given it up; the next one then conflicts.
        """
        try:
            found = await self._cluster.get_lease(self._name)
        except (ApiError, ApiUnreachableError):
            return True  # the next renewal finds out
        if found is None or any(found["spec"].get(key) != self._lease["spec"][key] for key in _HELD):
            return False
        self._lease = found
        return True

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
                "leaseDurationSeconds": self._lasts,
                "renewTime": now,
                "leaseTransitions": self.epoch,
            },
        }


def lease_name(run_label: str) -> str:
    """Return the name of a run's lease for the value of the run's label."""
    return f"rivers-run-{run_label.lower().replace('_', '-').replace('.', '-')}"


def _version(lease: dict[str, Any]) -> str:
    version: str = lease["metadata"]["resourceVersion"]
    return version


def last_update(lease: dict[str, Any]) -> dt.datetime:
    """Return the time of a lease's last update by the API server's clock, or else the one that its holder wrote."""
    metadata = lease["metadata"]
    times = [field["time"] for field in metadata.get("managedFields", ()) if "time" in field]
    written = lease["spec"].get("renewTime") or metadata.get("creationTimestamp")
    return dt.datetime.fromisoformat(max(times) if times else written)
