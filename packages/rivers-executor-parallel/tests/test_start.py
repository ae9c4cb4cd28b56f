"""The start of workers: inherited state, processes of their own, and errors when none can start."""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import worker_start as begin
import worker_steps as steps

import rivers as rs

CODE = Path(__file__).parent / "user_code"


def test_workers_are_not_forked(repository: Callable[..., rs.CodeRepository], monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker is an interpreter of its own: what the controller has in memory is not there (L18)."""
    monkeypatch.setattr(begin, "STATE", "changed in memory")
    repo = repository(begin.state, begin.surroundings)
    repo.materialize()

    assert "as imported" == repo.load_node("state")
    seen = repo.load_node("surroundings")
    assert sys.executable == seen["argv"][0]
    assert not seen["daemon"]


def test_nothing_is_in_shared_memory(
    start: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While workers are busy there is no semaphore of theirs in /dev/shm: none can be left or used up (L26, L27)."""
    monkeypatch.setenv("RIVERS_TEST_GO", str(tmp_path / "go"))
    going = start(steps.waits_for_go)
    worker = going.until("StepStarted").worker.removeprefix("pid ")
    going.until("StepLog", message="asleep")
    held = [name for name in os.listdir("/dev/shm") if name.startswith("sem.")]
    (tmp_path / "go").touch()

    assert going.end().success
    assert [] == [name for name in held if worker in name or str(os.getpid()) in name]


@pytest.fixture
def nesting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder for the stores of repositories within steps."""
    monkeypatch.setenv("RIVERS_TEST_FOLDER", str(tmp_path / "nested"))


@pytest.mark.usefixtures("nesting")
def test_a_parallel_executor_in_a_step(repository: Callable[..., rs.CodeRepository]) -> None:
    """A step may use a parallel executor of its own; a third one within is refused by name, and nothing waits (L19)."""
    repo = repository(begin.nests, begin.nests_twice)
    result = repo.materialize(raise_on_error=False)

    outer, inner = repo.load_node("nests")
    assert 3 == len({outer, inner, os.getpid()})
    failure = result.steps["nests_twice"].failure
    assert failure is not None
    assert rs.FailureReason.ERROR is failure.reason
    assert "max_workers" in (failure.traceback or "") + "".join(failure.notes) + failure.message


@pytest.mark.usefixtures("nesting")
def test_a_nested_executor_dies_with_its_worker(start: Callable[..., Any], processes: Callable[[], list[str]]) -> None:
    """A worker that is killed takes the workers of an executor within it along."""
    going = start(begin.nests_a_sleeper)
    worker = going.until("StepStarted").worker
    going.until("StepLog", message="asleep")  # the innermost one speaks through its worker's worker
    os.kill(int(worker.removeprefix("pid ")), signal.SIGKILL)

    assert rs.FailureReason.INFRASTRUCTURE is going.end().steps["nests_a_sleeper"].failure.reason
    assert [] == processes()


def test_pools_in_a_step(repository: Callable[..., rs.CodeRepository]) -> None:
    """A step may use multiprocessing with every start method (L20)."""
    repo = repository(begin.pools)
    repo.materialize()

    assert [[0, 1, 4, 9]] * 3 == repo.load_node("pools")


def test_children_die_with_their_worker(start: Callable[..., Any], processes: Callable[[], list[str]]) -> None:
    """A process that a step has started is gone when its worker is killed (L20)."""
    going = start(begin.sleeps_with_a_child)
    worker = going.until("StepStarted").worker
    going.until("StepLog", message="asleep")
    os.kill(int(worker.removeprefix("pid ")), signal.SIGKILL)

    assert "failed" == going.end().steps["sleeps_with_a_child"].state
    assert [] == processes()


def test_a_module_that_cannot_be_imported(
    repository: Callable[..., rs.CodeRepository], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An import that fails in the worker alone fails its step as infrastructure, with that error; no retry (L21)."""
    monkeypatch.setenv("RIVERS_TEST_CONTROLLER", str(os.getpid()))
    import worker_broken

    repo = repository(worker_broken.unreachable, steps.base, steps.after_base, workers=1)
    retry = rs.RetryPolicy(max_retries=3, retry_on=rs.RetryOn.TRANSIENT)
    result = repo.materialize(raise_on_error=False, retry=retry)

    report = result.steps["unreachable"]
    assert report.failure is not None
    assert (rs.FailureReason.INFRASTRUCTURE, False, 1) == (
        report.failure.reason,
        report.failure.transient,
        report.attempts,
    )
    assert "ModuleNotFoundError: No module named 'a_package_that_is_missing'" in report.failure.message
    assert "import a_package_that_is_missing" in (report.failure.traceback or "")
    assert "succeeded" == result.steps["after_base"].state


def test_a_module_that_ends_every_worker(
    repository: Callable[..., rs.CodeRepository], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module that ends every process which imports it fails the run after a few workers."""
    exits = importlib.import_module("worker_exits")
    monkeypatch.setenv("RIVERS_TEST_EXITS", "1")

    report = repository(exits.beyond).materialize(raise_on_error=False).steps["beyond"]

    assert report.failure is not None
    assert rs.FailureReason.INFRASTRUCTURE is report.failure.reason
    assert report.failure.evidence is not None
    assert 3 == report.failure.evidence.exit_code


def test_workers_that_cannot_begin(
    repository: Callable[..., rs.CodeRepository], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Three workers in a row that end before they could begin fail the waiting steps, and no more are started.

    Once the cause is gone the same repository runs again (L21).
    """
    repo = repository(steps.base, steps.after_base)
    monkeypatch.setenv("PYTHONHOME", "/there/is/no/python")
    result = repo.materialize(raise_on_error=False)

    failure = result.steps["base"].failure
    assert failure is not None
    assert (rs.FailureReason.INFRASTRUCTURE, False) == (failure.reason, failure.transient)
    assert "3 workers in a row ended before they could begin" in failure.message
    assert 3 <= capfd.readouterr().err.count("Fatal Python error") <= 4
    monkeypatch.delenv("PYTHONHOME")
    assert repo.materialize().success


def test_folder_path_and_environment_are_those_of_the_run(
    repository: Callable[..., rs.CodeRepository], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Changes of the controller between two runs reach the workers: folder, sys.path, environment (L22, L30)."""
    repo = repository(begin.surroundings)
    repo.materialize()
    before = repo.load_node("surroundings")
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("RIVERS_TEST_WORD", "new")
    monkeypatch.delenv("RIVERS_TEST_MARK")
    repo.materialize()

    after = repo.load_node("surroundings")
    assert before["pid"] != after["pid"]
    assert (str(folder), "new") == (after["cwd"], after["env"]["RIVERS_TEST_WORD"])
    assert str(folder) in after["path"]
    assert "RIVERS_TEST_WORD" not in before["env"]
    assert "RIVERS_TEST_MARK" not in after["env"]


def test_threads_of_numerical_libraries(
    repository: Callable[..., rs.CodeRepository], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker is born with its share of cores in the variables that numpy and its like read; the user's own win."""
    for name in begin.THREADS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MKL_NUM_THREADS", "7")
    repo = repository(begin.surroundings, workers=os.cpu_count() or 1)
    repo.materialize()

    born = repo.load_node("surroundings")["born with"]
    assert {"OMP_NUM_THREADS=1", "OPENBLAS_NUM_THREADS=1", "MKL_NUM_THREADS=7"} <= set(born)


def test_the_first_step_of_a_worker_knows_how_long_it_took_to_start(
    start: Callable[..., Any], notes: Callable[[], list[str]]
) -> None:
    """`Timings.boot` is the worker's start for its first step, and 0 for all others."""
    going = start(steps.crowd, workers=1)
    assert going.end().success
    boots = [event.timings.boot for event in going.events if type(event).__name__ == "StepSucceeded"]

    assert boots[0] > 0.0
    assert {0.0} == set(boots[1:])


# ---- limits of the system -------------------------------------------------------------------------------------------

LIMITED = f"""
import json, os, resource, sys
from pathlib import Path
sys.path.insert(0, {str(CODE)!r})
import worker_steps
import rivers as rs

what, folder, cgroup = sys.argv[1:]
store = rs.PickleIOHandler(folder)
executor = rs.Executor.parallel(max_workers=2)

def files():
    return sorted(os.listdir("/proc/self/fd"))

def limit(spare):
    if what == "files":
        most = hard if spare is None else max(map(int, files())) + 1 + spare
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, soft), hard))
    else:
        current = int((Path(cgroup) / "pids.current").read_text())
        (Path(cgroup) / "pids.max").write_text("max" if spare is None else str(current + spare))

soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
with rs.CodeRepository([worker_steps.base], resources={{"store": store}}, default_executor=executor) as repo:
    repo.materialize()
told = []
for spare in (0, 3, 6, 9, 12, 15, 18, 40) if what == "files" else (0, 1, 2, 3, 4, 40):
    assets = [worker_steps.base, worker_steps.pid]
    repo = rs.CodeRepository(assets, resources={{"store": store}}, default_executor=executor)
    before = files()
    limit(spare)
    try:
        result = repo.materialize(raise_on_error=False)
        told.append([report.failure and report.failure.message for report in result.steps.values()])
    except Exception as error:
        told.append([f"{{type(error).__name__}}: {{error}}"])
    limit(None)
    repo.materialize()
    repo.shutdown()
    if files() != before and what == "files":  # loky 3.5 leaves a descriptor open where a fork is refused
        told[-1].append(f"{{files()}} instead of {{before}}")
Path(folder + ".told").write_text(json.dumps(told))
"""


def limited(what: str, tmp_path: Path, cgroup: Path | None = None) -> list[list[str | None]]:
    """Return the messages of the steps of some runs, each with a little more room below a limit."""
    enter = ["/bin/sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(cgroup)] if cgroup is not None else []
    with (tmp_path / "stderr").open("w+") as stderr:  # a file: a pipe would wait for loky's trackers
        done = subprocess.run(
            [*enter, sys.executable, "-W", "ignore", "-c", LIMITED, what, str(tmp_path / "store"), str(cgroup)],
            stdout=subprocess.DEVNULL,  # where workers that cannot begin are told of by loky
            stderr=stderr,
            timeout=50,
            check=False,
        )
    assert 0 == done.returncode, (tmp_path / "stderr").read_text()[-5000:]
    return json.loads((tmp_path / "store.told").read_text())


def test_the_limit_on_open_files(tmp_path: Path) -> None:
    """Near the limit on open files a run ends, with its values or with the limit's name; nothing stays open (L26)."""
    reported = limited("files", tmp_path)

    refused = [text for texts in reported for text in texts if text is not None]
    assert refused
    assert [] == [text for text in refused if not re.search("RLIMIT_NOFILE|3 workers in a row", text)]
    assert [None, None] == reported[-1]


@pytest.fixture
def pids() -> Iterator[Path]:
    """A cgroup (v1 or v2) of its own that limits processes; root is above RLIMIT_NPROC."""
    v1 = Path("/sys/fs/cgroup/pids")
    folder = (v1 if v1.is_dir() else Path("/sys/fs/cgroup")) / f"rivers-test-{uuid.uuid4().hex[:8]}"
    try:
        folder.mkdir()
        (folder / "pids.max").write_text("max")
    except OSError as error:
        if folder.is_dir():
            folder.rmdir()
        pytest.skip(f"no cgroup that limits processes can be made here: {error}")
    yield folder
    until = time.monotonic() + 10
    while folder.is_dir():
        try:
            folder.rmdir()
        except OSError:  # loky's trackers end a moment after their process
            if time.monotonic() > until:
                raise
            time.sleep(0.02)


def test_the_limit_on_processes(tmp_path: Path, pids: Path) -> None:
    """Below a limit on processes every run ends: with its values, or with what it is that is refused (L26)."""
    reported = limited("processes", tmp_path, pids)

    refused = [text for texts in reported for text in texts if text is not None]
    assert refused
    assert [] == [
        text for text in refused if not re.search("RLIMIT_NPROC|can't start new thread|3 workers in a row", text)
    ]
    assert [None, None] == reported[-1]
