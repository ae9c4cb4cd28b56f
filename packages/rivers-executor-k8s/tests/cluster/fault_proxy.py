"""A proxy before a real API server that fails as networks and overloaded servers do, by a seed.

Of all requests a fifth meet a fault: 429 with Retry-After, 500, 503, a page of HTML, a reset before the request went on
or after it was answered. Watches are cut every three seconds, and every third one is told 410.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from urllib.parse import parse_qsl, urlsplit

from rivers_executor_k8s.api.client import ApiClient, ApiError, ApiUnreachableError, load_api_client

RATE = 0.2
WATCH_LIVES = 3.0
BEGINNING = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
HTML = b"<html><body><h1>503 Service Unavailable</h1></body></html>"


class FaultProxy:
    """Serves plain HTTP on this machine from a thread; `kubeconfig` leads to it.

    `met` counts the faults by kind, `made` the pods that were created by the attempt that they are for.
    """

    def __init__(self, folder: Path, namespace: str, seed: int) -> None:
        self.met: Counter[str] = Counter()
        self.made: Counter[str] = Counter()
        self.kubeconfig = folder / "proxy-kubeconfig"
        self._random = random.Random(seed)
        self._watches = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._thread.start()
        self._api: ApiClient = load_api_client(None)
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = self._do(asyncio.start_server(self._serve, "127.0.0.1", 0))
        port = self._server.sockets[0].getsockname()[1]
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "proxy",
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "me", "namespace": namespace}}],
            "clusters": [{"name": "proxy", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
            "users": [{"name": "me", "user": {"token": "x"}}],
        }
        self.kubeconfig.write_text(json.dumps(config))

    def _do(self, work: object) -> object:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)  # type: ignore[arg-type]

    def __enter__(self) -> FaultProxy:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()  # type: ignore[attr-defined]
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)
        await self._api.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await self._one(reader, writer):
                    continue
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length") or 0))
        url = urlsplit(target)
        query = dict(parse_qsl(url.query))
        if query.get("watch") == "true":
            await self._watch(url.path, query, writer)
            return False
        fault = self._draw()
        if fault is not None and fault != "reset after":
            return await self._fail(fault, writer)
        if query.get("follow") == "true":
            await self._follow(url.path, query, writer, cut=fault is not None)
            return False
        status, data = await self._forward(method, url.path, query, body)
        if fault == "reset after":
            return await self._fail(fault, writer)
        await self._answer(writer, status, data)
        return True

    def _draw(self) -> str | None:
        if self._random.random() >= RATE:
            return None
        fault = self._random.choice(("429", "500", "503", "html", "reset before", "reset after"))
        self.met[fault] += 1
        return fault

    async def _fail(self, fault: str, writer: asyncio.StreamWriter) -> bool:
        if fault.startswith("reset"):
            # With no time to linger, closing sends RST and not FIN.
            raw = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            return False
        if fault == "html":
            await self._answer(writer, 503, HTML, {"Content-Type": "text/html"})
            return True
        code = int(fault)
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": "by the proxy"}
        await self._answer(writer, code, json.dumps(status).encode(), {"Retry-After": "1"} if code == 429 else {})
        return True

    async def _forward(self, method: str, path: str, query: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        try:
            data = await self._api.request(method, path, query=query, body=json.loads(body) if body else None)
        except ApiError as error:
            status = {"kind": "Status", "status": "Failure", "code": error.status, "reason": error.reason}
            return error.status, json.dumps({**status, "message": error.message}).encode()
        except ApiUnreachableError as error:
            return 502, str(error).encode()
        if method == "POST" and path.endswith("/pods") and "dryRun" not in query:
            self.made[json.loads(data)["metadata"]["annotations"]["rivers.io/attempt-id"]] += 1
        return 200, data

    async def _follow(
        self, path: str, query: Mapping[str, str], writer: asyncio.StreamWriter, *, cut: bool = False
    ) -> None:
        """A log as it comes, or only that there is one."""
        with contextlib.suppress(ApiUnreachableError):
            try:
                async with self._api.stream(path, query, silence=60.0) as stream:
                    writer.write(BEGINNING)
                    while not cut and (piece := await stream.read()):
                        writer.write(piece)
                        await writer.drain()
            except ApiError as error:
                await self._answer(writer, error.status, json.dumps({"kind": "Status", "code": error.status}).encode())

    async def _watch(self, path: str, query: Mapping[str, str], writer: asyncio.StreamWriter) -> None:
        self._watches += 1
        writer.write(BEGINNING)
        await writer.drain()
        if self._watches % 3 == 0:
            self.met["410"] += 1
            gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
            writer.write(json.dumps({"type": "ERROR", "object": gone}).encode() + b"\n")
            await writer.drain()
            return
        with contextlib.suppress(TimeoutError, ApiError, ApiUnreachableError):
            async with (
                asyncio.timeout(WATCH_LIVES),
                self._api.stream(path, query, silence=60.0) as stream,
            ):
                while piece := await stream.read():
                    writer.write(piece)
                    await writer.drain()
        self.met["cut"] += 1

    async def _answer(
        self, writer: asyncio.StreamWriter, status: int, data: bytes, headers: Mapping[str, str] | None = None
    ) -> None:
        lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(data)}"]
        lines += [f"{name}: {value}" for name, value in {"Content-Type": "application/json", **(headers or {})}.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + data)
        await writer.drain()
