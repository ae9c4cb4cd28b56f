"""Send requests to the API server, follow its streams, and forward ports through it, all as bytes in one event loop.

An error response raises `ApiError`, a missing response `ApiUnreachableError`; nothing else is raised. After a 401 the
request is repeated once with credentials that were read again.
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

__all__ = ["TIMEOUT", "ApiClient", "ApiError", "ApiStream", "ApiUnreachableError", "load_api_client"]

T = TypeVar("T")
MERGE_PATCH = "application/merge-patch+json"
# Seconds for a whole request: a slower API server is treated as absent
TIMEOUT = 10.0
# Bytes of a line in a stream; an object has at most 1.5 MB
LONGEST_LINE = 8 << 20

_encode = msgspec.json.Encoder().encode
_status = msgspec.json.Decoder(Status)


class ApiError(Exception):
    """An error response of the API server, or of a proxy before it.

    `status` is the HTTP status, `reason` a word such as AlreadyExists (empty if the response is not the API server's),
    `retry_after` the seconds to wait before the next try, `causes` the faulty fields of the request.
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
    """No response: connection refused or reset, timeout, TLS or DNS failure. The request may have been carried out."""


class ApiClient:
    """A client of one API server with one user's credentials, used in one event loop.

    `namespace` is the configured one; `in_cluster` is True if this process runs in a pod of the cluster.
    """

    def __init__(self, access: ApiConfig) -> None:
        self.namespace = access.namespace
        self.in_cluster = access.in_cluster
        self._access = access
        self._transport = Transport(_raise_for_status)

    @property
    def server(self) -> str:
        """The address of the API server."""
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
        """Send a request with `body` as JSON and return the response's body.

        Raises:
            ApiError: the response is an error.
            ApiUnreachableError: there is no response within `within` seconds.
        """
        target, data = _target(path, query), None if body is None else _encode(body)

        async def send(headers: dict[str, str]) -> bytes:
            headers["Accept"] = "application/json"
            if data is not None:
                # The only patches that rivers sends are JSON merge patches (RFC 7386).
                headers["Content-Type"] = MERGE_PATCH if method == "PATCH" else "application/json"
            async with asyncio.timeout(within):
                response = await self._transport.open(self._access.endpoint, method, target, headers, data)
                return await response.read()

        return await self._send_authorized(send)

    @contextlib.asynccontextmanager
    async def stream(self, path: str, query: Mapping[str, str], *, silence: float) -> AsyncIterator[ApiStream]:
        """Open a watch or follow a log; `silence` seconds without data count as unreachable.

        Raises:
            ApiError: the response is an error.
            ApiUnreachableError: there is no response, or it breaks off.
        """
        target = _target(path, query)

        async def send(headers: dict[str, str]) -> aiohttp.ClientResponse:
            async with asyncio.timeout(TIMEOUT):
                return await self._transport.open(self._access.endpoint, "GET", target, headers)

        response = await self._send_authorized(send)
        try:
            yield ApiStream(response, self.server, silence)
        finally:
            response.close()

    async def port_forward(self, namespace: str, pod: str, port: int) -> PortForward:
        """Forward a pod's port through the API server to a socket of this machine; close it after use.

        Raises:
            ApiError: the API server refuses.
            ApiUnreachableError: it does not answer.
        """
        target = _target(f"/api/v1/namespaces/{namespace}/pods/{pod}/portforward", {"ports": str(port)})

        async def send(headers: dict[str, str]) -> aiohttp.ClientWebSocketResponse:
            async with asyncio.timeout(TIMEOUT):
                return await self._transport.open_websocket(self._access.endpoint, target, headers, PROTOCOL)

        forward = PortForward(lambda: self._send_authorized(send))
        try:
            await forward.start()
        except BaseException:
            await forward.close()
            raise
        return forward

    async def close(self) -> None:
        """Close the connections; requests under way raise ApiUnreachableError."""
        await self._transport.close()

    async def _send_authorized(self, send: Callable[[dict[str, str]], Awaitable[T]]) -> T:
        """Call `send` with our credentials as headers, and once more with renewed ones after a 401."""
        authorization = await self._access.authorization()
        try:
            return await self._send(send, authorization)
        except ApiError as error:
            if error.status != 401:
                raise
        return await self._send(send, await self._access.renew(authorization))

    async def _send(self, send: Callable[[dict[str, str]], Awaitable[T]], authorization: str) -> T:
        headers = {"User-Agent": "rivers"}
        if authorization:
            headers["Authorization"] = authorization
        with _unreachable(self.server):
            return await send(headers)


class ApiStream:
    """A response that arrives in pieces: a watch, or a log that is followed.

    Raises:
        ApiUnreachableError: in all methods, when the response breaks off or is silent for too long.
    """

    def __init__(self, response: aiohttp.ClientResponse, server: str, silence: float) -> None:
        self._response = response
        self._server = server
        self._silence = silence

    async def read(self) -> bytes:
        """Return the next bytes as they arrive, none at the end."""
        with _unreachable(self._server, f"has sent nothing for {self._silence:g} s"):
            async with asyncio.timeout(self._silence):
                return await self._response.content.readany()

    async def lines(self) -> AsyncGenerator[bytes, None]:
        """Yield whole lines without their ends; an unfinished last line counts as one."""
        # aiohttp's own readline refuses lines of more than 128 KiB; a pod with a long status has more.
        left = b""
        while piece := await self.read():
            *lines, left = (left + piece).split(b"\n")
            for line in lines:
                yield line
            if len(left) > LONGEST_LINE:
                raise ApiUnreachableError(f"a line is longer than {LONGEST_LINE} bytes")
        if left:
            yield left


def load_api_client(context: str | None) -> ApiClient:
    """Return a client of the cluster in which this process runs, else of the kubeconfig's.

    Raises:
        ConfigurationError: no cluster is configured, or the context does not exist.
    """
    return ApiClient(load_api_config(context))


async def _raise_for_status(response: aiohttp.ClientResponse) -> None:
    """Raise ApiError for a response that is neither a success nor an upgrade."""
    if not (200 <= response.status < 300 or response.status == 101):
        raise parse_error(response.status, response.headers, await response.read())


def parse_error(code: int, headers: Mapping[str, str], data: bytes) -> ApiError:
    """Read the error of a response: a Status of the API server, or the page of a proxy before it."""
    # Retry-After may also be a date; no API server sends one.
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
        status.message or _summarize(code, data),
        max(waits, default=None),
        status.details.causes if status.details is not None else (),
    )


def _summarize(code: int, data: bytes) -> str:
    """Return the status phrase and the first words of a response that is not a Status."""
    text = re.sub(r"<[^>]*>|\s+", " ", data[:2000].decode("utf-8", "replace"))
    try:
        phrase = http.HTTPStatus(code).phrase
    except ValueError:
        phrase = "an unknown status"
    words = " ".join(text.split())[:200]
    return f"{phrase}: {words}" if words else phrase


def _target(path: str, query: Mapping[str, str] | None) -> str:
    return quote(path) + (f"?{_encoded(*query.items())}" if query else "")


@functools.lru_cache(maxsize=64)  # every create has the same
def _encoded(*query: tuple[str, str]) -> str:
    return urlencode(query)


@contextlib.contextmanager
def _unreachable(server: str, late: str = "did not answer in time") -> Iterator[None]:
    """Turn every error of the connection into an ApiUnreachableError that names the server."""
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
