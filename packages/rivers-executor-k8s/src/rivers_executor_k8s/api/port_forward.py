"""Port-forward: a socket of this machine whose connections end at a pod's port, through the API server.

    gRPC ──▶ unix socket in a private folder ──▶ WebSocket to the API server ──▶ kubelet ──▶ the pod's port

Each connection has a WebSocket of its own (protocol v4.channel.k8s.io: channel 0 carries data, channel 1 errors; each
begins with a message that repeats the port). Nothing listens on TCP; the first WebSocket is there before anybody asks,
so that a refusal is known at once.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable

from rivers_executor_k8s.api.transport import BrokenError, Connection, Head

__all__ = ["HANDSHAKE", "Forward", "answers_handshake", "frame", "messages"]

PROTOCOL = "v4.channel.k8s.io"
HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),  # it keeps caches away, and proves nothing
    "Sec-WebSocket-Protocol": PROTOCOL,
}
DATA, BINARY, CLOSE, PING, PONG = 0, 2, 8, 9, 10
PIECE = 32 * 1024
LARGEST = 1 << 20
"""Bytes of a frame."""
LONGEST_PATH = 90
"""Characters of a folder in which a unix socket's path stays below the kernel's 108."""


def answers_handshake(head: Head) -> bool:
    """Whether an answer opens a WebSocket of our protocol."""
    headers = head.headers
    return headers.get("upgrade", "").lower() == "websocket" and headers.get("sec-websocket-protocol") == PROTOCOL


class Forward:
    """One port of one pod; `target` is what gRPC dials. `connect` opens a WebSocket to the port."""

    def __init__(self, connect: Callable[[], Awaitable[Connection]]) -> None:
        folder = tempfile.gettempdir()
        self._folder = tempfile.mkdtemp(prefix="rivers-", dir=folder if len(folder) < LONGEST_PATH else "/tmp")  # noqa: S108 - a folder of mode 0700 in it
        self._path = os.path.join(self._folder, "pod")
        self._connect = connect
        self._first: Connection | None = None
        self._server: asyncio.Server | None = None
        self._carrying: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def target(self) -> str:
        """The address, in gRPC's spelling."""
        return f"unix:{self._path}"

    async def start(self) -> None:
        """Connect, then listen; raises what `connect` raises."""
        self._first = await self._connect()
        self._server = await asyncio.start_unix_server(self._accepted, self._path)

    async def close(self) -> None:
        """End all connections; the socket and its folder are gone."""
        self._closed = True
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._server is not None:
            # asyncio loses a connection that it has accepted, but not handed over when the server is closed: nobody can
            # come any more, and these turns hand over those who have.
            for _ in range(3):
                await asyncio.sleep(0)
            self._server.close()
        for task in self._carrying:
            task.cancel()
        if self._carrying:
            await asyncio.wait(self._carrying, timeout=1.0)
        if self._first is not None:
            self._first.abort()

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._closed:
            writer.transport.abort()
            return
        task = asyncio.ensure_future(self._carry(reader, writer))
        self._carrying.add(task)
        task.add_done_callback(self._carrying.discard)
        task.add_done_callback(lambda _: writer.transport.abort())  # also where it is cancelled before it begins

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry bytes both ways until one side has closed."""
        connection, self._first = self._first, None
        try:
            if connection is None or connection.reader.at_eof():
                connection = await self._connect()
            ways = [asyncio.ensure_future(_up(reader, connection)), asyncio.ensure_future(_down(connection, writer))]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        except Exception:  # noqa: BLE001 - whatever it was, this connection is over, and gRPC dials again
            return
        finally:
            if connection is not None:
                connection.abort()


async def _up(reader: asyncio.StreamReader, connection: Connection) -> None:
    while data := await reader.read(PIECE):
        connection.writer.write(frame(bytes((DATA,)) + data))
        await connection.writer.drain()


async def _down(connection: Connection, writer: asyncio.StreamWriter) -> None:
    """Hand on the data; what comes on the channel for errors ends the connection."""
    greeted = False
    async for message in messages(connection):
        channel, data = message[0], message[1:]
        if channel != DATA:
            if len(data) > 2:
                return
        elif not greeted:
            greeted = True
        else:
            writer.write(data)
            await writer.drain()


def frame(payload: bytes, kind: int = BINARY) -> bytes:
    """A client's frame of a WebSocket: whole, and masked as the protocol asks of clients."""
    size = len(payload)
    if size < 126:
        length = bytes((0x80 | size,))
    else:
        length = b"\xfe" + size.to_bytes(2, "big") if size < 1 << 16 else b"\xff" + size.to_bytes(8, "big")
    mask = os.urandom(4)
    repeated = (mask * (size // 4 + 1))[:size]
    masked = (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(size, "big")
    return bytes((0x80 | kind,)) + length + mask + masked


async def messages(connection: Connection) -> AsyncIterator[bytes]:
    """The server's messages, none of them empty, until it closes; its pings are answered.

    Raises:
        OSError: the connection breaks, or a frame is too large.
    """
    reader, message = connection.reader, b""
    with contextlib.suppress(asyncio.IncompleteReadError):
        while True:
            first, size = await reader.readexactly(2)
            if size >= 126:
                size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8), "big")
            if size + len(message) > LARGEST:
                raise BrokenError(f"a message of a WebSocket is larger than {LARGEST} bytes")
            payload = await reader.readexactly(size)
            kind = first & 0x0F
            if kind == CLOSE:
                return
            if kind == PING:
                connection.writer.write(frame(payload, PONG))
            elif kind != PONG:
                message += payload
                if first & 0x80 and message:
                    yield message
                    message = b""
