"""HTTP/1.1 to one API server, in the event loop: no thread waits for an answer, and whoever gives up closes the socket.

    dial ──▶ send ──▶ head ──▶ piece, piece … b""        a Connection, for requests, streams and upgrades alike

A request's connection is kept for the next one; a stream's is its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["Answer", "BrokenError", "Connection", "Endpoint", "Head", "Pool", "Proxy", "dial"]

CONNECT = 5.0
"""Seconds for the name, the connection and the handshake of TLS."""
IDLE = 30.0
"""Seconds that an unused connection is kept; API servers and the balancers before them close theirs later."""
MOST_IDLE = 32
PIECE = 64 * 1024
KEEPALIVE = ((socket.TCP_KEEPIDLE, 15), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3))
"""A connection whose other end is gone is noticed after half a minute, also while nothing is sent."""


class BrokenError(OSError):
    """The other side ended the connection too early, or speaks no HTTP."""


@dataclass(frozen=True)
class Proxy:
    """An HTTP proxy that connects us through (CONNECT); `headers` are for it alone."""

    host: str
    port: int
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Endpoint:
    """Where an API server is: `prefix` comes before every path, `name` is what its certificate has to be for."""

    server: str
    host: str
    port: int
    prefix: str = ""
    tls: ssl.SSLContext | None = None
    name: str | None = None
    proxy: Proxy | None = None

    @property
    def authority(self) -> str:
        """Host and port, as HTTP writes them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Head(NamedTuple):
    """The beginning of an answer; the names of headers are in lower case."""

    status: int
    headers: dict[str, str]


class Answer(NamedTuple):
    """A whole answer."""

    status: int
    headers: dict[str, str]
    data: bytes


class Connection:
    """One connection; requests go over it one after the other.

    Raises:
        OSError: in every method, as soon as the other side does not do its part.
    """

    __slots__ = ("_chunked", "_left", "endpoint", "keeps", "reader", "since", "started", "writer")

    def __init__(self, endpoint: Endpoint, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.endpoint = endpoint
        self.reader = reader
        self.writer = writer
        self.since = time.monotonic()
        self.started = self.keeps = self._chunked = False
        self._left: float = 0

    async def send(self, method: str, target: str, headers: Mapping[str, str], body: bytes = b"") -> None:
        """Send a request; `target` is the path below the endpoint's prefix, with its query."""
        endpoint = self.endpoint
        lines = [f"{method} {endpoint.prefix}{target} HTTP/1.1", f"Host: {endpoint.authority}"]
        lines += [f"{name}: {value}" for name, value in headers.items() if value]
        if body or method != "GET":
            lines.append(f"Content-Length: {len(body)}")
        self.started = self.keeps = False
        self.writer.write("\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + body)
        await self.writer.drain()

    async def head(self) -> Head:
        """The beginning of the answer."""
        status, headers = await read_head(self.reader)
        self.started = True
        length = headers.get("content-length", "")
        self._chunked = "chunked" in headers.get("transfer-encoding", "").lower()
        if self._chunked or status in (101, 204, 304):
            self._left = 0
        else:
            self._left = int(length) if length.isdigit() else float("inf")  # inf: until it is closed
        self.keeps = self._left != float("inf") and headers.get("connection", "").lower() != "close"
        return Head(status, headers)

    async def piece(self) -> bytes:
        """The next bytes of the answer's body as they come; empty at its end."""
        if not self._left and self._chunked:
            await self._next_chunk()
        if not self._left:
            return b""
        data = await self.reader.read(int(min(self._left, PIECE)))
        self._left -= len(data)
        if self._chunked and not self._left:
            await _exactly(self.reader, 2)
        if not data and self._left != float("inf"):
            raise BrokenError("the connection was closed in the middle of an answer")
        return data

    async def rest(self) -> bytes:
        """All that is left of the body."""
        pieces = []
        while piece := await self.piece():
            pieces.append(piece)
        return b"".join(pieces)

    def abort(self) -> None:
        """Close it at once; what waits for it gets an error."""
        self.writer.transport.abort()

    async def _next_chunk(self) -> None:
        size, _, _ = (await _until(self.reader, b"\r\n")).partition(b";")
        try:
            self._left = int(size, 16)
        except ValueError:
            raise BrokenError(f"a chunk's size is no number: {size[:20]!r}") from None
        if not self._left:
            self._chunked = False
            while await _until(self.reader, b"\r\n") != b"\r\n":
                pass  # a trailer


async def dial(endpoint: Endpoint) -> Connection:
    """Connect.

    Raises:
        OSError: nobody answers in time, or not the one whom the certificate has to name.
    """
    async with asyncio.timeout(CONNECT):
        if endpoint.proxy is None:
            reader, writer = await asyncio.open_connection(
                endpoint.host,
                endpoint.port,
                ssl=endpoint.tls,
                server_hostname=endpoint.name if endpoint.tls is not None else None,
            )
        else:
            reader, writer = await _dial_through(endpoint, endpoint.proxy)
    own = writer.get_extra_info("socket")
    own.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEPALIVE:
        own.setsockopt(socket.IPPROTO_TCP, option, value)
    return Connection(endpoint, reader, writer)


async def _dial_through(endpoint: Endpoint, proxy: Proxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    try:
        target = endpoint.authority
        lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}", *(f"{n}: {v}" for n, v in proxy.headers.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1", "replace"))
        status, _ = await read_head(reader)
        if status != 200:
            raise BrokenError(f"the proxy {proxy.host}:{proxy.port} does not connect to {target}: it answered {status}")
        if endpoint.tls is not None:
            await writer.start_tls(endpoint.tls, server_hostname=endpoint.name)
    except BaseException:
        writer.transport.abort()
        raise
    return reader, writer


