"""Tests of the client against scripted workers, good ones and bad ones."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from scripted_worker import (
    ATTEMPT,
    HEARTBEAT,
    RESULT,
    SOON,
    SPEC,
    STARTED,
    STORY,
    ScriptedWorker,
    closing,
    log,
    numbered,
    run,
    serving,
)

from rivers.exceptions import SpecTooLargeError
from rivers.protocol import Ending, FailureReason, StepEvent, StepResult, StepSpec
from rivers_worker.client import (
    Deadlines,
    Hello,
    WorkerClient,
    WorkerError,
    WorkerProtocolError,
    WorkerRefusedError,
    WorkerUnreachableError,
)
from rivers_worker.errors import CredentialsError
from rivers_worker.v1 import worker_pb2 as pb

TOLD: list[StepEvent] = [STARTED, *(log(f"line {n}") for n in range(20))]


def refusing(code: grpc.StatusCode, times: int = 1000) -> Callable[[Any, Any], Any]:
    """A stream that is refused so many times, and then sends the story."""
    left = [times]

    async def stream(request: Any, context: Any) -> AsyncIterator[pb.Event]:
        if left[0]:
            left[0] -= 1
            await context.abort(code, "as the test wants it")
        for event in STORY:
            yield event

    return stream


def unused_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class TestConnect:
    def test_it_says_who_is_there(self) -> None:
        """A handshake returns the worker's name, versions and state, and names the caller."""

        async def test() -> None:
            async with serving(ScriptedWorker()) as worker, closing(worker.client(epoch=7)) as client:
                assert Hello("scripted", "9.9", "3.99", "waiting") == await client.connect()
                (request,) = worker.called("handshake")
                assert pb.Caller(run_id="run", attempt_id=ATTEMPT, epoch=7) == request.caller
                assert 1 == request.protocol_version

        run(test)

    def test_a_worker_that_starts_late(self) -> None:
        """While no worker listens yet the client dials again, and connects soon after the worker is there (G1)."""

        async def test() -> None:
            worker = ScriptedWorker()
            worker.port = unused_port()
            async with closing(worker.client()) as client:
                connecting = asyncio.create_task(client.connect())
                await asyncio.sleep(1.0)
                assert not connecting.done()
                async with serving(worker, worker.port):
                    assert "waiting" == (await connecting).state

        run(test)

    def test_nobody_is_there(self) -> None:
        """The client gives up at its deadline, and names the address, the pinned certificate and the last error."""

        async def test() -> None:
            worker = ScriptedWorker()
            worker.port = unused_port()
            async with closing(worker.client(Deadlines(connect=0.5))) as client:
                with pytest.raises(WorkerUnreachableError, match=r"within 0\.5 s") as raised:
                    await client.connect()
                assert f"127.0.0.1:{worker.port}" in str(raised.value)
                assert "attempt.rivers.internal" in str(raised.value)
                assert "SHA-256" in str(raised.value)
                assert "UNAVAILABLE" in str(raised.value)

        run(test)

    def test_one_that_accepts_and_says_nothing(self) -> None:
        """A listener that never speaks is given up at the deadline, too."""

        async def test() -> None:
            with socket.create_server(("127.0.0.1", 0)) as mute:
                worker = ScriptedWorker()
                worker.port = mute.getsockname()[1]
                async with closing(worker.client(Deadlines(connect=1.0, handshake=0.4))) as client:
                    with pytest.raises(WorkerUnreachableError, match="DEADLINE_EXCEEDED"):
                        await client.connect()

        run(test)

    def test_another_version(self) -> None:
        """A worker of another protocol version is a typed error with both versions, whichever side notices it."""

        async def newer(request: Any, context: Any) -> pb.HandshakeReply:
            return pb.HandshakeReply(protocol_version=2, rivers_version="10.0")

        async def refusing(request: Any, context: Any) -> None:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "version 2 here, version 1 there")

        async def test() -> None:
            for handshake in (newer, refusing):
                async with serving(ScriptedWorker(handshake=handshake)) as worker, closing(worker.client()) as client:
                    with pytest.raises(WorkerProtocolError, match=r"version 2.*(version|expected) 1"):
                        await client.connect()
                    assert 1 == len(worker.calls)

        run(test)

    def test_no_proxy_of_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A proxy that the environment names is never dialled (G17)."""

        async def test() -> None:
            with socket.create_server(("127.0.0.1", 0)) as proxy:
                proxy.setblocking(False)
                for name in ("http_proxy", "https_proxy", "grpc_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
                    monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
                async with serving(ScriptedWorker()) as worker, closing(worker.client()) as client:
                    await client.connect()
                    assert RESULT == await client.execute(SPEC, [].append)
                with pytest.raises(BlockingIOError):
                    proxy.accept()

        run(test)


class TestCheck:
    def test_refs_that_lead_nowhere(self) -> None:
        """Specs travel in messages of at most 3 MiB, and each problem has the position of its spec among all."""
        specs = [
            StepSpec(
                run_id="run",
                step=f"step_{n}",
                attempt_id=f"attempt {n}",
                function=SPEC.function,
                tags=tuple("x" * 200_000 for _ in range(4)),
            )
            for n in range(9)
        ]

        async def handshake(request: Any, context: Any) -> pb.HandshakeReply:
            last = len(request.specs) - 1
            problem = pb.Problem(spec=last, message=f"the last of {last + 1}")
            return pb.HandshakeReply(protocol_version=1, problems=[problem])

        async def test() -> None:
            async with serving(ScriptedWorker(handshake=handshake)) as worker, closing(worker.client()) as client:
                problems = await client.check(specs)
                assert [(2, "the last of 3"), (5, "the last of 3"), (8, "the last of 3")] == problems
                assert [3, 3, 3] == [len(request.specs) for request in worker.called("handshake")]

        run(test)

    def test_nothing_to_check(self) -> None:
        """Without specs the worker is not called."""

        async def test() -> None:
            async with serving(ScriptedWorker()) as worker, closing(worker.client()) as client:
                assert [] == await client.check([])
                assert [] == worker.calls

        run(test)


class TestExecute:
    def test_all_that_is_told(self) -> None:
        """The start and the logs arrive once and in order, the result is returned, and heartbeats are not emitted."""

        async def test() -> None:
            story = [HEARTBEAT, *STORY[:5], HEARTBEAT, HEARTBEAT, *STORY[5:]]
            async with serving(ScriptedWorker(story)) as worker, closing(worker.client()) as client:
                told: list[StepEvent] = []
                assert RESULT == await client.execute(SPEC, told.append, pickle_key=b"key")
                assert TOLD == told
                (request,) = worker.called("execute")
                assert b"key" == request.pickle_key
                await client.ack()
                assert [22] == [request.seq for request in worker.called("ack")]

        run(test)

    def test_another_attempts_spec(self) -> None:
        """A spec of another attempt is a mistake of the caller, and the worker is not called."""

        async def test() -> None:
            async with serving(ScriptedWorker()) as worker, closing(worker.client()) as client:
                other = StepSpec(run_id="run", step="orders", attempt_id="other", function=SPEC.function)
                with pytest.raises(ValueError, match="'attempt', not for 'other'"):
                    await client.execute(other, [].append)
                assert [] == worker.calls

        run(test)

    def test_dropped_logs(self) -> None:
        """Missing numbers become one warning in their place."""

        async def test() -> None:
            story = [*STORY[:3], *numbered(log("after"), start=10), *numbered(RESULT, start=12)]
            async with serving(ScriptedWorker(story)) as worker, closing(worker.client()) as client:
                told: list[Any] = []
                assert RESULT == await client.execute(SPEC, told.append)
                assert ["line 0", "line 1"] == [event.message for event in told[1:3]]
                assert (30, "rivers") == (told[3].level, told[3].logger)
                assert told[3].message.startswith("6 log records were dropped")
                assert "after" == told[4].message
                assert told[5].message.startswith("1 log record was dropped")
                assert 6 == len(told)

        run(test)

    def test_a_body_that_is_lost(self) -> None:
        """What a supervisor saw of a body that died becomes the same failure as on every executor."""
        seen = pb.Lost(started=True, signal=9, oom_kills=1, memory_limit=64 << 20)

        async def test() -> None:
            story = [*STORY[:1], pb.Event(seq=2, lost=seen, last=True)]
            async with serving(ScriptedWorker(story)) as worker, closing(worker.client()) as client:
                await client.connect()
                result = await client.execute(SPEC, [].append)
                assert Ending.FAILED is result.ending
                assert result.failure is not None
                assert FailureReason.OUT_OF_MEMORY is result.failure.reason
                assert "SIGKILL (9); 1 OOM kill in its cgroup; memory ? of 64 MiB" in result.failure.message
                assert "scripted" == result.worker

        run(test)

    @pytest.mark.parametrize(
        ("event", "said"),
        [
            (pb.Event(seq=1, last=True), "holds no result"),
            (pb.Event(seq=1, step_event=b"\xff\xff\xff"), "event number 1 cannot be read"),
            (numbered(StepResult(attempt_id="other", ending=Ending.SUCCEEDED))[0], "attempt 'other'"),
        ],
        ids=["no result", "garbage", "another attempt's"],
    )
    def test_events_that_cannot_be(self, event: pb.Event, said: str) -> None:
        """An event that cannot be read, or is not of this attempt, ends the call with a typed error at once."""

        async def test() -> None:
            async with serving(ScriptedWorker([event])) as worker, closing(worker.client()) as client:
                with pytest.raises(WorkerProtocolError, match=said):
                    await client.execute(SPEC, [].append)
                assert 1 == len(worker.calls)

        run(test)

    def test_what_emit_raises(self) -> None:
        """An error of the caller's own reaches the caller; calling again joins the attempt."""

        async def test() -> None:
            async with serving(ScriptedWorker()) as worker, closing(worker.client()) as client:
                with pytest.raises(ZeroDivisionError):
                    await client.execute(SPEC, lambda event: 1 / 0)  # type: ignore[arg-type, return-value]
                told: list[StepEvent] = []
                assert RESULT == await client.execute(SPEC, told.append)
                assert TOLD == told

        run(test)

    def test_a_slow_caller(self) -> None:
        """Where the caller blocks its own loop for longer than a silence may last, nothing is lost or called again."""

        async def test() -> None:
            told: list[Any] = []

            def slow(event: StepEvent) -> None:
                told.append(event)
                time.sleep(0.3)

            async with (
                serving(ScriptedWorker(STORY[:3] + STORY[21:])) as worker,
                closing(worker.client(Deadlines(silence=0.2))) as client,
            ):
                assert RESULT == await client.execute(SPEC, slow)
                assert ["execute"] == [name for name, _ in worker.calls]
                assert TOLD[:3] == told[:3]

        run(test)

    def test_a_caller_that_is_cancelled(self) -> None:
        """Cancelling the task that executes ends the stream over there as well, and leaves nothing here."""
        ended = asyncio.Event()

        async def endless(request: Any, context: Any) -> AsyncIterator[pb.Event]:
            try:
                while True:
                    yield HEARTBEAT
                    await asyncio.sleep(0.01)
            finally:
                ended.set()

        async def test() -> None:
            async with serving(ScriptedWorker(execute=endless)) as worker, closing(worker.client()) as client:
                task = asyncio.create_task(client.execute(SPEC, [].append))
                await asyncio.sleep(0.2)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                await asyncio.wait_for(ended.wait(), 5)

        run(test)


