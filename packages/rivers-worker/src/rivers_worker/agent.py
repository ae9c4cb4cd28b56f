"""Own the workers of one run on this machine, for a controller whose connection may break.

    session   ends with its connection, such as that of ssh: it starts the agent or finds it again, and copies lines
              between it and stdin and stdout
    agent     detached, so that workers outlive a broken connection; ends when the controller says so, or when it has
              heard nothing from it for `orphan_ttl` seconds, and leaves nothing behind

Lines are JSON. From the controller: `keep` (the numbers of its workers), `start`, `stop`, `ping`, `bye`. To it: the
session's greeting, then `workers` (the answer to `keep`), reports of a `worker`, `pong`, `bye`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import selectors
import shutil
import signal
import socket
import sys
import tempfile
import time
from importlib import metadata
from typing import Any

from rivers_process.cgroup import MemoryCgroup
from rivers_process.prctl import adopt_orphans, die_with_parent
from rivers_worker.announcement import PROTOCOL_VERSION
from rivers_worker.clean_up.descendants import kill_descendants

__all__ = ["HostAgent", "HostedWorker", "main"]

HEAD = 16 << 10
TAIL = 4 << 10
KILL_WITHIN = 2.0
MAX_LINE = 1 << 20
SOCKET = "agent"


class HostedWorker:
    """One worker process, and what it wrote until it announced itself."""

    def __init__(self, agent: HostAgent, number: str) -> None:
        self._agent = agent
        self.number = number
        self.process: asyncio.subprocess.Process | None = None
        self.end: dict[str, Any] | None = None
        self._begun = asyncio.Event()
        self._over = asyncio.Event()
        self._head = self._tail = b""

    async def run(self, order: dict[str, Any]) -> None:
        """Run it to its end, and report that."""
        try:
            self.end = await self._run(order)
        except OSError as error:
            self.end = {"code": 127, "tail": str(error)}
        self._begun.set()
        self._over.set()
        self.report()

    async def _run(self, order: dict[str, Any]) -> dict[str, Any]:
        kills = self._agent.memory.oom_kills()
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "rivers_worker",
            "serve",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, **order["environment"]},
            start_new_session=True,
            # It must not outlive this process, which alone can report its end.
            preexec_fn=self._agent.bind_to_this_process,
        )
        self._begun.set()
        reading = asyncio.ensure_future(self._read(self.process))
        code = await self.process.wait()
        # A process that the worker has left behind may hold the pipe open.
        await asyncio.wait((reading,), timeout=0.2)
        reading.cancel()
        self._agent.kill_orphans()
        now = self._agent.memory.oom_kills()
        killed = None if kills is None or now is None else now - kills
        return {"code": code, "tail": self._tail.decode(errors="replace"), "oom_kills": killed}

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while data := await process.stdout.read(4096):
            self._tail = (self._tail + data)[-TAIL:]
            if len(self._head) < HEAD:
                self._head = (self._head + data)[:HEAD]
                self.report()

    def report(self) -> None:
        """Report what is known of it; a repeated report is no harm."""
        self._agent.send({"worker": self.number, "output": self._head.decode(errors="replace"), "end": self.end})

    async def stop(self, grace: float) -> None:
        """End it, by SIGKILL after `grace` seconds, and wait until it has ended."""
        await self._begun.wait()
        if self.process is not None and self.end is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.terminate()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._over.wait(), grace)
                    return
                self.process.kill()
        await self._over.wait()


class HostAgent:
    """The owner of a run's workers on this host."""

    def __init__(self, orphan_ttl: float) -> None:
        self.memory = MemoryCgroup()
        adopt_orphans()
        self._pid = os.getpid()
        self._ttl = orphan_ttl
        self._last_contact = time.monotonic()
        self._workers: dict[str, HostedWorker] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._writer: asyncio.StreamWriter | None = None
        self._over = asyncio.Event()

    async def run(self, listener: socket.socket) -> None:
        """Serve the controller until it says goodbye or is silent for too long; then kill all workers."""
        server = await asyncio.start_unix_server(self._serve, sock=listener, limit=MAX_LINE)
        while not self._over.is_set() and (left := self._last_contact + self._ttl - time.monotonic()) > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), left)
        server.close()
        await asyncio.gather(*(worker.stop(KILL_WITHIN) for worker in self._workers.values()))
        self._workers.clear()
        kill_descendants((), time.monotonic() + KILL_WITHIN)
        self.send({"bye": True})

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._writer is not None:
            # There is one controller, and its older connection is broken.
            self._writer.close()
        self._writer = writer
        with contextlib.suppress(OSError, ValueError):
            while line := await reader.readline():
                self._last_contact = time.monotonic()
                self._take(json.loads(line))
        writer.close()

    def _take(self, message: dict[str, Any]) -> None:
        if "keep" in message:
            for number in self._workers.keys() - set(message["keep"]):
                self._stop(number, KILL_WITHIN)
            self.send({"workers": sorted(self._workers)})
            for worker in list(self._workers.values()):
                worker.report()
        elif "start" in message:
            worker = self._workers[message["start"]] = HostedWorker(self, message["start"])
            self._spawn(worker.run(message))
        elif "stop" in message:
            self._stop(message["stop"], message["grace"])
        elif "bye" in message:
            self._over.set()
        else:
            self.send({"pong": True})

    def _stop(self, number: str, grace: float) -> None:
        worker = self._workers.get(number)
        if worker is not None:
            self._spawn(self._remove(worker, grace))

    async def _remove(self, worker: HostedWorker, grace: float) -> None:
        await worker.stop(grace)
        self._workers.pop(worker.number, None)

    def send(self, message: dict[str, Any]) -> None:
        """Send a message, if a controller is connected."""
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(json.dumps(message).encode() + b"\n")

    def bind_to_this_process(self) -> None:
        """Have the kernel kill the calling process, a child of this one, when this one ends."""
        if not die_with_parent(self._pid):
            os._exit(13)

    def kill_orphans(self) -> None:
        """Kill what a dead worker has left: this process, a subreaper, is its parent now."""
        known = [worker.process.pid for worker in self._workers.values() if worker.process is not None]
        kill_descendants(known, time.monotonic() + KILL_WITHIN)

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def run_agent(listener: socket.socket, folder: str, orphan_ttl: float) -> None:
    """Detach from the ssh session and run the agent; remove its folder at the end."""
    os.setsid()
    # Not SIG_IGN, which the workers and their bodies would inherit.
    signal.signal(signal.SIGHUP, lambda number, frame: None)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    try:
        agent = HostAgent(orphan_ttl)
        asyncio.run(agent.run(listener))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def connect_agent(folder: str | None, orphan_ttl: float) -> tuple[socket.socket, str]:
    """Connect to the agent in `folder`, or to a new one."""
    if folder is None:
        folder = tempfile.mkdtemp(prefix="rivers-ssh-")
        cwd = os.getcwd()
        # A relative name is never too long for a socket's address.
        os.chdir(folder)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(SOCKET)
        listener.listen()
        os.chdir(cwd)
        if os.fork() == 0:
            code = 1
            try:
                run_agent(listener, folder, orphan_ttl)
                code = 0
            finally:
                os._exit(code)
        listener.close()
    # Not before the fork: the agent would hold its own connection open.
    connection = socket.socket(socket.AF_UNIX)
    os.chdir(folder)
    try:
        connection.connect(SOCKET)
    except ConnectionRefusedError:
        # It was killed, and could not remove it.
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return connection, folder


def copy(connection: socket.socket) -> None:
    """Copy both directions until one of them ends."""
    selector = selectors.DefaultSelector()
    selector.register(0, selectors.EVENT_READ, connection.sendall)
    selector.register(connection, selectors.EVENT_READ, lambda data: write_all(1, data))
    while True:
        for key, _ in selector.select():
            data = os.read(key.fd, 65536)
            if not data:
                return
            key.data(data)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of it, which may take several writes."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def main(folder: str | None, orphan_ttl: float) -> None:
    """Run a session: greet the controller, then copy. Without a `folder`, its agent is a new one."""
    greeting: dict[str, Any] = {
        "greeting": sys.executable,
        "protocol": PROTOCOL_VERSION,
        "version": metadata.version("rivers-worker"),
        "cpus": len(os.sched_getaffinity(0)),
    }
    connection = None
    try:
        connection, greeting["folder"] = connect_agent(folder, orphan_ttl)
    except OSError as error:
        if folder is None:
            raise
        greeting["gone"] = str(error)
    write_all(1, json.dumps(greeting).encode() + b"\n")
    if connection is not None:
        with contextlib.suppress(OSError):
            copy(connection)
