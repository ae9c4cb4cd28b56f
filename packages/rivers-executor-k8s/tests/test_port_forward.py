"""A pod's port is reachable through the API server, as a socket that is nobody else's."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
import socket
import stat
import struct
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import grpc
import grpc.aio
import pytest
from plain_cluster import opened, plain_cluster, plain_pod, until
from tls_server import request_of, serving

from rivers_executor_k8s.api.client import ApiError
from rivers_executor_k8s.api.port_forward import PROTOCOL, PortForward
from rivers_executor_k8s.api.transport import Endpoint, Transport
from rivers_k8s_testing import FakeCluster, Fault


@pytest.fixture
def fake() -> Iterator[FakeCluster]:
    """A cluster of pods that are not started; their address is this machine's."""
    with plain_cluster() as cluster:
        yield cluster


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back what comes."""
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


@contextlib.asynccontextmanager
async def forwarded(fake: FakeCluster, port: int) -> AsyncIterator[PortForward]:
    """A port of a pod, made reachable."""
    async with opened(fake) as cluster:
        await cluster.create_pod(plain_pod("p"), deadline=time.monotonic() + 9, on_wait=print)
        forward = await cluster.port_forward("p", port)
        try:
            yield forward
        finally:
            await forward.close()


def path_of(forward: PortForward) -> Path:
    return Path(forward.target.removeprefix("unix:"))


async def echoed(forward: PortForward, data: bytes) -> bytes:
    """Send data over a new connection and return the echo."""
    reader, writer = await asyncio.open_unix_connection(path_of(forward))
    sending = asyncio.ensure_future(sent(writer, data))
    try:
        return await asyncio.wait_for(reader.readexactly(len(data)), 20)
    finally:
        await sending
        writer.close()
        await writer.wait_closed()


async def sent(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


def test_connections_one_after_the_other_and_at_once(fake: FakeCluster) -> None:
    """Each connection has its own way to the port: bytes come whole and in order, whatever their number."""
    sizes = [1, 125, 126, 65_535, 65_536, 3_000_000]
    payloads = [os.urandom(size) for size in sizes]

    async def scenario() -> list[bool]:
        async with serving(echo) as port, forwarded(fake, port) as forward:
            serial = [await echoed(forward, payload) == payload for payload in payloads]
            together = await asyncio.gather(*(echoed(forward, payload) for payload in payloads))
            return [*serial, *(got == payload for got, payload in zip(together, payloads, strict=True))]

    assert [True] * 2 * len(sizes) == asyncio.run(scenario())


def test_nobody_else_gets_in(fake: FakeCluster) -> None:
    """The socket is in a folder of mode 0700, and both are gone after the end."""

    async def scenario() -> tuple[int, Path]:
        async with serving(echo) as port, forwarded(fake, port) as forward:
            folder = path_of(forward).parent
            return stat.S_IMODE(folder.stat().st_mode), folder

    mode, folder = asyncio.run(scenario())
    assert 0o700 == mode
    assert not folder.exists()


def test_a_long_temporary_folder(fake: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A temporary folder whose path is too long for a socket is replaced by /tmp."""
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))

    async def scenario() -> bytes:
        async with serving(echo) as port, forwarded(fake, port) as forward:
            return await echoed(forward, b"hello")

    assert b"hello" == asyncio.run(scenario())


def test_the_end_of_one_side_is_the_end(fake: FakeCluster) -> None:
    """When the pod closes a connection, it is closed here; when this side does, the pod sees it."""
    ended: list[bool] = []

    async def hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        if await reader.read(100) == b"stay":
            ended.append(await reader.read(1) == b"")

    async def scenario() -> bytes:
        async with serving(hello) as port, forwarded(fake, port) as forward:
            reader, writer = await asyncio.open_unix_connection(path_of(forward))
            writer.write(b"go")
            got = await asyncio.wait_for(reader.read(), 10)
            writer.close()
            await writer.wait_closed()
            reader, writer = await asyncio.open_unix_connection(path_of(forward))
            writer.write(b"stay")
            await asyncio.wait_for(reader.readexactly(5), 10)
            writer.close()
            await writer.wait_closed()
            await until(lambda: bool(ended))
            return got

    assert b"hello" == asyncio.run(scenario())
    assert [True] == ended


def test_a_port_that_nobody_listens_on(fake: FakeCluster) -> None:
    """A connection to a port without a listener is closed, without any byte."""

    async def scenario() -> bytes:
        async with serving(echo) as port:
            pass
        async with forwarded(fake, port) as forward:
            reader, writer = await asyncio.open_unix_connection(path_of(forward))
            with contextlib.suppress(ConnectionError):
                writer.write(b"hello")
                got = await asyncio.wait_for(reader.read(), 10)
                writer.close()
                await writer.wait_closed()
                return got
            return b""

    assert b"" == asyncio.run(scenario())


