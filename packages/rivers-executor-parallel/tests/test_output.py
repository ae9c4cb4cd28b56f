"""Output of bodies arrives while they run, under their step, bounded; one that breaks its own breaks no other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import worker_output as output

import rivers as rs


def logs(events: list[Any], step: str, stream: str | None = None) -> list[str]:
    return [
        event.message
        for event in events
        if type(event).__name__ == "StepLog" and event.step == step and stream in (None, event.stream)
    ]


def test_all_that_is_printed_is_logged(
    repository: Callable[..., rs.CodeRepository], capfd: pytest.CaptureFixture[str]
) -> None:
    """Prints, log records, and what C and child processes write to fd 1 and 2 are events of their step, in order."""
    events: list[Any] = []
    repository(output.talks).materialize(on_event=events.append)

    lines = [
        "printed ünï",
        "logged 1",
        "written",
        "from C",
        "from a child",
        "last",
        "to stderr",
        "written to stderr",
    ]
    assert lines == logs(events, "talks")
    assert lines[-2:] == logs(events, "talks", "stderr")
    assert ["logged 1"] == logs(events, "talks", "log")


def test_each_step_has_its_own_lines(repository: Callable[..., rs.CodeRepository]) -> None:
    """The lines of many short steps on two workers arrive as theirs, in order, and before their end."""
    events: list[Any] = []
    repository(output.chorus).materialize(on_event=events.append)

    for number in range(20):
        step = f"chorus/speaks[k{number:02}]"
        mine = [event for event in events if getattr(event, "step", None) == step]
        assert [f"{number}: {line}" for line in range(6)] == logs(mine, step)
        assert ("StepStarted", "StepSucceeded") == (type(mine[0]).__name__, type(mine[-1]).__name__)


@pytest.mark.parametrize("asset", [output.floods, output.floods_in_binary], ids=lambda asset: asset.name)
def test_a_flood_is_bounded(
    repository: Callable[..., rs.CodeRepository], capfd: pytest.CaptureFixture[str], asset: rs.Asset
) -> None:
    """Of 20 MB and more the beginning and the end arrive, some MB in all, and the size of the gap (L16)."""
    lines = [0, 0]
    dropped: list[str] = []

    def listen(event: Any) -> None:
        if type(event).__name__ == "StepLog":
            lines[0] += len(event.message)
            lines[1] += 1
            if event.logger == "rivers":
                dropped.append(event.message)

    assert repository(asset).materialize(on_event=listen).success
    assert 1 << 20 < lines[0] < 6 << 20
    assert 1 == len(dropped)


def test_a_flood_stays_in_its_worker(
    repository: Callable[..., rs.CodeRepository], capfd: pytest.CaptureFixture[str]
) -> None:
    """The controller's memory does not grow by what a step prints."""
    repo = repository(output.floods)
    repo.materialize(on_event=lambda event: None)
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = peak()
    repo.materialize(on_event=lambda event: None)

    assert peak() - before < 16 << 20


def peak() -> int:
    """The most memory that this process has had since it was last reset, in bytes."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) << 10


def test_a_body_that_breaks_its_output(repository: Callable[..., rs.CodeRepository]) -> None:
    """A body that closes fd 1 and 2 and drops its streams succeeds, and the next step is logged again (L17)."""
    events: list[Any] = []
    repo = repository(output.breaks_its_output, output.after_breaking, workers=1)
    result = repo.materialize(on_event=events.append)

    assert result.success
    assert ["still heard"] == logs(events, "after_breaking", "stdout")


def test_stdin_is_empty(repository: Callable[..., rs.CodeRepository]) -> None:
    """A body that reads from stdin gets nothing and does not wait for a person."""
    repo = repository(output.reads_stdin)
    repo.materialize()

    assert "" == repo.load_node("reads_stdin")
