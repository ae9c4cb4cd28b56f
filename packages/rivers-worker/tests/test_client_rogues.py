"""Hostile connections: whatever comes to a worker's port, it serves its controller (G16)."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable

import grpc.aio
import pytest
from real_worker import RealWorker, started
from scripted_worker import SERVICE, Telling, closing, run

from rivers.protocol import Ending
from rivers_worker.credentials import worker_name
from rivers_worker.v1 import worker_pb2 as pb

HTTP_2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"


async def knock(port: int, data: bytes) -> None:
    """Send something, and take what comes until the other side hangs up or a second is over."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(1.0):
            writer.write(data)
            await writer.drain()
            while await reader.read(65536):
                pass
    writer.transport.abort()


@contextlib.asynccontextmanager
async def served(worker: RealWorker) -> AsyncIterator[None]:
    """The controller has an attempt that runs on; after what happens meanwhile it ends as it should, once."""
    async with closing(worker.client()) as client:
        told = Telling()
        executing = asyncio.create_task(client.execute(worker.spec("speaks_slowly"), told.append))
        await told.reach(2)
        yield
        async with closing(worker.client()) as another:
            assert (await another.connect()).state in {"running", "ended"}
        assert Ending.SUCCEEDED is (await executing).ending
        assert 41 == len(told)
        await client.ack()
    assert 0 == await worker.ended()
    assert ["speaks_slowly"] == worker.notes


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: worker\r\n\r\n",
        b"POST /rivers_worker.v1.StepWorker/Execute HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n",
        HTTP_2 + SETTINGS * 1000,
        b"\x16\x03\x01\xff\xff" + bytes(70000),
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03",
        b"\x15\x03\x03\x00\x02\x02\x28" * 100,
        b"SSH-2.0-scanner\r\n",
        random.Random(1).randbytes(100_000),
        b"",
    ],
    ids=["HTTP/1", "POST", "HTTP/2", "large record", "cut hello", "alerts", "SSH", "random", "nothing"],
)
def test_other_protocols(data: bytes) -> None:
    """Twenty connections at once that speak something else do not disturb the attempt."""

    async def test() -> None:
        async with started() as worker, served(worker):
            await asyncio.gather(*(knock(worker.port, data) for _ in range(20)))

    run(test)


def test_a_port_scan() -> None:
    """A thousand connections that are reset at once do not disturb the attempt."""

    async def test() -> None:
        async with started() as worker, served(worker):
            for _ in range(1000):
                _, writer = await asyncio.open_connection("127.0.0.1", worker.port)
                writer.transport.abort()

    run(test)


def test_idle_connections() -> None:
    """Two hundred connections that say nothing and stay do not keep the controller out."""

    async def test() -> None:
        async with started() as worker:
            idle = [await asyncio.open_connection("127.0.0.1", worker.port) for _ in range(200)]
            async with served(worker):
                pass
            for _, writer in idle:
                writer.transport.abort()

    run(test)


def _handshake(channel: grpc.aio.Channel, caller: pb.Caller) -> grpc.aio.Call:
    request = pb.HandshakeRequest(caller=caller, protocol_version=1)
    method = channel.unary_unary(f"/{SERVICE.full_name}/Handshake", pb.HandshakeRequest.SerializeToString)
    return method(request, timeout=5.0)


def _attach(channel: grpc.aio.Channel, caller: pb.Caller) -> grpc.aio.Call:
    request = pb.AttachRequest(caller=caller)
    method = channel.unary_stream(f"/{SERVICE.full_name}/Attach", pb.AttachRequest.SerializeToString)
    return method(request, timeout=5.0)


@pytest.mark.parametrize("begin", [_handshake, _attach])
def test_rapid_reset(begin: Callable[[grpc.aio.Channel, pb.Caller], grpc.aio.Call]) -> None:
    """Streams that are begun and reset two thousand times, even with the right key, do not disturb the attempt."""

    async def test() -> None:
        async with started() as worker, served(worker):
            credentials = worker.controller.channel_credentials(worker.announcement.certificate)
            options = [("grpc.ssl_target_name_override", worker_name(worker.attempt_id))]
            caller = pb.Caller(run_id=worker.run_id, attempt_id=worker.attempt_id)
            async with grpc.aio.secure_channel(f"127.0.0.1:{worker.port}", credentials, options) as channel:
                await channel.channel_ready()
                for count in range(2000):
                    call = begin(channel, caller)
                    if count % 10 == 0:
                        await asyncio.sleep(0.001)
                    call.cancel()

    run(test)