def test_a_refusal_is_known_at_once(fake: FakeCluster) -> None:
    """A missing permission or pod is reported before anything is dialled."""
    fake.deny("get", "pods/portforward")

    async def scenario() -> None:
        async with forwarded(fake, 1):
            pass

    with pytest.raises(ApiError, match="403 Forbidden"):
        asyncio.run(scenario())


def test_after_the_server_was_away(fake: FakeCluster) -> None:
    """Connections end with the API server, and new ones work when it is back."""

    async def scenario() -> list[bytes]:
        async with serving(echo) as port, forwarded(fake, port) as forward:
            reader, writer = await asyncio.open_unix_connection(path_of(forward))
            writer.write(b"x")
            await reader.readexactly(1)
            with fake.away():
                broken = await asyncio.wait_for(reader.read(), 10)
                writer.close()
                await writer.wait_closed()
            return [broken, await echoed(forward, b"back")]

    assert [b"", b"back"] == asyncio.run(scenario())


def test_closing_in_the_middle(fake: FakeCluster) -> None:
    """Closing ends connections that are in use, in the middle of their bytes, and leaves nothing."""

    async def scenario() -> float:
        async with serving(echo) as port, forwarded(fake, port) as forward:
            busy = [asyncio.ensure_future(echoed(forward, bytes(50_000_000))) for _ in range(4)]
            await asyncio.sleep(0.2)
            begun = time.monotonic()
            await forward.close()
            seconds = time.monotonic() - begun
            await asyncio.gather(*busy, return_exceptions=True)
            return seconds

    assert asyncio.run(scenario()) < 2.0


@pytest.mark.parametrize("passes", range(6))
def test_closing_before_a_connection_has_begun(fake: FakeCluster, passes: int) -> None:
    """A connection that waits in the kernel, in asyncio's hands or as a task not yet run ends with the socket."""

    async def scenario() -> list[bytes]:
        async with serving(echo) as port, forwarded(fake, port) as forward:
            with contextlib.ExitStack() as ends:
                waiting = [ends.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(3)]
                for end in waiting:
                    end.settimeout(5)
                    end.connect(str(path_of(forward)))
                for _ in range(passes):
                    await asyncio.sleep(0)
                await forward.close()
                return await asyncio.gather(*(asyncio.to_thread(after_the_end, end) for end in waiting))

    assert [b""] * 3 == asyncio.run(scenario())


def after_the_end(end: socket.socket) -> bytes:
    """Return the next byte of a connection, none at its end or after a reset."""
    with contextlib.suppress(ConnectionError):
        return end.recv(1)
    return b""