class TestBreaks:
    @pytest.mark.parametrize(
        "code",
        [
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.INTERNAL,
            grpc.StatusCode.UNKNOWN,
            grpc.StatusCode.CANCELLED,
            grpc.StatusCode.DEADLINE_EXCEEDED,
            grpc.StatusCode.DATA_LOSS,
        ],
    )
    def test_the_first_call_breaks(self, code: grpc.StatusCode) -> None:
        """Before anything has arrived the same Execute is called again, which joins what it may have begun (G6)."""

        async def test() -> None:
            async with serving(ScriptedWorker(execute=refusing(code, 2))) as worker, closing(worker.client()) as client:
                told: list[StepEvent] = []
                assert RESULT == await client.execute(SPEC, told.append)
                assert TOLD == told
                first, second, third = worker.calls
                assert "execute" == first[0]
                assert first == second == third

        run(test)

    @pytest.mark.parametrize("at", [1, 2, 20, 21])
    def test_the_stream_ends_early(self, at: int) -> None:
        """A stream that ends before the attempt is taken up after the last event that arrived."""

        async def half(request: Any, context: Any) -> AsyncIterator[pb.Event]:
            for event in STORY[:at]:
                yield event

        async def test() -> None:
            async with serving(ScriptedWorker(execute=half)) as worker, closing(worker.client()) as client:
                told: list[StepEvent] = []
                assert RESULT == await client.execute(SPEC, told.append)
                assert TOLD == told
                assert [at] == [request.from_seq for request in worker.called("attach")]

        run(test)

    def test_a_worker_that_repeats_itself(self) -> None:
        """Events that arrive again, in a later stream or the same one, are emitted once."""

        async def everything_twice(request: Any, context: Any) -> AsyncIterator[pb.Event]:
            for event in STORY[:10] + STORY[3:15]:
                yield event
            if request.from_seq >= 15:
                yield STORY[4]
                for event in STORY:
                    yield event

        async def test() -> None:
            worker = ScriptedWorker(execute=_without_seq(everything_twice), attach=everything_twice)
            async with serving(worker), closing(worker.client()) as client:
                told: list[StepEvent] = []
                assert RESULT == await client.execute(SPEC, told.append)
                assert TOLD == told

        run(test)

    def test_silence_is_a_break(self) -> None:
        """A stream without even a heartbeat is left at `silence`, and another one is begun where it stopped."""

        async def falls_silent(request: Any, context: Any) -> AsyncIterator[pb.Event]:
            for event in STORY[:4]:
                yield event
            await asyncio.sleep(30)

        async def test() -> None:
            async with serving(ScriptedWorker(execute=falls_silent)) as worker, closing(worker.client()) as client:
                told: list[StepEvent] = []
                assert RESULT == await client.execute(SPEC, told.append)
                assert TOLD == told
                assert [4] == [request.from_seq for request in worker.called("attach")]

        run(test)

    def test_heartbeats_keep_it(self) -> None:
        """While heartbeats come the client waits for an event as long as it takes, beyond `silence` and `lost`."""

        async def slow(request: Any, context: Any) -> AsyncIterator[pb.Event]:
            yield STORY[0]
            for _ in range(20):
                await asyncio.sleep(0.1)
                yield HEARTBEAT
            for event in STORY[1:]:
                yield event

        async def test() -> None:
            deadlines = Deadlines(silence=0.5, lost=1.0)
            async with serving(ScriptedWorker(execute=slow)) as worker, closing(worker.client(deadlines)) as client:
                assert RESULT == await client.execute(SPEC, [].append)
                assert ["execute"] == [name for name, _ in worker.calls]

        run(test)

    def test_a_worker_that_is_lost(self) -> None:
        """After `lost` seconds without a word the client gives up; each word in between begins them anew."""

        async def one_word(request: Any, context: Any) -> AsyncIterator[pb.Event]:
            if request.from_seq < 3:
                yield STORY[request.from_seq]
            await asyncio.sleep(30)

        async def test() -> None:
            deadlines = Deadlines(silence=0.5, lost=1.2)
            worker = ScriptedWorker(execute=_without_seq(one_word), attach=one_word)
            async with serving(worker), closing(worker.client(deadlines)) as client:
                told: list[StepEvent] = []
                with pytest.raises(WorkerUnreachableError, match=r"no contact for 1\.2 s.*not even a heartbeat"):
                    await client.execute(SPEC, told.append)
                assert TOLD[:3] == told

        run(test)

    @pytest.mark.parametrize(
        ("code", "error"),
        [
            (grpc.StatusCode.FAILED_PRECONDITION, WorkerRefusedError),
            (grpc.StatusCode.ABORTED, WorkerRefusedError),
            (grpc.StatusCode.ALREADY_EXISTS, WorkerRefusedError),
            (grpc.StatusCode.NOT_FOUND, WorkerRefusedError),
            (grpc.StatusCode.PERMISSION_DENIED, WorkerRefusedError),
            (grpc.StatusCode.UNAUTHENTICATED, CredentialsError),
            (grpc.StatusCode.UNIMPLEMENTED, WorkerProtocolError),
            (grpc.StatusCode.RESOURCE_EXHAUSTED, WorkerProtocolError),
            (grpc.StatusCode.INVALID_ARGUMENT, WorkerProtocolError),
            (grpc.StatusCode.OUT_OF_RANGE, WorkerProtocolError),
        ],
    )
    def test_an_answer_that_is_final(self, code: grpc.StatusCode, error: type[WorkerError]) -> None:
        """A refusal is a typed error with the worker's own words, and nothing is called again."""

        async def test() -> None:
            async with serving(ScriptedWorker(execute=refusing(code))) as worker, closing(worker.client()) as client:
                with pytest.raises(error, match=f"{code.name}: as the test wants it"):
                    await client.execute(SPEC, [].append)
                assert 1 == len(worker.calls)

        run(test)