class Pool:
    """The connections for requests; used from one loop."""

    def __init__(self) -> None:
        self._idle: deque[Connection] = deque(maxlen=MOST_IDLE)
        self._open: set[Connection] = set()

    async def exchange(
        self, endpoint: Endpoint, method: str, target: str, headers: Mapping[str, str], body: bytes, within: float
    ) -> Answer:
        """Send a request and wait for its answer, all in all at most `within` seconds.

        Raises:
            OSError: there is no answer; what was asked for may have been done or not.
        """
        async with asyncio.timeout(within):
            kept = self._kept(endpoint)
            if kept is not None:
                try:
                    return await self._over(kept, method, target, headers, body)
                except OSError:
                    # It may have been closed before it heard of this; what makes something is not sent twice from here.
                    if kept.started or method == "POST":
                        raise
            connection = await dial(endpoint)
            self._open.add(connection)
            return await self._over(connection, method, target, headers, body)

    async def close(self) -> None:
        """Close all connections; requests that are under way end with an error."""
        connections = list(self._open)
        self._idle.clear()
        for connection in connections:
            self._drop(connection)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await asyncio.gather(*(c.writer.wait_closed() for c in connections), return_exceptions=True)

    def _kept(self, endpoint: Endpoint) -> Connection | None:
        fresh = time.monotonic() - IDLE
        while self._idle:
            connection = self._idle.pop()
            gone = connection.reader.at_eof() or connection.writer.transport.is_closing()
            if connection.endpoint is endpoint and connection.since > fresh and not gone:
                return connection
            self._drop(connection)
        return None

    async def _over(
        self, connection: Connection, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> Answer:
        try:
            await connection.send(method, target, headers, body)
            head = await connection.head()
            data = await connection.rest()
        except BaseException:
            self._drop(connection)
            raise
        if connection.keeps and len(self._idle) < MOST_IDLE:
            connection.since = time.monotonic()
            self._idle.append(connection)
        else:
            self._drop(connection)
        return Answer(head.status, head.headers, data)

    def _drop(self, connection: Connection) -> None:
        self._open.discard(connection)
        connection.abort()


async def read_head(reader: asyncio.StreamReader) -> Head:
    """The status and the headers of an answer; those that only say that it will come are skipped.

    Raises:
        OSError: it is none, or ends before.
    """
    while True:
        first, *lines = (await _until(reader, b"\r\n\r\n")).decode("latin-1").split("\r\n")
        words = first.split(" ", 2)
        if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdigit():
            raise BrokenError(f"this is no answer of HTTP/1.1: {first[:60]!r}")
        status = int(words[1])
        if status >= 200 or status == 101:
            fields = (line.partition(":") for line in lines if line)
            return Head(status, {name.strip().lower(): value.strip() for name, _, value in fields})


async def _until(reader: asyncio.StreamReader, end: bytes) -> bytes:
    try:
        return await reader.readuntil(end)
    except asyncio.IncompleteReadError:
        raise BrokenError("the connection was closed before the answer was there") from None
    except asyncio.LimitOverrunError:
        raise BrokenError("the head of an answer is longer than 64 KiB") from None


async def _exactly(reader: asyncio.StreamReader, count: int) -> bytes:
    try:
        return await reader.readexactly(count)
    except asyncio.IncompleteReadError:
        raise BrokenError("the connection was closed in the middle of an answer") from None
