"""Runs in the background: submit, wait, status, cancel, shutdown, many at once."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest

import rivers as rs
from rivers._events.event import StepLog
from rivers.exceptions import ExecutionError


class Gate:
    """A body that says it has begun and waits to be let go."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go = threading.Event()

    def __call__(self) -> int:
        self.begun.set()
        assert self.go.wait(30)
        return 1

    def asset(self, name: str = "gated") -> rs.Asset:
        return rs.Asset(self, name=name)


@pytest.fixture
def held(tmp_path: Path) -> Path:
    """A named pipe: opening it waits for a writer, reading it to the end waits until no process holds it any more."""
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


def after(gated: int) -> int:
    return gated + 1


def status(handle: rs.RunHandle) -> str:
    return handle.status  # a type checker takes a property for as steady as an attribute


def states(result: rs.RunResult) -> dict[str, str]:
    return {step: report.state.value for step, report in result.steps.items()}


def test_submit_and_wait() -> None:
    """submit returns at once; status is `running` until the end, wait returns the result, also twice."""
    gate = Gate()
    repository = rs.CodeRepository([gate.asset(), rs.Asset(after)])

    handle = repository.submit()
    assert gate.begun.wait(30)
    assert "running" == status(handle)
    with pytest.raises(TimeoutError, match=handle.run_id):
        handle.wait(0)
    with pytest.raises(TimeoutError, match=r"within 0\.01 s"):
        handle.wait(timedelta(milliseconds=10))
    with pytest.raises(rs.exceptions.ConfigurationError, match="invalid timeout='1': expected a number of seconds"):
        handle.wait("1")  # type: ignore[arg-type]
    gate.go.set()

    result = handle.wait()
    assert result is handle.wait(0)
    assert "success" == status(handle)
    assert handle.run_id == result.run_id
    assert 2 == repository.load_node("after")


def test_wait_returns_failures() -> None:
    """wait returns the result of a run whose step failed, and raises nothing."""

    def fails() -> None:
        raise ValueError("x")

    handle = rs.CodeRepository([rs.Asset(fails)]).submit()

    assert [("fails", "ValueError: x")] == handle.wait().failed_assets
    assert "failure" == handle.status


def test_refusals_are_raised_by_submit() -> None:
    """A refusal before anything starts is raised by submit itself."""
    with pytest.raises(rs.exceptions.AssetNotFoundError):
        rs.CodeRepository([]).submit(["nobody"])


def test_cancel_a_sync_body() -> None:
    """A cancelled sync body runs to its return, nothing of it is stored, and what comes after never starts."""
    gate = Gate()
    repository = rs.CodeRepository([gate.asset(), rs.Asset(after)])

    handle = repository.submit()
    assert gate.begun.wait(30)
    handle.cancel()
    gate.go.set()

    assert {"gated": "cancelled", "after": "cancelled"} == states(handle.wait())
    assert "cancelled" == handle.status
    with pytest.raises(rs.exceptions.InputLoadError):
        repository.load_node("gated")


def test_cancel_an_async_body() -> None:
    """A cancelled async body gets CancelledError at its await, and its finally runs."""
    begun, cleaned = threading.Event(), threading.Event()

    async def endless() -> None:
        try:
            begun.set()
            await asyncio.sleep(600)
        finally:
            cleaned.set()

    handle = rs.CodeRepository([rs.Asset(endless)]).submit()
    assert begun.wait(30)
    handle.cancel()

    assert {"endless": "cancelled"} == states(handle.wait(30))
    assert cleaned.is_set()


def test_cancel_a_command(held: Path) -> None:
    """A cancelled bash task is killed with all it has started."""
    command = rs.BashTask("endless", f"exec 3>{held}; echo begun >&3; sleep 600 & sleep 600")

    handle = rs.CodeRepository([], tasks=[command]).submit()
    with held.open() as pipe:
        assert "begun\n" == pipe.readline()
        handle.cancel()
        assert "" == pipe.read(), "the end comes when the last process that holds the pipe is gone"

    assert {"endless": "cancelled"} == states(handle.wait(30))


def test_timeout_of_a_command(held: Path) -> None:
    """An overdue bash task is killed with all it has started; one that left its session is not waited for."""
    command = rs.BashTask("endless", f"exec 3>{held}; sleep 600 & setsid sleep 0.5 3>&- & sleep 600", timeout=0.05)

    handle = rs.CodeRepository([], tasks=[command]).submit()
    with held.open() as pipe:
        assert "" == pipe.read()

    failure = handle.wait(30).steps["endless"].failure
    assert failure is not None
    assert "timeout" == failure.reason.value