class TestSizes:
    def test_an_event_that_is_too_large(self) -> None:
        """A message of more than 4 MiB is not taken: a typed error, and nothing is called again (G4)."""

        async def test() -> None:
            large = pb.Event(seq=1, step_event=bytes(5 << 20))
            async with serving(ScriptedWorker([large])) as worker, closing(worker.client()) as client:
                with pytest.raises(WorkerProtocolError, match=r"RESOURCE_EXHAUSTED.*larger than max"):
                    await client.execute(SPEC, [].append)
                assert 1 == len(worker.calls)

        run(test)

    def test_a_request_that_is_too_large(self) -> None:
        """Neither is one sent (G4)."""

        async def test() -> None:
            async with serving(ScriptedWorker()) as worker, closing(worker.client()) as client:
                with pytest.raises(WorkerProtocolError, match=r"RESOURCE_EXHAUSTED.*larger than max"):
                    await client.execute(SPEC, [].append, pickle_key=bytes(5 << 20))
                assert [] == worker.calls

        run(test)

    def test_a_spec_outside_its_limits(self) -> None:
        """A spec above the limit on sizes is refused here, with the field that is too large."""
        large = StepSpec(
            run_id="run", step="orders", attempt_id=ATTEMPT, function=SPEC.function, tags=("x" * 250_000,) * 17
        )

        async def test() -> None:
            async with serving(ScriptedWorker()) as worker, closing(worker.client()) as client:
                with pytest.raises(SpecTooLargeError, match="tags"):
                    await client.execute(large, [].append)
                assert [] == worker.calls

        run(test)


