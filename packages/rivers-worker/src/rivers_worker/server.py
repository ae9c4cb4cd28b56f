"""Serve one attempt to one controller: the five methods of proto/rivers_worker/v1/worker.proto."""

from __future__ import annotations

import importlib.metadata
import platform
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from queue import SimpleQueue
from typing import Any

import grpc

from rivers_worker.announcement import PROTOCOL_VERSION
from rivers_worker.auth_interceptor import AuthInterceptor
from rivers_worker.credentials import Identity, controller_name, decode_certificate
from rivers_worker.exit_codes import Exit
from rivers_worker.journal import Journal, JournalEntry
from rivers_worker.settings import ServeSettings
from rivers_worker.supervisor import Supervisor
from rivers_worker.v1 import worker_pb2 as pb

__all__ = ["StepServer"]

SERVICE = pb.DESCRIPTOR.services_by_name["StepWorker"]
REQUESTS: dict[str, Any] = {
    "Handshake": pb.HandshakeRequest,
    "Execute": pb.ExecuteRequest,
    "Attach": pb.AttachRequest,
    "Cancel": pb.CancelRequest,
    "Ack": pb.AckRequest,
}
STREAMS = ("Execute", "Attach")
MAX_MESSAGE = 4 << 20
OPTIONS = (
    # With SO_REUSEPORT a body, which has the same user, could bind the same port and take calls.
    ("grpc.so_reuseport", 0),
    ("grpc.max_concurrent_streams", 8),
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_send_message_length", MAX_MESSAGE),
    # The client pings every 5 s. By default gRPC takes that for abuse and ends a healthy idle stream.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 4000),
    ("grpc.keepalive_permit_without_calls", 1),
    # A controller that is frozen or has lost its network keeps its stream for so long, and counts as connected.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
)
THREADS = 32
"""Handlers at once: a half-open stream holds one until keepalive ends it."""
CHECK_WITHIN = 55.0
"""Seconds for resolving refs, as that imports user code."""


