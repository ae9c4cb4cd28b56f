"""What rivers does in a namespace: pods, their logs and events, leases, questions of permission. All in one loop.

Every call is tried again while the API server does not answer or is overloaded: for some seconds, deletions for
minutes, and creations until their deadline. A cluster's API may be away for a while, and no pod is worse off.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

import msgspec

from rivers_executor_k8s.api.client import ApiClient, ApiError, ApiUnreachableError, Stream
from rivers_executor_k8s.api.create_errors import CreateDecision, classify_create_error, is_transient
from rivers_executor_k8s.api.port_forward import PortForward
from rivers_executor_k8s.api.rate_limit import RateLimiter, pause
from rivers_executor_k8s.pod.names import STEP_CONTAINER, is_ours
from rivers_executor_k8s.pod.objects import Event, EventList, Pod, PodList
from rivers_worker.announcement import MOST_BYTES, announcement_in
from rivers_worker.errors import AnnouncementError

__all__ = ["Cluster", "NameTakenError", "PodRefusedError"]

T = TypeVar("T")

# Seconds for which a call is tried again
PATIENCE = 15.0
DELETE_PATIENCE = 600.0
# Seconds of waiting after which its cause is told: what is over by then is nobody's concern
SAY_AFTER = 2.0
PAGE = "500"
ANNOUNCED_WITHIN = 10.0
LOG_BYTES = 64 * 1024


class PodRefusedError(Exception):
    """The pod was not made. `word` is the cause, `transient` whether the same manifest may work later."""

    def __init__(self, text: str, *, word: str, transient: bool = False) -> None:
        super().__init__(text)
        self.word = word
        self.transient = transient


class NameTakenError(Exception):
    """A pod of this name is there and is not ours; it was not touched."""


class Cluster:
    """One namespace of one cluster. `outside` is whether this process runs in no pod of it.

    Raises:
        ApiError: in all methods, when the API server refuses.
        ApiUnreachableError: in all methods, when there was no answer for too long.
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
        """Let go of the connections."""
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
        """Make the pod, exactly once, however many requests that takes; one that is there already and ours is it.

        Waits while the cause may pass, until `deadline` (a moment of the monotonic clock), and tells each cause. Once
        it is `unwanted` it is tried again only where it is not known whether it was made.

        Raises:
            PodRefusedError: it cannot be made, or not in time.
            NameTakenError: its name is another's.
        """
        name, said = manifest["metadata"]["name"], set[str]()
        begun, tries = time.monotonic(), 0
        while True:
            meaning, retry_after = await self._try_to_create(manifest, None)
            if isinstance(meaning, Pod):
                return meaning
            if meaning.deed == "look":
                found = await self._found(name, manifest)
                if found is not None:
                    return found
            if meaning.deed == "give up":
                raise PodRefusedError(meaning.text, word=meaning.word)
            tries += 1
            seconds = pause(tries, retry_after)
            if time.monotonic() + seconds - begun > SAY_AFTER and meaning.word not in said:
                said.add(meaning.word)
                on_wait(f"{meaning.word}: {meaning.text}")
            given_up = None if meaning.word == "ApiUnreachable" else unwanted
            if not await self._rest(seconds, deadline, given_up=given_up):
                raise PodRefusedError(f"{meaning.text} (after {tries} tries)", word=meaning.word, transient=True)

    async def dry_run(self, manifest: Mapping[str, Any]) -> None:
        """Have the pod checked as if it were made.

        Raises:
            PodRefusedError: it would be refused; `transient` where it would have to wait.
        """
        until = time.monotonic() + PATIENCE
        tries = 0
        while True:
            meaning, retry_after = await self._try_to_create(manifest, "All")
            if isinstance(meaning, Pod) or meaning.deed == "look":
                return
            tries += 1
            seconds = pause(tries, retry_after)
            passes = meaning.deed == "wait"
            if not passes or meaning.word == "ExceededQuota" or not await self._rest(seconds, until, free=True):
                raise PodRefusedError(meaning.text, word=meaning.word, transient=passes)

    async def get_pod(self, name: str) -> Pod | None:
        """A pod, or None where it is not there."""
        return await self._get(f"{self._pods}/{name}", Pod)

    async def delete_pod(self, name: str, uid: str, grace: int | None = None) -> None:
        """Ask for the deletion of this very pod, not of a namesake; it may be gone already.

        `grace` are the seconds that its processes get to end; None leaves what the pod says.
        """
        options: dict[str, Any] = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": uid}}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        await self._delete(f"{self._pods}/{name}", options, DELETE_PATIENCE)

    async def list_pods(self, selector: str, *, patience: float = PATIENCE) -> tuple[tuple[Pod, ...], str]:
        """All pods that carry these labels, and the version from which a watch goes on."""
        until = time.monotonic() + patience
        pods: list[Pod] = []
        token = ""
        while True:
            query = {"labelSelector": selector, "limit": PAGE} | ({"continue": token} if token else {})
            left = until - time.monotonic()
            try:
                page = await self._ask("GET", self._pods, PodList, query=query, patience=left, once_a_run=True)
            except ApiError as error:
                if error.status != 410 or not token or left <= 0:
                    raise
                pods, token = [], ""  # the pages of that list are not kept any more: another one
                continue
            pods += page.items
            token = page.metadata.continue_
            if not token:
                return tuple(pods), page.metadata.resource_version

    def watch_pods(
        self, selector: str, version: str, *, seconds: int, silence: float
    ) -> AbstractAsyncContextManager[Stream]:
        """Begin a watch of the pods that carry these labels; the API server ends it after `seconds`."""
        query = {
            "labelSelector": selector,
            "resourceVersion": version,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(seconds),
        }
        return self._api.stream(self._pods, query, silence=silence)

    # ── what pods say, and what is said of them ──

    async def announcement(self, name: str) -> bytes:
        """The beginning of the worker's log, up to its announcement if that comes within ten seconds."""
        query = {"container": STEP_CONTAINER, "follow": "true", "limitBytes": str(MOST_BYTES)}
        output = b""
        with contextlib.suppress(TimeoutError, AnnouncementError):
            async with (
                asyncio.timeout(ANNOUNCED_WITHIN),
                self._api.stream(f"{self._pods}/{name}/log", query, silence=2 * ANNOUNCED_WITHIN) as stream,
            ):
                while announcement_in(output) is None and (piece := await stream.piece()):
                    output += piece
        return output

    async def log_tail(self, name: str, lines: int = 50) -> str:
        """The last lines of the worker's log, empty where they cannot be had."""
        query = {"container": STEP_CONTAINER, "tailLines": str(lines), "limitBytes": str(LOG_BYTES)}
        try:
            return (await self._once("GET", f"{self._pods}/{name}/log", query=query)).decode("utf-8", "replace")
        except (ApiError, ApiUnreachableError):
            return ""  # it is evidence of something else, which counts

    async def events_of(self, pod: Pod) -> tuple[Event, ...]:
        """What the cluster has noted about a pod; nothing where that may not be read."""
        path = f"/api/v1/namespaces/{self.namespace}/events"
        query = {"fieldSelector": f"involvedObject.uid={pod.metadata.uid}", "limit": "100"}
        try:
            return (await self._ask("GET", path, EventList, query=query, patience=0.0)).items
        except (ApiError, ApiUnreachableError):
            return ()

    async def forward(self, name: str, port: int) -> PortForward:
        """Make a pod's port reachable from here; close it."""
        return await self._api.forward(self.namespace, name, port)

    async def allowed(self, verb: str, resource: str, subresource: str = "", group: str = "") -> bool:
        """Whether this user may do that in the namespace."""
        asked = {"namespace": self.namespace, "verb": verb, "resource": resource}
        asked |= {"subresource": subresource, "group": group}
        review = {
            "kind": "SelfSubjectAccessReview",
            "apiVersion": "authorization.k8s.io/v1",
            "spec": {"resourceAttributes": asked},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        answer = await self._ask("POST", path, dict[str, Any], body=review)
        return bool(answer.get("status", {}).get("allowed", False))

    # ── leases ──

    async def get_lease(self, name: str) -> dict[str, Any] | None:
        """A lease, or None where it is not there."""
        return await self._get(f"{self._leases}/{name}", dict[str, Any], once_a_run=True)

    async def list_leases(self, selector: str) -> list[dict[str, Any]]:
        """All leases that carry these labels."""
        answer = await self._ask("GET", self._leases, dict[str, Any], query={"labelSelector": selector})
        return list(answer["items"])

    async def create_lease(self, lease: Mapping[str, Any]) -> dict[str, Any]:
        """Make a lease; raises ApiError 409 where one of its name is there."""
        return await self._put_lease("POST", self._leases, lease)

    async def update_lease(self, name: str, lease: Mapping[str, Any]) -> dict[str, Any]:
        """Replace a lease; raises ApiError 409 where it is not of the version any more that `lease` names."""
        return await self._put_lease("PUT", f"{self._leases}/{name}", lease)

    async def delete_lease(self, name: str, uid: str) -> None:
        """Delete this very lease; it may be gone already."""
        options = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": uid}}
        await self._delete(f"{self._leases}/{name}", options, PATIENCE, once_a_run=True)

    async def _put_lease(self, method: str, path: str, lease: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return await self._ask(method, path, dict[str, Any], body=lease, once_a_run=True)
        except ApiError as error:
            if error.status != 409:
                raise
            found = await self.get_lease(lease["metadata"]["name"])
            if found is None or any(found["spec"].get(key) != value for key, value in lease["spec"].items()):
                raise
            return found  # it was us: the answer to an earlier try was lost

    # ── calls ──

    async def _try_to_create(
        self, manifest: Mapping[str, Any], dry: str | None
    ) -> tuple[Pod | CreateDecision, float | None]:
        """One request: the pod, or what the answer means and when to ask again."""
        # Without Strict, a field that the API server does not know is dropped with a warning that nobody reads.
        query = {"fieldManager": "rivers", "fieldValidation": "Strict"} | ({"dryRun": dry} if dry is not None else {})
        try:
            return _decoded(await self._once("POST", self._pods, query=query, body=manifest), Pod), None
        except ApiUnreachableError as error:
            return classify_create_error(error, self.namespace), None
        except ApiError as error:
            return classify_create_error(error, self.namespace), error.retry_after

    async def _found(self, name: str, manifest: Mapping[str, Any]) -> Pod | None:
        """The pod that has the name, if it is ours; None where it is gone meanwhile, or cannot be looked at now.

        One of ours that is being deleted is it as well: there is never a second pod for an attempt.
        """
        try:
            pod = await self.get_pod(name)
        except (ApiError, ApiUnreachableError):
            return None
        if pod is not None and not is_ours(pod, manifest):
            raise NameTakenError(f"a pod {name!r} is in namespace {self.namespace!r} and is not this attempt's")
        return pod

    async def _get(self, path: str, kind: type[T], *, once_a_run: bool = False) -> T | None:
        try:
            return await self._ask("GET", path, kind, once_a_run=once_a_run)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def _delete(
        self, path: str, options: Mapping[str, Any], patience: float, *, once_a_run: bool = False
    ) -> None:
        """404 is what was wanted; 409 says that the name is another object's by now."""
        try:
            await self._ask("DELETE", path, msgspec.Raw, body=options, patience=patience, once_a_run=once_a_run)
        except ApiError as error:
            if error.status not in (404, 409):
                raise

    async def _ask(
        self,
        method: str,
        path: str,
        kind: type[T],
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        patience: float = PATIENCE,
        once_a_run: bool = False,
    ) -> T:
        """A call that may be made twice, made until it works, is refused, or `patience` seconds are over."""
        until = time.monotonic() + patience
        tries = 0
        while True:
            try:
                return _decoded(await self._once(method, path, query=query, body=body, free=once_a_run), kind)
            except (ApiError, ApiUnreachableError) as error:
                tries += 1
                seconds = pause(tries, error.retry_after if isinstance(error, ApiError) else None)
                if not is_transient(error) or not await self._rest(seconds, until, free=once_a_run):
                    raise

    async def _rest(
        self, seconds: float, until: float, *, free: bool = False, given_up: asyncio.Event | None = None
    ) -> bool:
        """Wait before the next try; False, at once where possible, when that would not be before `until`."""
        if time.monotonic() + seconds >= until:
            return False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await (given_up or asyncio.Event()).wait()
                return False
        return free or await self._limiter.retries.take(until - time.monotonic())

    async def _once(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        free: bool = False,
    ) -> bytes:
        """One request; `free` ones wait for no turn."""
        async with contextlib.nullcontext() if free else self._limiter.slots:
            data = await self._api.request(method, path, query=query, body=body)
        self._limiter.retries.earn()
        return data


def _decoded(data: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiUnreachableError(f"the API server's answer cannot be read: {error}") from error