class TestCancelAndAck:
    def test_a_cancel_is_repeated(self) -> None:
        """A cancel whose answer is lost is sent again, with the same grace."""
        left = [2]

        async def breaks(request: Any, context: Any) -> pb.CancelReply:
            if left[0]:
                left[0] -= 1
                await context.abort(grpc.StatusCode.UNAVAILABLE, "lost")
            return pb.CancelReply()

        async def test() -> None:
            async with serving(ScriptedWorker(cancel=breaks)) as worker, closing(worker.client()) as client:
                await client.cancel(2.5)
                assert [2.5] * 3 == [request.grace for request in worker.called("cancel")]

        run(test)

    def test_a_cancel_that_reaches_nobody(self) -> None:
        """A cancel without an answer ends at `lost`."""

        async def test() -> None:
            worker = ScriptedWorker()
            worker.port = unused_port()
            async with closing(worker.client(Deadlines(lost=0.5))) as client:
                with pytest.raises(WorkerUnreachableError, match=r"within 0\.5 s"):
                    await client.cancel(1.0)

        run(test)

    def test_an_ack_that_reaches_nobody(self) -> None:
        """A worker that is gone needs no ack: three tries, and no error."""

        async def test() -> None:
            worker = ScriptedWorker()
            worker.port = unused_port()
            async with closing(worker.client(SOON)) as client:
                await client.ack()

        run(test)

    def test_an_ack_that_is_refused(self) -> None:
        """A controller that another one has replaced gets an error that says so."""

        async def taken(request: Any, context: Any) -> None:
            await context.abort(grpc.StatusCode.ABORTED, "epoch 3 has taken over")

        async def test() -> None:
            async with serving(ScriptedWorker(ack=taken)) as worker, closing(worker.client()) as client:
                with pytest.raises(WorkerRefusedError, match="epoch 3"):
                    await client.ack()

        run(test)


def test_a_client_is_made_in_a_loop_only_with_a_certificate_of_its_worker() -> None:
    """A certificate that cannot be the worker's is refused when the client is made, before anything is dialled."""

    async def test() -> None:
        worker = ScriptedWorker()
        with pytest.raises(CredentialsError, match="expected that of the worker of attempt other"):
            WorkerClient("127.0.0.1:1", worker.announcement, worker.controller, run_id="run", attempt_id="other")

    run(test)


def _without_seq(
    stream: Callable[[Any, Any], AsyncIterator[pb.Event]],
) -> Callable[[Any, Any], AsyncIterator[pb.Event]]:
    """An Execute that answers as an Attach from the start."""

    async def execute(request: Any, context: Any) -> AsyncIterator[pb.Event]:
        async for event in stream(pb.AttachRequest(caller=request.caller), context):
            yield event

    return execute
