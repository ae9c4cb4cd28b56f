"""A step server whose answers a test scripts, over real mutual TLS, for behaviour that a real worker never shows."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import grpc
import grpc.aio

from rivers.protocol import ImportRef, LogRecord, StepEvent, StepSpec, StepStarted
from rivers.protocol.protobuf import encode_event_protobuf
from rivers.protocol.result import Ending, StepResult
from rivers_worker.announcement import Announcement
from rivers_worker.client import Deadlines, WorkerClient
from rivers_worker.credentials import Identity
from rivers_worker.v1 import worker_pb2 as pb

RUN, ATTEMPT = "run", "attempt"
SERVICE = pb.DESCRIPTOR.services_by_name["StepWorker"]
SPEC = StepSpec(run_id=RUN, step="orders", attempt_id=ATTEMPT, function=ImportRef(module="shop", qualname="orders"))
STARTED = StepStarted(attempt_id=ATTEMPT, worker="scripted", time=1.0)
RESULT = StepResult(attempt_id=ATTEMPT, ending=Ending.SUCCEEDED, worker="scripted")
SOON = Deadlines(connect=5.0, handshake=2.0, silence=1.0, lost=3.0)


def log(message: str) -> LogRecord:
    return LogRecord(attempt_id=ATTEMPT, message=message)


def numbered(*told: StepEvent, start: int = 1) -> list[pb.Event]:
    """Events as a worker numbers them; a result is its last one."""
    return [
        pb.Event(seq=seq, step_event=encode_event_protobuf(event), last=isinstance(event, StepResult))
        for seq, event in enumerate(told, start)
    ]


HEARTBEAT = pb.Event(heartbeat=pb.Heartbeat())
STORY = numbered(STARTED, *(log(f"line {n}") for n in range(20)), RESULT)


class Telling(list[StepEvent]):
    """The events that a client has emitted; `append` is its `emit`, and `reach` waits for a number of them."""

    def __init__(self) -> None:
        super().__init__()
        self._more = asyncio.Event()

    def append(self, event: StepEvent) -> None:
        super().append(event)
        self._more.set()

    async def reach(self, count: int) -> None:
        while len(self) < count:
            self._more.clear()
            await self._more.wait()


class ScriptedWorker:
    """A server that answers by `methods` (name in lower case → handler), else as a good worker that streams `story`.

    `calls` holds what was called, in order: (method, request).
    """

    def __init__(self, story: Iterable[pb.Event] = STORY, **methods: Callable[[Any, Any], Any]) -> None:
        self.story = list(story)
        self.methods = methods
        self.calls: list[tuple[str, Any]] = []
        self.identity = Identity.of_worker(ATTEMPT)
        self.controller = Identity.of_controller(RUN)
        self.port = 0

    @property
    def announcement(self) -> Announcement:
        return Announcement(self.port, self.identity.certificate)

    def called(self, name: str) -> list[Any]:
        return [request for method, request in self.calls if method == name]

    def client(self, deadlines: Deadlines = SOON, *, target: str = "", **given: Any) -> WorkerClient:
        """A client for this worker, or for a proxy before it."""
        given = {"run_id": RUN, "attempt_id": ATTEMPT, **given}
        target = target or f"127.0.0.1:{self.port}"
        return WorkerClient(target, self.announcement, self.controller, deadlines=deadlines, **given)

    async def handshake(self, request: Any, context: Any) -> pb.HandshakeReply:
        return pb.HandshakeReply(
            protocol_version=1, rivers_version="9.9", python_version="3.99", worker="scripted", state=pb.STATE_WAITING
        )

    async def execute(self, request: Any, context: Any) -> AsyncIterator[pb.Event]:
        for event in self.story:
            yield event

    async def attach(self, request: Any, context: Any) -> AsyncIterator[pb.Event]:
        for event in self.story:
            if event.seq > request.from_seq:
                yield event

    async def cancel(self, request: Any, context: Any) -> pb.CancelReply:
        return pb.CancelReply(state=pb.STATE_RUNNING)

    async def ack(self, request: Any, context: Any) -> pb.AckReply:
        return pb.AckReply()

    def handler(self) -> grpc.GenericRpcHandler:
        handlers = {}
        for method in SERVICE.methods:
            make = (
                grpc.unary_stream_rpc_method_handler if method.server_streaming else grpc.unary_unary_rpc_method_handler
            )
            request, reply = (getattr(pb, kind.name) for kind in (method.input_type, method.output_type))
            handlers[method.name] = make(
                self._answering(method.name.lower()), request.FromString, lambda m, _=reply: m.SerializeToString()
            )
        return grpc.method_handlers_generic_handler(SERVICE.full_name, handlers)

    def _answering(self, name: str) -> Callable[[Any, Any], Any]:
        answer = self.methods.get(name) or getattr(self, name)
        if inspect.isasyncgenfunction(answer):

            async def stream(request: Any, context: Any) -> AsyncIterator[pb.Event]:
                self.calls.append((name, request))
                async for event in answer(request, context):
                    yield event

            return stream

        async def unary(request: Any, context: Any) -> Any:
            self.calls.append((name, request))
            return await answer(request, context)

        return unary


@contextlib.asynccontextmanager
async def serving(worker: ScriptedWorker, port: int = 0) -> AsyncIterator[ScriptedWorker]:
    """The worker, listening on loopback in this loop."""
    options = [
        ("grpc.so_reuseport", 0),
        ("grpc.max_send_message_length", -1),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 1000),
    ]
    server = grpc.aio.server(options=options)
    server.add_generic_rpc_handlers([worker.handler()])
    credentials = worker.identity.server_credentials(worker.controller.certificate)
    worker.port = server.add_secure_port(f"127.0.0.1:{port}", credentials)
    await server.start()
    try:
        yield worker
    finally:
        await server.stop(None)


@contextlib.asynccontextmanager
async def closing(client: WorkerClient) -> AsyncIterator[WorkerClient]:
    try:
        yield client
    finally:
        await client.close()


def run(test: Callable[[], Awaitable[None]], within: float = 40.0) -> None:
    """Run a test's coroutine in a loop of its own; what it leaves behind there is an error."""

    async def bounded() -> None:
        await asyncio.wait_for(test(), within)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        deadline = asyncio.get_running_loop().time() + 2
        while left and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.01)
            left = {task for task in left if not task.done()}
        assert set() == left

    asyncio.run(bounded(), debug=False)
