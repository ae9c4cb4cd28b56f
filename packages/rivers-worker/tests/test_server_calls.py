"""The five methods, by the rules of worker.proto, against a real worker."""

from __future__ import annotations

import os
import pickle
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from served_worker import Served, messages, next_told, numbered, refused, told

from rivers.protocol import (
    ConfiguredRef,
    Ending,
    ImportRef,
    LiteralInput,
    LogRecord,
    NodeKind,
    Output,
    StepResult,
)
from rivers.protocol.ref import sign
from rivers_worker.v1 import worker_pb2 as pb

Serve = Callable[..., Served]


class TestWhoIsMeant:
    @pytest.mark.parametrize("other", [{"run_id": "run-2"}, {"attempt_id": "another"}, {"run_id": ""}])
    def test_another_attempt(self, serve: Serve, other: dict[str, str]) -> None:
        """A call for another run or attempt is refused with the attempt that the worker serves."""
        worker = serve()
        with refused(grpc.StatusCode.FAILED_PRECONDITION, worker.attempt_id, "run-1"):
            worker.handshake(caller=worker.caller(**other))

        assert pb.STATE_WAITING == worker.handshake().state

    def test_no_such_method(self, serve: Serve) -> None:
        """A method that is not there is UNIMPLEMENTED."""
        worker = serve()
        with refused(grpc.StatusCode.UNIMPLEMENTED):
            worker._channel.unary_unary("/rivers_worker.v1.StepWorker/Shell")(b"", timeout=5)


