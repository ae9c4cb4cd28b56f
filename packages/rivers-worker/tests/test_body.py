"""Tests of the body's process through its server: running, cancelling, dying, and the limits of its rights."""

from __future__ import annotations

import os
import pickle
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import served_steps
from running.left_behind import marked, wait_for_none
from served_worker import Served, messages, numbered, told

from rivers.protocol import (
    ElementInput,
    Ending,
    Evidence,
    FailureReason,
    ImportRef,
    InnerStep,
    LiteralInput,
    LogSettings,
    NodeKind,
    Output,
    OutputMode,
    PickledRef,
    StepResult,
    StoredInput,
)
from rivers.protocol.ref import sign
from rivers_worker.client import outcome_in
from rivers_worker.v1 import worker_pb2 as pb

Serve = Callable[..., Served]
KEY = b"k" * 32


class TestWhatItRuns:
    def test_values_are_loaded_and_stored(self, serve: Serve) -> None:
        """What one worker has stored another one loads, by the handlers that their specs name."""
        first, second = serve(), serve()
        stored = first.result(first.spec("quick", store=True))
        given = StoredInput(parameter="number", key="quick", io_handler=first.store, run_id=first.run_id)
        result = second.result(second.spec("doubled", store=True, inputs=(given,)))

        assert ["quick"] == [output.key for output in stored.outputs]
        assert Ending.SUCCEEDED is result.ending, result.failure
        assert ["doubled"] == [output.key for output in result.outputs]
        assert ["doubled 7"] == second.notes

    def test_an_async_body(self, serve: Serve) -> None:
        """An async body is awaited."""
        worker = serve()

        assert Ending.SUCCEEDED is worker.result(worker.spec("soon", is_async=True, store=True)).ending

    def test_a_graph(self, serve: Serve) -> None:
        """A graph asset's tasks run one after another in the one process, a mapped one for each element."""
        worker = serve()
        result = worker.result(_graph(worker, "total"))

        assert Ending.SUCCEEDED is result.ending, result.failure
        assert ["graph"] == [output.key for output in result.outputs]
        assert ["numbers", "doubled 1", "doubled 2", "doubled 3"] == worker.notes

    def test_a_command(self, serve: Serve) -> None:
        """A bash task's command runs."""
        worker = serve()
        given = {"command": '"echo hello >> $RIVERS_TEST_NOTES"', "env": "{}", "cwd": "null"}
        inputs = tuple(LiteralInput(parameter=name, json=text) for name, text in given.items())
        function = ImportRef(module="rivers._definitions.bash", qualname="run_bash")
        result = worker.result(worker.spec("greets", node=NodeKind.BASH, function=function, inputs=inputs))

        assert Ending.SUCCEEDED is result.ending, result.failure
        assert ["hello"] == worker.notes

    def test_an_output_of_elements(self, serve: Serve) -> None:
        """The result holds the keys of a dynamic output's elements."""
        worker = serve()
        output = Output(name="streams", key="streams", io_handler=worker.store, mode=OutputMode.DYNAMIC)
        result = worker.result(worker.spec("streams", node=NodeKind.TASK, outputs=(output,)))

        assert Ending.SUCCEEDED is result.ending, result.failure
        assert [("0", "1")] == [output.map_keys for output in result.outputs]

    def test_its_environment(self, serve: Serve) -> None:
        """The body sees what its server was started with, but for the worker's own variables."""
        worker = serve()
        worker.run(worker.spec("environment"))

        assert ["['RIVERS_TEST_MARK', 'RIVERS_TEST_NOTES']"] == worker.notes

    def test_its_descriptors(self, serve: Serve) -> None:
        """It has no socket of its server's."""
        worker = serve()
        worker.run(worker.spec("descriptors"))

        assert ["0"] == worker.notes


