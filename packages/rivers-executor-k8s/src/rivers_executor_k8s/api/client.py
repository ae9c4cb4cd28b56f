"""Requests to the API server, streams from it and connections through it, in the event loop; what it answers is bytes.

An answer that is an error is an `ApiError`, no answer an `ApiUnreachableError`: nothing else is raised. A refusal of
who we are (401) is tried once more with credentials that were read again.
"""

from __future__ import annotations

import asyncio
import contextlib
import http
import re
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from urllib.parse import quote, urlencode

import msgspec

from rivers_executor_k8s.api.auth import Access, load_access
from rivers_executor_k8s.api.port_forward import HANDSHAKE, Forward, answers_handshake
from rivers_executor_k8s.api.transport import Answer, Connection, Pool, dial
from rivers_executor_k8s.pod.objects import Status, StatusCause

__all__ = ["TIMEOUT", "Api", "ApiError", "ApiUnreachableError", "Stream", "load_api"]

TIMEOUT = 10.0
"""Seconds that a request may take, all in all."""
LONGEST_LINE = 8 << 20
"""Bytes of a line in a stream; an object has at most 1.5 MB."""

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


class Api:
    """The API server of one cluster, as one user. Used from one loop.

    `namespace` is the current one, `in_cluster` whether this process runs in a pod of the cluster.
    """

    def __init__(self, access: Access) -> None:
        self.namespace = access.namespace
        self.in_cluster = access.in_cluster
        self._access = access
        self._pool = Pool()

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
        target, data = _target(path, query), _encode(body) if body is not None else b""
        authorization = await self._access.authorization()
        answer = await self._exchange(method, target, data, authorization, within)
        if answer.status == 401:
            authorization = await self._access.renew(authorization)
            answer = await self._exchange(method, target, data, authorization, within)
        if not 200 <= answer.status < 300:
            raise error_of(answer)
        return answer.data

    @contextlib.asynccontextmanager
    async def stream(self, path: str, query: Mapping[str, str], *, silence: float) -> AsyncIterator[Stream]:
        """Begin a watch, or follow a log; nothing for `silence` seconds counts as unreachable.

        Raises:
            ApiError: the answer is an error.
            ApiUnreachableError: there is none, or it breaks off.
        """
        connection = await self._begun(_target(path, query), {}, 200)
        try:
            yield Stream(connection, silence)
        finally:
            await _closed(connection)

    async def forward(self, namespace: str, pod: str, port: int) -> Forward:
        """Make a pod's port reachable from here, through the API server; close it.

        Raises:
            ApiError: it refuses.
            ApiUnreachableError: it does not answer.
        """
        target = _target(f"/api/v1/namespaces/{namespace}/pods/{pod}/portforward", {"ports": str(port)})

        async def connect() -> Connection:
            return await self._begun(target, HANDSHAKE, 101)

        forward = Forward(connect)
        try:
            await forward.start()
        except BaseException:
            await forward.close()
            raise
        return forward

    async def close(self) -> None:
        """Close the connections of requests; those that are under way end with ApiUnreachableError."""
        await self._pool.close()

    async def _exchange(self, method: str, target: str, data: bytes, authorization: str, within: float) -> Answer:
        endpoint = self._access.endpoint
        headers = {
            "Authorization": authorization,
            "Accept": "application/json",
            "Content-Type": "application/json" if data else "",
            "User-Agent": "rivers",
        }
        with _telling(endpoint.server):
            return await self._pool.exchange(endpoint, method, target, headers, data, within)

    async def _begun(self, target: str, headers: Mapping[str, str], wanted: int) -> Connection:
        """A connection of its own, over which the answer has begun with the status that is wanted."""
        authorization = await self._access.authorization()
        connection, answer = await self._try(target, headers, wanted, authorization)
        if answer is not None and answer.status == 401:
            authorization = await self._access.renew(authorization)
            connection, answer = await self._try(target, headers, wanted, authorization)
        if answer is not None:
            raise error_of(answer)
        return connection

    async def _try(
        self, target: str, headers: Mapping[str, str], wanted: int, authorization: str
    ) -> tuple[Connection, Answer | None]:
        endpoint = self._access.endpoint
        with _telling(endpoint.server):
            async with asyncio.timeout(TIMEOUT):
                connection = await dial(endpoint)
                try:
                    own = {"Authorization": authorization, "Accept": "*/*", "User-Agent": "rivers"}
                    await connection.send("GET", target, {**own, **headers})
                    head = await connection.head()
                    if head.status == wanted and (wanted != 101 or answers_handshake(head)):
                        return connection, None
                    answer = Answer(head.status, head.headers, await connection.rest())
                except BaseException:
                    await _closed(connection)
                    raise
        await _closed(connection)
        return connection, answer


class Stream:
    """An answer that comes bit by bit.

    Raises:
        ApiUnreachableError: in its methods, when it breaks off or is silent for too long.
    """

    def __init__(self, connection: Connection, silence: float) -> None:
        self._connection = connection
        self._silence = silence

    async def piece(self) -> bytes:
        """The next bytes, as they come; empty at the end."""
        with _telling(self._connection.endpoint.server, f"has sent nothing for {self._silence:g} s"):
            async with asyncio.timeout(self._silence):
                return await self._connection.piece()

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


def load_api(context: str | None) -> Api:
    """The API server that this process is meant to use: its own cluster's, or the kubeconfig's.

    Raises:
        ConfigurationError: no cluster is configured, or the context is not there.
    """
    return Api(load_access(context))


def error_of(answer: Answer) -> ApiError:
    """What an answer says that is an error: a Status, or a page of whoever stands before the API server."""
    header = answer.headers.get("retry-after", "")
    waits = [float(header)] if header.isdigit() else []
    try:
        status = _status.decode(answer.data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        status = Status()
    if status.details is not None and status.details.retry_after_seconds:
        waits.append(status.details.retry_after_seconds)
    return ApiError(
        answer.status,
        status.reason,
        status.message or _words(answer),
        max(waits, default=None),
        status.details.causes if status.details is not None else (),
    )


def _words(answer: Answer) -> str:
    """Some words of an answer that is no Status."""
    text = re.sub(r"<[^>]*>|\s+", " ", answer.data[:2000].decode("utf-8", "replace"))
    try:
        phrase = http.HTTPStatus(answer.status).phrase
    except ValueError:
        phrase = "an unknown status"
    said = " ".join(text.split())[:200]
    return f"{phrase}: {said}" if said else phrase


def _target(path: str, query: Mapping[str, str] | None) -> str:
    return quote(path) + (f"?{urlencode(query)}" if query else "")


async def _closed(connection: Connection) -> None:
    connection.abort()
    with contextlib.suppress(OSError):
        await connection.writer.wait_closed()


@contextlib.contextmanager
def _telling(server: str, late: str = "did not answer in time") -> Iterator[None]:
    """No answer, in words that say whose."""
    try:
        yield
    except TimeoutError as error:
        raise ApiUnreachableError(f"the API server at {server} {late}") from error
    except ssl.SSLCertVerificationError as error:
        raise ApiUnreachableError(f"the API server at {server} is not trusted: {error.verify_message}") from error
    except OSError as error:
        raise ApiUnreachableError(f"the API server at {server} is not reachable: {error}") from error
