"""Workers that die, hang or leave things behind, for real."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest
import user_steps as steps
from rivers_executor_subprocess import SubprocessExecutor

import rivers as rs
from rivers.exceptions import StepCrashedError

EXECUTOR = SubprocessExecutor(max_workers=2)


def run(store: rs.PickleIOHandler, *assets: rs.Asset, **more: Any) -> rs.RunResult:
    repo = rs.CodeRepository(list(assets), resources={"store": store, **more.pop("resources", {})})
    return repo.materialize(executor=EXECUTOR, raise_on_error=False, **more)


def test_a_worker_killed_from_outside(store: rs.PickleIOHandler, notes: Callable[[], list[str]]) -> None:
    """A worker that gets SIGKILL in the middle of a body fails its own step as infrastructure, and no other."""

    def kill(event: object) -> None:
        if type(event).__name__ == "StepLog" and getattr(event, "step", "") == "stubborn":
            os.kill(int(worker[0].removeprefix("pid ")), signal.SIGKILL)
        elif type(event).__name__ == "StepStarted" and getattr(event, "step", "") == "stubborn":
            worker.append(getattr(event, "worker", ""))

    worker: list[str] = []
    result = run(store, steps.stubborn, steps.base, steps.awaited, on_event=kill)

    failure = result.steps["stubborn"].failure
    assert failure is not None
    assert rs.FailureReason.INFRASTRUCTURE is failure.reason
    assert "killed by SIGKILL (9)" in failure.message
    assert failure.evidence is not None
    assert (signal.SIGKILL, None, worker[0]) == (
        failure.evidence.signal,
        failure.evidence.exit_code,
        failure.evidence.worker,
    )
    assert {"stubborn": "failed", "base": "succeeded", "awaited": "succeeded"} == {
        key: report.state for key, report in result.steps.items()
    }


def test_a_killed_attempt_is_tried_again(store: rs.PickleIOHandler, notes: Callable[[], list[str]]) -> None:
    """The retry policy counts a killed worker as an attempt and starts another one, whose value is stored."""
    result = run(store, steps.killed_once, retry=rs.RetryPolicy(max_retries=1, retry_on=rs.RetryOn.TRANSIENT))

    assert result.success
    assert ["attempt 1", "attempt 2"] == notes()
    assert 2 == result.steps["killed_once"].attempts
    assert ["killed by SIGKILL (9)"] == [
        failure.message.partition(";")[0] for failure in result.steps["killed_once"].failures
    ]


def test_exit_0_is_no_success(store: rs.PickleIOHandler) -> None:
    """A body that ends its process with code 0 has failed: nothing was committed."""
    result = run(store, steps.exits_early)

    failure = result.steps["exits_early"].failure
    assert failure is not None
    assert rs.FailureReason.INFRASTRUCTURE is failure.reason
    assert failure.message.startswith("exited with code 0 before committing")


def test_a_native_crash_leaves_its_stack(store: rs.PickleIOHandler) -> None:
    """A segmentation fault names its signal, and the evidence holds the Python stack at the crash."""
    repo = rs.CodeRepository([steps.crashes], resources={"store": store})

    with pytest.raises(StepCrashedError, match="SIGSEGV") as raised:
        repo.materialize(executor=EXECUTOR)

    evidence = raised.value.failure.evidence
    assert "Segmentation fault" in evidence.native_traceback
    assert "in crashes" in evidence.native_traceback
    assert any("in crashes" in note for note in raised.value.__notes__)


def test_committed_is_succeeded(store: rs.PickleIOHandler, notes: Callable[[], list[str]]) -> None:
    """A worker killed between its commit and its report has succeeded: its body does not run again."""
    dying = steps.DiesAfterCommit(store.store)

    result = run(
        store,
        *(steps.committed, steps.after_committed),
        resources={"dying": dying},
        retry=rs.RetryPolicy(max_retries=3),
    )

    assert result.success
    assert ["body"] == notes()
    assert 1 == result.steps["committed"].attempts


def test_a_reported_result_stands(store: rs.PickleIOHandler) -> None:
    """A worker that dies in a resource's teardown has reported its result before, metadata included."""
    result = run(store, steps.with_fragile, resources={"fragile": steps.Fragile()})

    assert result.success
    (output,) = result.steps["with_fragile"].outputs
    assert '"told":"yes"' in (output.metadata or "")