class TestPickles:
    def _ref(self, serve: Serve, key: bytes = KEY, **environment: str) -> tuple[Served, StepResult]:
        worker = serve(**environment)
        ref = sign(pickle.dumps(served_steps.quick), key)
        return worker, worker.result(worker.spec("quick", function=ref), key=KEY)

    def test_are_refused(self, serve: Serve) -> None:
        """Without RIVERS_ALLOW_PICKLE=1 no pickle is loaded, whatever key the controller sends."""
        worker, result = self._ref(serve)

        assert "does not allow pickles" in result.failure.message  # type: ignore[union-attr]
        assert [] == worker.notes

    @pytest.mark.parametrize("value", ["0", "true", "yes", ""])
    def test_are_refused_unless_it_is_one(self, serve: Serve, value: str) -> None:
        """Only `1` allows them."""
        worker, result = self._ref(serve, RIVERS_ALLOW_PICKLE=value)

        assert "does not allow pickles" in result.failure.message  # type: ignore[union-attr]
        assert [] == worker.notes

    def test_are_allowed(self, serve: Serve) -> None:
        """With it a pickle that the controller has signed is loaded."""
        worker, result = self._ref(serve, RIVERS_ALLOW_PICKLE="1")

        assert Ending.SUCCEEDED is result.ending, result.failure
        assert ["quick"] == worker.notes

    def test_of_somebody_else(self, serve: Serve) -> None:
        """A pickle that another key has signed is not loaded."""
        worker, result = self._ref(serve, b"another key", RIVERS_ALLOW_PICKLE="1")

        assert "does not bear this run's signature" in result.failure.message  # type: ignore[union-attr]
        assert [] == worker.notes

    def test_without_a_key(self, serve: Serve) -> None:
        """A controller that sends no key has no pickles."""
        worker = serve(RIVERS_ALLOW_PICKLE="1")
        result = worker.result(
            worker.spec("quick", function=PickledRef(payload=b"x", sha256=bytes(32), hmac=bytes(32)))
        )

        assert "does not allow pickles" in result.failure.message  # type: ignore[union-attr]


class TestWhatIsSeen:
    def test_in_the_log_of_the_container(self, serve: Serve) -> None:
        """What is printed and logged is in the container's log, too, once each."""
        worker = serve()
        worker.run(worker.spec("speaks"))
        seen = (worker.output + worker.errors).splitlines()

        assert [1, 1, 1, 1] == [seen.count(text) for text in ("printed", "shouted", "logged", "from a child")]

    def test_what_the_body_leaves_in_its_process(self, serve: Serve) -> None:
        """A pending alarm is cancelled before the outputs are stored, and named."""
        worker = serve()
        texts = messages(worker.run(worker.spec("leaves_an_alarm")))

        assert any("a pending timer was cancelled: ITIMER_REAL" in text for text in texts)

    def test_without_capture(self, serve: Serve) -> None:
        """Output that is not captured as events is in the container's log all the same."""
        worker = serve()
        events = worker.run(worker.spec("speaks", logs=LogSettings(capture=False)))
        worker.ack()
        worker.ended()
        seen = (worker.output + worker.errors).splitlines()

        assert [] == messages(events)
        assert [1, 1, 1, 1] == [seen.count(text) for text in ("printed", "shouted", "logged", "from a child")]

    def test_a_log_that_nobody_reads(self, serve: Serve) -> None:
        """A container's log that takes nothing more, or is gone, keeps no body waiting."""
        read, write = os.pipe()
        workers = [serve(errors_to=write), serve(errors_to=write)]
        os.close(write)

        assert Ending.SUCCEEDED is workers[0].result(workers[0].spec("floods")).ending
        os.close(read)
        assert Ending.SUCCEEDED is workers[1].result(workers[1].spec("floods")).ending


