"""The link to one host, across broken connections: the agent and its workers stay there meanwhile.

open ──▶ connection, agent ──▶ up ──▶ the agent's reports
              ▲                 │ ssh has ended, or is silent
              └──── a pause ────┘ then the agent is found again, and sockets are forwarded again
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from rivers.protocol import Evidence
from rivers_executor_ssh.commands import SshError, SshTarget
from rivers_executor_ssh.connection import SshConnection
from rivers_executor_ssh.executor import SshExecutor, SshHost
from rivers_worker.remote import AgentWorker

__all__ = ["HostLink", "Prepare"]

PAUSES = (0.0, 0.3, 1.0, 2.0, 5.0)
"""Seconds before the tries to reach a host again; with workers there, the last one is repeated."""
RETRY_EVERY = 30.0
"""Seconds between later tries if the host holds no worker."""
LOG_IN = 20.0
"""Seconds after `connect_timeout` for jump hosts, the log-in and the interpreter's start."""
SLACK = 5.0
"""Seconds beyond `orphan_ttl` after which a host that is cut off runs nothing any more: its agent has its own clock."""
CLOSE_WITHIN = 8.0
STOP_GRACE = 3.0
STOP_WITHIN = 10.0

Prepare = Callable[[SshConnection, SshTarget], Awaitable[tuple[str | None, str | None]]]
"""Prepare a host when it is connected for the first time; return the interpreter and the folder, None to leave them."""