class StepServer:
    """The gRPC server of one attempt, from its creation until `stop`; `ends` gets the cause of the worker's end.

    Raises:
        CredentialsError: the controller's certificate cannot be read.
        RuntimeError: the address cannot be bound.
    """

    def __init__(
        self, settings: ServeSettings, supervisor: Supervisor, journal: Journal, ends: SimpleQueue[Exit]
    ) -> None:
        self.identity = Identity.of_worker(settings.attempt_id)
        self._settings = settings
        self._supervisor = supervisor
        self._journal = journal
        self._ends = ends
        self._lock = threading.Lock()
        self._spec: bytes | None = None
        self._acknowledged = self._leaving = False
        self._epoch = 0
        self._streams = 0
        self._last_call = time.monotonic()
        controller = decode_certificate(settings.controller)
        self._server = grpc.server(
            futures.ThreadPoolExecutor(THREADS, thread_name_prefix="rivers-call"),
            interceptors=(AuthInterceptor(controller, controller_name(settings.run_id)),),
            options=OPTIONS,
        )
        self._server.add_generic_rpc_handlers((self._handlers(),))
        self.port: int = self._server.add_secure_port(settings.listen, self.identity.server_credentials(controller))
        self._server.start()

    def _handlers(self) -> Any:
        handlers = {}
        for name, request in REQUESTS.items():
            make = grpc.unary_stream_rpc_method_handler if name in STREAMS else grpc.unary_unary_rpc_method_handler
            method = getattr(self, f"_{name.lower()}")
            handlers[name] = make(method, request.FromString, lambda reply: reply.SerializeToString())
        return grpc.method_handlers_generic_handler(SERVICE.full_name, handlers)

    @property
    def seconds_alone(self) -> float:
        """Seconds since a controller was last connected."""
        return 0.0 if self._streams else time.monotonic() - self._last_call

    def stop_accepting(self) -> bool:
        """Start no attempt from now on, and return whether one was started."""
        with self._lock:
            self._leaving = True
            return self._spec is not None

    def stop(self, grace: float) -> None:
        """Take no more calls, and wait `grace` seconds for those under way."""
        self._server.stop(grace).wait(grace + 1.0)

    # ── methods ──

    def _handshake(self, request: pb.HandshakeRequest, context: Any) -> pb.HandshakeReply:
        self._check_caller(request.caller, context)
        if request.protocol_version != PROTOCOL_VERSION:
            # Nobody can use a worker of another version; one that runs an attempt goes on with it.
            if self._spec is None:
                self._ends.put(Exit.PROTOCOL_VERSION)
            context.abort(
                grpc.StatusCode.UNIMPLEMENTED,
                f"this worker speaks version {PROTOCOL_VERSION} of the protocol, the controller version "
                f"{request.protocol_version}: use an image with the controller's version of rivers-worker",
            )
        found = self._look_up(list(request.specs), context) if request.specs else []
        return pb.HandshakeReply(
            protocol_version=PROTOCOL_VERSION,
            rivers_version=importlib.metadata.version("rivers-worker"),
            python_version=platform.python_version(),
            worker=self._settings.worker,
            state=self._state,
            problems=[pb.Problem(spec=index, message=text) for index, text in found],
        )

    def _look_up(self, specs: list[bytes], context: Any) -> list[tuple[int, str]]:
        if self._spec is not None:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "refs are looked up before Execute, not after")
        seconds = min(CHECK_WITHIN, context.time_remaining() or CHECK_WITHIN)
        found = self._supervisor.check(specs, seconds)
        if found is None:
            context.abort(
                grpc.StatusCode.DEADLINE_EXCEEDED,
                f"looking up the refs of {len(specs)} specs takes longer than {seconds:.0f} s: user code is imported "
                "for it, and the worker's log says how far that has come",
            )
        return found or []

    def _execute(self, request: pb.ExecuteRequest, context: Any) -> Iterator[pb.Event]:
        self._check_caller(request.caller, context)
        with self._lock:
            if self._acknowledged:
                context.abort(
                    grpc.StatusCode.FAILED_PRECONDITION, "the attempt is over, and its result was acknowledged"
                )
            if self._spec is None and self._leaving:
                context.abort(grpc.StatusCode.FAILED_PRECONDITION, "this worker is terminating: it starts nothing")
            # A client whose connection broke does not know whether its first call arrived, and repeats it.
            if self._spec is None:
                self._spec = request.spec
                self._supervisor.execute(request.spec, request.pickle_key)
            elif self._spec != request.spec:
                context.abort(grpc.StatusCode.FAILED_PRECONDITION, "this worker runs another spec")
        yield from self._stream_events(0, request.caller.epoch, context)

    def _attach(self, request: pb.AttachRequest, context: Any) -> Iterator[pb.Event]:
        self._check_caller(request.caller, context)
        if self._spec is None:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "this worker has no spec yet")
        yield from self._stream_events(request.from_seq, request.caller.epoch, context)

    def _cancel(self, request: pb.CancelRequest, context: Any) -> pb.CancelReply:
        self._check_caller(request.caller, context)
        self._supervisor.cancel(request.grace)
        return pb.CancelReply(state=self._state)

    def _ack(self, request: pb.AckRequest, context: Any) -> pb.AckReply:
        """End the worker: the result has arrived, or nothing is to be executed."""
        self._check_caller(request.caller, context)
        with self._lock:
            if self._spec is not None and not self._journal.is_ended:
                context.abort(
                    grpc.StatusCode.FAILED_PRECONDITION, "the attempt still runs: there is nothing to acknowledge"
                )
            self._acknowledged = True
        self._ends.put(Exit.DONE)
        return pb.AckReply()

    # ── shared by the methods ──

    @property
    def _state(self) -> pb.State:
        if self._journal.is_ended:
            return pb.STATE_ENDED
        return pb.STATE_WAITING if self._spec is None else pb.STATE_RUNNING

    def _check_caller(self, caller: pb.Caller, context: Any) -> None:
        """Refuse a call for another attempt, or by a controller that has been replaced."""
        self._last_call = time.monotonic()
        settings = self._settings
        if (caller.run_id, caller.attempt_id) != (settings.run_id, settings.attempt_id):
            context.abort(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"this worker serves only attempt {settings.attempt_id} of run {settings.run_id}",
            )
        with self._lock:
            replaced = caller.epoch < self._epoch
            self._epoch = max(self._epoch, caller.epoch)
        if replaced:
            context.abort(grpc.StatusCode.ABORTED, f"a controller of epoch {self._epoch} has taken over")
        # Streams of a lower epoch look again, and end.
        self._journal.wake()

    def _stream_events(self, seq: int, epoch: int, context: Any) -> Iterator[pb.Event]:
        """Yield the events after `seq` as they come, with heartbeats, until the last one or until the caller leaves."""
        # gRPC ends the iterator of a caller that is gone only when it yields; the callback ends its wait before that.
        context.add_callback(self._journal.wake)
        with self._lock:
            self._streams += 1
        try:
            beat = time.monotonic() + self._settings.heartbeat
            while context.is_active():
                if epoch < self._epoch:
                    context.abort(grpc.StatusCode.ABORTED, f"a controller of epoch {self._epoch} has taken over")
                # Read before the entries: an end that comes in between is found in the next turn.
                over = self._journal.is_ended
                for entry in self._journal.after(seq, 0.0 if over else max(0.0, beat - time.monotonic())):
                    yield _event(entry, entry.seq - seq - 1)
                    seq = entry.seq
                if over:
                    return
                if time.monotonic() >= beat:
                    yield pb.Event(heartbeat=pb.Heartbeat())
                    beat = time.monotonic() + self._settings.heartbeat
        finally:
            with self._lock:
                self._streams -= 1
            self._last_call = time.monotonic()


def _event(entry: JournalEntry, dropped: int) -> pb.Event:
    if entry.field == "lost":
        return pb.Event(seq=entry.seq, lost=pb.Lost.FromString(entry.data), last=entry.last, dropped=dropped)
    return pb.Event(seq=entry.seq, step_event=entry.data, last=entry.last, dropped=dropped)