@pytest.mark.parametrize("asset", [steps.overdue, steps.overdue_async], ids=lambda asset: asset.name)
def test_a_timeout_kills(store: rs.PickleIOHandler, asset: rs.Asset) -> None:
    """A body that sleeps in C beyond its timeout is stopped, sync or async, and its traceback says where it was."""
    repo = rs.CodeRepository([asset], resources={"store": store})

    with pytest.raises(TimeoutError) as raised:
        repo.materialize(executor=EXECUTOR)

    failure: Any = raised.value.result.steps[asset.name].failure  # type: ignore[attr-defined]  # every exception of a run has it
    assert rs.FailureReason.TIMEOUT is failure.reason
    assert "time.sleep(60)" in failure.traceback


def test_a_cancel_reaches_the_body(store: rs.PickleIOHandler, notes: Callable[[], list[str]]) -> None:
    """A cancelled run interrupts a sync body at once, which may clean up; the step is cancelled, nothing is stored."""
    asleep = threading.Event()
    repo = rs.CodeRepository([steps.sleeps], resources={"store": store})
    handle = repo.submit(
        executor=EXECUTOR,
        on_event=lambda event: asleep.set() if type(event).__name__ == "StepStarted" else None,
    )
    asleep.wait()

    handle.cancel()
    result = handle.wait()

    assert "cancelled" == result.status
    assert "cancelled" == result.steps["sleeps"].state
    assert notes() in ([], ["asleep", "cleaned up"])  # it may be stopped before the body has begun
    with pytest.raises(rs.exceptions.InputLoadError):
        repo.load_node("sleeps")


def test_stragglers_end_with_the_worker(store: rs.PickleIOHandler, notes: Callable[[], list[str]]) -> None:
    """A thread, a process and a fork that a body leaves neither hold up its end nor outlive it; the fork can print."""
    events: list[Any] = []

    result = run(store, steps.leaves_a_thread, steps.leaves_a_process, steps.forks, on_event=events.append)

    assert result.success
    messages = [event.message for event in events if type(event).__name__ == "StepLog"]
    assert ["the step left threads, which end with its worker: straggler"] == messages
    assert ["printed"] == notes()


def test_closed_streams_do_no_harm(store: rs.PickleIOHandler) -> None:
    """A body that closes stdin, stdout and stderr succeeds: they are not what the worker speaks through."""
    assert run(store, steps.closes_everything).success


def test_a_module_that_cannot_be_imported(
    store: rs.PickleIOHandler, notes: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An import that fails in the worker alone fails its step as infrastructure, with the real error; no retry (D4)."""
    monkeypatch.setenv("RIVERS_TEST_CONTROLLER", str(os.getpid()))
    import broken_in_worker

    result = run(
        store,
        *(broken_in_worker.unreachable, steps.base),
        retry=rs.RetryPolicy(max_retries=3, retry_on=rs.RetryOn.TRANSIENT),
    )

    failure = result.steps["unreachable"].failure
    assert failure is not None
    assert (rs.FailureReason.INFRASTRUCTURE, False, 1) == (
        failure.reason,
        failure.transient,
        result.steps["unreachable"].attempts,
    )
    assert "ModuleNotFoundError: No module named 'a_package_that_is_missing'" in failure.message
    assert "import a_package_that_is_missing" in (failure.traceback or "")
    assert "succeeded" == result.steps["base"].state


def test_an_application_that_reaps_children(store: rs.PickleIOHandler) -> None:
    """With SIGCHLD ignored no exit code is known; results arrive all the same."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        result = run(store, steps.halves, steps.base)
    finally:
        signal.signal(signal.SIGCHLD, before)

    assert result.success
    assert '"side":"l"' in (result.steps["halves"].outputs[0].metadata or "")
