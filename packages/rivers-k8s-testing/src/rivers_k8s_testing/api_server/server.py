"""Carry out requests: authorization, reads, writes, watches, subresources."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import msgspec

from rivers_k8s_testing.api_errors import ApiStatusError, ResourceRef, path_not_found
from rivers_k8s_testing.api_server.admission import Quota, admit_pod
from rivers_k8s_testing.api_server.calls import ApiCall, Response, StreamResponse, UpgradeResponse
from rivers_k8s_testing.api_server.forward import open_forward
from rivers_k8s_testing.api_server.logs import read_log
from rivers_k8s_testing.node import statuses
from rivers_k8s_testing.node.kubelet import Kubelet, time_after
from rivers_k8s_testing.selectors import parse_selector
from rivers_k8s_testing.store import Key, Store, Watcher

__all__ = ["ApiServer"]

Pod = Mapping[str, Any]
PATCH_TYPES = ("application/merge-patch+json", "application/strategic-merge-patch+json")
MERGED = ("labels", "annotations")
_encode = msgspec.json.Encoder().encode


class ApiServer:
    """An API server; its attributes are the refusals that a test has configured, and may change at any time."""

    def __init__(self, store: Store, kubelet: Kubelet, stub: Callable[[Pod], str] | None, bookmarks: float) -> None:
        self.denied: set[tuple[str, str]] = set()
        self.quota = Quota()
        self.missing_accounts: set[str] = set()
        self._store = store
        self._kubelet = kubelet
        self._stub = stub
        self._bookmarks = bookmarks

    def answer(self, call: ApiCall) -> Response | StreamResponse | UpgradeResponse:
        """Handle a request.

        Raises:
            ApiStatusError: the answer is an error.
        """
        # From 1.35 on the API server requires `create` as well to open a WebSocket; before, only `get`.
        needed = [call.verb, *(["create"] if call.subresource == "portforward" else [])]
        if not all(self.allows(verb, call.resource) for verb in needed):
            raise call.where.denied(call.user, call.verb, call.subresource, call.namespace)
        if call.where.plural == "selfsubjectaccessreviews" and call.verb == "create":
            return self._review(call)
        if call.subresource:
            return self._subresource(call)
        verbs: dict[str, Callable[[ApiCall], Response | StreamResponse]] = {
            "get": self._get,
            "list": self._list,
            "watch": self._watch,
            "create": self._create,
            "update": self._update,
            "patch": self._patch,
            "delete": self._delete,
        }
        handle = verbs.get(call.verb)
        if handle is None:
            raise call.where.no_method()
        return handle(call)

    def allows(self, verb: str, resource: str) -> bool:
        """Return True if the user has this permission; `*` in a denial is any verb or resource."""
        return not any(
            denied_verb in {"*", verb} and denied_resource in {"*", resource}
            for denied_verb, denied_resource in self.denied
        )

    # ---- reading ----------------------------------------------------------------------------------------------------

    def _get(self, call: ApiCall) -> Response:
        data = self._store.data(self._key(call))
        if data is None:
            raise call.where.not_found()
        return Response(200, data)

    def _list(self, call: ApiCall) -> Response:
        self._check_version(call)
        chosen = parse_selector(call.query.get("labelSelector", ""), call.query.get("fieldSelector", ""))
        limit = call.number("limit") or 0
        if token := call.query.get("continue", ""):
            page = self._store.next_page(token, limit)
        else:
            page = self._store.page(call.where.plural, call.namespace, chosen, limit)
        meta: dict[str, Any] = {"resourceVersion": str(page.version)}
        if page.token:
            meta["continue"] = page.token
            if not (chosen.labels or chosen.fields):
                meta["remainingItemCount"] = page.remaining
        group = f"{call.where.group}/v1" if call.where.group else "v1"
        # Objects are stored as JSON and joined as they are: lists of thousands would take long to encode.
        head = _encode({"kind": f"{call.where.kind}List", "apiVersion": group, "metadata": meta})
        return Response(200, head[:-1] + b',"items":[' + b",".join(page.items) + b"]}\n")

    def _check_version(self, call: ApiCall) -> None:
        since = call.number("resourceVersion") or 0
        if since > self._store.version:
            cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
            message = f"Timeout: Too large resource version: {since}, current: {self._store.version}"
            raise ApiStatusError(504, message, causes=[cause], retryAfterSeconds=1)

    def _watch(self, call: ApiCall) -> StreamResponse:
        chosen = parse_selector(call.query.get("labelSelector", ""), call.query.get("fieldSelector", ""))
        # "0" means any version; the API server answers from its cache, as it does without one.
        since = call.number("resourceVersion") or None
        watcher = Watcher(call.where.plural, call.namespace, chosen)
        gone = self._store.watch(watcher, since)
        if gone is not None:
            return StreamResponse(_once(b'{"type":"ERROR","object":%s}\n' % _encode(gone)))
        ends = call.number("timeoutSeconds")
        bookmarks = self._bookmarks if call.flag("allowWatchBookmarks") else None
        return StreamResponse(self._lines(watcher, call.where, ends, bookmarks))

    async def _lines(
        self, watcher: Watcher, where: ResourceRef, ends: float | None, bookmarks: float | None
    ) -> AsyncIterator[bytes]:
        """Yield the lines of a watch, with a bookmark after each `bookmarks` seconds without a change."""
        clock = asyncio.get_running_loop().time
        until = float("inf") if ends is None else clock() + ends
        pause = float("inf") if bookmarks is None else bookmarks
        try:
            while (left := until - clock()) > 0:
                # Send everything that is queued before waiting: a change may arrive while one is sent.
                while watcher.changes:
                    yield watcher.changes.popleft().line
                watcher.offered.clear()
                try:
                    await _within(watcher.offered.wait(), min(left, pause))
                except TimeoutError:
                    if pause < left:
                        yield self._bookmark(where)
        finally:
            self._store.remove_watcher(watcher)

    def _bookmark(self, where: ResourceRef) -> bytes:
        group = f"{where.group}/v1" if where.group else "v1"
        meta = {"resourceVersion": str(self._store.version), "creationTimestamp": None}
        return (
            _encode({"type": "BOOKMARK", "object": {"kind": where.kind, "apiVersion": group, "metadata": meta}}) + b"\n"
        )

    # ---- writing ----------------------------------------------------------------------------------------------------

    def _create(self, call: ApiCall) -> Response:
        given = call.object(call.where.kind)
        if call.where.plural == "pods":
            return self._create_pod(call, given)
        if call.where.plural not in {"leases", "namespaces"}:
            raise call.where.no_method()
        where = call.where.named(given.get("metadata", {}).get("name", ""))
        self._require_namespace(call)
        if not where.name:
            raise where.invalid(
                ("metadata.name", "FieldValueRequired", "Required value: name or generateName is required")
            )
        if where.plural == "namespaces":
            given = {**given, "status": {"phase": "Active"}}
        return Response(201, self._store.create(where, call.namespace, given).data)

    def _create_pod(self, call: ApiCall, given: dict[str, Any]) -> Response:
        self._require_namespace(call)
        pod = admit_pod(given, call.namespace)
        where = call.where.named(pod["metadata"]["name"])
        account = pod["spec"]["serviceAccountName"]
        if account in self.missing_accounts:
            wrong = f'serviceaccount "{account}" not found'
            raise where.forbidden(f"error looking up service account {call.namespace}/{account}: {wrong}")
        if self._namespace(call.namespace).get("status", {}).get("phase") == "Terminating":
            wrong = f"unable to create new content in namespace {call.namespace} because it is being terminated"
            cause = {"reason": "NamespaceTerminating", "message": f"namespace {call.namespace} is being terminated"}
            raise where.forbidden(wrong, causes=[{**cause, "field": "metadata.namespace"}])
        if self.quota.hard:
            self.quota.check(where, pod, self._store.objects("pods", call.namespace))
        if call.query.get("dryRun"):
            if self._store.get(("pods", call.namespace, where.name)) is not None:
                raise where.exists()
            return Response(201, _encode({**pod, "metadata": self._store.metadata(where, call.namespace, pod)}))
        change = self._store.create(where, call.namespace, pod)
        if self._stub is None:
            self._kubelet.start_pod(change.key, change.object)
        else:
            asyncio.get_running_loop().call_soon(self._play, self._stub, change.key, change.object)
        return Response(201, change.data)

    def _play(self, stub: Callable[[Pod], str], key: Key, pod: Pod) -> None:
        """All of a stubbed pod's runtime."""
        # A client may have deleted or replaced the pod before this call.
        if self._store.get(key) is pod:
            started = self._store.put(key, statuses.mark_running(statuses.mark_scheduled(pod)))
            self._store.put(key, statuses.mark_succeeded(started.object, stub(pod)))

    def _update(self, call: ApiCall) -> Response:
        where, key = call.where, self._key(call)
        if where.plural != "leases":
            raise where.no_method()
        given = call.object(where.kind)
        meta = given.get("metadata", {})
        if meta.get("name") != where.name:
            wrong = f"the name of the object ({meta.get('name', '')}) does not match the name on the URL ({where.name})"
            raise ApiStatusError(400, wrong)
        old = self._store.get(key)
        if old is None:
            raise where.not_found()
        if not meta.get("resourceVersion"):
            wrong = "Invalid value: 0: must be specified for an update"
            resource = ResourceRef(where.plural, where.full, where.group, where.name)
            refusal = resource.invalid(("metadata.resourceVersion", "FieldValueInvalid", wrong))
            refusal.body["details"]["kind"] = where.plural  # the API server has the plural here and the kind elsewhere
            raise refusal
        if meta["resourceVersion"] != old["metadata"]["resourceVersion"]:
            raise where.modified()
        # These three belong to the server; an update cannot change them.
        kept = {name: old["metadata"][name] for name in ("uid", "creationTimestamp", "namespace")}
        return Response(200, self._store.put(key, {**given, "metadata": {**meta, **kept}}).data)

    def _patch(self, call: ApiCall) -> Response:
        """Merge labels and annotations into a pod; a strategic merge of these is the same."""
        where, key = call.where, self._key(call)
        if where.plural != "pods":
            raise where.no_method()
        kind = call.headers.get("content-type", "")
        if kind not in PATCH_TYPES:
            known = ", ".join(PATCH_TYPES)
            raise ApiStatusError(
                415, f"the body of the request was in an unknown format - accepted media types: {known}"
            )
        old = self._store.get(key)
        if old is None:
            raise where.not_found()
        given = call.object(where.kind)
        meta, uid = given.get("metadata", {}), old["metadata"]["uid"]
        if meta.get("uid", uid) != uid:
            raise where.another_uid(meta["uid"], uid)
        if given.keys() - {"kind", "apiVersion", "metadata"} or meta.keys() - {"uid", "labels", "annotations"}:
            wrong = "Forbidden: pod updates may not change fields other than labels and annotations on a FakeCluster"
            raise where.invalid(("spec", "FieldValueForbidden", wrong))
        merged = {name: _merged(old["metadata"].get(name) or {}, meta.get(name) or {}) for name in MERGED}
        return Response(200, self._store.put(key, {**old, "metadata": {**old["metadata"], **merged}}).data)

    def _delete(self, call: ApiCall) -> Response:
        where, key = call.where, self._key(call)
        old = self._store.get(key)
        if old is None:
            raise where.not_found()
        options = call.object("DeleteOptions") if call.body else {}
        wanted = options.get("preconditions", {})
        uid = old["metadata"]["uid"]
        if wanted.get("uid") not in {None, uid}:
            raise where.another_uid(wanted["uid"], uid)
        if wanted.get("resourceVersion") not in {None, old["metadata"]["resourceVersion"]}:
            raise where.modified()
        if where.plural == "pods":
            grace = options.get("gracePeriodSeconds")
            return Response(200, self.delete_pod(key, call.number("gracePeriodSeconds") if grace is None else grace))
        self._store.delete(key)
        details = {"name": where.name, "group": where.group, "kind": where.plural, "uid": uid}
        done = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
        return Response(200, _encode({**done, "details": {name: value for name, value in details.items() if value}}))

    def delete_pod(self, key: Key, grace: int | None) -> bytes:
        """Delete a pod, at once if nothing runs or no grace is left, else when it has ended; return its JSON."""
        pod = self._store.get(key)
        assert pod is not None
        uid = pod["metadata"]["uid"]
        if grace is None:
            grace = pod["spec"].get("terminationGracePeriodSeconds", 30)
        # Nothing runs before a node is assigned or after the last phase.
        if statuses.is_over(pod) or not pod["spec"].get("nodeName"):
            grace = 0
        before = pod["metadata"].get("deletionGracePeriodSeconds")
        # A second deletion can shorten the grace, never extend it.
        if before is not None and 0 < before <= grace:
            return self._store.data(key) or b""
        change = self._store.put(key, statuses.mark_deleting(pod, time_after(grace), grace))
        if grace == 0:
            self._store.delete(key)
            self._kubelet.discard_pod(uid)
        else:
            self._kubelet.stop_pod(uid, grace)
        return change.data

    # ---- the rest ---------------------------------------------------------------------------------------------------

    def _subresource(self, call: ApiCall) -> Response | StreamResponse | UpgradeResponse:
        pod = self._store.get(self._key(call))
        if call.where.plural != "pods" or call.subresource not in {"log", "portforward"}:
            raise path_not_found()
        if pod is None:
            raise call.where.not_found()
        runtime = self._kubelet.runtimes.get(pod["metadata"]["uid"])
        if call.subresource == "log":
            return read_log(call, pod, runtime)
        return open_forward(call, pod)

    def _review(self, call: ApiCall) -> Response:
        given = call.object(call.where.kind)
        asked = given.get("spec", {}).get("resourceAttributes", {})
        resource = asked.get("resource", "") + (f"/{asked['subresource']}" if asked.get("subresource") else "")
        allowed = self.allows(asked.get("verb", ""), resource)
        return Response(201, _encode({**given, "status": {"allowed": allowed}}))

    def _key(self, call: ApiCall) -> Key:
        return (call.where.plural, call.namespace, call.where.name)

    def _namespace(self, name: str) -> Mapping[str, Any]:
        return self._store.get(("namespaces", "", name)) or {}

    def _require_namespace(self, call: ApiCall) -> None:
        if call.namespace and not self._namespace(call.namespace):
            raise ResourceRef("namespaces", "Namespace", name=call.namespace).not_found()


def _merged(old: Mapping[str, str], new: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in {**old, **new}.items() if value is not None}


async def _once(line: bytes) -> AsyncIterator[bytes]:
    yield line


async def _within(waiting: Any, seconds: float) -> Any:
    return await asyncio.wait_for(waiting, None if seconds == float("inf") else seconds)