class TestCancel:
    def test_a_sync_body(self, serve: Serve) -> None:
        """A body that sleeps is interrupted where it is, cleans up, and ends as cancelled."""
        worker = serve()
        stream = worker.execute(worker.spec("waits"))
        worker.noted("waits")
        worker.cancel(10.0)
        result = told(numbered(stream))[-1]

        assert isinstance(result, StepResult)
        assert Ending.CANCELLED is result.ending
        assert ["waits", "cleaned up"] == worker.notes
        worker.ack()
        assert 10 == worker.ended()

    def test_an_async_body(self, serve: Serve) -> None:
        """An async one is cancelled, and may clean up, too."""
        worker = serve()
        stream = worker.execute(worker.spec("awaits", is_async=True))
        worker.noted("awaits")
        worker.cancel(10.0)

        assert Ending.CANCELLED is told(numbered(stream))[-1].ending  # type: ignore[union-attr]
        assert ["awaits", "cleaned up"] == worker.notes

    def test_one_that_does_not_stop(self, serve: Serve) -> None:
        """A body that runs on after the grace is killed; the loss says that it was cancelled."""
        worker = serve()
        stream = worker.execute(worker.spec("ignores"))
        worker.noted("ignores")
        worker.cancel(0.5)
        lost = told(numbered(stream))[-1]

        assert isinstance(lost, pb.Lost)
        assert (True, True, signal.SIGKILL) == (lost.started, lost.cancelled, lost.signal)
        assert "asked" in worker.notes
        assert Ending.CANCELLED is outcome_in(worker.termination, worker.attempt_id).ending  # type: ignore[union-attr]

    def test_one_in_native_code(self, serve: Serve) -> None:
        """A body that never comes back to Python is killed after the grace, and its stack shows where it was."""
        worker = serve()
        stream = worker.execute(worker.spec("hogs"))
        worker.noted("hogs")
        worker.cancel(0.3)
        lost = told(numbered(stream))[-1]

        assert isinstance(lost, pb.Lost)
        assert signal.SIGKILL == lost.signal
        assert "in hogs" in lost.native_traceback

    def test_again_with_less_patience(self, serve: Serve) -> None:
        """Asked again, the earlier end counts; a later one changes nothing."""
        worker = serve()
        stream = worker.execute(worker.spec("ignores"))
        worker.noted("ignores")
        worker.cancel(1000.0)
        worker.cancel(0.2)
        worker.cancel(1000.0)
        began = time.monotonic()

        assert numbered(stream)[-1].lost.cancelled
        assert time.monotonic() - began < 5

    @pytest.mark.parametrize("grace", [-1.0, float("nan"), float("inf"), 1e300])
    def test_odd_graces(self, serve: Serve, grace: float) -> None:
        """No number of seconds breaks it."""
        worker = serve()
        stream = worker.execute(worker.spec("waits"))
        worker.noted("waits")
        worker.cancel(grace)

        last = told(numbered(stream))[-1]
        assert last.cancelled if isinstance(last, pb.Lost) else Ending.CANCELLED is last.ending  # type: ignore[union-attr]

    def test_while_it_imports(self, serve: Serve) -> None:
        """A cancel ends the import of the step's module."""
        worker = serve()
        stream = worker.execute(worker.spec("quick", "imports_slowly"))
        worker.noted("importing")
        worker.cancel(10.0)
        began = time.monotonic()

        assert Ending.CANCELLED is told(numbered(stream))[-1].ending  # type: ignore[union-attr]
        assert time.monotonic() - began < 5

    def test_before_it_is_executed(self, serve: Serve) -> None:
        """An attempt that was cancelled before it came is not begun."""
        worker = serve("--module", "notes_at_import")
        worker.noted("imported")
        assert pb.STATE_WAITING == worker.cancel(10.0).state

        assert Ending.CANCELLED is told(worker.run(worker.spec("quick")))[-1].ending  # type: ignore[union-attr]
        assert ["imported"] == worker.notes

    def test_before_the_body_is_there(self, serve: Serve) -> None:
        """A cancel while Python still starts ends it there: a loss that was cancelled, of a body that never began."""
        worker = serve()
        worker.cancel(10.0)
        last = told(worker.run(worker.spec("quick")))[-1]

        assert [] == worker.notes
        if isinstance(last, pb.Lost):  # else Python was faster
            assert (False, True) == (last.started, last.cancelled)
        else:
            assert Ending.CANCELLED is last.ending  # type: ignore[union-attr]

    def test_in_a_graph(self, serve: Serve) -> None:
        """A graph is stopped in the task that runs, and its later ones never begin."""
        worker = serve()
        stream = worker.execute(_graph(worker, "never_ends"))
        worker.noted("never ends")
        worker.cancel(10.0)

        assert Ending.CANCELLED is told(numbered(stream))[-1].ending  # type: ignore[union-attr]

    def test_after_the_end(self, serve: Serve) -> None:
        """A cancel that comes too late changes nothing."""
        worker = serve()
        events = worker.run(worker.spec("quick"))

        assert pb.STATE_ENDED == worker.cancel(0.0).state
        assert events == numbered(worker.attach())
        worker.ack()
        assert 0 == worker.ended()