class TestHandshake:
    def test_its_state(self, serve: Serve) -> None:
        """It returns whether the attempt is waited for, runs, or has ended."""
        worker = serve()
        before = worker.handshake().state
        stream = worker.execute(worker.spec("waits"))
        worker.noted("waits")
        during = worker.handshake().state
        worker.cancel(5.0)
        numbered(stream)

        assert [pb.STATE_WAITING, pb.STATE_RUNNING, pb.STATE_ENDED] == [before, during, worker.handshake().state]

    def test_refs_that_are_there(self, serve: Serve) -> None:
        """A spec whose function and IO handlers are there has no problem, and nothing of it is run."""
        worker = serve()

        assert [] == list(worker.handshake(worker.spec("quick", store=True)).problems)
        assert [] == worker.notes

    def test_refs_that_lead_nowhere(self, serve: Serve) -> None:
        """A missing module, a missing attribute and a missing handler class are named, each by its spec's position."""
        worker = serve()
        missing = ConfiguredRef(cls=ImportRef(module="odd_handlers", qualname="NoSuch"), json="{}")
        odd = ConfiguredRef(cls=ImportRef(module="odd_handlers", qualname="Refuses"), json="{}")
        problems = worker.handshake(
            worker.spec("quick"),
            worker.spec("quick", module="no_such_module"),
            worker.spec("no_such_function"),
            worker.spec("quick", outputs=(Output(name="quick", key="quick", io_handler=missing),)),
            worker.spec("quick", outputs=(Output(name="quick", key="quick", io_handler=odd),)),
        ).problems

        assert [1, 2, 3, 4] == [problem.spec for problem in problems]
        words = ("no_such_module", "no_such_function", "NoSuch", "not today")
        assert [] == [word for word, problem in zip(words, problems, strict=True) if word not in problem.message]

    def test_modules_that_cannot_be_imported(self, serve: Serve) -> None:
        """A module that raises at import, or calls sys.exit, is a problem of its own spec, and the worker goes on."""
        worker = serve()
        problems = worker.handshake(
            worker.spec("quick", "raises_at_import"), worker.spec("quick"), worker.spec("quick", "exits_at_import")
        ).problems

        assert [0, 2] == [problem.spec for problem in problems]
        assert "no licence" in problems[0].message
        assert "usage: exits_at_import" in problems[1].message
        assert Ending.SUCCEEDED is worker.result(worker.spec("quick")).ending

    def test_modules_that_are_not_allowed(self, serve: Serve) -> None:
        """Outside RIVERS_ALLOWED_MODULES nothing is imported for a ref; rivers' own handlers are always allowed."""
        worker = serve(RIVERS_ALLOWED_MODULES="served_steps, odd")
        problems = worker.handshake(worker.spec("quick", store=True), worker.spec("quick", "notes_at_import")).problems

        assert [1] == [problem.spec for problem in problems]
        assert "outside what this worker may import: served_steps, odd" in problems[0].message
        assert [] == worker.notes

    def test_a_body_refused_by_its_module(self, serve: Serve) -> None:
        """What the handshake would have refused is refused when it is executed, too."""
        worker = serve(RIVERS_ALLOWED_MODULES="served")
        result = worker.result(worker.spec("quick"))

        assert Ending.FAILED is result.ending
        assert "outside what this worker may import" in result.failure.message  # type: ignore[union-attr]
        assert [] == worker.notes

    @pytest.mark.parametrize("name", ["os.system", "subprocess.run", "rs.BashTask", "log.warning", "Path.touch"])
    def test_what_an_allowed_module_imports(self, serve: Serve, name: str) -> None:
        """A module's imports are no definitions of it: refused by the handshake and when they are executed."""
        worker = serve(RIVERS_ALLOWED_MODULES="served_steps")
        spec = worker.spec(name, inputs=(LiteralInput(parameter="command", json='"touch made"'),))
        problems = worker.handshake(spec).problems
        result = worker.result(spec)

        assert {0} == {problem.spec for problem in problems}
        assert "rivers.exceptions.RefResolutionError" == result.failure.type  # type: ignore[union-attr]

    @pytest.mark.parametrize("listed", ["served_steps", "served_steps,rivers"])
    def test_a_command_that_no_module_defines(self, serve: Serve, tmp_path: Path, listed: str) -> None:
        """A spec's own command is not run under a list, whatever its ref."""
        worker = serve(RIVERS_ALLOWED_MODULES=listed)
        made = tmp_path / "made"
        settings = {"command": f'"touch {made}"', "env": "null", "cwd": "null"}
        inputs = tuple(LiteralInput(parameter=name, json=text) for name, text in settings.items())
        spec = worker.spec("run_bash", "rivers._definitions.bash", node=NodeKind.BASH, inputs=inputs)
        (problem,) = worker.handshake(spec).problems
        result = worker.result(spec)

        assert "a command that no definition in" in problem.message
        assert "rivers.exceptions.RefResolutionError" == result.failure.type  # type: ignore[union-attr]
        assert not made.exists()

    def test_a_pickle_under_a_list(self, serve: Serve) -> None:
        """A pickle may name any function, so a list of modules refuses it, also where pickles are allowed."""
        worker = serve(RIVERS_ALLOWED_MODULES="served_steps", RIVERS_ALLOW_PICKLE="1")
        key = bytes(32)
        result = worker.result(worker.spec("quick", function=sign(pickle.dumps(print), key)), key=key)

        assert "runs only what allowed modules define" in result.failure.message  # type: ignore[union-attr]

    def test_a_module_that_ends_the_process(self, serve: Serve) -> None:
        """The server outlives a module that ends the process which imports it: a problem of every spec of that call,
        and of a later one."""
        worker = serve()
        specs = [worker.spec("quick", "dies_at_import"), worker.spec("quick")]

        for _ in range(2):
            problems = worker.handshake(*specs).problems
            assert [0, 1] == [problem.spec for problem in problems]
            assert "ended while it imported" in problems[0].message
        (lost,) = told(worker.run(worker.spec("quick")))
        assert (9, False) == (lost.exit_code, lost.started)  # type: ignore[union-attr]

    def test_a_module_that_takes_long(self, serve: Serve) -> None:
        """A look-up that takes longer than the caller waits keeps no other call waiting."""
        worker = serve()
        with refused(grpc.StatusCode.DEADLINE_EXCEEDED):
            worker.handshake(worker.spec("quick", "imports_slowly"), timeout=2)
        began = time.monotonic()
        worker.handshake()
        worker.cancel(0.0)

        assert time.monotonic() - began < 10

    def test_while_a_body_runs(self, serve: Serve) -> None:
        """Refs are looked up before Execute only: later the process runs the body."""
        worker = serve()
        stream = worker.execute(worker.spec("waits"))
        worker.noted("waits")

        with refused(grpc.StatusCode.FAILED_PRECONDITION, "before Execute"):
            worker.handshake(worker.spec("quick"))
        stream.cancel()

    def test_a_thousand_specs(self, serve: Serve) -> None:
        """As many specs as fit into a message are looked up by one call."""
        worker = serve()
        specs = [worker.spec("quick", step=f"step {n}", metadata={"text": "x" * 2500}) for n in range(1000)]

        assert [] == list(worker.handshake(*specs).problems)


