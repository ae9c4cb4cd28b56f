"""Forward a pod's port through the API server to a socket of this machine.

    gRPC ──▶ unix socket in a private folder ──▶ WebSocket to the API server ──▶ kubelet ──▶ the pod's port

Each connection has a WebSocket of its own, with the protocol v4.channel.k8s.io: channel 0 carries data, channel 1
errors, and each begins with a message that repeats the port. Nothing listens on TCP. The first WebSocket is opened
before any client connects, so that a refusal is known at once.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable

import aiohttp

from rivers_executor_k8s.api.transport import close_websocket

__all__ = ["PROTOCOL", "PortForward"]

PROTOCOL = "v4.channel.k8s.io"
DATA = 0
PIECE = 32 * 1024
# Longest folder, in characters, in which a socket's path stays below the kernel's limit of 108
LONGEST_PATH = 90


class PortForward:
    """A forward of one port of one pod; gRPC dials `target`, and `connect` opens a WebSocket to the port."""

    def __init__(self, connect: Callable[[], Awaitable[aiohttp.ClientWebSocketResponse]]) -> None:
        folder = tempfile.gettempdir()
        self._folder = tempfile.mkdtemp(prefix="rivers-", dir=folder if len(folder) < LONGEST_PATH else "/tmp")  # noqa: S108 - a folder of mode 0700 in it
        self._path = os.path.join(self._folder, "pod")
        self._connect = connect
        self._first: aiohttp.ClientWebSocketResponse | None = None
        self._server: asyncio.Server | None = None
        self._carrying: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def target(self) -> str:
        """The address of the socket as gRPC writes it."""
        return f"unix:{self._path}"

    async def start(self) -> None:
        """Connect, then listen; raise the errors of `connect`."""
        self._first = await self._connect()
        self._server = await asyncio.start_unix_server(self._accept, self._path)

    async def close(self) -> None:
        """End all connections and remove the socket with its folder."""
        self._closed = True
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._server is not None:
            # asyncio loses a connection that it has accepted but not yet handed over when the server is closed. No new
            # client can connect now, and these turns of the loop hand over those that have.
            for _ in range(3):
                await asyncio.sleep(0)
            self._server.close()
        for task in self._carrying:
            task.cancel()
        if self._carrying:
            await asyncio.wait(self._carrying, timeout=1.0)
        if self._first is not None:
            await close_websocket(self._first)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._closed:
            writer.transport.abort()
            return
        task = asyncio.ensure_future(self._carry(reader, writer))
        self._carrying.add(task)
        task.add_done_callback(self._carrying.discard)
        task.add_done_callback(lambda _: writer.transport.abort())  # also where it is cancelled before it begins

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry bytes both ways until one side has closed."""
        websocket, self._first = self._first, None
        try:
            if websocket is None or websocket.get_extra_info("peername") is None:  # the first may have ended meanwhile
                websocket = await self._connect()
            ways = [
                asyncio.ensure_future(_send_from(reader, websocket)),
                asyncio.ensure_future(_receive_into(websocket, writer)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        except Exception:  # noqa: BLE001 - whatever it was, this connection is over, and gRPC dials again
            return
        finally:
            if websocket is not None:
                await close_websocket(websocket)


async def _send_from(reader: asyncio.StreamReader, websocket: aiohttp.ClientWebSocketResponse) -> None:
    while data := await reader.read(PIECE):
        await websocket.send_bytes(bytes((DATA,)) + data)


async def _receive_into(websocket: aiohttp.ClientWebSocketResponse, writer: asyncio.StreamWriter) -> None:
    """Write the data that arrives; a message on the channel for errors ends the connection."""
    greeted = False  # the first message of each channel is the port, two bytes
    async for message in websocket:
        if not isinstance(message.data, bytes):
            return  # an error of the WebSocket itself
        channel, data = message.data[:1], message.data[1:]
        if channel and channel[0] != DATA:
            if len(data) > 2:
                return
        elif not greeted:
            greeted = bool(channel)
        else:
            writer.write(data)
            await writer.drain()
