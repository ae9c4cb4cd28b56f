"""The hosts of one run as a platform: each worker goes to the host with the most free slots."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rivers.exceptions import ConfigurationError, Problem
from rivers.protocol import StepSpec
from rivers_executor_ssh.commands import SshError
from rivers_executor_ssh.executor import SshExecutor
from rivers_executor_ssh.link import HostLink
from rivers_executor_ssh.sync import project_sync
from rivers_worker.errors import AnnouncementError
from rivers_worker.remote import RemoteWorker, StartRefusedError, WorkerEndedError, WorkerOrder, WorkerPlatform

__all__ = ["SshPlatform", "choose"]

LAST_WORD = 0.5
"""Seconds before a start's deadline at which it is given up, so that the text names the hosts' problems."""
PREFIX = "rivers-ssh-"
LONGEST_FOLDER = 60
"""Characters; a socket's address has 107, of which ssh uses 17 while it creates its control socket."""


class SshPlatform(WorkerPlatform):
    """The hosts of an executor for one run, or its preflight."""

    logger = "rivers.ssh"

    def __init__(self, executor: SshExecutor) -> None:
        self._executor = executor
        self._links: list[HostLink] = []
        self._failed: list[str] = []
        self._folder: Path | None = None
        self._lock = -1
        self._warn: Callable[[str], None] = lambda text: None
        self._is_out: dict[str, bool] = {}
        self._event = asyncio.Event()

    async def check(self, specs: Sequence[StepSpec]) -> list[Problem]:
        """Return the problems of the hosts if none of them can be used."""
        if not self._executor.hosts:
            return [Problem(f"executor {self._executor!r} has no hosts: write SshExecutor(hosts=[…])")]
        try:
            await self._connect()
        except SshError as error:
            return [Problem(str(error))]
        return [Problem(text) for text in self._failed] if len(self._failed) == len(self._links) else []

    async def open(self, run_id: str, warn: Callable[[str], None]) -> None:
        """Go on without the hosts that fail, unless all do."""
        if not self._links:
            await self._connect()
        if len(self._failed) == len(self._links):
            raise ConfigurationError("no host can be used", hint="\n".join(self._failed) or None)
        self._warn = warn
        self._is_out.clear()
        self._change()

    async def start(self, order: WorkerOrder) -> RemoteWorker:
        """Start a worker on the host with the most free slots; try others if a host fails."""
        within = order.deadline - LAST_WORD - time.monotonic()
        try:
            async with asyncio.timeout(within):
                while True:
                    link = await self._wait_for_slot(order)
                    with contextlib.suppress(SshError):
                        return await link.start(order.environment)
        except TimeoutError:
            raise StartRefusedError(f"no host has started a worker within {within:.0f} s{self._problems()}") from None
        except AnnouncementError as error:
            raise StartRefusedError(str(error), is_transient=False) from error
        except WorkerEndedError as error:
            # By an exit code it says that it cannot start; anything else has happened to it.
            raise StartRefusedError(str(error), is_transient=error.evidence.exit_code is None) from error

    async def close(self, deadline: float) -> list[str]:
        """End the agents of all hosts, and remove the sockets."""
        problems = await asyncio.gather(*(link.close(deadline) for link in self._links))
        self._links = []
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            os.close(self._lock)
            self._folder = None
        return [problem for problem in problems if problem]

    # ── inside ──

    async def _connect(self) -> None:
        """Connect to all hosts at once."""
        self._folder, self._lock = create_folder()
        prepare = await project_sync(self._executor, self._folder)
        for at, host in enumerate(self._executor.all_hosts):
            folder = self._folder / str(at)
            folder.mkdir()
            self._links.append(HostLink(host, self._executor, folder, prepare, self._change))
        for link, error in zip(
            self._links,
            await asyncio.gather(*(link.open() for link in self._links), return_exceptions=True),
            strict=True,
        ):
            if isinstance(error, SshError):
                self._failed.append(f"host {link.name!r}: {error}")
            elif error is not None:
                raise error

    async def _wait_for_slot(self, order: WorkerOrder) -> HostLink:
        reported = False
        while (link := choose(self._links)) is None:
            if not reported:
                order.report(f"a free slot on a host{self._problems()}")
                reported = True
            self._event.clear()
            await self._event.wait()
        return link

    def _change(self) -> None:
        """Warn of hosts that were taken out or are back, and pass on the number of slots."""
        for link in self._links:
            is_out = link.problem is not None
            if is_out != self._is_out.get(link.name, False):
                self._is_out[link.name] = is_out
                self._warn(
                    f"host {link.name!r} is out, and its steps go elsewhere: {link.problem}"
                    if is_out
                    else f"host {link.name!r} answers again"
                )
        # Workers of a host that is out still count in the pool.
        limit = sum(len(link.workers) if link.problem is not None else link.slots for link in self._links)
        self.limit_changed(max(1, limit))
        self._event.set()

    def _problems(self) -> str:
        texts = [f"; host {link.name!r}: {link.problem}" for link in self._links if link.problem is not None]
        return "".join(texts)


def choose(links: Sequence[HostLink]) -> HostLink | None:
    """Return the link with the largest share of free slots, or None if there is no free slot."""
    free = [link for link in links if link.is_up and len(link.workers) < link.slots]
    return max(free, key=lambda link: 1 - len(link.workers) / link.slots, default=None)


def create_folder() -> tuple[Path, int]:
    """Create a private folder for sockets, with a locked file; remove those of controllers that were killed."""
    base = Path(tempfile.gettempdir())
    # A colon would end the path in an argument of ssh.
    if len(str(base)) + len(PREFIX) + 8 > LONGEST_FOLDER or ":" in str(base):
        base = Path("/tmp")  # noqa: S108 - mkdtemp makes the folder, closed to other users
    for old in base.glob(f"{PREFIX}*/lock"):
        with contextlib.suppress(OSError):
            lock = os.open(old, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(old.parent, ignore_errors=True)
            finally:
                os.close(lock)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return folder, lock
