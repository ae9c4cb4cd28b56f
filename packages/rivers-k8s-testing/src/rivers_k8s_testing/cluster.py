"""Run a fake cluster in a thread, and let a test inject faults into it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import msgspec

from rivers_k8s_testing.api_server.admission import Quota
from rivers_k8s_testing.api_server.calls import Request
from rivers_k8s_testing.api_server.connection import HttpConnections
from rivers_k8s_testing.api_server.server import ApiServer
from rivers_k8s_testing.faults import Faults
from rivers_k8s_testing.node import guard, statuses
from rivers_k8s_testing.node.kubelet import Kubelet
from rivers_k8s_testing.store import Key, Store

__all__ = ["FakeCluster"]

T = TypeVar("T")
# Seconds that the server's thread gets for one call
PATIENCE = 20.0
# Turns of the loop until an accepted connection is served: its transport, the protocol, the task
ACCEPT_TURNS = 4
WORKER = (sys.executable, "-m", "rivers_worker", "serve")


class FakeCluster:
    """A Kubernetes API server in a thread of this process; its pods are processes of this machine.

    Clients connect by the file `kubeconfig`. Pods, their logs and events, leases, access reviews, watches and
    port-forward behave as those of a real server. The container `rivers-step` of a pod is started as `command`,
    whatever its image, with the environment of its manifest and `env`. With `stub` no process is started: a pod
    succeeds at once with the termination message that `stub(pod)` returns. Idle watches get a bookmark every
    `bookmarks` seconds.

    The cluster runs until `close()`, or for a `with` block; if this process is killed, nothing of it is left either.
    Linux only.
    """

    faults: Faults
    """The faults of requests: `cluster.faults.add(Fault.status(503), verb="create", times=2)`."""

    def __init__(
        self,
        *,
        namespace: str = "default",
        command: Sequence[str] = WORKER,
        env: Mapping[str, str] | None = None,
        stub: Callable[[Mapping[str, Any]], str] | None = None,
        bookmarks: float = 1.0,
        user: str = "rivers",
    ) -> None:
        self.namespace = namespace
        self.faults = Faults()
        self.folder = Path(tempfile.mkdtemp(prefix="rivers-fake-cluster-"))
        self.kubeconfig = self.folder / "kubeconfig"
        self._user = user
        self._mark = secrets.token_hex(8)
        self._tokens: dict[str, str] = {}
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._store = Store()
        self._kubelet = Kubelet(self._store, self.folder, self._mark, command, env or {})
        self._server = ApiServer(self._store, self._kubelet, stub, bookmarks)
        self._connections = HttpConnections(self._server, self.faults, self._tokens)
        for name in {namespace, "default"}:
            self._store.put(("namespaces", "", name), _namespace(name))
        self.renew_token()
        # -I -S: without site-packages the guard starts in milliseconds.
        self._guard = subprocess.Popen(  # noqa: S603 – this interpreter, a file of ours
            [sys.executable, "-I", "-S", guard.__file__, self._mark, str(self.folder), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._loop = asyncio.new_event_loop()
        self._listening: asyncio.Server | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._loop.run_forever, name="rivers-fake-cluster", daemon=True)
        self._thread.start()
        self._await(self._listen())

    def __enter__(self) -> FakeCluster:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"FakeCluster({self.url!r}, namespace={self.namespace!r})"

    def close(self) -> None:
        """Kill every pod and close every connection; no process, thread, socket or file is left. Idempotent."""
        if self._closed:
            return
        self._await(self._end())
        self._closed = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()
        self._guard.kill()
        self._guard.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    # ---- state ----------------------------------------------------------------------------------------------

    @property
    def requests(self) -> list[Request]:
        """The requests so far, in order."""
        return self._do(lambda: list(self._connections.requests))

    def pods(self) -> list[dict[str, Any]]:
        """Return all pods as objects of the API."""
        return self._do(lambda: [_copy(pod) for pod in self._store.objects("pods")])

    def pod(self, name: str) -> dict[str, Any]:
        """Return one pod as an object of the API.

        Raises:
            LookupError: no pod has this name.
        """
        return self._do(lambda: _copy(self._store.get(self._find(name)) or {}))

    def wait_for(self, pod: str, phase: str, timeout: float = 30.0) -> dict[str, Any]:
        """Wait until the pod has this phase (Pending, Running, Succeeded, Failed, or Gone when deleted) and return it.

        Raises:
            TimeoutError: it has another phase after `timeout` seconds; the message has its status.
        """
        until = time.monotonic() + timeout
        seen: dict[str, Any] = {}
        while time.monotonic() < until:
            found = {known["metadata"]["name"]: known for known in self.pods()}
            if pod not in found and phase == "Gone":
                return seen
            seen = found.get(pod, seen)
            if pod in found and seen["status"]["phase"] == phase:
                return seen
            time.sleep(0.005)
        raise TimeoutError(f"pod {pod!r} is not {phase} after {timeout:g} s; its status: {seen.get('status')}")

    def log(self, pod: str) -> str:
        """Return the output of the pod's container so far."""
        runtime = self._do(lambda: self._kubelet.runtimes.get(self._uid(self._find(pod))))
        return runtime.log.read_text(errors="replace") if runtime is not None and runtime.log.exists() else ""

    # ---- faults of pods ------------------------------------------------------------------------------------------

    def kill(self, pod: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to the container's first process; SIGKILL, SIGSTOP and SIGCONT go to all of its processes."""
        self._do(lambda: self._kubelet.kill(self._uid(self._find(pod)), number))

    def oom(self, pod: str) -> None:
        """Kill the container as the kernel does when its memory is exhausted, with the reason OOMKilled."""
        self._do(lambda: self._kubelet.kill(self._uid(self._find(pod)), signal.SIGKILL, "OOMKilled"))

    def evict(self, pod: str, message: str = "The node was low on resource: memory.", reason: str = "Evicted") -> None:
        """Evict the pod as a kubelet does whose node lacks a resource (or with `reason` Preempting, Terminated …)."""
        self._do(lambda: self._kubelet.fail(self._uid(self._find(pod)), reason, message, "TerminationByKubelet"))

    def lose_node(self, pod: str, *, frozen: bool = True, toleration: float = 0.5) -> None:
        """Lose the pod's node: its status is not updated, and after `toleration` seconds it is marked for deletion.

        Its processes are stopped, as if unreachable; with `frozen=False` they run on, as if only the kubelet had died.
        """
        lose = self._kubelet.lose
        self._do(lambda: lose(self._uid(self._find(pod)), frozen=frozen, toleration=toleration))

    def restore_nodes(self) -> None:
        """Restore all lost nodes: their pods run on, or are stopped if that was requested meanwhile."""
        self._do(self._kubelet.restore)

    def drain(self, pod: str) -> None:
        """Evict the pod by the eviction API as `kubectl drain` does: marked as disrupted, deleted with its grace."""

        def drain() -> None:
            key = self._find(pod)
            disrupted = statuses.mark_disrupted(
                self._store.get(key) or {}, "EvictionByEvictionAPI", "Eviction API: evicting"
            )
            self._store.put(key, disrupted)
            self._server.delete_pod(key, None)

        self._do(drain)

    def delete(self, pod: str, *, force: bool = False) -> None:
        """Delete the pod as kubectl does; `force` removes the object at once."""
        self._do(lambda: self._server.delete_pod(self._find(pod), 0 if force else None))

    # ---- faults of the cluster -----------------------------------------------------------------------------

    @property
    def start_delay(self) -> float:
        """Seconds from a pod's binding to the start of its container."""
        return self._kubelet.start_delay

    @start_delay.setter
    def start_delay(self, seconds: float) -> None:
        self._kubelet.start_delay = seconds

    def unschedulable(self, words: str = "0/1 nodes are available: 1 Insufficient cpu.") -> None:
        """Schedule no pod from now on, with this message of the scheduler; "" schedules all that wait."""
        self._set(self._kubelet, "unschedulable", words)

    def image_error(self, reason: str = "", message: str = "") -> None:
        """Start no container from now on, for a reason such as ErrImagePull; "" starts all that wait."""
        self._set(self._kubelet, "image_error", (reason, message) if reason else None)

    def quota(self, **hard: object) -> None:
        """Set the ResourceQuota `quota`, such as `quota(pods=2)` or `quota(**{"requests.cpu": "4"})`; nothing: none."""
        self._set(self._server, "quota", Quota(hard={name: str(amount) for name, amount in hard.items()}))

    def deny(self, verb: str, resource: str) -> None:
        """Take a permission away: requests are answered 403, and access reviews say so; `*` is any."""
        self._do(lambda: self._server.denied.add((verb, resource)))

    def allow(self, verb: str, resource: str) -> None:
        """Undo a `deny`."""
        self._do(lambda: self._server.denied.discard((verb, resource)))

    def expire_token(self) -> None:
        """Invalidate the token of the kubeconfig: requests get 401 until `renew_token`."""
        self._tokens.clear()

    def renew_token(self) -> None:
        """Write a new token to the kubeconfig; older tokens keep their state."""
        token = secrets.token_urlsafe(24)
        self._tokens[token] = self._user
        # Clients read the file at any time, so it is replaced as a whole.
        written = self.kubeconfig.with_suffix(".new")
        written.touch(mode=0o600)
        written.write_text(json.dumps(_kubeconfig(self.url, self.namespace, self._user, token), indent=2))
        written.replace(self.kubeconfig)

    def compact(self) -> None:
        """Compact the history: watches and pages from any resourceVersion so far get 410."""
        self._do(self._store.compact)

    def missing_service_account(self, name: str) -> None:
        """Refuse pods with this service account; all others exist."""
        self._do(lambda: self._server.missing_accounts.add(name))

    def terminate_namespace(self, name: str | None = None) -> None:
        """Delete a namespace, by default this cluster's: its pods are deleted and new ones are refused."""

        def terminate() -> None:
            ending = name or self.namespace
            self._store.put(("namespaces", "", ending), _namespace(ending, "Terminating"))
            for pod in self._store.objects("pods", ending):
                self._server.delete_pod(("pods", ending, pod["metadata"]["name"]), None)

        self._do(terminate)

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Stop the API server for a `with` block: connections are aborted and refused, and pods run on."""
        self._await(self._unlisten())
        try:
            yield
        finally:
            # The same port: clients know no other.
            self._socket = socket.create_server(("127.0.0.1", int(self.url.rpartition(":")[2])), backlog=512)
            self._await(self._listen())

    # ---- the thread -------------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        self._listening = await asyncio.start_server(self._connections.serve, sock=self._socket)

    async def _unlisten(self) -> None:
        if self._listening is not None:
            self._listening.close()
        # Until then `_connections` does not know a connection that was accepted just now.
        for _ in range(ACCEPT_TURNS):
            await asyncio.sleep(0)
        await self._connections.close()

    async def _end(self) -> None:
        await self._unlisten()
        await self._kubelet.close()
        guard.kill(self._mark)
        await self._loop.shutdown_asyncgens()

    def _await(self, coroutine: Any) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE)

    def _do(self, act: Callable[[], T]) -> T:
        """Call a function in the server's thread, the only one that may use its objects."""
        if self._closed:
            raise RuntimeError(f"{self!r} is closed")
        done: concurrent.futures.Future[T] = concurrent.futures.Future()

        def run() -> None:
            try:
                done.set_result(act())
            except Exception as error:  # noqa: BLE001 – it is raised in the caller's thread
                done.set_exception(error)

        self._loop.call_soon_threadsafe(run)
        return done.result(PATIENCE)

    def _set(self, where: object, name: str, value: object) -> None:
        def change() -> None:
            setattr(where, name, value)
            self._kubelet.notify_changed()

        self._do(change)

    def _find(self, name: str) -> Key:
        found = {pod["metadata"]["name"]: pod["metadata"]["namespace"] for pod in self._store.objects("pods")}
        if name not in found:
            raise LookupError(f"no pod {name!r} in this cluster; there are: {', '.join(sorted(found)) or 'none'}")
        return ("pods", found[name], name)

    def _uid(self, key: Key) -> str:
        pod = self._store.get(key)
        return "" if pod is None else str(pod["metadata"]["uid"])


def _copy(given: Mapping[str, Any]) -> dict[str, Any]:
    copied: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(given))
    return copied


def _namespace(name: str, phase: str = "Active") -> dict[str, Any]:
    meta = {"name": name, "uid": name}
    return {"kind": "Namespace", "apiVersion": "v1", "metadata": meta, "status": {"phase": phase}}


def _kubeconfig(url: str, namespace: str, user: str, token: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "fake",
        "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": user, "namespace": namespace}}],
        "clusters": [{"name": "fake", "cluster": {"server": url}}],
        "users": [{"name": user, "user": {"token": token}}],
    }
