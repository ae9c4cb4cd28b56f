"""The same assets here and in processes that share nothing with this one have equal results and events."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import user_steps as steps
from rivers_executor_subprocess import SubprocessExecutor

import rivers as rs

ASSETS = [
    *(steps.base, steps.described, steps.talkative, steps.awaited, steps.generated, steps.streamed, steps.halves),
    *(steps.mapped, steps.mapped_stream, steps.fetched, steps.listed, steps.raises, steps.raises_unpicklable),
    *(steps.raises_unprintable, steps.leaves, steps.too_big, steps.wrong_type, steps.recurses),
    *(steps.cannot_be_stored, steps.after_raises),
]
VALUES = ["base", "described", "talkative", "awaited", "generated", "streamed", "left", "right"]
VALUES += ["mapped", "mapped_stream", "fetched", "listed"]


class Told:
    """One run of the assets, and all that can be seen of it but times, worker names and paths."""

    def __init__(self, executor: rs.Executor, folder: Path) -> None:
        store = rs.PickleIOHandler(folder)
        repo = rs.CodeRepository(ASSETS, resources={"store": store, "client": steps.Client(url="db://x")})
        events: list[Any] = []
        self.result = repo.materialize(
            executor=executor, raise_on_error=False, config={"described": {"factor": 3}}, on_event=events.append
        )
        self.values = {name: repo.load_node(name) for name in VALUES}
        self.events = Counter((type(event).__name__, getattr(event, "step", "")) for event in events)
        self.logs = Counter(
            (event.step, event.stream, event.level, event.logger, event.message)
            for event in events
            if type(event).__name__ == "StepLog"
        )
        self.steps = {key: self.step(report, folder, self.result.run_id) for key, report in self.result.steps.items()}

    @staticmethod
    def step(report: rs.StepReport, folder: Path, run_id: str) -> dict[str, Any]:
        failure = report.failure
        return {
            "state": report.state,
            "attempts": report.attempts,
            "cause": report.cause,
            "outputs": [
                (o.name, o.key, (o.metadata or "").replace(str(folder), "FOLDER"), o.data_version, o.map_keys)
                for o in report.outputs
            ],
            "failure": failure and (failure.reason, failure.type, failure.mro, failure.args),
            "message": failure and failure.message.replace(run_id, "RUN"),
            "transient": failure and failure.transient,
            "notes": failure and failure.notes,
        }


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Told, Told]:
    folder = tmp_path_factory.mktemp("parity")
    (folder / "notes").touch()
    os.environ["RIVERS_TEST_NOTES"] = str(folder / "notes")
    here = Told(rs.Executor.in_process(), folder / "here")
    there = Told(SubprocessExecutor(max_workers=2), folder / "there")
    del os.environ["RIVERS_TEST_NOTES"]
    return here, there


def test_the_same_values(both: tuple[Told, Told]) -> None:
    """Every kind of body gives the same stored value on both executors."""
    here, there = both

    assert here.values == there.values


def test_the_same_ends(both: tuple[Told, Told]) -> None:
    """Every step has the same state, outputs with metadata, failure reason, type, message and arguments."""
    here, there = both

    assert here.steps == there.steps
    assert {"succeeded", "failed", "skipped"} == {step["state"] for step in there.steps.values()}


def test_the_same_events(both: tuple[Told, Told]) -> None:
    """Every step emits the same events and the same output, line by line."""
    here, there = both

    assert here.events == there.events
    assert here.logs == there.logs
    assert ("talkative", "stdout", 0, "", "printed ünï 20") in there.logs


def test_nothing_ran_here(both: tuple[Told, Told]) -> None:
    """Each attempt of the subprocess executor had a worker of its own, and none was this process."""
    workers = [report.worker for report in both[1].result.steps.values() if report.worker]

    assert len(workers) == len(set(workers))
    assert f"pid {os.getpid()}" not in workers


def test_phases_are_timed(both: tuple[Told, Told]) -> None:
    """The phases of an attempt are measured in the worker and arrive."""
    timings = both[1].result.steps["base"].timings

    assert timings.run > 0
    assert timings.store > 0


def test_resources_are_set_up_and_torn_down_in_the_worker(
    store: rs.PickleIOHandler, notes: Callable[[], list[str]]
) -> None:
    """A resource is built from its fields in the worker, set up there before its use and torn down before it goes."""
    repo = rs.CodeRepository([steps.fetched], resources={"store": store, "client": steps.Client(url="db://x")})

    result = repo.materialize(executor=SubprocessExecutor())

    pid = result.steps["fetched"].worker.removeprefix("pid ")
    assert [f"setup {pid}", f"teardown {pid}"] == notes()


def test_a_graph_that_says_so_is_one_step_in_one_worker(store: rs.PickleIOHandler) -> None:
    """A graph asset of executor X whose tasks resolve to in_process runs as one step of X, its tasks in one process."""
    repo = rs.CodeRepository([steps.fused], resources={"store": store})

    result = repo.materialize()

    assert ["fused"] == list(result.steps)
    first, second = repo.load_node("fused")
    assert first == second
    assert f"pid {first}" == result.steps["fused"].worker


def test_mapped_instances_have_a_process_each(store: rs.PickleIOHandler) -> None:
    """Each instance of a mapped task runs in a process of its own."""
    repo = rs.CodeRepository([steps.base, steps.per_instance], resources={"store": store})

    repo.materialize(executor=SubprocessExecutor(max_workers=2))

    assert 3 == len({*repo.load_node("per_instance")} - {os.getpid()})


def test_executors_side_by_side(store: rs.PickleIOHandler) -> None:
    """In one run, a step overridden to in_process runs here and loads what a worker has stored."""
    repo = rs.CodeRepository([steps.where, steps.here], resources={"store": store})

    repo.materialize(executor=SubprocessExecutor())

    there, here = repo.load_node("here")
    assert os.getpid() == here != there


def test_a_worker_has_this_environment(
    store: rs.PickleIOHandler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker has the working directory and the environment that the controller has when the attempt is submitted."""
    monkeypatch.chdir(tmp_path)
    repo = rs.CodeRepository([steps.where], resources={"store": store})

    repo.materialize(executor=SubprocessExecutor())

    assert (str(tmp_path), os.environ["RIVERS_TEST_MARK"]) == repo.load_node("where")[1:]


def test_places_are_shared_by_sync_and_async_steps(store: rs.PickleIOHandler, notes: Callable[[], list[str]]) -> None:
    """With max_workers=1, two workers are never there at once, sync or async."""
    sink = rs.ListSink()
    repo = rs.CodeRepository([steps.base, steps.awaited, steps.reads_stdin, steps.where], resources={"store": store})

    repo.materialize(executor=SubprocessExecutor(max_workers=1), on_event=sink)

    reported = [type(event).__name__ for event in sink.events if type(event).__name__.startswith("Step")]
    assert ["StepStarted", "StepSucceeded"] * 4 == reported


def test_stdin_is_empty(store: rs.PickleIOHandler) -> None:
    """A body that reads stdin finds nothing there, and nothing of what the controller sends."""
    repo = rs.CodeRepository([steps.reads_stdin], resources={"store": store})

    repo.materialize(executor=SubprocessExecutor())

    assert "" == repo.load_node("reads_stdin")
