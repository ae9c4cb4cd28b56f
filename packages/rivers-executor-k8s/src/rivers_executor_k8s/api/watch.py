"""Watch the pods of a run: one watch for all of them, and lists that find changes which the watch has missed.

    list ──▶ watch from its version ──▶ ends, breaks, falls silent ──▶ watch from the last version
      ▲                                   │ 410, garbage: that version is useless
      └── every 30 s, on request ◀────────┘        no watch works: within 5 s

A list shows every pod as it is, so that no change is lost for good: not by a half-open connection, not by skipped
events, not by a deletion that the watch never delivered.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Iterable

import msgspec

from rivers_executor_k8s.api.client import ApiError, ApiUnreachableError
from rivers_executor_k8s.api.create_errors import is_transient
from rivers_executor_k8s.api.namespace import Cluster
from rivers_executor_k8s.api.pod_cache import PodCache
from rivers_executor_k8s.api.rate_limit import pause
from rivers_executor_k8s.pod.objects import Pod, Status

__all__ = ["PodWatch"]

# Seconds without a line after which a watch is dead: bookmarks arrive every minute
SILENCE = 75.0
# Seconds between two lists while a watch works
RELIST = 30.0
# Seconds after which the API server is asked to end a watch: the next one may reach another replica
SHORTEST_LIFE, LONGEST_LIFE = 240, 300
# A watch that has lasted so many seconds works, even if no event has arrived
HEALTHY = 5.0
# Consecutive failures of watches before lists take over
BROKEN = 3

_log = logging.getLogger("rivers.kubernetes")


class _Line(msgspec.Struct, frozen=True, gc=False):
    type: str
    object: msgspec.Raw


_line = msgspec.json.Decoder(_Line)
_pod = msgspec.json.Decoder(Pod)
_status = msgspec.json.Decoder(Status)


class PodWatch:
    """A watch of the pods with certain labels; `changed` gets each new state of a pod, `gone` its last one.

    Both are called in the loop, once for each version of a pod, and never again for a pod that is gone. `every` is the
    time in seconds between two lists.
    """

    def __init__(
        self,
        cluster: Cluster,
        selector: str,
        changed: Callable[[Pod], None],
        gone: Callable[[Pod], None],
        *,
        every: float = RELIST,
        silence: float = SILENCE,
    ) -> None:
        self._cluster = cluster
        self._selector = selector
        self._changed = changed
        self._gone = gone
        self._every = every
        self._silence = silence
        self._cache = PodCache()
        self._failures = 0
        self._version = ""  # of the last list
        self._at = ""  # of the last event; empty where a watch needs a list before it
        self._asked = asyncio.Event()
        self._listed = asyncio.Event()
        self._warned: set[str] = set()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """List the pods, report each, and start to watch.

        Raises:
            ApiError: the API server refuses.
            ApiUnreachableError: it does not answer.
        """
        await self._list()
        self._at = self._version
        self._tasks = [asyncio.ensure_future(self._keep_watching()), asyncio.ensure_future(self._keep_listing())]

    async def stop(self) -> None:
        """Stop reporting and close the connection."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2.0)
        self._tasks = []

    def observe(self, pod: Pod) -> None:
        """Report a pod that was just created, or found instead of being created, as if a list had shown it."""
        if self._cache.update(pod):
            self._notify([pod], ())

    # ── lists ──

    async def _keep_listing(self) -> None:
        """List the pods every `every` seconds, and whenever the watch asks for it."""
        tries = 0
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._every):
                    await self._asked.wait()
            try:
                await self._list()
                tries = 0
            except (ApiError, ApiUnreachableError) as error:
                tries += 1
                self._warn_once("listed", error)
                await asyncio.sleep(pause(tries, error.retry_after if isinstance(error, ApiError) else None))

    async def _list(self) -> None:
        self._asked.clear()
        self._cache.begin_list()
        pods, version = await self._cluster.list_pods(self._selector)
        changed, gone = self._cache.apply_list(pods)
        self._version = version
        self._listed.set()
        self._notify(changed, gone)

    async def _fresh_version(self) -> str:
        self._listed.clear()
        self._asked.set()
        await self._listed.wait()
        return self._version

    # ── the watch ──

    async def _keep_watching(self) -> None:
        """Watch the pods, again and again; each watch continues at the version where the last one ended."""
        while True:
            if not self._at:
                self._at = await self._fresh_version()
            begun = time.monotonic()
            retry_after = None
            try:
                await self._follow(self._at)
            except ApiError as error:
                self._warn_once("watched", error)
                retry_after = error.retry_after
                if error.status == 410:
                    self._at = ""
            except ApiUnreachableError as error:
                self._warn_once("watched", error)
            if time.monotonic() - begun >= HEALTHY:
                self._failures = 0
            self._failures += 1
            if self._failures >= BROKEN:
                self._asked.set()  # a list at each try, so every five seconds at the latest
            await asyncio.sleep(pause(self._failures, retry_after))

    async def _follow(self, version: str) -> None:
        seconds = random.randint(SHORTEST_LIFE, LONGEST_LIFE)  # noqa: S311 - it spreads load, and protects nothing
        watch = self._cluster.watch_pods(self._selector, version, seconds=seconds, silence=self._silence)
        async with watch as stream, contextlib.aclosing(stream.lines()) as lines:
            async for line in lines:
                try:
                    self._handle(line)
                except msgspec.DecodeError:
                    self._at = ""  # other events may be lost as well: only a list finds out
                    return

    def _handle(self, line: bytes) -> None:
        """Apply one event of the watch.

        Raises:
            ApiError: the event is an error, after which the watch ends.
        """
        event = _line.decode(line)
        if event.type == "ERROR":
            status = _status.decode(event.object)
            raise ApiError(status.code, status.reason, status.message)
        pod = _pod.decode(event.object)
        self._failures = 0
        self._warned.clear()
        self._at = pod.metadata.resource_version
        if event.type in ("ADDED", "MODIFIED"):
            if self._cache.update(pod):
                self._notify([pod], ())
        elif event.type == "DELETED":
            if self._cache.remove(pod):
                self._notify((), [pod])
        elif event.type != "BOOKMARK":
            self._asked.set()  # an unknown type: a list shows its effect

    # ── reports ──

    def _notify(self, changed: Iterable[Pod], gone: Iterable[Pod]) -> None:
        for report, pods in ((self._changed, changed), (self._gone, gone)):
            for pod in pods:
                try:
                    report(pod)
                except Exception:  # noqa: BLE001 - an error about one pod must not stop the watch of the others
                    _log.exception("handling the change of pod %s failed", pod.metadata.name)

    def _warn_once(self, action: str, error: ApiError | ApiUnreachableError) -> None:
        """Warn once per cause: at once of permanent errors, of transient ones when they persist."""
        if (is_transient(error) and self._failures < BROKEN) or getattr(error, "status", 0) == 410:
            return
        namespace = self._cluster.namespace
        hint = f" (the verbs list and watch on pods are needed in {namespace!r})" if "403" in str(error)[:3] else ""
        text = f"pods in namespace {namespace!r} cannot be {action}: {error}{hint}"
        if text not in self._warned:
            self._warned.add(text)
            _log.warning("%s", text)
