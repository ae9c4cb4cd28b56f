"""Tests of sessions: one worker that serves several attempts, each in a fresh process."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from concurrent import futures

import grpc
import pytest
from served_worker import Served, messages, next_told, numbered, refused, told

from rivers.protocol import Ending, StepResult
from rivers_worker.client import outcome_in
from rivers_worker.v1 import worker_pb2 as pb

Serve = Callable[..., Served]
SLOW_TO_CLOSE = """
import os, sys, time
from pathlib import Path
from rivers_worker import __main__
from rivers_worker.session import WorkerSession

notes = Path(os.environ["RIVERS_TEST_NOTES"])
close = WorkerSession._close

def slow(session, attempt):
    notes.write_text("closing\\n")
    until = time.monotonic() + 10
    while time.monotonic() < until and not notes.with_name("go").exists():
        time.sleep(0.01)
    return close(session, attempt)

WorkerSession._close = slow
sys.argv = ["rivers-worker", *sys.argv[4:]]
__main__.run()
"""


def ending(worker: Served, attempt_id: str, body: str) -> Ending:
    """Run an attempt of the session and acknowledge it."""
    worker.attempt_id = attempt_id
    result = worker.result(worker.spec(body))
    worker.ack()
    return result.ending


class TestSequence:
    def test_attempts(self, serve: Serve) -> None:
        """Attempts have their own ids, numbers, logs and results, and the worker ends after the last one."""
        worker = serve("--max-attempts", "3")
        hello = worker.handshake()
        seen = []
        for name, body in (("first", "speaks"), ("second", "fails"), ("third", "speaks")):
            worker.attempt_id = name
            events = worker.run(worker.spec(body))
            result = told(events)[-1]
            assert isinstance(result, StepResult)
            assert list(range(1, len(events) + 1)) == [event.seq for event in events]
            assert result == outcome_in(worker.termination, name)
            seen.append((result.attempt_id, result.ending, len(messages(events)), worker.ack(events[-1].seq).ready))

        assert (1, 3, pb.STATE_WAITING) == (hello.minor_version, hello.attempts_left, hello.state)
        assert [
            ("first", Ending.SUCCEEDED, 4, True),
            ("second", Ending.FAILED, 0, True),
            ("third", Ending.SUCCEEDED, 4, False),
        ] == seen
        assert 0 == worker.ended()

    def test_processes(self, serve: Serve) -> None:
        """Each attempt has a process of its own, and what it has started is gone after the answer to Ack."""
        worker = serve(RIVERS_MAX_ATTEMPTS="3")
        for name in ("first", "second"):
            assert Ending.SUCCEEDED is ending(worker, name, "leaves_processes")
        left = [pid for pid in map(int, worker.notes) if _is_alive(pid)]

        assert 4 == len(set(worker.notes))
        assert [] == left

    def test_repeated_calls(self, serve: Serve) -> None:
        """In a later attempt, too, a repeated Execute joins and Attach has the events after any number."""
        worker = serve(RIVERS_MAX_ATTEMPTS="3")
        ending(worker, "first", "quick")
        worker.attempt_id = "second"
        first, second = worker.execute(worker.spec("waits")), worker.execute(worker.spec("waits"))
        worker.noted("waits")
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "another spec"):
            worker.run(worker.spec("quick"))
        worker.cancel(5.0)
        events = numbered(first)

        assert numbered(second) == events == numbered(worker.attach())
        assert events[1:] == numbered(worker.attach(1))
        assert ["quick", "waits", "cleaned up"] == worker.notes

    def test_attempts_left(self, serve: Serve) -> None:
        """The handshake counts the attempts that are still taken, a current one included."""
        worker = serve(RIVERS_MAX_ATTEMPTS="2")
        counts = [worker.handshake().attempts_left]
        events = worker.run(worker.spec("quick"))
        counts.append(worker.handshake().attempts_left)
        worker.ack(events[-1].seq)
        counts.append(worker.handshake().attempts_left)

        assert [2, 2, 1] == counts
        assert pb.STATE_WAITING == worker.handshake().state


class TestRefusals:
    def test_one_at_a_time(self, serve: Serve) -> None:
        """While an attempt runs, and until its end is acknowledged, another one is refused and both are named."""
        worker = serve(RIVERS_MAX_ATTEMPTS="3")
        worker.attempt_id = "first"
        stream = worker.execute(worker.spec("waits"))
        worker.noted("waits")
        worker.attempt_id = "second"
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "first", "second"):
            worker.run(worker.spec("quick"))
        worker.attempt_id = "first"
        worker.cancel(5.0)
        numbered(stream)
        worker.attempt_id = "second"
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "first", "second"):
            worker.run(worker.spec("quick"))
        worker.attempt_id = "first"
        worker.ack()

        assert Ending.SUCCEEDED is ending(worker, "second", "quick")
        assert ["waits", "cleaned up", "quick"] == worker.notes

    def test_an_old_attempt(self, serve: Serve) -> None:
        """An attempt that was acknowledged never runs again; its Ack may be repeated, and Cancel does nothing."""
        worker = serve(RIVERS_MAX_ATTEMPTS="3")
        ending(worker, "first", "quick")
        for call in (lambda: worker.run(worker.spec("quick")), lambda: numbered(worker.attach())):
            with refused(grpc.StatusCode.FAILED_PRECONDITION, "first", "acknowledged"):
                call()
        again = worker.ack()
        worker.cancel(0.0)

        assert again.ready
        assert Ending.SUCCEEDED is ending(worker, "second", "quick")
        assert ["quick", "quick"] == worker.notes

    def test_another_run(self, serve: Serve) -> None:
        """A session serves attempts of its own run alone."""
        worker = serve(RIVERS_MAX_ATTEMPTS="3")
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "run-1"):
            worker.handshake(caller=worker.caller(run_id="run-2"))

    def test_an_old_epoch(self, serve: Serve) -> None:
        """A controller that was replaced in one attempt starts no other."""
        worker = serve(RIVERS_MAX_ATTEMPTS="3")
        numbered(worker.execute(worker.spec("quick"), epoch=2))
        worker.ack(epoch=2)
        worker.attempt_id = "second"
        with refused(grpc.StatusCode.ABORTED, "epoch 2"):
            numbered(worker.execute(worker.spec("quick"), epoch=1))

        assert Ending.SUCCEEDED is told(numbered(worker.execute(worker.spec("quick"), epoch=2)))[-1].ending  # type: ignore[union-attr]
        assert ["quick", "quick"] == worker.notes

    def test_an_ack_of_nothing(self, serve: Serve) -> None:
        """An Ack of an attempt that the worker has not run is refused and ends nothing."""
        worker = serve(RIVERS_MAX_ATTEMPTS="3")
        worker.attempt_id = "other"
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "other"):
            worker.ack()

        assert Ending.SUCCEEDED is ending(worker, "first", "quick")

    def test_execute_during_the_ack_of_nothing(self, serve: Serve) -> None:
        """An Execute that comes while a worker that has run nothing is ended by an Ack is refused: nothing runs."""
        worker = serve(RIVERS_MAX_ATTEMPTS="3", prefix=(sys.executable, "-c", SLOW_TO_CLOSE))
        with futures.ThreadPoolExecutor(1) as caller:
            reply = caller.submit(worker.ack)
            worker.noted("closing")
            worker.attempt_id = "other"
            with refused(grpc.StatusCode.FAILED_PRECONDITION, "terminating"):
                worker.run(worker.spec("quick"))
            (worker.folder / "go").touch()

        assert not reply.result().ready
        assert ["closing"] == worker.notes
        assert 0 == worker.ended()


class TestCancel:
    def test_is_of_one_attempt(self, serve: Serve) -> None:
        """A cancelled attempt that ends in order leaves a worker that takes the next one."""
        worker = serve(RIVERS_MAX_ATTEMPTS="3")
        stream = worker.execute(worker.spec("waits"))
        worker.noted("waits")
        worker.cancel(5.0)

        assert Ending.CANCELLED is told(numbered(stream))[-1].ending  # type: ignore[union-attr]
        assert worker.ack().ready
        assert Ending.SUCCEEDED is ending(worker, "second", "quick")

    def test_before_execute(self, serve: Serve) -> None:
        """A Cancel that overtakes its Execute cancels that attempt, and not the one that runs."""
        worker = serve(RIVERS_MAX_ATTEMPTS="3")
        worker.attempt_id = "second"
        worker.cancel(5.0)

        assert Ending.SUCCEEDED is ending(worker, "first", "quick")
        assert Ending.CANCELLED is ending(worker, "second", "quick")
        assert ["quick"] == worker.notes


class TestTerminationLog:
    def test_an_outcome_that_an_attempt_has_forged(self, serve: Serve) -> None:
        """The log holds no outcome of a later attempt once the worker takes that, whatever an exit hook wrote."""
        forger = serve()
        forger.result(forger.spec("quick"))
        forged, later = forger.termination, forger.attempt_id
        worker = serve(RIVERS_MAX_ATTEMPTS="3", FORGED=forged)
        worker.attempt_id = "first"
        worker.result(worker.spec("forges_an_outcome", "session_steps"))

        assert Ending.SUCCEEDED is outcome_in(forged, later).ending  # type: ignore[union-attr]
        assert worker.ack().ready
        assert worker.termination.startswith("rivers-outcome 1 ")
        assert [None] * 3 == [outcome_in(worker.termination, name) for name in (later, "first", "-")]
        assert Ending.SUCCEEDED is ending(worker, "second", "quick")

    @pytest.mark.parametrize("body", ["links_the_log", "puts_a_pipe_for_the_log", "replaces_the_log"])
    def test_another_file(self, serve: Serve, body: str) -> None:
        """A worker whose log was replaced takes no other attempt, and does not write to what stands there."""
        worker = serve(RIVERS_MAX_ATTEMPTS="3")
        worker.result(worker.spec(body, "session_steps"))

        assert "termination log" in worker.ack().retires
        assert [] == worker.notes
        assert 0 == worker.ended()

    def test_of_one_attempt(self, serve: Serve) -> None:
        """The last attempt's outcome stays in the log."""
        worker = serve(RIVERS_MAX_ATTEMPTS="1")
        result = worker.result(worker.spec("quick"))
        worker.ack()
        worker.ended()

        assert result == outcome_in(worker.termination, worker.attempt_id)


