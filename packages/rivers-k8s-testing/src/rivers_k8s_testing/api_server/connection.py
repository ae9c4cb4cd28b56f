"""Serve HTTP/1.1 with keep-alive, as far as clients of an API server need it, and inject faults into responses."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import urllib.parse
from collections import deque
from collections.abc import AsyncIterator, Mapping

import msgspec

from rivers_k8s_testing.api_errors import ApiStatusError, status
from rivers_k8s_testing.api_server.calls import (
    ApiCall,
    Request,
    Response,
    StreamResponse,
    UpgradeResponse,
    resolve_call,
)
from rivers_k8s_testing.api_server.server import ApiServer
from rivers_k8s_testing.api_server.streams import CutError, apply_fault
from rivers_k8s_testing.faults import STREAMS, Fault, Faults

__all__ = ["ANONYMOUS", "HttpConnections"]

ANONYMOUS = "system:anonymous"
# Requests that are kept for tests to inspect
REMEMBERED = 200_000
_JSON = {"Content-Type": "application/json"}
_RESET = struct.pack("ii", 1, 0)
_encode = msgspec.json.Encoder().encode
# Paths that need no credentials
_OPEN: Mapping[str, bytes] = {
    "/version": b'{"major":"1","minor":"34","gitVersion":"v1.34.0+rivers.fake"}',
    "/healthz": b"ok",
    "/livez": b"ok",
    "/readyz": b"ok",
}


class HttpConnections:
    """The open connections; `tokens` maps tokens to users, `requests` lists what has been received."""

    def __init__(self, server: ApiServer, faults: Faults, tokens: Mapping[str, str]) -> None:
        self.requests: deque[Request] = deque(maxlen=REMEMBERED)
        self._server = server
        self._faults = faults
        self._tokens = tokens
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of a connection until it ends."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            ahead: bytes | None = b""
            while ahead is not None and (call := await _read(reader, ahead)) is not None:
                ahead = await self._respond(call, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass  # the client has gone, or the cluster closes
        finally:
            writer.transport.abort()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()
            self._tasks.discard(task)

    async def close(self) -> None:
        """Abort all connections."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _respond(self, call: ApiCall, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes | None:
        """Answer one request; return bytes that were read of the next one, or None if the connection has ended."""
        # A fault may be for any request, also for one that would be refused.
        call.user = self._user(call)
        refusal: ApiStatusError | None = None
        try:
            resolve_call(call)
        except ApiStatusError as error:
            refusal = error
        fault = self._faults.take(call.verb, call.resource, call.where.name, dry_run="dryRun" in call.query)
        stream_fault = fault if fault is not None and fault.kind in STREAMS else None
        if fault is not None and stream_fault is None:
            if fault.kind == "slow":
                await asyncio.sleep(fault.seconds or 0.0)
            elif not fault.after:
                return await self._fail(call, fault, reader, writer)
        answer = self._answer(call, refusal)
        # The request was carried out, and its response is lost.
        if fault is not None and fault.after:
            return await self._fail(call, fault, reader, writer)
        self._remember(call, answer.code, fault)
        if isinstance(answer, Response):
            await _send(writer, answer)
            return None if call.headers.get("connection", "").lower() == "close" else b""
        if isinstance(answer, UpgradeResponse):
            writer.write(answer.head)
            await answer.run(reader, writer)
            return None
        return await _stream(answer, stream_fault, reader, writer)

    def _answer(self, call: ApiCall, refusal: ApiStatusError | None) -> Response | StreamResponse | UpgradeResponse:
        try:
            if call.path in _OPEN:
                return Response(200, _OPEN[call.path])
            if not call.user:
                raise ApiStatusError(401, "Unauthorized")
            if call.user == ANONYMOUS and refusal is None:
                raise call.where.denied(call.user, call.verb, call.subresource, call.namespace)
            if refusal is not None:
                raise refusal
            return self._server.answer(call)
        except ApiStatusError as error:
            wait = error.body.get("details", {}).get("retryAfterSeconds")
            headers = {} if wait is None else {"Retry-After": f"{wait:g}"}
            return Response(error.code, _encode(error.body) + b"\n", headers)
        except Exception as error:  # noqa: BLE001 – like a real server's bugs, ours are answered with 500
            body = status(500, f"Internal error occurred: {error!r} at {call.method} {call.path}")
            return Response(500, _encode(body) + b"\n")

    async def _fail(
        self, call: ApiCall, fault: Fault, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bytes | None:
        """Apply a fault in place of a response."""
        if fault.kind == "answer":
            self._remember(call, fault.code, fault)
            await _send(writer, Response(fault.code, fault.body, fault.headers))
            return b""
        self._remember(call, 0, fault)
        if fault.kind == "hang":
            await reader.read(1)  # until the client closes
        else:
            _reset(writer)
        return None

    def _user(self, call: ApiCall) -> str:
        """Return the user: empty for an invalid token, anonymous without one."""
        kind, _, token = call.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer":
            return ANONYMOUS
        return self._tokens.get(token, "")

    def _remember(self, call: ApiCall, code: int, fault: Fault | None) -> None:
        self.requests.append(
            Request(
                method=call.method,
                path=call.path,
                query=call.query,
                verb=call.verb,
                resource=call.resource,
                name=call.where.name,
                user=call.user,
                status=code,
                fault="" if fault is None else fault.kind,
            )
        )


async def _read(reader: asyncio.StreamReader, ahead: bytes) -> ApiCall | None:
    """Read the next request, or None at the end of the connection; `ahead` was read before."""
    try:
        head = ahead + await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    # An unparsable request ends the connection, as with a server that is not HTTP's.
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    if first.count(" ") != 2:
        return None
    method, target, _ = first.split(" ")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    path, _, query = target.partition("?")
    parsed = dict(urllib.parse.parse_qsl(query, keep_blank_values=True)) if query else {}
    length = int(headers.get("content-length") or 0)
    body = await reader.readexactly(length) if length else b""
    return ApiCall(method, urllib.parse.unquote(path), parsed, headers, body)


def _head(code: int, headers: Mapping[str, str]) -> bytes:
    lines = [
        f"HTTP/1.1 {code} {_PHRASES.get(code, 'Status')}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def _send(writer: asyncio.StreamWriter, answer: Response) -> None:
    head = _head(answer.code, {**_JSON, **answer.headers, "Content-Length": str(len(answer.body))})
    writer.write(head + answer.body)
    await writer.drain()


async def _stream(
    answer: StreamResponse, fault: Fault | None, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bytes | None:
    """Send pieces as they arrive, until they end or the client closes."""
    pieces = answer.pieces if fault is None else apply_fault(fault, answer.pieces)
    writer.write(_head(answer.code, {"Content-Type": answer.content_type, "Transfer-Encoding": "chunked"}))
    # A client that closes sends nothing more: the read ends, and so does the stream.
    gone = asyncio.ensure_future(reader.read(1))
    sending = asyncio.ensure_future(_chunks(pieces, writer))
    try:
        await asyncio.wait({gone, sending}, return_when=asyncio.FIRST_COMPLETED)
        if not sending.done():
            return None
        sending.result()
        return gone.result() or None if gone.done() else b""
    except CutError:
        return None
    finally:
        for task in (gone, sending):
            task.cancel()
        await asyncio.wait({gone, sending})


async def _chunks(pieces: AsyncIterator[bytes], writer: asyncio.StreamWriter) -> None:
    async with contextlib.aclosing(pieces) as open_pieces:  # type: ignore[type-var]
        async for piece in open_pieces:
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
    writer.write(b"0\r\n\r\n")
    await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Let the connection end with a reset, which loses all unsent data."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


_PHRASES = {
    200: "OK",
    201: "Created",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    410: "Gone",
    422: "Unprocessable Entity",
    429: "Too Many Requests",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
