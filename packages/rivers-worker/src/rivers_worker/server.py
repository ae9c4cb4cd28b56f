"""Serve attempts to one controller: the five methods of proto/rivers_worker/v1/worker.proto."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc

from rivers_worker.announcement import PROTOCOL_MINOR, PROTOCOL_VERSION
from rivers_worker.auth_interceptor import AuthInterceptor
from rivers_worker.credentials import Identity, controller_name, decode_certificate
from rivers_worker.journal import Journal, JournalEntry
from rivers_worker.session import SessionRefusedError, WorkerSession
from rivers_worker.settings import ServeSettings
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
    """The gRPC server of one worker, from its creation until `stop`.

    Raises:
        CredentialsError: the controller's certificate cannot be read.
        RuntimeError: the address cannot be bound.
    """

    def __init__(self, settings: ServeSettings, session: WorkerSession) -> None:
        self.identity = Identity.of_worker(settings.attempt_id)
        self._settings = settings
        self._session = session
        self._lock = threading.Lock()
        self._epoch = 0
        self._connected = 0
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
        return 0.0 if self._connected else time.monotonic() - self._last_call

    def stop(self, grace: float) -> None:
        """Take no more calls, and wait `grace` seconds for those under way."""
        self._server.stop(grace).wait(grace + 1.0)

    # ── methods ──

    def _handshake(self, request: pb.HandshakeRequest, context: Any) -> pb.HandshakeReply:
        self._check_caller(request.caller, context)
        if request.protocol_version != PROTOCOL_VERSION:
            self._session.end_for_another_version()
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
            state=self._session.state,
            problems=[pb.Problem(spec=index, message=text) for index, text in found],
            minor_version=PROTOCOL_MINOR,
            attempts_left=self._session.attempts_left,
        )

    def _look_up(self, specs: list[bytes], context: Any) -> list[tuple[int, str]]:
        seconds = min(CHECK_WITHIN, context.time_remaining() or CHECK_WITHIN)
        with self._connection(), _refusing(context):
            found = self._session.check(specs, seconds)
        if found is None:
            context.abort(
                grpc.StatusCode.DEADLINE_EXCEEDED,
                f"looking up the refs of {len(specs)} specs takes longer than {seconds:.0f} s: user code is imported "
                "for it, and the worker's log says how far that has come",
            )
        return found or []

    def _execute(self, request: pb.ExecuteRequest, context: Any) -> Iterator[pb.Event]:
        self._check_caller(request.caller, context)
        with _refusing(context):
            attempt = self._session.execute(request.caller.attempt_id, request.spec, request.pickle_key)
        yield from self._stream_events(attempt.journal, 0, request.caller.epoch, context)

    def _attach(self, request: pb.AttachRequest, context: Any) -> Iterator[pb.Event]:
        self._check_caller(request.caller, context)
        with _refusing(context):
            journal = self._session.journal_of(request.caller.attempt_id)
        yield from self._stream_events(journal, request.from_seq, request.caller.epoch, context)

    def _cancel(self, request: pb.CancelRequest, context: Any) -> pb.CancelReply:
        self._check_caller(request.caller, context)
        self._session.cancel(request.caller.attempt_id, request.grace)
        return pb.CancelReply(state=self._session.state)

    def _ack(self, request: pb.AckRequest, context: Any) -> pb.AckReply:
        """Close the attempt, whose result has arrived, or end a worker that is to execute nothing."""
        self._check_caller(request.caller, context)
        with self._connection(), _refusing(context):
            return self._session.acknowledge(request.caller.attempt_id)

    # ── shared by the methods ──

    def _check_caller(self, caller: pb.Caller, context: Any) -> None:
        """Refuse a call for another attempt, or by a controller that has been replaced."""
        self._last_call = time.monotonic()
        if not self._session.serves(caller.run_id, caller.attempt_id):
            own = self._settings
            only = f"attempt {own.attempt_id}" if own.max_attempts is None else "attempts"
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"this worker serves only {only} of run {own.run_id}")
        with self._lock:
            replaced = caller.epoch < self._epoch
            self._epoch = max(self._epoch, caller.epoch)
        if replaced:
            context.abort(grpc.StatusCode.ABORTED, f"a controller of epoch {self._epoch} has taken over")
        # Streams of a lower epoch look again, and end.
        attempt = self._session.current
        if attempt is not None:
            attempt.journal.wake()

    @contextlib.contextmanager
    def _connection(self) -> Iterator[None]:
        """Count a controller as connected during a call that may take long."""
        with self._lock:
            self._connected += 1
        try:
            yield
        finally:
            with self._lock:
                self._connected -= 1
            self._last_call = time.monotonic()

    def _stream_events(self, journal: Journal, seq: int, epoch: int, context: Any) -> Iterator[pb.Event]:
        """Yield the events after `seq` as they come, with heartbeats, until the last one or until the caller leaves."""
        # gRPC ends the iterator of a caller that is gone only when it yields; the callback ends its wait before that.
        context.add_callback(journal.wake)
        with self._connection():
            beat = time.monotonic() + self._settings.heartbeat
            while context.is_active():
                if epoch < self._epoch:
                    context.abort(grpc.StatusCode.ABORTED, f"a controller of epoch {self._epoch} has taken over")
                # Read before the entries: an end that comes in between is found in the next turn.
                over = journal.is_ended
                for entry in journal.after(seq, 0.0 if over else max(0.0, beat - time.monotonic())):
                    yield _event(entry, entry.seq - seq - 1)
                    seq = entry.seq
                if over:
                    return
                if time.monotonic() >= beat:
                    yield pb.Event(heartbeat=pb.Heartbeat())
                    beat = time.monotonic() + self._settings.heartbeat


@contextlib.contextmanager
def _refusing(context: Any) -> Iterator[None]:
    """End the call with FAILED_PRECONDITION if the session refuses it."""
    try:
        yield
    except SessionRefusedError as error:
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))


def _event(entry: JournalEntry, dropped: int) -> pb.Event:
    if entry.field == "lost":
        return pb.Event(seq=entry.seq, lost=pb.Lost.FromString(entry.data), last=entry.last, dropped=dropped)
    return pb.Event(seq=entry.seq, step_event=entry.data, last=entry.last, dropped=dropped)