class TestRetirement:
    @pytest.mark.parametrize("body", ["crashes", "leaves_well"])
    def test_after_a_loss(self, serve: Serve, body: str) -> None:
        """A worker whose attempt ended without a result says so, takes no other and ends."""
        worker = serve(RIVERS_MAX_ATTEMPTS="3")
        events = worker.run(worker.spec(body))
        reply = worker.ack(events[-1].seq)

        assert not reply.ready
        assert f"the process of attempt {worker.attempt_id} ended" in reply.retires
        assert 10 == worker.ended()
        assert reply.retires in worker.errors

    def test_after_a_timeout_kill(self, serve: Serve) -> None:
        """A body that had to be killed retires its worker."""
        worker = serve(RIVERS_MAX_ATTEMPTS="3")
        stream = worker.execute(worker.spec("hogs"))
        worker.noted("hogs")
        worker.cancel(0.1)

        assert signal.SIGKILL == told(numbered(stream))[-1].signal  # type: ignore[union-attr]
        assert "by signal 9" in worker.ack().retires
        assert 10 == worker.ended()

    def test_of_age(self, serve: Serve) -> None:
        """A worker above its age finishes its attempt and retires."""
        worker = serve("--max-attempts", "3", "--max-age", "0.1")
        worker.run(worker.spec("quick"))

        assert "older than 0.1 s" in worker.ack().retires
        assert 0 == worker.ended()

    def test_idle(self, serve: Serve) -> None:
        """A worker that has served an attempt ends once it was idle for so long."""
        worker = serve("--max-attempts", "3", "--idle-ttl", "0.5")
        time.sleep(1)
        assert Ending.SUCCEEDED is ending(worker, "first", "quick")

        assert 0 == worker.ended()

    def test_age_while_idle(self, serve: Serve) -> None:
        """An idle worker ends when it reaches its age."""
        worker = serve("--max-attempts", "3", "--max-age", "4")
        assert Ending.SUCCEEDED is ending(worker, "first", "quick")

        assert 0 == worker.ended()

    def test_sigterm_between_attempts(self, serve: Serve) -> None:
        """A worker that waits for its next attempt ends at once."""
        worker = serve(RIVERS_MAX_ATTEMPTS="3", RIVERS_GRACE="30")
        ending(worker, "first", "quick")
        worker.process.terminate()

        assert 143 == worker.ended(5)

    def test_sigterm_in_a_later_attempt(self, serve: Serve) -> None:
        """The body of a later attempt may end in order, too, and nothing follows it."""
        worker = serve(RIVERS_MAX_ATTEMPTS="3")
        ending(worker, "first", "quick")
        worker.attempt_id = "second"
        stream = worker.execute(worker.spec("waits"))
        next_told(stream)
        worker.noted("waits")
        worker.process.terminate()

        assert Ending.CANCELLED is told(numbered(stream))[-1].ending  # type: ignore[union-attr]
        assert not worker.ack().ready
        assert 143 == worker.ended(5)


def _is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
