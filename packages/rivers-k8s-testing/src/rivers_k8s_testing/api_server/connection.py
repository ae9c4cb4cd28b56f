"""HTTP/1.1 with keep-alive, as much of it as clients of an API server speak; and the faults of answers."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import urllib.parse
from collections import deque
from collections.abc import AsyncIterator, Mapping

import msgspec

from rivers_k8s_testing.api_server.calls import Answer, Call, Request, Streamed, Upgraded, meaning
from rivers_k8s_testing.api_server.server import Server
from rivers_k8s_testing.api_server.streams import CutError, spoiled
from rivers_k8s_testing.faults import STREAMS, Fault, Faults
from rivers_k8s_testing.refusals import Refusal, status

__all__ = ["ANONYMOUS", "Connections"]

ANONYMOUS = "system:anonymous"
# Requests that are kept for tests to look at
REMEMBERED = 200_000
_JSON = {"Content-Type": "application/json"}
_RESET = struct.pack("ii", 1, 0)
_encode = msgspec.json.Encoder().encode
# What is answered to anybody
_OPEN: Mapping[str, bytes] = {
    "/version": b'{"major":"1","minor":"34","gitVersion":"v1.34.0+rivers.fake"}',
    "/healthz": b"ok",
    "/livez": b"ok",
    "/readyz": b"ok",
}


class Connections:
    """Serves connections; `tokens` are the users by their tokens, `requests` what has been asked."""

    def __init__(self, server: Server, faults: Faults, tokens: Mapping[str, str]) -> None:
        self.requests: deque[Request] = deque(maxlen=REMEMBERED)
        self._server = server
        self._faults = faults
        self._tokens = tokens
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer what comes over a connection until it ends."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            ahead: bytes | None = b""
            while ahead is not None and (call := await _read(reader, ahead)) is not None:
                ahead = await self._respond(call, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass  # the client is gone, or the cluster goes
        finally:
            writer.transport.abort()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()
            self._tasks.discard(task)

    async def close(self) -> None:
        """Cut all connections."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _respond(self, call: Call, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes | None:
        """Answer one request; return what is read already of the next, None where the connection has ended."""
        call.user = self._user(call)
        refusal: Refusal | None = None
        try:
            meaning(call)
        except Refusal as error:
            refusal = error
        fault = self._faults.take(call.verb, call.resource, call.where.name, dry_run="dryRun" in call.query)
        stream_fault = fault if fault is not None and fault.kind in STREAMS else None
        if fault is not None and stream_fault is None:
            if fault.kind == "slow":
                await asyncio.sleep(fault.seconds or 0.0)
            elif not fault.after:
                return await self._fail(call, fault, reader, writer)
        answer = self._answered(call, refusal)
        if fault is not None and fault.after:
            return await self._fail(call, fault, reader, writer)
        self._remember(call, answer.code, fault)
        if isinstance(answer, Answer):
            await _send(writer, answer)
            return None if call.headers.get("connection", "").lower() == "close" else b""
        if isinstance(answer, Upgraded):
            writer.write(answer.head)
            await answer.run(reader, writer)
            return None
        return await _stream(answer, stream_fault, reader, writer)

    def _answered(self, call: Call, refusal: Refusal | None) -> Answer | Streamed | Upgraded:
        try:
            if call.path in _OPEN:
                return Answer(200, _OPEN[call.path])
            if not call.user:
                raise Refusal(401, "Unauthorized")
            if call.user == ANONYMOUS and refusal is None:
                raise call.where.denied(call.user, call.verb, call.subresource, call.namespace)
            if refusal is not None:
                raise refusal
            return self._server.answer(call)
        except Refusal as error:
            wait = error.body.get("details", {}).get("retryAfterSeconds")
            headers = {} if wait is None else {"Retry-After": f"{wait:g}"}
            return Answer(error.code, _encode(error.body) + b"\n", headers)
        except Exception as error:  # noqa: BLE001 – a mistake of the fake is an answer, too, as a server's own is
            body = status(500, f"Internal error occurred: {error!r} at {call.method} {call.path}")
            return Answer(500, _encode(body) + b"\n")

    async def _fail(
        self, call: Call, fault: Fault, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bytes | None:
        """Do what a fault does instead of an answer."""
        if fault.kind == "answer":
            self._remember(call, fault.code, fault)
            await _send(writer, Answer(fault.code, fault.body, fault.headers))
            return b""
        self._remember(call, 0, fault)
        if fault.kind == "hang":
            await reader.read(1)  # until the client has enough
        else:
            _reset(writer)
        return None

    def _user(self, call: Call) -> str:
        """Who asks: nobody with a token that is none any more, anonymous without one."""
        kind, _, token = call.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer":
            return ANONYMOUS
        return self._tokens.get(token, "")

    def _remember(self, call: Call, code: int, fault: Fault | None) -> None:
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


async def _read(reader: asyncio.StreamReader, ahead: bytes) -> Call | None:
    """The next request, None at the end of the connection; `ahead` of it is read already."""
    try:
        head = ahead + await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
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
    return Call(method, urllib.parse.unquote(path), parsed, headers, body)


def _head(code: int, headers: Mapping[str, str]) -> bytes:
    lines = [
        f"HTTP/1.1 {code} {_PHRASES.get(code, 'Status')}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def _send(writer: asyncio.StreamWriter, answer: Answer) -> None:
    head = _head(answer.code, {**_JSON, **answer.headers, "Content-Length": str(len(answer.body))})
    writer.write(head + answer.body)
    await writer.drain()


async def _stream(
    answer: Streamed, fault: Fault | None, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bytes | None:
    """Send pieces as they come, until their end or the client's."""
    pieces = answer.pieces if fault is None else spoiled(fault, answer.pieces)
    writer.write(_head(answer.code, {"Content-Type": answer.content_type, "Transfer-Encoding": "chunked"}))
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
    """Make the end of the connection a reset: whatever was not sent yet is lost."""
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