def test_cancel_during_backoff() -> None:
    """A step that waits for its next attempt is cancelled at once (P6)."""
    retrying = threading.Event()

    def always() -> None:
        raise ValueError

    asset = rs.Asset(retry=rs.RetryPolicy(999, backoff=rs.Backoff.constant(3600)))(always)
    handle = rs.CodeRepository([asset]).submit(
        on_event=lambda event: retrying.set() if type(event).__name__ == "StepRetrying" else None
    )
    assert retrying.wait(30)
    handle.cancel()

    assert {"always": "cancelled"} == states(handle.wait(30))


def test_cancel_with_immediate_retries() -> None:
    """A step that fails and is retried without delay ends as well (P6)."""
    ran = threading.Event()

    def always() -> None:
        ran.set()
        raise ValueError

    handle = rs.CodeRepository([rs.Asset(retry=rs.RetryPolicy(999))(always)]).submit()
    assert ran.wait(30)
    handle.cancel()

    result = handle.wait(30)
    assert result.steps["always"].attempts <= 1000
    assert not result.success


def test_cancel_is_harmless_when_over() -> None:
    """Cancelling twice, or after the end, changes nothing."""
    handle = rs.CodeRepository([rs.Asset(lambda: 1, name="one")]).submit()
    result = handle.wait()

    handle.cancel()
    handle.cancel()

    assert result is handle.wait()
    assert "success" == handle.status


def test_many_at_once() -> None:
    """Runs side by side in one repository each see their own values, and end each for itself."""
    barrier = threading.Barrier(8)

    def number(context: rs.AssetExecutionContext) -> int:
        barrier.wait(30)
        return int(context.config["n"])

    def twice(number: int) -> int:
        time.sleep(0)
        return 2 * number

    def check(context: rs.AssetExecutionContext, number: int, twice: int) -> None:
        assert 2 * number == twice
        assert context.config["n"] == number

    repository = rs.CodeRepository([rs.Asset(number), rs.Asset(twice), rs.Asset(check)])
    handles = [repository.submit(config={"number": {"n": n}, "check": {"n": n}}) for n in range(8)]

    assert ["success"] * 8 == [handle.wait(30).status for handle in handles]
    assert 8 == len({handle.run_id for handle in handles})


def test_output_of_runs_side_by_side_is_not_mixed() -> None:
    """Prints and logs of two runs at the same time reach each run's own sink only."""
    turns = threading.Barrier(2)

    def talks(context: rs.AssetExecutionContext) -> None:
        for turn in range(20):
            turns.wait(30)
            print(context.config["name"], turn)
            context.log.info("%s %d", context.config["name"], turn)

    repository = rs.CodeRepository([rs.Asset(talks)])
    sinks = {name: rs.ListSink() for name in ("left", "right")}
    handles = [repository.submit(config={"talks": {"name": name}}, on_event=sink) for name, sink in sinks.items()]

    assert all(handle.wait(30).success for handle in handles)
    for name, sink in sinks.items():
        lines = [event.message for event in sink.events if isinstance(event, StepLog)]
        assert [f"{name} {turn}" for turn in range(20) for _ in range(2)] == lines


def test_shutdown_cancels_and_refuses() -> None:
    """shutdown, or the end of `with`, cancels what goes on, waits for it, and refuses new runs."""
    begun = threading.Event()

    async def endless() -> None:
        begun.set()
        await asyncio.sleep(600)

    with rs.CodeRepository([rs.Asset(endless)]) as repository:
        handle = repository.submit()
        assert begun.wait(30)

    assert "cancelled" == handle.status
    for start in (repository.materialize, repository.submit):
        with pytest.raises(ExecutionError, match="shut down"):
            start()
    repository.shutdown()


def test_shutdown_is_quiet_about_runs_that_raised() -> None:
    """A run that ended by KeyboardInterrupt in its thread does not make shutdown raise; wait does."""

    def interrupts() -> None:
        raise KeyboardInterrupt

    with rs.CodeRepository([rs.Asset(interrupts)]) as repository:
        handle = repository.submit()

    assert "cancelled" == handle.status
    with pytest.raises(KeyboardInterrupt):
        handle.wait(30)
