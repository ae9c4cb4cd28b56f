"""Tests of the base for executors with remote workers, over a platform that starts processes of this machine."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

from process_platform import OpenRun, ProcessBackend, ProcessPlatform, opened

from rivers.exceptions import Problem
from rivers.protocol import (
    Compute,
    Ending,
    Failure,
    FailureReason,
    ImportRef,
    LogRecord,
    StepResult,
    StepSpec,
    StepStarted,
)
from rivers.spi import Run
from rivers_worker.remote import StartRefusedError

SPEC = StepSpec(run_id="run", step="quick", attempt_id="a", function=ImportRef(module="client_steps", qualname="quick"))


def failure(result: StepResult) -> Failure:
    assert result.failure is not None
    return result.failure


def test_one_worker_for_each(tmp_path: Path) -> None:
    """Without reuse an attempt has a worker of its own, which ends with it; its events are in order."""
    with opened(tmp_path) as run:
        first, second = run.submit("speaks"), run.submit("quick")
        results = [run.result(first), run.result(second)]

        assert [Ending.SUCCEEDED] * 2 == [result.ending for result in results]
        assert 2 == len({result.worker for result in results})
        ours = [event for event in run.events if getattr(event, "attempt_id", None) == first]
        assert [f"line {n}" for n in range(40)] == [event.message for event in ours if isinstance(event, LogRecord)]
        assert isinstance(ours[0], StepStarted)
        assert isinstance(ours[-1], StepResult)
        assert all(result.timings.boot > 0 for result in results)
        wait_until(lambda: all(worker.is_over for worker in run.platform.workers))


def test_warm_workers(tmp_path: Path) -> None:
    """With reuse, attempts of one shape share a worker; another shape has its own."""
    with opened(tmp_path, is_warm=True, max_workers=2) as run:
        names = [run.result(run.submit("quick")).worker for _ in range(5)]
        other = run.result(run.submit("quick", compute=Compute(cpu="2"))).worker

        assert 1 == len(set(names))
        assert other not in names
        assert 2 == len(run.platform.orders)


def test_the_limit(tmp_path: Path) -> None:
    """No more workers exist at once than allowed, also after the platform has lowered the limit."""
    with opened(tmp_path, is_warm=True, max_workers=2) as run:
        for attempt in [run.submit("quick") for _ in range(6)]:
            run.result(attempt)
        assert len(run.platform.orders) <= 2
        run.backend._loop.post(run.platform.limit_changed, 1)  # type: ignore[union-attr]
        for attempt in [run.submit("quick") for _ in range(4)]:
            run.result(attempt)

        assert len([worker for worker in run.platform.workers if not worker.is_over]) <= 2


def test_a_body_that_dies(tmp_path: Path) -> None:
    """The worker reports a body that dies; the next attempt has a new worker, and is not harmed."""
    with opened(tmp_path, is_warm=True) as run:
        died = run.result(run.submit("dies"))
        after = run.result(run.submit("quick"))

        assert FailureReason.INFRASTRUCTURE is failure(died).reason
        assert Ending.SUCCEEDED is after.ending
        assert died.worker != after.worker


def test_a_worker_that_is_killed(tmp_path: Path) -> None:
    """The platform's evidence gives the result: failed after the start, not started before it."""
    with opened(tmp_path, is_warm=True) as run:
        attempt = run.submit("waits")
        run.wait_for(attempt, StepStarted)
        run.kill_worker()
        result = run.result(attempt)

        assert (Ending.FAILED, FailureReason.INFRASTRUCTURE) == (result.ending, failure(result).reason)
        evidence = failure(result).evidence
        assert evidence is not None
        assert (9, "here") == (evidence.signal, evidence.node)
        assert result.worker == evidence.worker


def test_a_worker_that_is_frozen(tmp_path: Path) -> None:
    """A worker that falls silent is suspected, and given up after `lost_after`; it is ended at the close."""
    with opened(tmp_path, lost_after=3.0) as run:
        attempt = run.submit("waits")
        run.wait_for(attempt, StepStarted)
        run.kill_worker(number=signal.SIGSTOP)
        result = run.result(attempt)

        assert (Ending.FAILED, FailureReason.INFRASTRUCTURE) == (result.ending, failure(result).reason)
        assert "no contact for 3 s" in failure(result).message
        assert run.platform.workers[0].suspected > 0


def test_an_idle_worker_that_is_killed(tmp_path: Path) -> None:
    """An attempt gets another worker."""
    with opened(tmp_path, is_warm=True) as run:
        run.result(run.submit("quick"))
        run.kill_worker()
        after = run.result(run.submit("quick"))

        assert Ending.SUCCEEDED is after.ending
        assert 2 == len(run.platform.workers)


def test_a_refused_start(tmp_path: Path) -> None:
    """It is the failure of the attempt that asked, with the platform's word as evidence."""

    def refuse(platform: ProcessPlatform) -> None:
        platform.refusal = StartRefusedError("the queue is closed", reason="PartitionDown", is_transient=False)

    with opened(tmp_path, refuse) as run:
        found = failure(run.result(run.submit("quick")))

        assert (FailureReason.INFRASTRUCTURE, False) == (found.reason, found.transient)
        assert "the queue is closed" in found.message
        assert found.evidence is not None
        assert "PartitionDown" == found.evidence.container_reason


