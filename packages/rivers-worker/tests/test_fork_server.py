"""Tests of the processes of a session: what a fork has, and what happens when they are killed or stopped."""

from __future__ import annotations

import ast
import contextlib
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from running.left_behind import marked, wait_for_none
from served_worker import Served, told

from rivers.protocol import Ending, StepResult
from rivers_process.processes import child_processes
from rivers_worker.v1 import worker_pb2 as pb

Serve = Callable[..., Served]
WITHOUT_PTRACE = """
import ctypes, os, sys
# PR_CAPBSET_DROP of CAP_SYS_PTRACE, which root has; others need not drop it.
ctypes.CDLL(None).prctl(24, 19, 0, 0, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
IMPATIENT = """
import sys
from rivers_worker import __main__, session

session.IMPORT_WITHIN = 0.5
sys.argv = ["rivers-worker", *sys.argv[4:]]
__main__.run()
"""
FRESH = {
    "attempts": 1,
    "leader": True,
    "descriptors": [],
    "arguments": [],
    "left": None,
    "folder": False,
    "masked": [],
    "interrupts": True,
    "dumpable": True,
    "parent": True,
}


def run(worker: Served, attempt_id: str, body: str, module: str = "session_steps") -> pb.AckReply:
    """Run an attempt that succeeds, and acknowledge it."""
    worker.attempt_id = attempt_id
    result = worker.result(worker.spec(body, module))
    assert Ending.SUCCEEDED is result.ending, result
    return worker.ack()


def bodies(worker: Served) -> list[int]:
    """The children of a worker but for its fork server."""
    return _by_age(worker)[1:]


def fork_server_of(worker: Served) -> int:
    return _by_age(worker)[0]


def _by_age(worker: Served) -> list[int]:
    """The children of a worker; the first one is its fork server, from which the others come."""
    found = []
    for child in child_processes(worker.process.pid):
        # It has ended meanwhile.
        with contextlib.suppress(OSError):
            stat = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
            found.append((int(stat[19]), child.pid))
    return [pid for _, pid in sorted(found)]


class TestForks:
    def test_are_fresh(self, serve: Serve) -> None:
        """Nothing that an attempt did to its process is there in the next one, though both have one origin."""
        worker = serve(RIVERS_MAX_ATTEMPTS="4")
        for name in ("first", "second", "third"):
            assert run(worker, name, "looks_around").ready
        facts = [ast.literal_eval(line) for line in worker.notes]

        # The first attempt's is whatever the tests have, and the runner has a thread that captures output.
        alike = {(fact.pop("umask"), fact.pop("threads")) for fact in facts}
        assert [FRESH] * 3 == facts
        assert 1 == len(alike)

    def test_their_origin_is_closed_to_them(self, serve: Serve) -> None:
        """A body can neither read nor trace the server and the fork server; it is itself a process like any other."""
        worker = serve(RIVERS_MAX_ATTEMPTS="4", prefix=(sys.executable, "-c", WITHOUT_PTRACE))
        run(worker, "first", "spies")
        server, fork_server, body, _ = ast.literal_eval(worker.notes[0])

        assert ["[]", "[]"] == [server, fork_server]
        # Yama may forbid a child to trace its parent.
        assert body in ("['mem', 'ptrace']", "[]")

    def test_modules_are_imported_meanwhile(self, serve: Serve) -> None:
        """The waiting process imports the modules of the last spec before the next one comes."""
        worker = serve(RIVERS_MAX_ATTEMPTS="4")
        run(worker, "first", "does_nothing", "dies_later")
        worker.noted("dying")

        assert run(worker, "second", "quick", "served_steps").ready
        assert ["imported once", "dying", "quick"] == worker.notes

    def test_modules_that_are_not_allowed(self, serve: Serve) -> None:
        """A module that was refused is not imported for the next attempt either."""
        worker = serve(RIVERS_MAX_ATTEMPTS="4", RIVERS_ALLOWED_MODULES="served_steps")
        worker.attempt_id = "first"
        assert Ending.FAILED is worker.result(worker.spec("quick", "notes_at_import")).ending
        worker.ack()

        run(worker, "second", "quick", "served_steps")
        assert ["quick"] == worker.notes

    def test_an_import_that_hangs(self, serve: Serve) -> None:
        """A module that hangs in the waiting process delays the next attempt and is not charged to it."""
        worker = serve(RIVERS_MAX_ATTEMPTS="4", prefix=(sys.executable, "-c", IMPATIENT))
        run(worker, "first", "does_nothing", "hangs_later")
        worker.noted("hanging")

        assert run(worker, "second", "quick", "served_steps").ready
        assert run(worker, "third", "quick", "served_steps").ready
        assert ["imported once", "hanging", "quick", "quick"] == worker.notes
        assert "gave up the imports for which attempt second waits" in worker.errors

    def test_a_forged_report(self, serve: Serve) -> None:
        """A body that reports a module outside of the allowed ones does not make the next process import it."""
        worker = serve(RIVERS_MAX_ATTEMPTS="4", RIVERS_ALLOWED_MODULES="served_steps,session_steps")
        assert run(worker, "first", "forges_the_report").ready
        # The process takes a spec after its imports.
        assert run(worker, "second", "quick", "served_steps").ready

        assert ["quick"] == worker.notes

    def test_a_report_after_the_result(self, serve: Serve) -> None:
        """An exit hook that reports modules retires the worker."""
        worker = serve(RIVERS_MAX_ATTEMPTS="4")
        reply = run(worker, "first", "reports_at_its_exit")

        assert not reply.ready
        assert "signal 9" in reply.retires
        assert [] == worker.notes

    def test_a_report_of_its_own(self, serve: Serve) -> None:
        """A body that reports modules before its runner does ends without a result."""
        worker = serve(RIVERS_MAX_ATTEMPTS="4")
        worker.attempt_id = "first"
        lost = told(worker.run(worker.spec("reports_twice", "session_steps")))[-1]

        assert isinstance(lost, pb.Lost)
        assert "modules" in lost.detail
        assert not worker.ack().ready


class TestKilled:
    def test_the_waiting_process(self, serve: Serve) -> None:
        """A process that is killed while it waits for an attempt is replaced, and nobody is charged for it."""
        worker = serve(RIVERS_MAX_ATTEMPTS="4")
        run(worker, "first", "quick", "served_steps")
        (waiting,) = bodies(worker)
        os.kill(waiting, signal.SIGKILL)

        assert run(worker, "second", "quick", "served_steps").ready
        assert ["quick", "quick"] == worker.notes

    def test_the_fork_server_by_a_body(self, serve: Serve) -> None:
        """A body that kills the fork server succeeds, and its worker retires."""
        worker = serve(RIVERS_MAX_ATTEMPTS="4")
        reply = run(worker, "first", "kills_fork_server")

        assert not reply.ready
        assert "fork server" in reply.retires
        assert 0 == worker.ended()

    def test_the_fork_server_while_idle(self, serve: Serve) -> None:
        """The process that waits serves one more attempt, after which the worker retires."""
        worker = serve(RIVERS_MAX_ATTEMPTS="4")
        run(worker, "first", "quick", "served_steps")
        os.kill(fork_server_of(worker), signal.SIGKILL)

        reply = run(worker, "second", "quick", "served_steps")
        assert "fork server" in reply.retires
        assert 0 == worker.ended()

    def test_both_while_idle(self, serve: Serve) -> None:
        """Without the fork server a waiting process cannot be replaced: the attempt is lost before its start."""
        worker = serve(RIVERS_MAX_ATTEMPTS="4")
        run(worker, "first", "quick", "served_steps")
        (waiting,) = bodies(worker)
        for pid in (fork_server_of(worker), waiting):
            os.kill(pid, signal.SIGKILL)
        worker.attempt_id = "second"
        (lost,) = told(worker.run(worker.spec("quick")))

        assert isinstance(lost, pb.Lost)
        assert not lost.started
        assert not worker.ack().ready
        assert ["quick"] == worker.notes

    def test_the_fork_server_at_the_start(self, serve: Serve) -> None:
        """A worker whose fork server is killed before the first attempt may lose that before its start, and retires."""
        worker = serve(RIVERS_MAX_ATTEMPTS="4")
        for child in child_processes(worker.process.pid):
            os.kill(child.pid, signal.SIGKILL)
        outcome = told(worker.run(worker.spec("quick")))[-1]

        if isinstance(outcome, pb.Lost):
            assert not outcome.started
            assert [] == worker.notes
        assert not worker.ack().ready

    def test_a_fork_server_that_is_stopped(self, serve: Serve) -> None:
        """A body that stops the fork server keeps no other attempt waiting: it goes on, or the worker retires."""
        worker = serve(RIVERS_MAX_ATTEMPTS="4")
        reply = run(worker, "first", "stops_fork_server")

        assert reply.ready or "process" in reply.retires
        if reply.ready:
            assert run(worker, "second", "looks_around").ready

    def test_the_server(self, serve: Serve, nothing_is_left: str) -> None:
        """With the server die its fork server and the process that waits."""
        worker = serve(RIVERS_MAX_ATTEMPTS="4")
        run(worker, "first", "quick", "served_steps")
        worker.process.kill()

        assert [] == wait_for_none(lambda: marked(nothing_is_left), 3)

    @pytest.mark.parametrize("seed", [1])
    def test_at_random_moments(self, serve: Serve, seed: int, nothing_is_left: str) -> None:
        """Bodies that are killed at any moment end as lost or not at all; none runs twice, and no other is charged."""
        chance = random.Random(seed)
        worker, ran, lost = serve(RIVERS_MAX_ATTEMPTS="100"), 0, 0
        for number in range(8):
            attempt = threading.Thread(target=_kill_soon, args=(worker, chance.random() * 0.06))
            attempt.start()
            worker.attempt_id = f"attempt {number}"
            outcome = told(worker.run(worker.spec("quick", "served_steps")))[-1]
            attempt.join()
            reply = worker.ack()
            if isinstance(outcome, StepResult):
                assert Ending.SUCCEEDED is outcome.ending, outcome
                ran += 1
            else:
                assert signal.SIGKILL == outcome.signal  # type: ignore[union-attr]
                assert not reply.ready
                lost += 1
            if not reply.ready:
                worker.ended()
                ran, worker = ran - len(worker.notes), serve(RIVERS_MAX_ATTEMPTS="100")

        assert 0 <= len(worker.notes) - ran <= lost
        worker.process.terminate()
        worker.ended()
        assert [] == wait_for_none(lambda: marked(nothing_is_left), 3)


def _kill_soon(worker: Served, seconds: float) -> None:
    time.sleep(seconds)
    for pid in bodies(worker):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
