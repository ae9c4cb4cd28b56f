"""Send rivers' requests in one namespace: pods, their logs and events, leases, access reviews.

Every request is repeated while the API server does not answer or is overloaded: for some seconds, deletions for
minutes, creations until their deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

import msgspec

from rivers_executor_k8s.api.client import ApiClient, ApiError, ApiStream, ApiUnreachableError
from rivers_executor_k8s.api.create_errors import CreateDecision, classify_create_error, is_transient
from rivers_executor_k8s.api.port_forward import PortForward
from rivers_executor_k8s.api.rate_limit import RateLimiter, pause
from rivers_executor_k8s.pod.names import STEP_CONTAINER, is_ours
from rivers_executor_k8s.pod.objects import Event, EventList, Pod, PodList
from rivers_worker.announcement import MAX_ANNOUNCEMENT_BYTES, announcement_in
from rivers_worker.errors import AnnouncementError

__all__ = ["Cluster", "NameTakenError", "PodRefusedError"]

T = TypeVar("T")

# Seconds for which a request is repeated
PATIENCE = 15.0
# A pod that is not deleted holds a node's resources, so a deletion outlasts a restart of the API server
DELETE_PATIENCE = 600.0
# Seconds of waiting before its reason is reported: most waits are over by then
REPORT_AFTER = 2.0
PAGE = "500"
ANNOUNCED_WITHIN = 10.0
LOG_BYTES = 64 * 1024


class PodRefusedError(Exception):
    """The pod was not created, for a `reason` in one word; `transient` if the same manifest may be accepted later."""

    def __init__(self, text: str, *, reason: str, transient: bool = False) -> None:
        super().__init__(text)
        self.reason = reason
        self.transient = transient


class NameTakenError(Exception):
    """A pod of another owner has this name; it was not touched."""


class Cluster:
    """One namespace of a cluster; `outside` is True if this process does not run in a pod of it.

    Raises:
        ApiError: in all methods, when the API server refuses.
        ApiUnreachableError: in all methods, when it has not answered for too long.
    """

    def __init__(self, api: ApiClient, namespace: str) -> None:
        self.namespace = namespace
        self.outside = not api.in_cluster
        self._api = api
        self._limiter = RateLimiter()
        self._pods = f"/api/v1/namespaces/{namespace}/pods"
        self._leases = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"

    @property
    def server(self) -> str:
        """The address of the API server."""
        return self._api.server

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()

    # ── pods ──

    async def create_pod(
        self,
        manifest: Mapping[str, Any],
        *,
        deadline: float,
        on_wait: Callable[[str], None],
        unwanted: asyncio.Event | None = None,
    ) -> Pod:
        """Create the pod exactly once, with as many requests as that takes, and return it.

        Transient errors are waited out until `deadline`, a time of the monotonic clock; `on_wait` gets each reason
        once. After `unwanted` is set, the request is repeated only if the pod may exist unnoticed.

        Raises:
            PodRefusedError: it cannot be created, or not in time.
            NameTakenError: another owner's pod has its name.
        """
        name, reported = manifest["metadata"]["name"], set[str]()
        begun, tries = time.monotonic(), 0
        while True:
            decision, retry_after = await self._try_to_create(manifest, None)
            if isinstance(decision, Pod):
                return decision
            if decision.action == "adopt":
                found = await self._find_own(name, manifest)
                if found is not None:
                    return found
            if decision.action == "fail":
                raise PodRefusedError(decision.message, reason=decision.reason)
            tries += 1
            seconds = pause(tries, retry_after)
            if time.monotonic() + seconds - begun > REPORT_AFTER and decision.reason not in reported:
                reported.add(decision.reason)
                on_wait(f"{decision.reason}: {decision.message}")
            # A request whose response was lost may have created the pod: only another one finds out.
            cancelled = None if decision.reason == "ApiUnreachable" else unwanted
            if not await self._wait_to_retry(seconds, deadline, cancelled=cancelled):
                text = f"{decision.message} (after {tries} tries)"
                raise PodRefusedError(text, reason=decision.reason, transient=True)

    async def dry_run(self, manifest: Mapping[str, Any]) -> None:
        """Let the API server check the pod without creating it.

        Raises:
            PodRefusedError: it would be refused; `transient` if it would have to wait.
        """
        until = time.monotonic() + PATIENCE
        tries = 0
        while True:
            decision, retry_after = await self._try_to_create(manifest, "All")
            if isinstance(decision, Pod) or decision.action == "adopt":
                return
            tries += 1
            seconds = pause(tries, retry_after)
            transient = decision.action == "retry"
            final = not transient or decision.reason == "ExceededQuota"
            if final or not await self._wait_to_retry(seconds, until, unthrottled=True):
                raise PodRefusedError(decision.message, reason=decision.reason, transient=transient)

    async def get_pod(self, name: str) -> Pod | None:
        """Return a pod, or None if it does not exist."""
        return await self._get(f"{self._pods}/{name}", Pod)

    async def delete_pod(self, name: str, uid: str, grace: int | None = None) -> None:
        """Request the deletion of the pod with this uid; do nothing if it is gone.

        `grace` is the time in seconds that its processes get to end; None leaves the pod's own.
        """
        # The precondition protects a pod that was created later under the same name.
        options: dict[str, Any] = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": uid}}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        await self._delete(f"{self._pods}/{name}", options, DELETE_PATIENCE)

    async def patch_pod(self, name: str, uid: str, metadata: Mapping[str, Mapping[str, str]]) -> None:
        """Set labels and annotations of the pod with this uid; do nothing if it is gone."""
        try:
            body = {"metadata": {"uid": uid, **metadata}}
            await self._request("PATCH", f"{self._pods}/{name}", msgspec.Raw, body=body)
        except ApiError as error:
            if error.status not in (404, 409):
                raise

    async def list_pods(self, selector: str, *, patience: float = PATIENCE) -> tuple[tuple[Pod, ...], str]:
        """Return all pods with these labels, and the resource version from which a watch continues."""
        until = time.monotonic() + patience
        pods: list[Pod] = []
        token = ""
        while True:
            query = {"labelSelector": selector, "limit": PAGE} | ({"continue": token} if token else {})
            left = until - time.monotonic()
            try:
                page = await self._request("GET", self._pods, PodList, query=query, patience=left, unthrottled=True)
            except ApiError as error:
                if error.status != 410 or not token or left <= 0:
                    raise
                pods, token = [], ""  # the API server has compacted that list's next page: start again
                continue
            pods += page.items
            token = page.metadata.continue_
            if not token:
                return tuple(pods), page.metadata.resource_version

    def watch_pods(
        self, selector: str, version: str, *, seconds: int, silence: float
    ) -> AbstractAsyncContextManager[ApiStream]:
        """Watch the pods with these labels; the API server ends the watch after `seconds`."""
        query = {
            "labelSelector": selector,
            "resourceVersion": version,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(seconds),
        }
        return self._api.stream(self._pods, query, silence=silence)

    # ── logs, events, ports ──

    async def read_announcement(self, name: str) -> bytes:
        """Return the beginning of the worker's log, up to its announcement if that arrives within ten seconds."""
        query = {"container": STEP_CONTAINER, "follow": "true", "limitBytes": str(MAX_ANNOUNCEMENT_BYTES)}
        output = b""
        with contextlib.suppress(TimeoutError, AnnouncementError):
            async with (
                asyncio.timeout(ANNOUNCED_WITHIN),
                self._api.stream(f"{self._pods}/{name}/log", query, silence=2 * ANNOUNCED_WITHIN) as stream,
            ):
                while announcement_in(output) is None and (piece := await stream.read()):
                    output += piece
        return output

    async def read_log_tail(self, name: str, lines: int = 50) -> str:
        """Return the last lines of the worker's log, or an empty text if they cannot be read."""
        query = {"container": STEP_CONTAINER, "tailLines": str(lines), "limitBytes": str(LOG_BYTES)}
        try:
            return (await self._send("GET", f"{self._pods}/{name}/log", query=query)).decode("utf-8", "replace")
        except (ApiError, ApiUnreachableError):
            return ""  # the log only explains another failure, which must not be hidden by this one

    async def list_events(self, pod: Pod) -> tuple[Event, ...]:
        """Return the cluster's events about a pod, or none where reading them is forbidden."""
        path = f"/api/v1/namespaces/{self.namespace}/events"
        query = {"fieldSelector": f"involvedObject.uid={pod.metadata.uid}", "limit": "100"}
        try:
            return (await self._request("GET", path, EventList, query=query, patience=0.0)).items
        except (ApiError, ApiUnreachableError):
            return ()

    async def port_forward(self, name: str, port: int) -> PortForward:
        """Forward a pod's port to a socket of this machine; close it after use."""
        return await self._api.port_forward(self.namespace, name, port)

    async def is_allowed(self, verb: str, resource: str, subresource: str = "", group: str = "") -> bool:
        """Return True if this user may do that in the namespace."""
        asked = {"namespace": self.namespace, "verb": verb, "resource": resource}
        asked |= {"subresource": subresource, "group": group}
        review = {
            "kind": "SelfSubjectAccessReview",
            "apiVersion": "authorization.k8s.io/v1",
            "spec": {"resourceAttributes": asked},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        answer = await self._request("POST", path, dict[str, Any], body=review)
        return bool(answer.get("status", {}).get("allowed", False))

    # ── leases ──

    async def get_lease(self, name: str) -> dict[str, Any] | None:
        """Return a lease, or None if it does not exist."""
        return await self._get(f"{self._leases}/{name}", dict[str, Any], unthrottled=True)

    async def list_leases(self, selector: str) -> list[dict[str, Any]]:
        """Return all leases with these labels."""
        answer = await self._request("GET", self._leases, dict[str, Any], query={"labelSelector": selector})
        return list(answer["items"])

    async def create_lease(self, lease: Mapping[str, Any]) -> dict[str, Any]:
        """Create a lease; raise ApiError 409 if its name is taken."""
        return await self._put_lease("POST", self._leases, lease)

    async def update_lease(self, name: str, lease: Mapping[str, Any]) -> dict[str, Any]:
        """Replace a lease; raise ApiError 409 if its version is not the one in `lease`."""
        return await self._put_lease("PUT", f"{self._leases}/{name}", lease)

    async def delete_lease(self, name: str, uid: str) -> None:
        """Delete the lease with this uid; do nothing if it is gone."""
        options = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": uid}}
        await self._delete(f"{self._leases}/{name}", options, PATIENCE, unthrottled=True)

    async def _put_lease(self, method: str, path: str, lease: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return await self._request(method, path, dict[str, Any], body=lease, unthrottled=True)
        except ApiError as error:
            if error.status != 409:
                raise
            # An earlier try may have succeeded although its response was lost: then the lease is as we wrote it.
            found = await self.get_lease(lease["metadata"]["name"])
            if found is None or any(found["spec"].get(key) != value for key, value in lease["spec"].items()):
                raise
            return found

    # ── requests ──

    async def _try_to_create(
        self, manifest: Mapping[str, Any], dry_run: str | None
    ) -> tuple[Pod | CreateDecision, float | None]:
        """Send one create request; return the pod, or a decision and the seconds after which to repeat it."""
        # Without Strict, the API server drops a field that it does not know, with a warning that nobody reads.
        query = {"fieldManager": "rivers", "fieldValidation": "Strict"}
        if dry_run is not None:
            query["dryRun"] = dry_run
        try:
            return _decode(await self._send("POST", self._pods, query=query, body=manifest), Pod), None
        except ApiUnreachableError as error:
            return classify_create_error(error, self.namespace), None
        except ApiError as error:
            return classify_create_error(error, self.namespace), error.retry_after

    async def _find_own(self, name: str, manifest: Mapping[str, Any]) -> Pod | None:
        """Return the pod that has the name if it is ours, None if it is gone or cannot be read now."""
        try:
            pod = await self.get_pod(name)
        except (ApiError, ApiUnreachableError):
            return None
        # One of ours that is being deleted counts as well: there is never a second pod for an attempt.
        if pod is not None and not is_ours(pod, manifest):
            raise NameTakenError(f"pod {name!r} in namespace {self.namespace!r} belongs to another owner")
        return pod

    async def _get(self, path: str, kind: type[T], *, unthrottled: bool = False) -> T | None:
        try:
            return await self._request("GET", path, kind, unthrottled=unthrottled)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def _delete(
        self, path: str, options: Mapping[str, Any], patience: float, *, unthrottled: bool = False
    ) -> None:
        try:
            await self._request("DELETE", path, msgspec.Raw, body=options, patience=patience, unthrottled=unthrottled)
        except ApiError as error:
            # 404: it is gone. 409: the uid differs, so the name belongs to another object now.
            if error.status not in (404, 409):
                raise

    async def _request(
        self,
        method: str,
        path: str,
        kind: type[T],
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        patience: float = PATIENCE,
        unthrottled: bool = False,
    ) -> T:
        """Send an idempotent request and repeat it for `patience` seconds while its error is transient."""
        until = time.monotonic() + patience
        tries = 0
        while True:
            try:
                return _decode(await self._send(method, path, query=query, body=body, unthrottled=unthrottled), kind)
            except (ApiError, ApiUnreachableError) as error:
                tries += 1
                seconds = pause(tries, error.retry_after if isinstance(error, ApiError) else None)
                if not is_transient(error) or not await self._wait_to_retry(seconds, until, unthrottled=unthrottled):
                    raise

    async def _wait_to_retry(
        self, seconds: float, until: float, *, unthrottled: bool = False, cancelled: asyncio.Event | None = None
    ) -> bool:
        """Wait before the next try; return False, without delay where possible, if `until` would pass meanwhile."""
        if time.monotonic() + seconds >= until:
            return False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await (cancelled or asyncio.Event()).wait()
                return False
        return unthrottled or await self._limiter.retries.take(until - time.monotonic())

    async def _send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        unthrottled: bool = False,
    ) -> bytes:
        """Send one request; an unthrottled one takes no slot, as a run sends it once and not for each step."""
        async with contextlib.nullcontext() if unthrottled else self._limiter.slots:
            data = await self._api.request(method, path, query=query, body=body)
        self._limiter.retries.earn()
        return data


def _decode(data: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiUnreachableError(f"the API server's response cannot be decoded: {error}") from error
