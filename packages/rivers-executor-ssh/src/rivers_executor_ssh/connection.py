"""One ssh process: the connection that sessions and forwarded sockets share, and the lines to and from the agent."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import signal
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from rivers_executor_ssh.commands import READY, SshError, SshTarget, boot_line, describe_failure
from rivers_worker.announcement import PROTOCOL_VERSION

__all__ = ["SshConnection", "run_command"]

PIPE = asyncio.subprocess.PIPE
PING_EVERY = 3.0
SILENCE = 12.0
"""Seconds without a line from the agent after which a connection counts as broken: ssh, or the host, may be frozen."""
COMMAND_WITHIN = 15.0
MAX_LINE = 1 << 20
MAX_NOISE = 100
"""Lines that a login may print before those of rivers."""
TAIL = 4096


class SshConnection:
    """A connection, from `connect` to `close`. Any error of it is an SshError, or the end of `read`."""

    def __init__(self, target: SshTarget) -> None:
        self._target = target
        self._process: asyncio.subprocess.Process | None = None
        self._errors = bytearray()
        self._reading: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Log in, and wait for the host's shell; the caller sets the deadline."""
        # ssh shares no connection if an earlier one, which was killed, has left its socket.
        self._target.control.unlink(missing_ok=True)
        self._process = await _start(self._target.master())
        self._reading = asyncio.ensure_future(self._read_errors(self._process))
        await self._read_until(READY)

    async def start_agent(self, python: str, cwd: str | None, folder: str | None, orphan_ttl: float) -> dict[str, Any]:
        """Start the agent, or find that in `folder`, and return its greeting.

        Raises:
            SshError: the host lacks something.
        """
        self._write(boot_line(python, cwd, folder, orphan_ttl))
        line = await self._read_until(b'{"greeting"', f" and `{python}` there")
        try:
            greeting: dict[str, Any] = json.loads(line)
            ours, theirs = metadata.version("rivers-worker"), str(greeting["version"])
            is_same = greeting["protocol"] == PROTOCOL_VERSION and theirs.split(".")[:2] == ours.split(".")[:2]
        except (ValueError, KeyError, TypeError) as error:
            raise SshError(f"`{self._target.plain}`: its agent answers {line[:200]!r}: {error!r}") from None
        if not is_same:
            found = f"{greeting['greeting']} there has rivers-worker {theirs}, expected {ours} as here"
            raise SshError(f"`{self._target.plain}`: {found}")
        return greeting

    async def read(self) -> dict[str, Any] | None:
        """Return the agent's next message; None if the connection is broken, or silent for too long."""
        with contextlib.suppress(TimeoutError, ValueError):
            async with asyncio.timeout(SILENCE):
                line = await self._read_line()
            message = json.loads(line) if line else None
            return message if isinstance(message, dict) else None
        return None

    def send(self, message: dict[str, Any]) -> None:
        """Send a message to the agent; what a broken connection loses is sent again by the link."""
        self._write(json.dumps(message).encode() + b"\n")

    async def ping(self) -> None:
        """Send signs of life until it is cancelled."""
        while True:
            self.send({"ping": True})
            await asyncio.sleep(PING_EVERY)

    async def check_forwarding(self) -> None:
        """Check that sshd forwards to ports of the host; otherwise no worker could be called.

        Raises:
            SshError: it does not.
        """
        with contextlib.suppress(SshError):
            await run_command(self._target.probe(), within=COMMAND_WITHIN)
        # The process that holds the connection writes the cause, and nobody waits for it in this one.
        for _ in range(50):
            if b"open failed" in self._errors:
                break
            await asyncio.sleep(0.02)
        if b"administratively prohibited" in self._errors:
            raise SshError(describe_failure(self._target.plain, 255, self._errors.decode(errors="replace")))
        self._errors.clear()

    async def forward(self, socket: Path, port: int, *, cancel: bool = False) -> None:
        """Forward a local socket to a port of the host, or end that.

        Raises:
            SshError: it is refused.
        """
        command = self._target.forward(socket, port, cancel=cancel)
        await run_command(command, within=COMMAND_WITHIN, target=self._target)

    async def explain(self, doing: str = "", *, is_late: bool = False) -> SshError:
        """Return the error of a connection that has failed, once ssh has ended."""
        if not is_late and self._process is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), 2.0)
        await self.close()
        code = None if is_late or self._process is None else self._process.returncode
        return SshError(describe_failure(self._target.plain, code, self._errors.decode(errors="replace"), doing))

    async def close(self) -> None:
        """Kill ssh, if it still runs."""
        if self._process is not None:
            await _kill(self._process)
        if self._reading is not None:
            await asyncio.wait((self._reading,), timeout=1.0)
            self._reading.cancel()

    async def _read_until(self, beginning: bytes, doing: str = "") -> bytes:
        """Return the first line that begins so; a login may print others before."""
        for _ in range(MAX_NOISE):
            line = await self._read_line()
            if line.startswith(beginning):
                return line
            if not line:
                break
        raise await self.explain(doing)

    async def _read_line(self) -> bytes:
        assert self._process is not None
        assert self._process.stdout is not None
        return await self._process.stdout.readline()

    def _write(self, data: bytes) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        if not self._process.stdin.is_closing():
            self._process.stdin.write(data)

    async def _read_errors(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        while data := await process.stderr.read(TAIL):
            self._errors = (self._errors + data)[-TAIL:]


async def run_command(
    command: Sequence[str],
    *,
    within: float,
    target: SshTarget | None = None,
    data: bytes | None = None,
    cwd: Path | None = None,
    stdin: IO[bytes] | int = PIPE,
    stdout: IO[bytes] | int = PIPE,
) -> bytes:
    """Run a command of this machine, such as a session on a connection, and return its output.

    Raises:
        SshError: it has failed.
    """
    process = await _start(command, stdin=stdin, stdout=stdout, cwd=cwd)
    try:
        async with asyncio.timeout(within):
            output, errors = await process.communicate(data)
    except TimeoutError:
        raise SshError(f"`{command[0]}` has not ended within {within:g} s") from None
    finally:
        await _kill(process)
    if process.returncode:
        shown = target.plain if target is not None else shlex.join(command)
        raise SshError(describe_failure(shown, process.returncode, errors.decode(errors="replace")))
    return output or b""


async def _start(
    command: Sequence[str],
    *,
    stdin: IO[bytes] | int = PIPE,
    stdout: IO[bytes] | int = PIPE,
    cwd: Path | None = None,
) -> asyncio.subprocess.Process:
    try:
        # In a session of its own: Ctrl-C at the terminal is for the controller, which still needs the connection then.
        return await asyncio.create_subprocess_exec(
            *command, stdin=stdin, stdout=stdout, stderr=PIPE, cwd=cwd, limit=MAX_LINE, start_new_session=True
        )
    except OSError as error:
        raise SshError(f"`{command[0]}` cannot be started here: {error}") from error


async def _kill(process: asyncio.subprocess.Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    if process.returncode is None:
        # Its group: a jump host has an ssh of its own.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