class TestExecute:
    def test_again(self, serve: Serve) -> None:
        """The same spec again joins: both streams have the same events, and the body runs once."""
        worker = serve()
        first = worker.execute(worker.spec("waits"))
        second = worker.execute(worker.spec("waits"))
        worker.noted("waits")
        worker.cancel(5.0)

        assert numbered(first) == numbered(second)
        assert ["waits", "cleaned up"] == worker.notes

    def test_at_once(self, serve: Serve) -> None:
        """Of many calls at the same moment one starts the body, and all get its events."""
        worker = serve()
        told_to: list[list[pb.Event]] = []
        callers = [threading.Thread(target=lambda: told_to.append(worker.run(worker.spec("quick")))) for _ in range(6)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()

        assert 6 == len(told_to)
        assert all(told_to[0] == other for other in told_to)
        assert ["quick"] == worker.notes

    def test_another_spec(self, serve: Serve) -> None:
        """A second spec is refused, while the first runs and after it."""
        worker = serve()
        stream = worker.execute(worker.spec("waits"))
        worker.noted("waits")
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "another spec"):
            worker.run(worker.spec("quick"))
        worker.cancel(5.0)
        numbered(stream)
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "another spec"):
            worker.run(worker.spec("quick"))

        assert ["waits", "cleaned up"] == worker.notes

    def test_while_the_body_imports(self, serve: Serve) -> None:
        """A spec that does not fit into the pipe to a body that imports keeps no other call waiting."""
        worker = serve("--module", "imports_slowly")
        worker.noted("importing")
        stream = worker.execute(worker.spec("quick", metadata={"text": "x" * 200_000}))
        began = time.monotonic()
        while pb.STATE_RUNNING != worker.handshake().state:
            assert time.monotonic() - began < 4
        worker.cancel(5.0)
        assert Ending.CANCELLED is told(numbered(stream))[-1].ending  # type: ignore[union-attr]
        assert time.monotonic() - began < 4
        assert ["importing"] == worker.notes

    def test_too_large(self, serve: Serve) -> None:
        """A message above 4 MiB is refused by gRPC, and the worker waits on."""
        worker = serve()
        with refused(grpc.StatusCode.RESOURCE_EXHAUSTED):
            list(worker.execute(b"x" * (5 << 20)))

        assert Ending.SUCCEEDED is worker.result(worker.spec("quick")).ending


class TestAttach:
    def test_before_execute(self, serve: Serve) -> None:
        """Before there is an attempt there is nothing to attach to."""
        worker = serve()
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "no spec yet"):
            list(worker.attach())

    def test_from_every_number(self, serve: Serve) -> None:
        """It replays exactly what comes after a number, byte by byte, however often."""
        worker = serve()
        events = worker.run(worker.spec("speaks"))

        assert len(events) > 4
        for seq in range(len(events) + 1):
            assert events[seq:] == numbered(worker.attach(seq))

    def test_while_the_body_runs(self, serve: Serve) -> None:
        """Later events go to callers of Attach and of Execute alike."""
        worker = serve()
        stream = worker.execute(worker.spec("waits"))
        worker.noted("waits")
        attached = worker.attach(1)
        assert [] == [event for event in (next(attached),) if event.HasField("step_event")]
        worker.cancel(5.0)

        assert numbered(stream)[1:] == numbered(attached)

    def test_beyond_the_last(self, serve: Serve) -> None:
        """A number that is not there yet gets nothing, and an end."""
        worker = serve()
        worker.run(worker.spec("quick"))

        assert [] == numbered(worker.attach(1000))


class TestAck:
    def test_twice(self, serve: Serve) -> None:
        """A second ack, by a client that did not get the first one's reply, is answered or finds no worker."""
        worker = serve()
        worker.run(worker.spec("quick"))
        worker.ack(2)
        try:
            worker.ack(2)
        except grpc.RpcError as error:
            assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)  # noqa: PT017 - also right

        assert 0 == worker.ended()

    def test_too_early(self, serve: Serve) -> None:
        """While the attempt goes on there is nothing to acknowledge."""
        worker = serve()
        stream = worker.execute(worker.spec("waits"))
        worker.noted("waits")
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "still runs"):
            worker.ack(1)

        worker.cancel(5.0)
        numbered(stream)
        worker.ack(2)
        assert 10 == worker.ended()

    def test_a_worker_that_is_not_needed(self, serve: Serve) -> None:
        """Without an attempt it ends the worker with 0 and without a termination message."""
        worker = serve()
        worker.ack()

        assert 0 == worker.ended(5)
        assert "" == worker.termination


