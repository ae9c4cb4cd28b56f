"""The pods of a run, as they change: one watch for all of them, and lists that find what a watch has missed.

    list ──▶ watch from its version ──▶ ends, breaks, falls silent ──▶ watch from the last version
      ▲                                   │ 410, garbage: that version is worth nothing
      └── every 30 s, and when asked ◀────┘        no watch works: within 5 s

A list says how everything is, so nothing is lost for good: not by a connection that is dead and does not say so, not by
events that were skipped, not by a deletion that nobody told.
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

# Seconds without any line after which a watch is dead: bookmarks come every minute
SILENCE = 75.0
# Seconds between two lists while a watch works
RELIST = 30.0
# Seconds after which the API server is to end a watch: a new one finds a new server, too
SHORTEST_LIFE, LONGEST_LIFE = 240, 300
# A watch that has lived so many seconds works, even if nothing has happened
HEALTHY = 5.0
# Watches that fail one after the other before lists take over
BROKEN = 3

_log = logging.getLogger("rivers.kubernetes")


class _Line(msgspec.Struct, frozen=True, gc=False):
    type: str
    object: msgspec.Raw


_line = msgspec.json.Decoder(_Line)
_pod = msgspec.json.Decoder(Pod)
_status = msgspec.json.Decoder(Status)


class PodWatch:
    """Tells of pods that carry certain labels: `changed` that one is like this now, `gone` that it was deleted.

    Both are called in the loop, once for each version of a pod, and never for a pod that is gone. `every` are the
    seconds between two lists.
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
        self._known = PodCache()
        self._failures = 0
        self._version = ""  # of the last list
        self._at = ""  # of the last event; empty where a watch needs a list before it
        self._asked = asyncio.Event()
        self._listed = asyncio.Event()
        self._said: set[str] = set()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """List them, tell of each, and begin to watch.

        Raises:
            ApiError: the API server refuses.
            ApiUnreachableError: it does not answer.
        """
        await self._list()
        self._at = self._version
        self._tasks = [asyncio.ensure_future(self._watching()), asyncio.ensure_future(self._listing())]

    async def stop(self) -> None:
        """Tell nothing any more; the connection is closed."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2.0)
        self._tasks = []

    def know(self, pod: Pod) -> None:
        """A pod has just been made, or met where it should be made: it is like this, as if a list had shown it."""
        if self._known.change(pod):
            self._tell([pod], ())

    # ── lists ──

    async def _listing(self) -> None:
        """A list every now and then, and whenever the watch needs one."""
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
                self._say("listed", error)
                await asyncio.sleep(pause(tries, error.retry_after if isinstance(error, ApiError) else None))

    async def _list(self) -> None:
        self._asked.clear()
        self._known.before_list()
        pods, version = await self._cluster.list_pods(self._selector)
        changed, gone = self._known.listed(pods)
        self._version = version
        self._listed.set()
        self._tell(changed, gone)

    async def _fresh_version(self) -> str:
        self._listed.clear()
        self._asked.set()
        await self._listed.wait()
        return self._version

    # ── the watch ──

    async def _watching(self) -> None:
        """One watch after the other; each goes on where the last one was, if that is known."""
        while True:
            if not self._at:
                self._at = await self._fresh_version()
            begun = time.monotonic()
            retry_after = None
            try:
                await self._follow(self._at)
            except ApiError as error:
                self._say("watched", error)
                retry_after = error.retry_after
                if error.status == 410:
                    self._at = ""
            except ApiUnreachableError as error:
                self._say("watched", error)
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
                    self._take(line)
                except msgspec.DecodeError:
                    self._at = ""  # who knows what else is lost
                    return

    def _take(self, line: bytes) -> None:
        """One event.

        Raises:
            ApiError: it is an error, and the last one.
        """
        event = _line.decode(line)
        if event.type == "ERROR":
            status = _status.decode(event.object)
            raise ApiError(status.code, status.reason, status.message)
        pod = _pod.decode(event.object)
        self._failures = 0
        self._said.clear()
        self._at = pod.metadata.resource_version
        if event.type in ("ADDED", "MODIFIED"):
            if self._known.change(pod):
                self._tell([pod], ())
        elif event.type == "DELETED":
            if self._known.deletion(pod):
                self._tell((), [pod])
        elif event.type != "BOOKMARK":
            self._asked.set()  # whatever it was, a list knows

    # ── what is told ──

    def _tell(self, changed: Iterable[Pod], gone: Iterable[Pod]) -> None:
        for tell, pods in ((self._changed, changed), (self._gone, gone)):
            for pod in pods:
                try:
                    tell(pod)
                except Exception:  # noqa: BLE001 - a bug of ours in one pod's affairs stops no other's
                    _log.exception("what the change of pod %s led to has failed", pod.metadata.name)

    def _say(self, deed: str, error: ApiError | ApiUnreachableError) -> None:
        """Warn once of what goes on failing, at once of what will."""
        if (is_transient(error) and self._failures < BROKEN) or getattr(error, "status", 0) == 410:
            return
        namespace = self._cluster.namespace
        hint = f" (the verbs list and watch on pods are needed in {namespace!r})" if "403" in str(error)[:3] else ""
        text = f"pods in namespace {namespace!r} cannot be {deed}: {error}{hint}"
        if text not in self._said:
            self._said.add(text)
            _log.warning("%s", text)