class TestDeath:
    @pytest.mark.parametrize(
        ("body", "exit_code", "number"),
        [
            ("leaves", 3, None),
            ("leaves_well", 0, None),
            ("killed", None, signal.SIGKILL),
            ("crashes", None, signal.SIGSEGV),
        ],
    )
    def test_is_told(self, serve: Serve, body: str, exit_code: int | None, number: int | None) -> None:
        """The server outlives it and reports it in the stream, in the termination message and by its exit code."""
        worker = serve()
        events = worker.run(worker.spec(body))
        lost = told(events)[-1]
        left = outcome_in(worker.termination, worker.attempt_id)
        worker.ack()

        assert isinstance(lost, pb.Lost)
        assert events[-1].last
        assert (True, False) == (lost.started, lost.cancelled)
        assert exit_code == (lost.exit_code if lost.HasField("exit_code") else None)
        assert number == (lost.signal if lost.HasField("signal") else None)
        assert left is not None
        assert left.failure is not None
        assert FailureReason.INFRASTRUCTURE is left.failure.reason
        assert isinstance(left.failure.evidence, Evidence)
        assert (exit_code, number) == (left.failure.evidence.exit_code, left.failure.evidence.signal)
        assert len(worker.termination) <= 4096
        assert 10 == worker.ended()

    def test_a_crash_has_a_traceback(self, serve: Serve) -> None:
        """A crash in native code is reported with its Python lines, in the termination message as well."""
        worker = serve()
        lost = told(worker.run(worker.spec("crashes")))[-1]
        left = outcome_in(worker.termination, worker.attempt_id)

        assert "in crashes" in lost.native_traceback  # type: ignore[union-attr]
        assert "Segmentation fault" in (left.failure.evidence.native_traceback or "")  # type: ignore[union-attr]

    def test_what_it_has_told_stays(self, serve: Serve) -> None:
        """What it logged before is there."""
        worker = serve()

        assert ["leaving"] == messages(worker.run(worker.spec("leaves")))

    def test_words_that_are_no_frames(self, serve: Serve) -> None:
        """A body that writes into the pipe to its server is killed, as none of its frames can be trusted."""
        worker = serve()
        lost = told(worker.run(worker.spec("babbles")))[-1]

        assert isinstance(lost, pb.Lost)
        assert "cannot be read" in lost.detail

    def test_an_interrupt_of_its_own(self, serve: Serve) -> None:
        """A body that raises KeyboardInterrupt is cancelled by itself: no loss."""
        worker = serve()
        result = worker.result(worker.spec("interrupted"))

        assert Ending.CANCELLED is result.ending
        assert FailureReason.CANCELLED is result.failure.reason  # type: ignore[union-attr]

    def test_sys_exit(self, serve: Serve) -> None:
        """A body that calls sys.exit has failed like by any exception."""
        worker = serve()
        result = worker.result(worker.spec("exits"))

        assert FailureReason.ERROR is result.failure.reason  # type: ignore[union-attr]


class TestResultsThatDoNotFit:
    def test_too_large(self, serve: Serve) -> None:
        """Metadata above the protocol's limit is a failure that names the limit and is not transient."""
        worker = serve()
        result = worker.result(worker.spec("too_much", store=True))
        worker.ack()

        assert result.failure is not None
        assert (FailureReason.INFRASTRUCTURE, False) == (result.failure.reason, result.failure.transient)
        assert "data_version" in result.failure.message
        assert 10 == worker.ended()

    def test_a_long_failure(self, serve: Serve) -> None:
        """A failure too long for the termination message is cut there, and whole in the stream."""
        worker = serve()
        result = worker.result(worker.spec("long_failure"))
        left = outcome_in(worker.termination, worker.attempt_id)

        assert left is not None
        assert left.failure is not None
        assert result.failure is not None
        assert len(result.failure.message) > 400
        assert result.failure.message[:400] == left.failure.message
        assert result.failure.reason is left.failure.reason
        assert len(worker.termination) <= 4096


