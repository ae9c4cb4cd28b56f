"""A TCP proxy on loopback that breaks connections on demand: the network between a client and a worker."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Literal

DOWN, UP = "down", "up"


@dataclass(frozen=True)
class Plan:
    """What becomes of one connection: cut once `down` bytes came from the server, or `up` bytes from the client.

    A cut is a `reset` (RST), a `close` (FIN both ways), or `silence`: the connection stays and nothing passes any more.
    `delay` is seconds for each piece.
    """

    down: int | None = None
    up: int | None = None
    end: Literal["reset", "close", "silence"] = "reset"
    delay: float = 0.0


WHOLE = Plan()


class BreakingProxy:
    """Passes on to `target`; its n-th connection goes by the n-th plan, those after the last plan are whole.

    `passed` holds for each connection how many bytes went down and up.
    """

    def __init__(self, target: int, plans: Iterable[Plan] = ()) -> None:
        self.target = target
        self.port = 0
        self.plans = iter(plans)
        self.passed: list[dict[str, int]] = []
        self._open = {way: asyncio.Event() for way in (DOWN, UP)}
        self.thaw()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def freeze(self, *ways: str) -> None:
        """Let nothing pass any more that way, by default either, in old and new connections."""
        for way in ways or (DOWN, UP):
            self._open[way].clear()

    def thaw(self) -> None:
        for gate in self._open.values():
            gate.set()

    def reset(self) -> None:
        """End all connections with RST."""
        for writer in list(self._writers):
            _reset(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        plan = next(self.plans, WHOLE)
        passed = {DOWN: 0, UP: 0}
        self.passed.append(passed)
        there = None
        try:
            back, there = await asyncio.open_connection("127.0.0.1", self.target)
            self._writers.add(there)
            pumps = [
                asyncio.create_task(self._pump(back, writer, DOWN, plan, passed)),
                asyncio.create_task(self._pump(reader, there, UP, plan, passed)),
            ]
            try:
                done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                cut = any(pump.exception() is None and pump.result() for pump in done)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
            if cut and plan.end == "silence":
                await asyncio.Event().wait()
            if cut and plan.end == "reset":
                _reset(writer)
                _reset(there)
        except (OSError, asyncio.CancelledError):
            pass  # nobody listens behind it, and the client sees its connection end; or the test is over
        finally:
            for end in (writer, there):
                if end is not None:
                    self._writers.discard(end)
                    end.close()
            self._tasks.discard(task)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str, plan: Plan, passed: dict[str, int]
    ) -> bool:
        """Pass bytes on until their end, False, or until the plan's cut, True."""
        most = plan.down if way == DOWN else plan.up
        while most is None or passed[way] < most:
            data = await reader.read(65536)
            if not data:
                return False
            await asyncio.sleep(plan.delay)
            await self._open[way].wait()
            if most is not None:
                data = data[: most - passed[way]]
            writer.write(data)
            passed[way] += len(data)
            await writer.drain()
        return True


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextlib.asynccontextmanager
async def breaking(target: int, plans: Iterable[Plan] = ()) -> AsyncIterator[BreakingProxy]:
    """A proxy before the port `target`, gone with all its connections at the end."""
    proxy = BreakingProxy(target, plans)
    server = await asyncio.start_server(proxy._serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        for task in list(proxy._tasks):
            task.cancel()
        await asyncio.gather(*proxy._tasks, return_exceptions=True)
        await server.wait_closed()
