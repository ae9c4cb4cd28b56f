"""Async steps on the event loop, and small steps behind a long one."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
import worker_async as steps

import rivers as rs


@pytest.fixture
def flight() -> dict[str, int]:
    """The count of async bodies in flight, from zero."""
    steps.FLIGHT.update(now=0, peak=0, all=0)
    return steps.FLIGHT


@pytest.mark.parametrize(("most", "peak"), [(3, 3), (1, 1), (None, 12)])
def test_as_many_async_steps_at_once_as_allowed(flight: dict[str, int], most: int | None, peak: int) -> None:
    """`max_async_concurrent` is kept exactly, and used; without it all are in flight at once, in this process."""
    executor = rs.Executor.parallel(max_workers=1, max_async_concurrent=most)
    with rs.CodeRepository([steps.many_async], default_executor=executor) as repo:
        repo.materialize()

        assert [os.getpid()] * 12 == repo.load_node("many_async")
    assert {"now": 0, "peak": peak, "all": 12} == flight


def test_nothing_waits_behind_a_long_step(
    repository: Callable[..., rs.CodeRepository], notes: Callable[[], list[str]]
) -> None:
    """A step assigned to the worker of a long one is taken back when another worker is idle."""
    repo = repository(steps.unequal, workers=2)

    result = repo.materialize(raise_on_error=False)

    assert result.success
    assert list(range(12)) == repo.load_node("unequal")
    assert sorted(map(str, range(12))) == sorted(notes())  # each ran once


def test_a_timeout_reaches_an_async_body(repository: Callable[..., rs.CodeRepository]) -> None:
    """An async step that takes too long is cancelled at its await."""
    report = repository(steps.overdue).materialize(raise_on_error=False).steps["overdue"]

    assert report.failure is not None
    assert rs.FailureReason.TIMEOUT is report.failure.reason


def test_a_blocking_async_step_is_named(repository: Callable[..., rs.CodeRepository]) -> None:
    """An async step that holds the loop is named in a warning of its own, with the line where it sits."""
    reported = rs.ListSink()
    repository(steps.blocks).materialize(on_event=reported)

    (warning,) = [event for event in reported.events if isinstance(event, rs.events.StepLog)]
    assert ("blocks", "rivers") == (warning.step, warning.logger)
    assert "worker_async.py" in warning.message


def test_a_value_that_is_stored_slowly_blames_no_body(repository: Callable[..., rs.CodeRepository]) -> None:
    """An async step whose value takes long to be stored gets no advice to await: its body is over."""
    sink = rs.ListSink()
    repo = repository(steps.stored_slowly, steps.after_stored_slowly)
    repo.materialize(on_event=sink)

    assert "SlowToPickle" == repo.load_node("after_stored_slowly")
    assert [] == [event.message for event in sink.events if isinstance(event, rs.events.StepLog)]


def test_a_cancel_reaches_an_async_body(
    repository: Callable[..., rs.CodeRepository], notes: Callable[[], list[str]]
) -> None:
    """The end of a run is raised in the bodies that wait, and their `finally` runs."""
    repo = repository(steps.waits)
    handle = repo.submit(on_event=lambda event: isinstance(event, rs.events.StepLog) and handle.cancel())

    assert "cancelled" == handle.wait(30).status
    assert ["ended"] == notes()