class TestEpochs:
    def test_a_higher_one_takes_over(self, serve: Serve) -> None:
        """From its first call on, all calls and streams of the lower one end with ABORTED; the body runs on."""
        worker = serve()
        first = worker.execute(worker.spec("waits"), epoch=1)
        next_told(first)
        worker.noted("waits")
        second = worker.attach(0, epoch=2)
        next_told(second)

        with refused(grpc.StatusCode.ABORTED, "epoch 2"):
            list(first)
        for call in (
            lambda: worker.cancel(0.0, epoch=1),
            lambda: worker.ack(1, epoch=1),
            lambda: list(worker.attach(0, epoch=1)),
            lambda: list(worker.execute(worker.spec("waits"), epoch=1)),
            lambda: worker.handshake(caller=worker.caller(1)),
        ):
            with refused(grpc.StatusCode.ABORTED, "epoch 2"):
                call()
        worker.cancel(5.0, epoch=2)
        assert Ending.CANCELLED is told(numbered(second))[-1].ending  # type: ignore[union-attr]

    def test_a_stranger_does_not_count(self, serve: Serve) -> None:
        """A call for another attempt takes nothing over, whatever its epoch."""
        worker = serve()
        with refused(grpc.StatusCode.FAILED_PRECONDITION):
            worker.handshake(caller=worker.caller(99, attempt_id="another"))

        assert Ending.SUCCEEDED is worker.result(worker.spec("quick")).ending


class TestStreams:
    def test_heartbeats(self, serve: Serve) -> None:
        """Heartbeats come without a number, at their pace, also while the body holds the GIL in native code."""
        worker = serve(RIVERS_HEARTBEAT="0.2")
        stream = worker.execute(worker.spec("hogs"))
        worker.noted("hogs")
        began = time.monotonic()
        beats = []
        while len(beats) < 5:
            event = next(stream)
            if event.HasField("heartbeat"):
                beats.append(event.seq)

        assert [0] * 5 == beats
        assert time.monotonic() - began < 4
        worker.cancel(0.0)

    def test_a_slow_consumer(self, serve: Serve) -> None:
        """A consumer that takes nothing until the body is done keeps no body waiting; whatever logs it has missed are
        counted, and it gets the result."""
        worker = serve()
        stream = worker.execute(worker.spec("floods"))
        first = next(stream)
        worker.noted("flooded")
        events = numbered([first, *stream])

        assert Ending.SUCCEEDED is told(events)[-1].ending  # type: ignore[union-attr]
        assert events[-1].seq == len(events) + sum(event.dropped for event in events)
        assert len(events) > 100

    def test_nobody_listens(self, serve: Serve) -> None:
        """A flood without a reader is bounded, and only log records are dropped."""
        worker = serve()
        stream = worker.execute(worker.spec("floods"))
        next(stream)
        stream.cancel()
        worker.noted("flooded")
        while pb.STATE_ENDED != worker.handshake().state:
            time.sleep(0.05)
        events = numbered(worker.attach())

        assert [1, events[1].seq - 2] == [events[0].seq, events[1].dropped]
        assert events[1].dropped > 0
        kept = [event for event in told(events) if isinstance(event, LogRecord)]
        assert 500_000 < sum(len(record.message) for record in kept) < (5 << 20)
        assert isinstance(told(events)[-1], StepResult)
        assert [n.seq for n in events] == sorted(event.seq for event in events)

    def test_many_come_and_go(self, serve: Serve) -> None:
        """Streams that are left take nothing of the worker's with them: no thread, no descriptor stays."""
        worker = serve()
        first = worker.execute(worker.spec("waits"))
        worker.noted("waits")
        folder = f"/proc/{worker.process.pid}"

        def one() -> None:
            stream = worker.attach()
            next_told(stream)
            stream.cancel()

        first.cancel()
        for _ in range(10):
            one()
        time.sleep(0.5)
        before = len(os.listdir(f"{folder}/fd"))
        for _ in range(100):
            one()
        time.sleep(0.5)

        assert len(os.listdir(f"{folder}/fd")) <= before
        assert len(os.listdir(f"{folder}/task")) < 60


class TestThePort:
    def test_is_not_shared(self, serve: Serve) -> None:
        """A body cannot listen where its server does, whatever it asks the kernel for."""
        port = _free_port()
        worker = serve(RIVERS_LISTEN=f"127.0.0.1:{port}", TEST_PORT=str(port))
        worker.run(worker.spec("binds"))

        assert port == worker.announcement.port
        assert ["OSError Address already in use"] == worker.notes


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_messages_are_whole(serve: Serve) -> None:
    """The output of a body, its log records and its children's output are events in order, each with its stream."""
    worker = serve()
    events = worker.run(worker.spec("speaks"))

    assert ["printed", "shouted", "logged", "from a child"] == messages(events)