class HostLink:
    """The link to `host`; `changed` is called when its state, its slots or its number of workers may have changed."""

    def __init__(
        self, host: SshHost, executor: SshExecutor, folder: Path, prepare: Prepare, changed: Callable[[], None]
    ) -> None:
        self.name = host.address
        self.slots = host.slots or 0
        self.workers: dict[str, AgentWorker] = {}
        self.problem: SshError | None = None
        self.is_up = False
        self._executor = executor
        self._folder = folder
        self._python, self._cwd = host.python, host.cwd
        self._prepare: Prepare | None = prepare
        self._changed = changed
        self._target = SshTarget(host, folder / "control", executor.config, executor.connect_timeout)
        self._connection = SshConnection(self._target)
        self._agent: str | None = None
        self._last_contact = time.monotonic()
        self._last_number = 0
        self._kept: set[str] = set()
        self._maintaining: asyncio.Task[None] | None = None

    # ── connection ──

    async def open(self) -> None:
        """Connect, and keep the connection from then on, also if this first try fails.

        Raises:
            SshError: the first try has failed.
        """
        try:
            await self._connect()
        finally:
            self._maintaining = asyncio.ensure_future(self._maintain())

    async def close(self, within: float) -> str | None:
        """End the agent with all workers; return the problem if that is not known to have happened."""
        if self._maintaining is not None:
            self._maintaining.cancel()
            await asyncio.wait((self._maintaining,))
        problem = None
        try:
            async with asyncio.timeout(min(within, CLOSE_WITHIN)):
                # A broken connection may have lost the goodbye, and the next one finds no agent if it has not.
                while self._agent is not None:
                    await self._say_goodbye()
        except TimeoutError:
            ttl = self._executor.orphan_ttl
            problem = f"host {self.name}: what runs there ends within {ttl:g} s by itself: {self.problem or 'silence'}"
        finally:
            await self._connection.close()
        return problem

    async def _say_goodbye(self) -> None:
        if not self.is_up:
            try:
                await self._connect()
            except SshError:
                await asyncio.sleep(PAUSES[1])
                return
        self._connection.send({"bye": True})
        # After its answer the agent removes its folder, and ssh ends with it.
        while (message := await self._connection.read()) is not None:
            if "bye" in message:
                self._agent = None
        self.is_up = False

    async def _maintain(self) -> None:
        tries = len(PAUSES)
        while True:
            if self.is_up:
                tries = 0
                await self._follow()
            last = PAUSES[-1] if self.workers else RETRY_EVERY
            pause = PAUSES[tries] if tries < len(PAUSES) else last
            tries += 1
            await asyncio.sleep(pause)
            with contextlib.suppress(SshError):
                await self._connect()

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(self._executor.connect_timeout + LOG_IN):
                await self._connection.close()
                self._connection = SshConnection(self._target)
                await self._connection.connect()
                if self._prepare is not None:
                    await self._connection.check_forwarding()
            await self._prepare_host()
            async with asyncio.timeout(LOG_IN):
                greeting = await self._connection.start_agent(
                    self._python or "python3", self._cwd, self._agent, self._executor.orphan_ttl
                )
                if "gone" in greeting:
                    self._lose_agent("its agent is gone: the host was restarted, or somebody has killed it")
                    raise SshError(f"host {self.name}: {greeting['gone']}")
                await self._attach(greeting)
        except TimeoutError:
            self.problem = await self._connection.explain(is_late=True)
            self._take_out()
            raise self.problem from None
        except SshError as error:
            self.problem = error
            await self._connection.close()
            self._take_out()
            raise

    async def _prepare_host(self) -> None:
        if self._prepare is not None:
            python, folder = await self._prepare(self._connection, self._target)
            self._python, self._cwd = self._python or python, self._cwd or folder
            self._prepare = None

    async def _attach(self, greeting: Mapping[str, Any]) -> None:
        self._agent = greeting["folder"]
        self.slots = self.slots or max(1, int(greeting["cpus"]))
        # The agent ends all others: their stop was lost.
        self._kept = {*self.workers}
        self._connection.send({"keep": [*self._kept]})
        for worker in list(self.workers.values()):
            if worker.is_announced and not worker.is_over:
                # An ssh that was killed has left it.
                worker.socket.unlink(missing_ok=True)
                await self._connection.forward(worker.socket, worker.announcement.port)
        self.is_up, self.problem = True, None
        self._last_contact = time.monotonic()
        self._changed()

    async def _follow(self) -> None:
        """Take the agent's reports until the connection breaks."""
        pinging = asyncio.ensure_future(self._connection.ping())
        try:
            while (message := await self._connection.read()) is not None:
                self._last_contact = time.monotonic()
                self._take(message)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self.problem = SshError(f"host {self.name!r}: its agent reports what cannot be read: {error!r}")
            self._take_out()
        finally:
            pinging.cancel()
        self.is_up = False
        await self._connection.close()

    def _take(self, message: Mapping[str, Any]) -> None:
        if "workers" in message:
            for number in self._kept & self.workers.keys() - set(message["workers"]):
                lost = self.workers[number]
                lost.end(self._evidence(lost, "the connection broke before the host's agent got its order"))
        worker = self.workers.get(message.get("worker", ""))
        if worker is not None:
            worker.take(message["output"], message["end"])

    def _take_out(self) -> None:
        """Take the host out until it answers again; its workers are lost once they have ended themselves."""
        for worker in self.workers.values():
            worker.fail(self.problem or SshError(self.name))
        silent = time.monotonic() - self._last_contact
        if silent > self._executor.orphan_ttl + SLACK:
            self._lose_agent(f"the host has not answered for {silent:.0f} s: {self.problem}")
        self._changed()

    def _lose_agent(self, text: str) -> None:
        self._agent = None
        for worker in self.workers.values():
            worker.end(self._evidence(worker, text))

    # ── workers ──

    async def start(self, environment: Mapping[str, str]) -> AgentWorker:
        """Start a worker, and return it once it has announced itself; it is removed if that fails.

        Raises:
            SshError: the host cannot be used any more.
            AnnouncementError: the worker announced something else.
            WorkerEndedError: it has ended instead.
        """
        self._last_number += 1
        number = str(self._last_number)
        worker = AgentWorker(number, self.name, self._folder / number, self._stop)
        self.workers[number] = worker
        try:
            variables = {**environment, **dict(self._executor.env), "RIVERS_WORKER": worker.name}
            self._connection.send({"start": number, "environment": variables})
            await worker.wait_announced()
            await self._connection.forward(worker.socket, worker.announcement.port)
        except BaseException:
            await self._stop(worker)
            raise
        return worker

    async def _stop(self, worker: AgentWorker) -> None:
        """End a worker, and wait for that while the host answers."""
        if self.is_up:
            self._connection.send({"stop": worker.number, "grace": STOP_GRACE})
        with contextlib.suppress(TimeoutError, SshError):
            async with asyncio.timeout(STOP_WITHIN):
                if self.is_up and worker.is_announced:
                    await self._connection.forward(worker.socket, worker.announcement.port, cancel=True)
                if self.problem is None:
                    await worker.wait_until_over()
        worker.socket.unlink(missing_ok=True)
        # From here on the agent ends it at the next contact.
        self.workers.pop(worker.number, None)
        self._changed()

    def _evidence(self, worker: AgentWorker, detail: str) -> Evidence:
        return Evidence(node=self.name, worker=worker.name, detail=detail)
