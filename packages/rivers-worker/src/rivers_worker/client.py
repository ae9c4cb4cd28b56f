"""Call a worker: read its announcement, connect, run its attempts, and resume broken streams.

    announcement_in(output) ──▶ WorkerClient(…).connect() ──▶ check(specs) ──▶ execute(spec, emit) ──▶ ack() ──▶ close()
                                                                                      ▲ in a session      │
                                                                                      └───── ready ───────┘

An executor on any platform starts `rivers-worker serve` somewhere, reads one line of its output and needs to know
nothing more. Everything runs in one asyncio loop, without threads; gRPC needs one such loop per process.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from rivers.exceptions import SpecVersionError
from rivers.protocol import StepEvent, StepResult, StepSpec, has_inline_values
from rivers.protocol.protobuf import encode_spec_protobuf
from rivers_worker.announcement import PROTOCOL_MINOR, PROTOCOL_VERSION, Announcement, announcement_in
from rivers_worker.credentials import Identity, worker_name
from rivers_worker.dial import (
    Deadlines,
    WorkerStub,
    backoff,
    check_certificates,
    describe_status,
    fingerprint,
    permanent_error,
)
from rivers_worker.errors import (
    AnnouncementError,
    CredentialsError,
    WorkerError,
    WorkerProtocolError,
    WorkerRefusedError,
    WorkerUnreachableError,
)
from rivers_worker.event_deduplicator import EventDeduplicator
from rivers_worker.outcome import outcome_in
from rivers_worker.v1 import worker_pb2 as pb

__all__ = [
    "Acknowledged",
    "Announcement",
    "AnnouncementError",
    "CredentialsError",
    "Deadlines",
    "Hello",
    "Identity",
    "WorkerClient",
    "WorkerError",
    "WorkerProtocolError",
    "WorkerRefusedError",
    "WorkerUnreachableError",
    "announcement_in",
    "outcome_in",
]

# Bytes of specs in one message, below gRPC's limit of 4 MiB for all of it.
_BATCH = 3 << 20
_ACK_TRIES = 3


@dataclass(frozen=True, slots=True)
class Hello:
    """The worker that answered: its name in events, its versions, and its `state`: `waiting`, `running` or `ended`.

    `minor_version` is that of its protocol, 0 for a worker from before sessions. `attempts_left` is the number of
    attempts that it still takes, a current one included.
    """

    worker: str
    rivers_version: str
    python_version: str
    state: str
    minor_version: int = 0
    attempts_left: int = 1


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The answer to an acknowledgement: `ready` if the worker has cleaned up and takes another attempt now.

    Otherwise the worker ends. `retires` is the cause if it had attempts left.
    """

    ready: bool
    retires: str


