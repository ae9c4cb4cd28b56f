"""Runs whose executors are scripted: in this thread, or in one of their own while the test ends attempts by hand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import rivers as rs
from rivers._executor.drive import RunLoop
from rivers._executor.registry import backend_for
from rivers._executor.run_options import RunOptions
from rivers.testing import Script, ScriptedExecutor


class Going:
    """A run in a thread of its own."""

    def __init__(self, loop: RunLoop, sink: rs.ListSink) -> None:
        self.loop = loop
        self.error: BaseException | None = None
        self._sink = sink
        self.thread = threading.Thread(target=self._work, name="the run", daemon=True)

    def _work(self) -> None:
        try:
            self.loop.run()
        except BaseException as error:
            self.error = error

    def end(self) -> dict[str, rs.StepReport]:
        """Wait for the run's end; the reports by step."""
        self.thread.join(20)
        assert not self.thread.is_alive(), "the run does not end"
        if self.error is not None:
            raise self.error
        return self.loop.frontier.reports

    @property
    def states(self) -> dict[str, str]:
        """The final states of the steps, in order."""
        return {key: report.state.value for key, report in self.end().items()}

    def events(self, *kinds: type, step: str | None = None) -> list[Any]:
        """The events of these kinds."""
        return [
            event
            for event in self._sink.events
            if isinstance(event, kinds or object) and (step is None or getattr(event, "step", None) == step)
        ]


Start = Callable[..., Going]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a run of a repository on a scripted executor; at the test's end it must be over, and its threads gone."""
    before = set(threading.enumerate())
    runs: list[Going] = []

    def start(
        repository: rs.CodeRepository,
        script: Script | None = None,
        *,
        grace: float = 0.05,
        random: Callable[[], float] = lambda: 0.5,
        sink: Any = None,
        wait: bool = True,
    ) -> Going:
        plan = repository.plan(executor=ScriptedExecutor(script) if script is not None else None)
        listener = rs.ListSink()
        loop = RunLoop(
            plan,
            [backend_for(executor) for executor in plan.executors],
            RunOptions(
                run_id="run",
                key=b"k" * 32,
                random=random,
                sinks=[listener, *([sink] if sink is not None else [])],
                grace=grace,
            ),
        )
        going = Going(loop, listener)
        runs.append(going)
        going.thread.start()
        if wait:
            going.end()
        return going

    yield start
    for going in runs:
        going.loop.cancel()
        going.thread.join(10)
    left = [thread.name for thread in set(threading.enumerate()) - before if not thread.name.startswith("pydantic")]
    assert [] == left
