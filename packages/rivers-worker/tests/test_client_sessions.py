"""Tests of the client with workers that serve several attempts, and with those from before sessions."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from breaking_proxy import DOWN, Plan, breaking
from msgspec.structs import replace
from real_worker import RealWorker, started
from scripted_worker import RESULT, SPEC, ScriptedWorker, Telling, closing, run, serving
from test_client_credentials import ATTACKS, attack

from rivers.protocol import Ending, LogRecord, StepResult
from rivers_worker.client import Acknowledged, WorkerClient, WorkerRefusedError
from rivers_worker.v1 import worker_pb2 as pb


async def execute(client: WorkerClient, worker: RealWorker, attempt_id: str, body: str, emit: Any = None) -> StepResult:
    spec = replace(worker.spec(body), attempt_id=attempt_id)
    return await client.execute(spec, emit or [].append)


class TestAttempts:
    def test_one_after_another(self) -> None:
        """One client runs attempts of any ids; each has all its events, and the answer to Ack says what comes next."""

        async def test() -> None:
            async with started(RIVERS_MAX_ATTEMPTS="3") as worker, closing(worker.client()) as client:
                hello = await client.connect()
                answers = []
                for name in ("first", "second", "third"):
                    told = Telling()
                    result = await execute(client, worker, name, "speaks", told.append)
                    assert (name, Ending.SUCCEEDED) == (result.attempt_id, result.ending)
                    assert [f"line {n}" for n in range(40)] == [e.message for e in told if isinstance(e, LogRecord)]
                    answers.append(await client.ack())
                assert (1, 3) == (hello.minor_version, hello.attempts_left)
                assert [True, True, False] == [answer.ready for answer in answers]
                assert [""] * 3 == [answer.retires for answer in answers]
                assert 0 == await worker.ended()

        run(test)

    def test_a_stream_that_breaks(self) -> None:
        """The stream of a later attempt is resumed where it broke; its events are not those of an earlier one."""

        async def test() -> None:
            async with started(RIVERS_MAX_ATTEMPTS="4", RIVERS_HEARTBEAT="0.2") as worker:
                plans = [Plan(down=size) for size in (6000, 9000, 4000, 5000)]
                async with breaking(worker.port, plans) as proxy, closing(worker.client(port=proxy.port)) as client:
                    await client.connect()
                    for name in ("first", "second", "third"):
                        told = Telling()
                        result = await execute(client, worker, name, "speaks_slowly", told.append)
                        assert name == result.attempt_id
                        assert [f"line {n}" for n in range(40)] == [e.message for e in told if isinstance(e, LogRecord)]
                        assert {name} == {event.attempt_id for event in told}  # type: ignore[union-attr]
                        assert (await client.ack()).ready
                    assert len(proxy.passed) > 1
                    assert all(passed[DOWN] for passed in proxy.passed)
                assert ["speaks_slowly"] * 3 == worker.notes

        run(test)

    def test_cancel_means_the_last(self) -> None:
        """`cancel` and `ack` are for the attempt given to `execute` last."""

        async def test() -> None:
            async with started(RIVERS_MAX_ATTEMPTS="3") as worker, closing(worker.client()) as client:
                await client.connect()
                await execute(client, worker, "first", "quick")
                await client.ack()
                told = Telling()
                running = asyncio.create_task(execute(client, worker, "second", "waits", told.append))
                await told.reach(2)
                await client.cancel(5.0)
                assert ("second", Ending.CANCELLED) == ((await running).attempt_id, running.result().ending)
                assert (await client.ack()).ready

        run(test)

    def test_a_worker_that_retires(self) -> None:
        """The answer to Ack names the cause for which a worker takes no more attempts."""

        async def test() -> None:
            async with started(RIVERS_MAX_ATTEMPTS="3") as worker, closing(worker.client()) as client:
                await client.connect()
                assert Ending.FAILED is (await execute(client, worker, "first", "dies")).ending
                answer = await client.ack()
                assert not answer.ready
                assert "the process of attempt first ended by signal 9" in answer.retires
                assert 10 == await worker.ended()

        run(test)

    def test_another_controller_takes_over(self) -> None:
        """A controller that was replaced between two attempts is refused, and its next attempt runs nothing."""

        async def test() -> None:
            async with started(RIVERS_MAX_ATTEMPTS="3") as worker, closing(worker.client(epoch=1)) as old:
                await old.connect()
                await execute(old, worker, "first", "quick")
                await old.ack()
                async with closing(worker.client(epoch=2)) as new:
                    assert "waiting" == (await new.connect()).state
                    with pytest.raises(WorkerRefusedError, match="epoch 2 has taken over"):
                        await execute(old, worker, "second", "quick")
                    assert Ending.SUCCEEDED is (await execute(new, worker, "third", "quick")).ending
                assert ["quick", "quick"] == worker.notes

        run(test)


class TestStrangers:
    def test_between_attempts_and_in_a_later_one(self) -> None:
        """Nobody but the controller gets a call through between two attempts or in the second one."""

        async def test() -> None:
            async with started(RIVERS_MAX_ATTEMPTS="3") as worker, closing(worker.client()) as client:
                await client.connect()
                await execute(client, worker, "first", "quick")
                await client.ack()
                for credentials in ATTACKS.values():
                    await attack(worker, credentials(worker))
                told = Telling()
                running = asyncio.create_task(execute(client, worker, "second", "waits", told.append))
                await told.reach(2)
                for credentials in ATTACKS.values():
                    await attack(worker, credentials(worker))
                assert not running.done()
                await client.cancel(5.0)
                assert Ending.CANCELLED is (await running).ending
                assert ["quick", "waits"] == worker.notes

        run(test, within=60)


class TestOtherVersions:
    def test_a_worker_from_before_sessions(self) -> None:
        """It serves the attempt that it was started for; the client asks it for no other."""

        async def test() -> None:
            async with serving(ScriptedWorker()) as worker, closing(worker.client()) as client:
                hello = await client.connect()
                assert (0, 1) == (hello.minor_version, hello.attempts_left)
                with pytest.raises(ValueError, match="for attempt 'attempt', not for 'other'"):
                    await client.execute(replace(SPEC, attempt_id="other"), [].append)
                assert await client.execute(SPEC, [].append) == RESULT
                assert Acknowledged(ready=False, retires="") == await client.ack()
                assert 1 == worker.called("handshake")[0].minor_version

        run(test)

    def test_a_worker_of_a_later_minor(self) -> None:
        """A later minor version is used as the newest that this client knows."""

        async def handshake(request: Any, context: Any) -> pb.HandshakeReply:
            return pb.HandshakeReply(protocol_version=1, minor_version=7, attempts_left=3, worker="scripted")

        async def test() -> None:
            async with serving(ScriptedWorker(handshake=handshake)) as worker, closing(worker.client()) as client:
                hello = await client.connect()
                assert (1, 3) == (hello.minor_version, hello.attempts_left)

        run(test)

    def test_a_worker_that_is_bound(self) -> None:
        """A worker without a number of attempts refuses any but its own, and runs that."""

        async def test() -> None:
            async with started() as worker, closing(worker.client()) as client:
                assert 1 == (await client.connect()).attempts_left
                with pytest.raises(WorkerRefusedError, match="serves only attempt"):
                    await execute(client, worker, "other", "quick")
                assert Ending.SUCCEEDED is (await execute(client, worker, worker.attempt_id, "quick")).ending
                assert not (await client.ack()).ready
                assert 0 == await worker.ended()

        run(test)

    def test_an_answer_that_is_missing(self) -> None:
        """A worker that has gone before it has answered is not ready."""

        async def ack(request: Any, context: Any) -> pb.AckReply:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
            raise AssertionError

        async def test() -> None:
            async with serving(ScriptedWorker(ack=ack)) as worker, closing(worker.client()) as client:
                await client.connect()
                await client.execute(SPEC, [].append)
                assert Acknowledged(ready=False, retires="") == await client.ack()

        run(test)
