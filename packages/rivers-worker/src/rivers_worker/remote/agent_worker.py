"""One worker on a host, as the agent there (`rivers_worker.agent`) reports it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from rivers.protocol import Evidence
from rivers_worker.announcement import Announcement, announcement_in
from rivers_worker.errors import AnnouncementError
from rivers_worker.remote.platform import RemoteWorker

__all__ = ["AgentWorker", "WorkerEndedError"]

SHOWN = 2000
"""Characters of a worker's output in evidence and errors."""


class WorkerEndedError(Exception):
    """A worker that has ended before it announced itself."""

    def __init__(self, evidence: Evidence) -> None:
        ended = f"exit code {evidence.exit_code}" if evidence.signal is None else f"signal {evidence.signal}"
        super().__init__(f"{evidence.worker} ended with {ended} before it announced itself: {evidence.detail}")
        self.evidence = evidence


class AgentWorker(RemoteWorker):
    """A worker on the host `node`, dialled by the local socket `socket`; `release` ends it there.

    `announced` is the future of its announcement; it fails if there will be none.
    """

    def __init__(
        self,
        number: str,
        node: str,
        socket: Path,
        release: Callable[[AgentWorker], Coroutine[Any, Any, None]],
    ) -> None:
        loop = asyncio.get_running_loop()
        self.number = number
        self.name = f"{node}/{number}"
        self.node = node
        self.socket = socket
        self.target = f"unix:{socket}"
        self.announced: asyncio.Future[Announcement] = loop.create_future()
        self.over: asyncio.Future[Evidence] = loop.create_future()
        self._release = release

    @property
    def is_announced(self) -> bool:
        """True once it can be dialled."""
        return self.announced.done() and self.announced.exception() is None

    @property
    def is_over(self) -> bool:
        """True once its end was reported, or nobody can report it any more."""
        return self.over.done()

    async def wait_until_over(self) -> Evidence:
        """Wait for the evidence of its end."""
        return await asyncio.shield(self.over)

    async def wait_announced(self) -> None:
        """Wait for its announcement.

        Raises:
            WorkerEndedError: it has ended instead.
        """
        await asyncio.wait((self.announced, self.over), return_when=asyncio.FIRST_COMPLETED)
        if not self.announced.done():
            raise WorkerEndedError(self.over.result())
        await self.announced

    async def stop(self) -> None:
        """End it and its forwarded socket."""
        await self._release(self)

    def take(self, output: str, end: dict[str, Any] | None) -> None:
        """Take the agent's report, which may be a repeated one."""
        if not self.announced.done():
            try:
                announcement = announcement_in(output.encode())
            except AnnouncementError as error:
                self.fail(error)
            else:
                if announcement is not None:
                    self.announcement = announcement
                    self.announced.set_result(announcement)
        if end is not None:
            self.end(end_evidence(self.name, self.node or "", end))

    def end(self, evidence: Evidence) -> None:
        """Take the evidence of its end; the first one counts."""
        if not self.over.done():
            self.over.set_result(evidence)

    def fail(self, error: Exception) -> None:
        """Give up the wait for its announcement."""
        if not self.announced.done():
            self.announced.set_exception(error)
            # It may be that nobody waits any more.
            self.announced.exception()


def end_evidence(name: str, node: str, end: dict[str, Any]) -> Evidence:
    """Return the evidence of an end that the agent has seen."""
    code = int(end["code"])
    return Evidence(
        exit_code=code if code >= 0 else None,
        signal=-code if code < 0 else None,
        oom_kills=end.get("oom_kills") or None,
        node=node,
        worker=name,
        detail=output_tail(end["tail"]) or None,
    )


def output_tail(text: str) -> str:
    """Return the end of a worker's output, without its announcement."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("rivers-worker 1 ")]
    return "\n".join(lines)[-SHOWN:]