def test_a_start_that_takes_too_long(tmp_path: Path) -> None:
    """It is given up after `startup_timeout`; what it waits for is reported."""
    with opened(tmp_path, lambda platform: platform.hold.clear(), startup_timeout=0.5) as run:
        attempt = run.submit("quick")
        found = failure(run.result(attempt))

        assert "startup_timeout=0.5 s" in found.message
        assert found.transient
        reported = run.wait_for(attempt, LogRecord)
        assert "waits for its worker: the platform has no place" == reported.message
        assert "rivers.process" == reported.logger


class TestCancel:
    def test_while_it_waits(self, tmp_path: Path) -> None:
        """An attempt without a worker ends at once."""
        with opened(tmp_path, lambda platform: platform.hold.clear()) as run:
            attempt = run.submit("quick")
            run.wait_for(attempt, LogRecord)
            run.backend.cancel(attempt, 10.0)

            assert Ending.CANCELLED is run.result(attempt).ending
            assert [] == run.platform.workers

    def test_while_it_runs(self, tmp_path: Path) -> None:
        """The body is asked to end; its worker may serve the next attempt."""
        with opened(tmp_path, is_warm=True) as run:
            attempt = run.submit("waits")
            run.wait_for(attempt, StepStarted)
            run.backend.cancel(attempt, 5.0)
            run.backend.cancel(attempt, 5.0)

            assert Ending.CANCELLED is run.result(attempt).ending
            assert Ending.SUCCEEDED is run.result(run.submit("quick")).ending

    def test_unknown(self, tmp_path: Path) -> None:
        """A cancel of an attempt that is over or never was does nothing."""
        with opened(tmp_path) as run:
            attempt = run.submit("quick")
            run.result(attempt)
            run.backend.cancel(attempt, 1.0)
            run.backend.cancel("nobody", 1.0)

            assert Ending.SUCCEEDED is run.result(run.submit("quick")).ending
            assert 1 == len([e for e in run.of(StepResult) if e.attempt_id == attempt])


class TestClose:
    def test_with_work_in_flight(self, tmp_path: Path) -> None:
        """Every attempt ends once, as cancelled, and no worker is left."""
        with opened(tmp_path) as run:
            attempts = [run.submit("waits") for _ in range(2)]
            for attempt in attempts:
                run.wait_for(attempt, StepStarted)

        assert {Ending.CANCELLED} == {result.ending for result in run.of(StepResult)}
        assert sorted(attempts) == sorted(result.attempt_id for result in run.of(StepResult))

    def test_in_the_middle_of_a_start(self, tmp_path: Path) -> None:
        """Workers that start are ended as well."""
        with opened(tmp_path) as run:
            attempts = [run.submit("quick") for _ in range(3)]
            wait_until(lambda: len(run.platform.orders) > 0)

        assert sorted(attempts) == sorted(result.attempt_id for result in run.of(StepResult))

    def test_after_an_open_that_raised(self, tmp_path: Path) -> None:
        """A refused run is closed like any other, and the event loop is released."""

        class Refusing(ProcessPlatform):
            async def open(self, run_id: str, warn: object) -> None:
                raise ConnectionError("nobody there")

        backend = ProcessBackend(Refusing(tmp_path))
        run = OpenRun(backend, backend._platform)
        try:
            backend.open(Run(run_id="run"), run.emit)
        except ConnectionError as error:
            seen = str(error)
        backend.close(5.0)
        backend.close(5.0)

        assert "nobody there" == seen
        assert 1 == backend._platform.closed


class TestPreflight:
    def test_problems(self, tmp_path: Path) -> None:
        """The platform's problems are returned."""
        platform = ProcessPlatform(tmp_path)
        platform.problems = [Problem("no host answers")]

        assert [Problem("no host answers")] == ProcessBackend(platform).preflight([SPEC])
        assert () == ProcessBackend(platform).preflight([])
        assert 1 == platform.closed

    def test_opened(self, tmp_path: Path) -> None:
        """The run uses the platform that preflight has asked, and closes it."""
        made = [ProcessPlatform(tmp_path), ProcessPlatform(tmp_path)]
        backend = ProcessBackend(made[0])
        assert [] == backend.preflight([SPEC])
        backend._platform = made[1]
        backend.open(Run(run_id="run"), lambda event: None)
        backend.close(20)

        assert [1, 0] == [platform.closed for platform in made]

    def test_abandoned(self, tmp_path: Path) -> None:
        """Without a run it is closed by `abandon`, and only once."""
        platform = ProcessPlatform(tmp_path)
        backend = ProcessBackend(platform)
        backend.preflight([SPEC])
        backend.abandon(20)
        backend.abandon(20)

        assert 1 == platform.closed

    def test_cancelled(self, tmp_path: Path) -> None:
        """A preflight that waits ends soon after it was cancelled, from another thread."""
        platform = ProcessPlatform(tmp_path)
        platform.check_lasts = 60.0
        backend = ProcessBackend(platform)
        backend.observe(lambda event: None)
        timer = threading.Timer(0.3, backend.cancel_preflight)
        timer.start()
        began = time.monotonic()

        assert () == tuple(backend.preflight([SPEC]))
        assert time.monotonic() - began < 30
        timer.join()


def wait_until(is_so: object, patience: float = 20.0) -> None:
    assert callable(is_so)
    until = time.monotonic() + patience
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.02)