def test_grpc_dials_it() -> None:
    """gRPC reaches a server by the target, and again after the connection was cut."""

    async def scenario(fake: FakeCluster) -> list[bytes]:
        server = grpc.aio.server()

        async def answer(request: bytes, context: object) -> bytes:
            return request[::-1]

        handlers = {"Call": grpc.unary_unary_rpc_method_handler(answer)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("x.X", handlers),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with forwarded(fake, port) as forward, grpc.aio.insecure_channel(forward.target) as channel:
                call = channel.unary_unary("/x.X/Call")
                first = await call(b"abc", timeout=10)
                with fake.away():
                    pass
                for _ in range(100):
                    try:
                        return [first, await call(bytes(1_000_000) + b"def", timeout=20, wait_for_ready=True)]
                    except grpc.aio.AioRpcError:
                        await asyncio.sleep(0.05)  # the one that was cut
                return []
        finally:
            await server.stop(0)

    with FakeCluster(stub=lambda pod: "done") as fake:  # gRPC keeps a thread, so it is not asked whether any is left
        first, second = asyncio.run(scenario(fake))
    assert (b"cba", b"fed") == (first, second[:3])


class TestWebSocket:
    """Frames that FakeCluster does not send: fragments, pings, malformed ones."""

    def received(
        self, frames: bytes, *, cut: bool = False, send: bytes = b"", protocol: str = PROTOCOL
    ) -> tuple[bytes, bytes]:
        """Return the data that a client receives for these frames, and the bytes that the server receives."""
        heard = bytearray()

        async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(upgraded(await request_of(reader), protocol) + frames)
            if cut:
                writer.close()
                await writer.wait_closed()
            while data := await reader.read(65536):
                heard.extend(data)

        async def scenario(port: int) -> bytes:
            transport = Transport(ignored)
            endpoint = Endpoint(f"http://127.0.0.1:{port}")
            forward = PortForward(lambda: transport.open_websocket(endpoint, "/", {}, PROTOCOL))
            try:
                await forward.start()
                reader, writer = await asyncio.open_unix_connection(path_of(forward))
                if send:
                    await sent(writer, send)
                    await until(lambda: len(heard) >= len(send) + 7)
                    writer.write_eof()
                try:
                    return await asyncio.wait_for(reader.read(), 10)
                finally:
                    writer.close()
                    await writer.wait_closed()
            finally:
                await forward.close()
                await transport.close()

        async def both() -> bytes:
            async with serving(server) as port:
                got = await scenario(port)
                await asyncio.sleep(0.05)
                return got

        return asyncio.run(both()), bytes(heard)

    def test_fragments_and_pings(self) -> None:
        """A message in fragments is one message, and a ping between them is answered with its own bytes."""
        greeting = plain(b"\x00" + struct.pack("<H", 1)) + plain(b"\x01" + struct.pack("<H", 1))
        parts = plain(b"\x00he", 0x02) + plain(b"are you there", 0x89) + plain(b"ll", 0x00) + plain(b"o", 0x80)

        got, heard = self.received(greeting + parts + plain(b"\x03\xe8", 0x88))

        assert b"hello" == got
        assert 0x8A == heard[0]
        assert b"are you there" == next(frames_in(heard))[2]

    @pytest.mark.parametrize(
        "last",
        [
            b"\x82\x7f" + struct.pack(">Q", 1 << 40),
            b"\x82\x7e\x00",
            b"",
        ],
        ids=["huge", "cut", "nothing"],
    )
    def test_a_broken_stream_ends_it(self, last: bytes) -> None:
        """A frame that is too large, or cut, ends the connection after what came before it."""
        greeting = plain(b"\x00" + struct.pack("<H", 1))

        got, _ = self.received(greeting + plain(b"\x00abc") + (last or plain(b"", 0x88)), cut=True)

        assert b"abc" == got

    def test_an_error_of_the_port_ends_it(self) -> None:
        """A message on the channel for errors is not data."""
        greeting = plain(b"\x00" + struct.pack("<H", 1)) + plain(b"\x01" + struct.pack("<H", 1))

        assert b"" == self.received(greeting + plain(b"\x01error forwarding port 1 to pod p: refused"))[0]

    @pytest.mark.parametrize("size", [1, 3, 4, 5, 124, 125, 65_534, 65_535, 100_001])
    def test_frames_are_masked(self, size: int) -> None:
        """Data is sent on channel 0 in frames with changing masks."""
        payload = os.urandom(size)
        frames = list(frames_in(self.received(b"", send=payload)[1]))
        data = [unmasked for first, _, unmasked in frames if first == 0x82]

        assert payload == b"".join(unmasked[1:] for unmasked in data)
        assert {0} == {unmasked[0] for unmasked in data}
        assert len(frames) == len({mask for _, mask, _ in frames})

    def test_another_protocol(self) -> None:
        """A server that selects another subprotocol is refused."""
        with pytest.raises(aiohttp.ClientError, match=r"does not speak v4\.channel\.k8s\.io"):
            self.received(b"", protocol="chat")


async def ignored(response: aiohttp.ClientResponse) -> None:
    """Take any status."""


def upgraded(request: list[str], protocol: str) -> bytes:
    """A server's answer that opens a WebSocket."""
    key = next(line.partition(": ")[2] for line in request if line.lower().startswith("sec-websocket-key"))
    digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}",
        f"Sec-WebSocket-Protocol: {protocol}",
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def plain(payload: bytes, first: int = 0x82) -> bytes:
    """A server's frame of a short payload."""
    return bytes((first, len(payload))) + payload


def frames_in(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """A client's frames: the first byte, the mask, the payload without it."""
    while data:
        first, size, begin = data[0], data[1] & 0x7F, 2
        assert data[1] & 0x80
        if size >= 126:
            begin = 4 if size == 126 else 10
            size = int.from_bytes(data[2:begin], "big")
        mask, payload = data[begin : begin + 4], data[begin + 4 : begin + 4 + size]
        yield first, mask, bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        data = data[begin + 4 + size :]


def test_faults_at_the_upgrade(fake: FakeCluster) -> None:
    """An upgrade that is not answered as one is an error in words."""
    fake.faults.add(Fault.html(502), resource="pods/portforward")

    async def scenario() -> None:
        async with forwarded(fake, 1):
            pass

    with pytest.raises(ApiError, match="502: Bad Gateway"):
        asyncio.run(scenario())
