"""HTTP and WebSockets to the API server by aiohttp: its settings, its sockets, and a close that leaves nothing."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import weakref
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypedDict

import aiohttp
import aiohttp.abc
from aiohttp.typedefs import StrOrURL
from yarl import URL

__all__ = ["Endpoint", "Proxy", "Transport"]

# Seconds for the name, the connection and the TLS handshake
CONNECT = 5.0
# Seconds that an unused connection is kept; API servers and load balancers close theirs later
IDLE = 30.0
# Seconds that `close` waits for connections to end
CLOSE = 1.0
LONGEST_HEADER = 64 * 1024
# Bytes of one WebSocket message; the kubelet sends at most 32 KiB
LONGEST_MESSAGE = 1 << 20
SOCKET_OPTIONS = (
    # A dead peer is noticed after half a minute, whether data waits for its acknowledgement or nothing is sent.
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000),
)


@dataclass(frozen=True)
class Proxy:
    """An HTTP proxy; `headers` are for it alone."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Endpoint:
    """The address of an API server, with any prefix of its paths; `name` is the one its certificate has to carry."""

    server: str
    tls: ssl.SSLContext | None = None
    name: str | None = None
    proxy: Proxy | None = None


class _Where(TypedDict, total=False):
    ssl: ssl.SSLContext
    server_hostname: str | None
    proxy: str
    proxy_headers: Mapping[str, str]


class Transport:
    """The connections to one API server. Use it in one event loop, and `close` it there.

    `raise_for_status` is awaited with every response before it is returned; it may read the response and raise.

    Raises:
        aiohttp.ClientError, OSError: in every method, when no usable response arrives.
        TimeoutError: in every method, when the connection takes longer than `CONNECT`.
    """

    def __init__(self, raise_for_status: Callable[[aiohttp.ClientResponse], Awaitable[None]]) -> None:
        self._raise_for_status = raise_for_status
        self._session: aiohttp.ClientSession | None = None
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._closed = False

    async def open(
        self, endpoint: Endpoint, method: str, target: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> aiohttp.ClientResponse:
        """Send a request and return the response once its headers are there; read it to the end, or `close()` it."""
        url, where, more = _addressed(endpoint, target)
        return await self._opened().request(
            method, url, headers={**headers, **more}, data=body, allow_redirects=False, **where
        )

    async def open_websocket(
        self, endpoint: Endpoint, target: str, headers: Mapping[str, str], protocol: str
    ) -> aiohttp.ClientWebSocketResponse:
        """Open a WebSocket; end it with `close_websocket`."""
        url, where, more = _addressed(endpoint, target)
        websocket = await self._opened().ws_connect(
            url,
            headers={**headers, **more},
            protocols=(protocol,),
            max_msg_size=LONGEST_MESSAGE,
            timeout=aiohttp.ClientWSTimeout(ws_close=0.1),
            **where,
        )
        if websocket.protocol != protocol:
            await close_websocket(websocket)
            raise aiohttp.ClientError(f"the server does not speak {protocol}")
        return websocket

    async def close(self) -> None:
        """Close all connections; requests that are under way end with an error."""
        self._closed = True
        if self._session is None:
            return
        for own in self._sockets:
            shut_down(own)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE):
                await self._session.close()
        # The session does not await connections that were in use. Their transports see the end of their sockets in the
        # next turns of the loop, how many depends on TLS, and report nothing when they have closed the descriptor.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE):
                while any(own.fileno() != -1 for own in self._sockets):  # noqa: ASYNC110 - nothing tells of it
                    await asyncio.sleep(0.001)

    def _opened(self) -> aiohttp.ClientSession:
        if self._closed:
            raise aiohttp.ClientError("the connection to it was closed")
        if self._session is None:
            self._session = self._new_session()
        return self._session

    def _new_session(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=0,  # watches and port-forwards hold theirs for long; requests are limited by rate_limit
            keepalive_timeout=IDLE,
            resolver=aiohttp.ThreadedResolver(),  # getaddrinfo, also where aiodns is installed: search domains count
            socket_factory=self._new_socket,
        )
        return aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT, sock_connect=CONNECT),
            raise_for_status=self._raise_for_status,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("Accept-Encoding", "Content-Type"),
            trust_env=False,  # auth.py reads the proxy, and no ~/.netrc may add credentials
            max_line_size=LONGEST_HEADER,
            max_field_size=LONGEST_HEADER,
        )

    def _new_socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        if self._closed:  # aiohttp repeats a request whose connection has ended
            raise OSError("the connection to it was closed")
        family, kind, protocol, _, _ = address
        own = socket.socket(family, kind, protocol)
        for level, option, value in SOCKET_OPTIONS:
            own.setsockopt(level, option, value)
        self._sockets.add(own)
        return own


async def close_websocket(websocket: aiohttp.ClientWebSocketResponse) -> None:
    """Send a close frame if that is possible at once, and end the connection."""
    own = websocket.get_extra_info("socket")
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CLOSE):
            await websocket.close()
    if own is not None:
        shut_down(own)


def shut_down(own: socket.socket) -> None:
    """End a connection below its transport, which discards what is left to send and closes the descriptor."""
    with contextlib.suppress(OSError):
        own.shutdown(socket.SHUT_RDWR)


def _addressed(endpoint: Endpoint, target: str) -> tuple[StrOrURL, _Where, Mapping[str, str]]:
    """Return the URL, where to connect, and headers that the request needs for that."""
    where: _Where = {}
    more: Mapping[str, str] = {}
    if endpoint.tls is not None:
        where |= {"ssl": endpoint.tls, "server_hostname": endpoint.name}
    if endpoint.proxy is not None:
        where |= {"proxy": endpoint.proxy.url, "proxy_headers": endpoint.proxy.headers}
        if endpoint.tls is None:  # the proxy reads the request itself instead of connecting us through
            more = endpoint.proxy.headers
    return URL(endpoint.server + target, encoded=True), where, more
