"""Requests to the API server, streams from it and connections through it, in the event loop; what it answers is bytes.

An answer that is an error is an `ApiError`, no answer an `ApiUnreachableError`: nothing else is raised. A refusal of
who we are (401) is tried once more with credentials that were read again.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import http
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import TypeVar
from urllib.parse import quote, urlencode

import aiohttp
import msgspec

from rivers_executor_k8s.api.auth import ApiConfig, load_api_config
from rivers_executor_k8s.api.port_forward import PROTOCOL, PortForward
from rivers_executor_k8s.api.transport import Transport
from rivers_executor_k8s.pod.objects import Status, StatusCause

__all__ = ["TIMEOUT", "ApiClient", "ApiError", "ApiUnreachableError", "Stream", "load_api_client"]

T = TypeVar("T")
# Seconds that a request may take, all in all
TIMEOUT = 10.0
# Bytes of a line in a stream; an object has at most 1.5 MB
LONGEST_LINE = 8 << 20

_encode = msgspec.json.Encoder().encode
_status = msgspec.json.Decoder(Status)


class ApiError(Exception):
    """The API server's answer is an error, or a proxy's is.

    `status` is of HTTP, `reason` a word such as AlreadyExists (empty where no API server has answered), `retry_after`
    the seconds to wait before asking again, `causes` the fields that it finds fault with.
    """

    def __init__(
        self,
        status: int,
        reason: str = "",
        message: str = "",
        retry_after: float | None = None,
        causes: tuple[StatusCause, ...] = (),
    ) -> None:
        super().__init__(status, reason, message)
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after
        self.causes = causes

    def __str__(self) -> str:
        return f"{self.status} {self.reason}: {self.message}" if self.reason else f"{self.status}: {self.message}"


class ApiUnreachableError(Exception):
    """There was no answer: refused, reset, too late, no TLS, no such name. What was asked for may have been done."""


class ApiClient:
    """The API server of one cluster, as one user. Used from one loop.

    `namespace` is the current one, `in_cluster` whether this process runs in a pod of the cluster.
    """

    def __init__(self, access: ApiConfig) -> None:
        self.namespace = access.namespace
        self.in_cluster = access.in_cluster
        self._access = access
        self._transport = Transport(_raise_for_status)

    @property
    def server(self) -> str:
        """Its address."""
        return self._access.endpoint.server

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        within: float = TIMEOUT,
    ) -> bytes:
        """Ask for something, `body` as JSON, and return the answer's body.

        Raises:
            ApiError: the answer is an error.
            ApiUnreachableError: there is none within so many seconds.
        """
        target, data = _target(path, query), None if body is None else _encode(body)

        async def send(headers: dict[str, str]) -> bytes:
            headers["Accept"] = "application/json"
            if data is not None:
                headers["Content-Type"] = "application/json"
            async with asyncio.timeout(within):
                response = await self._transport.open(self._access.endpoint, method, target, headers, data)
                return await response.read()

        return await self._authorized(send)

    @contextlib.asynccontextmanager
    async def stream(self, path: str, query: Mapping[str, str], *, silence: float) -> AsyncIterator[Stream]:
        """Begin a watch, or follow a log; nothing for `silence` seconds counts as unreachable.

        Raises:
            ApiError: the answer is an error.
            ApiUnreachableError: there is none, or it breaks off.
        """
        target = _target(path, query)

        async def send(headers: dict[str, str]) -> aiohttp.ClientResponse:
            async with asyncio.timeout(TIMEOUT):
                return await self._transport.open(self._access.endpoint, "GET", target, headers)

        response = await self._authorized(send)
        try:
            yield Stream(response, self.server, silence)
        finally:
            response.close()

    async def forward(self, namespace: str, pod: str, port: int) -> PortForward:
        """Make a pod's port reachable from here, through the API server; close it.

        Raises:
            ApiError: it refuses.
            ApiUnreachableError: it does not answer.
        """
        target = _target(f"/api/v1/namespaces/{namespace}/pods/{pod}/portforward", {"ports": str(port)})

        async def send(headers: dict[str, str]) -> aiohttp.ClientWebSocketResponse:
            async with asyncio.timeout(TIMEOUT):
                return await self._transport.open_websocket(self._access.endpoint, target, headers, PROTOCOL)

        forward = PortForward(lambda: self._authorized(send))
        try:
            await forward.start()
        except BaseException:
            await forward.close()
            raise
        return forward

    async def close(self) -> None:
        """Close the connections; requests that are under way end with ApiUnreachableError."""
        await self._transport.close()

    async def _authorized(self, send: Callable[[dict[str, str]], Awaitable[T]]) -> T:
        """Call `send` with headers that say who we are, and once more with renewed ones if these are refused (401)."""
        authorization = await self._access.authorization()
        try:
            return await self._sent(send, authorization)
        except ApiError as error:
            if error.status != 401:
                raise
        return await self._sent(send, await self._access.renew(authorization))

    async def _sent(self, send: Callable[[dict[str, str]], Awaitable[T]], authorization: str) -> T:
        headers = {"User-Agent": "rivers"}
        if authorization:
            headers["Authorization"] = authorization
        with _unreachable(self.server):
            return await send(headers)


class Stream:
    """An answer that comes bit by bit.

    Raises:
        ApiUnreachableError: in its methods, when it breaks off or is silent for too long.
    """

    def __init__(self, response: aiohttp.ClientResponse, server: str, silence: float) -> None:
        self._response = response
        self._server = server
        self._silence = silence

    async def piece(self) -> bytes:
        """The next bytes, as they come; empty at the end."""
        with _unreachable(self._server, f"has sent nothing for {self._silence:g} s"):
            async with asyncio.timeout(self._silence):
                return await self._response.content.readany()

    async def lines(self) -> AsyncGenerator[bytes, None]:
        """Whole lines, without their ends; what comes after the last one is one as well."""
        left = b""
        while piece := await self.piece():
            *lines, left = (left + piece).split(b"\n")
            for line in lines:
                yield line
            if len(left) > LONGEST_LINE:
                raise ApiUnreachableError(f"a line is longer than {LONGEST_LINE} bytes")
        if left:
            yield left


def load_api_client(context: str | None) -> ApiClient:
    """The API server that this process is meant to use: its own cluster's, or the kubeconfig's.

    Raises:
        ConfigurationError: no cluster is configured, or the context is not there.
    """
    return ApiClient(load_api_config(context))


async def _raise_for_status(response: aiohttp.ClientResponse) -> None:
    """Raise ApiError for a response that is neither a success nor an upgrade."""
    if not (200 <= response.status < 300 or response.status == 101):
        raise parse_error(response.status, response.headers, await response.read())


def parse_error(code: int, headers: Mapping[str, str], data: bytes) -> ApiError:
    """What an answer says that is an error: a Status, or a page of whoever stands before the API server."""
    header = headers.get("Retry-After", "")
    waits = [float(header)] if header.isdigit() else []
    try:
        status = _status.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        status = Status()
    if status.details is not None and status.details.retry_after_seconds:
        waits.append(status.details.retry_after_seconds)
    return ApiError(
        code,
        status.reason,
        status.message or _words(code, data),
        max(waits, default=None),
        status.details.causes if status.details is not None else (),
    )


def _words(code: int, data: bytes) -> str:
    """Some words of an answer that is no Status."""
    text = re.sub(r"<[^>]*>|\s+", " ", data[:2000].decode("utf-8", "replace"))
    try:
        phrase = http.HTTPStatus(code).phrase
    except ValueError:
        phrase = "an unknown status"
    said = " ".join(text.split())[:200]
    return f"{phrase}: {said}" if said else phrase


def _target(path: str, query: Mapping[str, str] | None) -> str:
    return quote(path) + (f"?{_encoded(*query.items())}" if query else "")


@functools.lru_cache(maxsize=64)  # every create has the same
def _encoded(*query: tuple[str, str]) -> str:
    return urlencode(query)


@contextlib.contextmanager
def _unreachable(server: str, late: str = "did not answer in time") -> Iterator[None]:
    """Raise ApiUnreachableError, which names the server, for every error of the connection."""
    try:
        yield
    except TimeoutError as error:
        raise ApiUnreachableError(f"the API server at {server} {late}") from error
    except aiohttp.ClientConnectorCertificateError as error:
        cause = error.certificate_error
        text = getattr(cause, "verify_message", str(cause))
        raise ApiUnreachableError(f"the API server at {server} is not trusted: {text}") from error
    except aiohttp.ClientConnectorError as error:
        raise ApiUnreachableError(f"the API server at {server} is not reachable: {error.os_error}") from error
    except (aiohttp.ClientError, OSError) as error:
        text = str(error) or type(error).__name__
        raise ApiUnreachableError(f"the API server at {server} is not reachable: {text}") from error
