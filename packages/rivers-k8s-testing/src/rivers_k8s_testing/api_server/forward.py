"""Forward ports over a WebSocket (v4.channel.k8s.io) to processes of this machine, whose address all pods have.

GET …/pods/<name>/portforward?ports=<port>     each port has two channels: 2·n its data, 2·n + 1 its errors
a frame: the channel's number, then data; the first on each channel is the port, little-endian
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import struct
from collections.abc import AsyncIterator, Mapping
from typing import Any

from rivers_k8s_testing.api_errors import ApiStatusError
from rivers_k8s_testing.api_server.calls import ApiCall, UpgradeResponse
from rivers_k8s_testing.node.statuses import ADDRESS

__all__ = ["open_forward"]

PROTOCOL = "v4.channel.k8s.io"
_SALT = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455
_BINARY, _CLOSE, _PING, _PONG = 2, 8, 9, 10
# The largest frame in bytes
LARGEST = 1 << 20
PIECE = 32 * 1024


def open_forward(call: ApiCall, pod: Mapping[str, Any]) -> UpgradeResponse:
    """Return the response that connects the client to ports of a pod.

    Raises:
        ApiStatusError: 400, the pod has no node, or the request does not offer this protocol.
    """
    key = call.headers.get("sec-websocket-key", "")
    offered = [word.strip() for word in call.headers.get("sec-websocket-protocol", "").split(",")]
    if not key or PROTOCOL not in offered:
        raise ApiStatusError(400, "Upgrade request required")
    if not pod["spec"].get("nodeName"):
        raise ApiStatusError(400, f"pod {call.where.name} does not have a host assigned")
    try:
        ports = [int(port) for port in call.query.get("ports", "").split(",")]
    except ValueError:
        raise ApiStatusError(400, 'query parameter "ports" must be a list of ports') from None
    # The handshake of RFC 6455, section 4.2.2.
    digest = hashlib.sha1((key + _SALT).encode(), usedforsecurity=False).digest()
    head = (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}\r\nSec-WebSocket-Protocol: {PROTOCOL}\r\n\r\n"
    )
    return UpgradeResponse(head.encode(), _Forward(call.where.name, ports).run)


class _Forward:
    """The ports of one WebSocket."""

    def __init__(self, pod: str, ports: list[int]) -> None:
        self._pod = pod
        self._ports = ports
        self._to_ports: dict[int, asyncio.StreamWriter] = {}

    async def run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry bytes both ways until the client closes."""
        carrying: list[asyncio.Task[None]] = []
        try:
            for number, port in enumerate(self._ports):
                for channel in (2 * number, 2 * number + 1):
                    writer.write(_frame(bytes([channel]) + struct.pack("<H", port)))
                carrying.append(asyncio.ensure_future(self._from_port(number, port, writer)))
            # Let the connections to the ports start before the first data arrives.
            await asyncio.sleep(0)
            async for payload in _frames(reader, writer):
                channel, data = payload[0] if payload else 255, payload[1:]
                if channel % 2 == 0 and data:
                    await self._to_port(channel // 2, data)
        finally:
            for task in carrying:
                task.cancel()
            if carrying:
                await asyncio.wait(carrying)

    async def _to_port(self, number: int, data: bytes) -> None:
        for _ in range(500):  # until it is connected, for a second
            if number in self._to_ports:
                break
            await asyncio.sleep(0.002)
        if number in self._to_ports:
            with contextlib.suppress(ConnectionError):
                self._to_ports[number].write(data)
                await self._to_ports[number].drain()

    async def _from_port(self, number: int, port: int, writer: asyncio.StreamWriter) -> None:
        try:
            source, sink = await asyncio.open_connection(ADDRESS, port)
        except OSError:
            refused = f"failed to connect to localhost:{port}: dial tcp4 {ADDRESS}:{port}: connect: connection refused"
            words = f"error forwarding port {port} to pod {self._pod}: {refused}"
            writer.write(_frame(bytes([2 * number + 1]) + words.encode()) + _frame(b"\x03\xe8", _CLOSE))
            return
        self._to_ports[number] = sink
        try:
            while data := await source.read(PIECE):
                writer.write(_frame(bytes([2 * number]) + data))
                await writer.drain()
            writer.write(_frame(b"\x03\xe8", _CLOSE))
        except ConnectionError:
            pass  # one side has gone; the end of the WebSocket reports that to the other
        finally:
            sink.transport.abort()
            with contextlib.suppress(OSError):
                await sink.wait_closed()


def _frame(payload: bytes, opcode: int = _BINARY) -> bytes:
    size = len(payload)
    if size < 126:
        length = bytes([size])
    else:
        length = b"\x7e" + struct.pack(">H", size) if size < 1 << 16 else b"\x7f" + struct.pack(">Q", size)
    return bytes([0x80 | opcode]) + length + payload


async def _frames(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> AsyncIterator[bytes]:
    """Yield the payloads of the client's messages and answer its pings."""
    message = b""
    while True:
        first, second = await reader.readexactly(2)
        size = second & 0x7F
        if size >= 126:
            form, width = (">H", 2) if size == 126 else (">Q", 8)
            (size,) = struct.unpack(form, await reader.readexactly(width))
        # A client that announces more than any message of the protocol holds is cut off.
        if size > LARGEST:
            return
        mask = await reader.readexactly(4) if second & 0x80 else bytes(4)
        payload = _unmask(await reader.readexactly(size), mask)
        opcode = first & 0x0F
        if opcode == _CLOSE:
            writer.write(_frame(payload[:2], _CLOSE))
            await writer.drain()
            return
        if opcode == _PING:
            writer.write(_frame(payload, _PONG))
        elif opcode != _PONG:
            message += payload
            if first & 0x80:
                yield message
                message = b""


def _unmask(data: bytes, mask: bytes) -> bytes:
    """Remove a mask from a payload."""
    # As integers: a loop over the bytes would take longer than everything else.
    repeated = (mask * (len(data) // 4 + 1))[: len(data)]
    return (int.from_bytes(data) ^ int.from_bytes(repeated)).to_bytes(len(data))