class WorkerClient:
    """A client of one worker; create and close it in the loop that uses it.

    `target` is the address to dial (`10.0.0.7:7433`), `announcement` names the worker that must answer there.
    `attempt_id` is the attempt that the worker was started for (RIVERS_ATTEMPT_ID), whose name its certificate has.
    `identity` is the controller's, whose certificate the worker was started with. Of two controllers the worker obeys
    the one with the higher `epoch`. `broken` is called when an attempt's stream has broken, before it is resumed.

    Raises:
        CredentialsError: one of the two certificates cannot be the right one, or is not valid now.
    """

    def __init__(
        self,
        target: str,
        announcement: Announcement,
        identity: Identity,
        *,
        run_id: str,
        attempt_id: str,
        epoch: int = 0,
        deadlines: Deadlines | None = None,
        broken: Callable[[], None] = lambda: None,
    ) -> None:
        check_certificates(announcement, attempt_id, identity, dt.datetime.now(dt.UTC))
        self._target = target
        self._pinned = fingerprint(announcement.certificate)
        self._worker_id = self._attempt_id = attempt_id
        self._run_id = run_id
        self._epoch = epoch
        self._deadlines = deadlines or Deadlines()
        self._broken = broken
        self._stub = WorkerStub(target, attempt_id, announcement.certificate, identity)
        self._worker = ""
        self._minor_version = 0
        self._rivers_version = ""
        self._seq = 0

    def __repr__(self) -> str:
        return f"<WorkerClient of attempt {self._attempt_id} at {self._target}>"

    @property
    def _caller(self) -> pb.Caller:
        return pb.Caller(run_id=self._run_id, attempt_id=self._attempt_id, epoch=self._epoch)

    @property
    def is_connected(self) -> bool:
        """True if the connection stands; a worker that is gone without a word is noticed after some seconds."""
        return self._stub.is_connected

    async def connect(self, within: float | None = None) -> Hello:
        """Dial and exchange the handshake, with retries for `within` seconds (by default `Deadlines.connect`).

        Raises:
            WorkerUnreachableError: no worker with the announced key answered in time.
            WorkerRefusedError: it serves another attempt or run, or a controller with a higher epoch.
            WorkerProtocolError: it speaks another version of the protocol.
        """
        reply = await self._handshake((), within)
        self._worker, self._rivers_version = reply.worker, reply.rivers_version
        self._minor_version = minor = min(reply.minor_version, PROTOCOL_MINOR)
        state = pb.State.Name(reply.state).removeprefix("STATE_").lower()
        left = reply.attempts_left if minor else 1
        return Hello(reply.worker, reply.rivers_version, reply.python_version, state, minor, left)

    async def check(self, specs: Sequence[StepSpec]) -> list[tuple[int, str]]:
        """Have the worker resolve the specs' refs without running any; return position and cause of each problem.

        Raises:
            SpecLimitError, SpecTooLargeError: a spec is outside its limits.
            WorkerError: as `connect`.
        """
        problems = []
        for start, batch in _batches([encode_spec_protobuf(spec) for spec in specs]):
            reply = await self._handshake(batch)
            found = [(start + problem.spec, problem.message) for problem in reply.problems]
            if not reply.minor_version:
                # Its own words for a kind of ref that it does not know are for authors of rivers.
                old = _no_inline_values(reply.rivers_version)
                inline = [at for at in range(start, start + len(batch)) if has_inline_values(specs[at])]
                found = [(at, text) for at, text in found if at not in inline]
                found += [(at, f"{old.message} ({old.hint})") for at in inline]
            problems += found
        return problems

    async def execute(
        self,
        spec: StepSpec,
        emit: Callable[[StepEvent], None],
        *,
        pickle_key: bytes = b"",
        is_numbered: bool = False,
        joins_after: int | None = None,
    ) -> StepResult:
        """Run an attempt, emit its start and its log records once and in order, and return its result.

        A worker that serves a session (`Hello.attempts_left`) takes one attempt after another, each once the last one
        was acknowledged. `cancel` and `ack` mean the attempt given here last.

        A broken stream is resumed where it broke, until there was no contact for `Deadlines.lost`. An exception of
        `emit` ends this call, not the attempt: another call joins it, and emits everything again.

        With `is_numbered` log records are emitted as `StreamRecord`. With `joins_after` the attempt is one that an
        earlier controller has given to the worker: the spec is not sent, and only events after that number are emitted.

        Raises:
            SpecLimitError, SpecTooLargeError: the spec is outside its limits.
            SpecVersionError: values travel inline, and the worker is too old for that.
            WorkerUnreachableError: the worker is lost.
            WorkerRefusedError: it does not serve this attempt, its last one was not acknowledged, this one was, it has
                run another spec, or another controller took over.
            WorkerProtocolError: it violated the protocol.
        """
        if not self._minor_version and spec.attempt_id != self._worker_id:
            raise ValueError(f"this client is for attempt {self._worker_id!r}, not for {spec.attempt_id!r}")
        if not self._minor_version and has_inline_values(spec):
            raise _no_inline_values(self._rivers_version)
        if spec.attempt_id != self._attempt_id:
            self._attempt_id, self._seq = spec.attempt_id, 0
        request = pb.ExecuteRequest(caller=self._caller, spec=encode_spec_protobuf(spec), pickle_key=pickle_key)
        events = EventDeduplicator(self._attempt_id, emit, self._worker, seq=joins_after or 0, is_numbered=is_numbered)
        clock = asyncio.get_running_loop().time
        last_contact = clock()
        pause = backoff()
        while True:
            # Until the first event it is not known whether the first call has arrived; Execute may be repeated.
            joins = bool(events.seq) or joins_after is not None
            call = self._stub.attach(self._after(events.seq)) if joins else self._stub.execute(request)
            last_seen, contact = await self._follow(call, events, last_contact + self._deadlines.lost)
            self._seq = events.seq
            if events.result is not None:
                return events.result
            self._broken()
            if contact > last_contact:
                last_contact, pause = contact, backoff()
            wait = next(pause)
            if clock() + wait >= last_contact + self._deadlines.lost:
                raise self._unreachable(f"no contact for {self._deadlines.lost:g} s", last_seen)
            await asyncio.sleep(wait)

    async def cancel(self, grace: float) -> None:
        """Cancel the attempt: its body is asked at once and killed after `grace` seconds; `execute` returns the result.

        Raises:
            WorkerUnreachableError: no answer for `Deadlines.lost`.
            WorkerRefusedError: another controller took over.
        """
        request = pb.CancelRequest(caller=self._caller, grace=grace)
        await self._ask(self._stub.cancel, request, self._deadlines.lost)

    async def ack(self) -> Acknowledged:
        """Acknowledge the attempt's last event, so that the worker ends or, in a session, cleans up for another one.

        A missing answer is no error: a worker that got the call is gone, and one that did not ends by itself. It is
        not `ready`.

        Raises:
            WorkerRefusedError: another controller took over.
            WorkerProtocolError: the answer cannot be read.
        """
        request = pb.AckRequest(caller=self._caller, seq=self._seq)
        try:
            data = await self._ask(self._stub.ack, request, self._deadlines.handshake, tries=_ACK_TRIES)
            reply = pb.AckReply.FromString(data)
        except WorkerUnreachableError:
            return Acknowledged(ready=False, retires="")
        except DecodeError as error:
            raise WorkerProtocolError(f"the worker's acknowledgement cannot be read: {error}") from None
        return Acknowledged(reply.ready, reply.retires)

    async def close(self) -> None:
        """Close the connection; calls under way end as cancelled."""
        await self._stub.close()

    def _after(self, seq: int) -> pb.AttachRequest:
        return pb.AttachRequest(caller=self._caller, from_seq=seq)

    async def _follow(self, call: Any, events: EventDeduplicator, lost: float) -> tuple[str, float]:
        """Read one stream until it ends or falls silent; return the cause and the time of the last message."""
        clock = asyncio.get_running_loop().time
        silence = self._deadlines.silence
        contact = 0.0
        try:
            async with asyncio.timeout_at(min(clock() + silence, lost)) as patience:
                while events.result is None:
                    data = await call.read()
                    if data is grpc.aio.EOF:
                        return "its stream ended before the attempt", contact
                    events.take(data)
                    contact = clock()
                    patience.reschedule(contact + silence)
        except TimeoutError:
            return f"no message for {silence:g} s, not even a heartbeat", contact
        except grpc.aio.AioRpcError as error:
            refused = permanent_error(error)
            if refused is not None:
                raise refused from error
            return describe_status(error), contact
        finally:
            call.cancel()
        return "", contact

    async def _handshake(self, specs: Sequence[bytes], within: float | None = None) -> pb.HandshakeReply:
        request = pb.HandshakeRequest(
            caller=self._caller, protocol_version=PROTOCOL_VERSION, minor_version=PROTOCOL_MINOR, specs=specs
        )
        # With specs the worker imports the user's modules first, which may take long.
        each = self._deadlines.connect if specs else self._deadlines.handshake
        if within is None:
            within = self._deadlines.connect
        data = await self._ask(self._stub.handshake, request, within, each=each)
        try:
            reply = pb.HandshakeReply.FromString(data)
        except DecodeError as error:
            raise WorkerProtocolError(f"the worker's handshake cannot be read: {error}") from None
        if reply.protocol_version != PROTOCOL_VERSION:
            raise WorkerProtocolError(
                f"the worker (rivers {reply.rivers_version or '?'}) speaks version {reply.protocol_version} of the"
                f" protocol, expected {PROTOCOL_VERSION}: use an image with the controller's rivers"
            )
        return reply

    async def _ask(
        self, call: Any, request: Any, within: float, *, each: float | None = None, tries: int | None = None
    ) -> bytes:
        """Make a call with `each` seconds per try, and retry it for `within` seconds or `tries` times."""
        clock = asyncio.get_running_loop().time
        until = clock() + within
        for count, pause in enumerate(backoff(), 1):
            patience = min(each or self._deadlines.handshake, until - clock())
            try:
                answer: bytes = await call(request, timeout=max(patience, 0.001))
                return answer
            except grpc.aio.AioRpcError as error:
                refused = permanent_error(error)
                if refused is not None:
                    raise refused from error
                last_seen = describe_status(error)
            if count == tries or clock() + pause >= until:
                raise self._unreachable(f"no answer within {within:g} s", last_seen)
            await asyncio.sleep(pause)
        raise AssertionError("backoff() never ends")

    def _unreachable(self, what: str, last_seen: str) -> WorkerUnreachableError:
        return WorkerUnreachableError(
            f"the worker of attempt {self._attempt_id} at {self._target} cannot be reached: {what}. Expected was"
            f" {worker_name(self._worker_id)} with the certificate {self._pinned}; another one looks the same from"
            f" outside. Last last_seen: {last_seen}"
        )


def _no_inline_values(version: str) -> SpecVersionError:
    """Return the error for a worker that is older than inline values; it is given none."""
    return SpecVersionError(
        f"values of this step travel inline, and the worker's rivers {version or '?'} does not know that yet",
        hint="use an image with the controller's rivers, or an executor without inline_values=True",
    )


def _batches(specs: Sequence[bytes]) -> Iterator[tuple[int, list[bytes]]]:
    """Yield the specs in as few messages as possible, each with the position of its first one."""
    start, size = 0, 0
    for at, spec in enumerate(specs):
        if at > start and size + len(spec) > _BATCH:
            yield start, [*specs[start:at]]
            start, size = at, 0
        size += len(spec)
    if specs:
        yield start, [*specs[start:]]
