"""The client half: read a worker's announcement, dial it, run its attempt, and stay with it through any break.

    announcement_in(output) ──▶ WorkerClient(…).connect() ──▶ check(specs) ──▶ execute(spec, emit) ──▶ ack() ──▶ close()

For an executor on any platform: it starts `rivers-worker serve` somewhere, reads one line of its output and needs to
know nothing more. All in one asyncio loop, without a thread; gRPC wants one such loop per process.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from rivers.protocol import StepEvent, StepResult, StepSpec
from rivers.protocol.protobuf import encode_spec_protobuf
from rivers_worker.announcement import PROTOCOL_VERSION, Announcement, announcement_in
from rivers_worker.credentials import Identity, worker_name
from rivers_worker.dial import Calls, Deadlines, check_certificates, fingerprint, meaning, pauses, said
from rivers_worker.errors import (
    AnnouncementError,
    CredentialsError,
    WorkerError,
    WorkerProtocolError,
    WorkerRefusedError,
    WorkerUnreachableError,
)
from rivers_worker.intake import Intake
from rivers_worker.outcome import outcome_in
from rivers_worker.v1 import worker_pb2 as pb

__all__ = [
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

_BATCH = 3 << 20  # bytes of specs in one message
_ACK_TRIES = 3


@dataclass(frozen=True, slots=True)
class Hello:
    """Who answered: its name in events, what it runs, and its `state`: `waiting`, `running` or `ended`."""

    worker: str
    rivers_version: str
    python_version: str
    state: str


class WorkerClient:
    """Calls one worker for one attempt; made in the loop that uses it, and closed there.

    `target` is where to dial (`10.0.0.7:7433`), `announcement` who must answer there, `identity` who calls: the one
    whose certificate the worker was started with. Of two controllers the one with the higher `epoch` is obeyed.

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
    ) -> None:
        check_certificates(announcement, attempt_id, identity, dt.datetime.now(dt.UTC))
        self._target = target
        self._pinned = fingerprint(announcement.certificate)
        self._attempt_id = attempt_id
        self._caller = pb.Caller(run_id=run_id, attempt_id=attempt_id, epoch=epoch)
        self._deadlines = deadlines or Deadlines()
        self._calls = Calls(target, attempt_id, announcement.certificate, identity)
        self._worker = ""
        self._seq = 0

    def __repr__(self) -> str:
        return f"<WorkerClient of attempt {self._attempt_id} at {self._target}>"

    async def connect(self, within: float | None = None) -> Hello:
        """Dial and shake hands, again and again for `within` seconds (by default `Deadlines.connect`).

        Raises:
            WorkerUnreachableError: nobody with the announced key answered in time.
            WorkerRefusedError: it serves another attempt or run, or a controller with a higher epoch.
            WorkerProtocolError: it speaks another version.
        """
        reply = await self._handshake((), within)
        self._worker = reply.worker
        state = pb.State.Name(reply.state).removeprefix("STATE_").lower()
        return Hello(reply.worker, reply.rivers_version, reply.python_version, state)

    async def check(self, specs: Sequence[StepSpec]) -> list[tuple[int, str]]:
        """Look the specs' refs up over there, without running any: positions of those that lead nowhere, and why.

        Raises:
            SpecLimitError, SpecTooLargeError: a spec is outside its limits.
            WorkerError: as `connect`.
        """
        problems = []
        for start, batch in _batches([encode_spec_protobuf(spec) for spec in specs]):
            reply = await self._handshake(batch)
            problems += [(start + problem.spec, problem.message) for problem in reply.problems]
        return problems

    async def execute(
        self, spec: StepSpec, emit: Callable[[StepEvent], None], *, pickle_key: bytes = b""
    ) -> StepResult:
        """Run the attempt, tell `emit` its start and its log records once and in order, and return its end.

        A broken stream is taken up where it broke, until the worker was not heard of for `Deadlines.lost`. What `emit`
        raises ends this call, not the attempt: calling again joins it, and tells everything again.

        Raises:
            SpecLimitError, SpecTooLargeError: the spec is outside its limits.
            WorkerUnreachableError: the worker is lost.
            WorkerRefusedError: it has run another spec, its end was acknowledged, or another controller took over.
            WorkerProtocolError: it broke the protocol.
        """
        if spec.attempt_id != self._attempt_id:
            raise ValueError(f"this client is for attempt {self._attempt_id!r}, not for {spec.attempt_id!r}")
        request = pb.ExecuteRequest(caller=self._caller, spec=encode_spec_protobuf(spec), pickle_key=pickle_key)
        intake = Intake(self._attempt_id, emit, self._worker)
        clock = asyncio.get_running_loop().time
        heard = clock()
        pause = pauses()
        while True:
            # Whether the first call has arrived is not known until the stream says something; it may be repeated.
            call = self._calls.attach(self._after(intake.seq)) if intake.seq else self._calls.execute(request)
            seen, contact = await self._follow(call, intake, heard + self._deadlines.lost)
            self._seq = intake.seq
            if intake.result is not None:
                return intake.result
            if contact > heard:
                heard, pause = contact, pauses()
            wait = next(pause)
            if clock() + wait >= heard + self._deadlines.lost:
                raise self._unreachable(f"it has not been heard of for {self._deadlines.lost:g} s", seen)
            await asyncio.sleep(wait)

    async def cancel(self, grace: float) -> None:
        """End the attempt: its body is asked at once, and killed after `grace` seconds. `execute` returns its end.

        Raises:
            WorkerUnreachableError: no answer for `Deadlines.lost`.
            WorkerRefusedError: another controller took over.
        """
        request = pb.CancelRequest(caller=self._caller, grace=grace)
        await self._ask(self._calls.cancel, request, self._deadlines.lost)

    async def ack(self) -> None:
        """Tell the worker that its last event has arrived, so that it ends.

        An answer is not insisted on: a worker that has heard it is gone, and one that has not ends by itself.

        Raises:
            WorkerRefusedError: another controller took over.
        """
        request = pb.AckRequest(caller=self._caller, seq=self._seq)
        with contextlib.suppress(WorkerUnreachableError):
            await self._ask(self._calls.ack, request, self._deadlines.handshake, tries=_ACK_TRIES)

    async def close(self) -> None:
        """Let go of the connection; what is still being called ends as cancelled."""
        await self._calls.close()

    def _after(self, seq: int) -> pb.AttachRequest:
        return pb.AttachRequest(caller=self._caller, from_seq=seq)

    async def _follow(self, call: Any, intake: Intake, lost: float) -> tuple[str, float]:
        """Take what one stream tells until it ends or falls silent: why it did, and when it last said something."""
        clock = asyncio.get_running_loop().time
        silence = self._deadlines.silence
        contact = 0.0
        try:
            async with asyncio.timeout_at(min(clock() + silence, lost)) as patience:
                while intake.result is None:
                    data = await call.read()
                    if data is grpc.aio.EOF:
                        return "its stream ended before the attempt", contact
                    intake.take(data)
                    contact = clock()
                    patience.reschedule(contact + silence)
        except TimeoutError:
            return f"nothing came for {silence:g} s, not even a heartbeat", contact
        except grpc.aio.AioRpcError as error:
            refused = meaning(error)
            if refused is not None:
                raise refused from error
            return said(error), contact
        finally:
            call.cancel()
        return "", contact

    async def _handshake(self, specs: Sequence[bytes], within: float | None = None) -> pb.HandshakeReply:
        request = pb.HandshakeRequest(caller=self._caller, protocol_version=PROTOCOL_VERSION, specs=specs)
        # With specs the worker imports the user's modules first.
        each = self._deadlines.connect if specs else self._deadlines.handshake
        if within is None:
            within = self._deadlines.connect
        data = await self._ask(self._calls.handshake, request, within, each=each)
        try:
            reply = pb.HandshakeReply.FromString(data)
        except DecodeError as error:
            raise WorkerProtocolError(f"the worker's handshake cannot be read: {error}") from None
        if reply.protocol_version != PROTOCOL_VERSION:
            raise WorkerProtocolError(
                f"the worker (rivers {reply.rivers_version or '?'}) speaks version {reply.protocol_version} of the"
                f" protocol, and this controller version {PROTOCOL_VERSION}: use an image with the controller's rivers"
            )
        return reply

    async def _ask(
        self, call: Any, request: Any, within: float, *, each: float | None = None, tries: int | None = None
    ) -> bytes:
        """Call for one answer, `each` seconds long; again after every break until `within` seconds or `tries`."""
        clock = asyncio.get_running_loop().time
        until = clock() + within
        for count, pause in enumerate(pauses(), 1):
            patience = min(each or self._deadlines.handshake, until - clock())
            try:
                answer: bytes = await call(request, timeout=max(patience, 0.001))
                return answer
            except grpc.aio.AioRpcError as error:
                refused = meaning(error)
                if refused is not None:
                    raise refused from error
                seen = said(error)
            if count == tries or clock() + pause >= until:
                raise self._unreachable(f"nobody answered within {within:g} s", seen)
            await asyncio.sleep(pause)
        raise AssertionError("pauses() never ends")

    def _unreachable(self, what: str, seen: str) -> WorkerUnreachableError:
        return WorkerUnreachableError(
            f"the worker of attempt {self._attempt_id} at {self._target} is out of reach: {what}. Pinned was"
            f" {worker_name(self._attempt_id)} with the certificate {self._pinned}; another one looks the same from"
            f" outside. Last seen: {seen}"
        )


def _batches(specs: Sequence[bytes]) -> Iterator[tuple[int, list[bytes]]]:
    """The specs in order, in as few messages as they need, each with the position of its first one."""
    start, size = 0, 0
    for at, spec in enumerate(specs):
        if at > start and size + len(spec) > _BATCH:
            yield start, [*specs[start:at]]
            start, size = at, 0
        size += len(spec)
    if specs:
        yield start, [*specs[start:]]