class TestWhatItLeavesBehind:
    def test_processes_of_a_body_that_ended(self, serve: Serve, nothing_is_left: str) -> None:
        """Once a body has ended nothing goes on that it has started, in its group or out of it; the server does."""
        worker = serve()
        worker.run(worker.spec("leaves_processes"))

        assert [] == wait_for_none(lambda: _beside(worker, nothing_is_left))
        worker.ack()
        assert 0 == worker.ended()

    def test_processes_of_a_body_that_died(self, serve: Serve, nothing_is_left: str) -> None:
        """The same when it was killed, before its loss is reported."""
        worker = serve()
        lost = told(worker.run(worker.spec("leaves_processes_and_dies")))[-1]

        assert signal.SIGKILL == lost.signal  # type: ignore[union-attr]
        assert [] == _beside(worker, nothing_is_left)

    def test_processes_of_a_worker_that_is_asked_to_go(self, serve: Serve, nothing_is_left: str) -> None:
        """At SIGTERM nothing stays either."""
        worker = serve()
        worker.run(worker.spec("leaves_processes"))
        worker.process.terminate()
        worker.ended()

        assert [] == wait_for_none(lambda: marked(nothing_is_left))

    def test_an_executor(self, serve: Serve) -> None:
        """An executor of processes that the body left open ends before multiprocessing waits for its processes."""
        worker = serve()
        worker.run(worker.spec("leaves_an_executor"))

        worker.noted("left")

    def test_zombies(self, serve: Serve) -> None:
        """Orphans that end while the body runs are buried by its server, which is their parent then."""
        worker = serve()
        stream = worker.execute(worker.spec("leaves_orphans"))
        worker.noted("orphaned")
        children = _children(worker.process.pid)

        assert 1 == len(children)
        assert not [pid for pid in children if "(zombie)" in Path(f"/proc/{pid}/status").read_text()]
        stream.cancel()

    def test_a_fork(self, serve: Serve) -> None:
        """A forked child of the body sends no events as the body: its output is reported, its end is not."""
        worker = serve()
        events = worker.run(worker.spec("forks", store=True))

        assert Ending.SUCCEEDED is told(events)[-1].ending  # type: ignore[union-attr]
        assert "from the fork" in messages(events)


def test_no_core_of_the_server(serve: Serve) -> None:
    """The server's memory, with its key, is never written to a file."""
    worker = serve()

    assert "0" == Path(f"/proc/{worker.process.pid}/limits").read_text().split("Max core file size")[1].split()[0]


def test_modules_that_are_imported_at_once(serve: Serve) -> None:
    """Modules of the environment and of the command line are imported before a spec comes; one that is not there is
    said in the log, and holds nobody up."""
    worker = serve("--module", "notes_at_import", RIVERS_MODULES="no_such_module,")
    worker.noted("imported")

    assert Ending.SUCCEEDED is worker.result(worker.spec("quick", "notes_at_import")).ending
    assert "importing 'no_such_module' raised ModuleNotFoundError" in worker.errors


def _graph(worker: Served, last: str) -> object:
    def inner(key: str, **fields: object) -> InnerStep:
        function = ImportRef(module="served_steps", qualname=key)
        return InnerStep(key=key, node=NodeKind.TASK, function=function, **fields)  # type: ignore[arg-type]

    steps = (
        inner("numbers"),
        inner(
            "doubled",
            mapped_over="numbers",
            inputs=(ElementInput(parameter="number", step="numbers", how="element"),),
        ),
        inner(last, inputs=(ElementInput(parameter="values", step="doubled", how="collect"),)),
    )
    output = Output(name="graph", key="graph", io_handler=worker.store)
    return worker.spec("graph", node=NodeKind.GRAPH, inner=steps, outputs=(output,))


def _beside(worker: Served, mark: str) -> list[str]:
    """The processes of a worker but for the worker."""
    return [line for line in marked(mark) if not line.startswith(f"{worker.process.pid} ")]


def _children(pid: int) -> list[int]:
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for path in lists for child in path.read_text().split()]
