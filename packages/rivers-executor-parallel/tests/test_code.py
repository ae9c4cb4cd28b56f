"""Workers stay from run to run, never with stale code; their resources end with the run."""

from __future__ import annotations

import gc
import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import worker_resources as resources
import worker_steps as steps

import rivers as rs

CODE = Path(__file__).parent / "user_code"
MODULE = """
import os
import rivers as rs

@rs.Asset(io_handler="store")
def versioned() -> tuple[str, int]:
    return "first", os.getpid()

@rs.Asset(io_handler="store")
def lazy() -> tuple[str, int]:
    import worker_lazy
    return worker_lazy.WORD, os.getpid()
"""

SECOND = 1_700_000_000 * 10**9


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of modules that change: `worker_versioned`, and `worker_lazy` that only its body imports."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "worker_versioned.py").write_text(MODULE)
    (folder / "worker_lazy.py").write_text('WORD = "first"\n')
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield folder
    for name in ("worker_versioned", "worker_lazy"):
        sys.modules.pop(name, None)


def versioned() -> Any:
    """The module, as this process has it."""
    return importlib.import_module("worker_versioned")


def test_workers_stay_warm(repository: Callable[..., rs.CodeRepository]) -> None:
    """A second run has the workers of the first if nothing has changed."""
    repo = repository(steps.pid, workers=1)
    pids = []
    for _ in range(3):
        repo.materialize()
        pids.append(repo.load_node("pid"))

    assert 1 == len(set(pids))
    assert os.getpid() not in pids


def test_a_reloaded_module(repository: Callable[..., rs.CodeRepository], folder: Path) -> None:
    """After `importlib.reload` of a module that a body uses, no worker has what it was before."""
    lazy = importlib.import_module("worker_lazy")
    repo = repository(versioned().lazy, workers=1)
    repo.materialize()
    before = repo.load_node("lazy")
    # Of another length: a .pyc knows its source by its size and by the second in which it was changed.
    (folder / "worker_lazy.py").write_text('WORD = "another"\n')
    importlib.reload(lazy)
    repo.materialize()

    assert ("first", "another") == (before[0], repo.load_node("lazy")[0])


def test_a_reload_of_an_unchanged_file(repository: Callable[..., rs.CodeRepository], folder: Path) -> None:
    """A reload alone, which runs a module again, replaces the workers that have imported it."""
    lazy = importlib.import_module("worker_lazy")
    repo = repository(versioned().lazy, workers=1)
    repo.materialize()
    before = repo.load_node("lazy")
    importlib.reload(lazy)
    repo.materialize()

    assert before[1] != repo.load_node("lazy")[1]


def test_a_changed_file(
    repository: Callable[..., rs.CodeRepository], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker of a later run has what a module's file holds then, whatever the controller has in memory."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    file = folder / "worker_versioned.py"
    os.utime(file, ns=(SECOND, SECOND))
    repo = repository(versioned().versioned, workers=1)
    repo.materialize()
    before = repo.load_node("versioned")
    # Of the same length and in the same second: Python's own cache of bytecode does not tell them apart.
    file.write_text(MODULE.replace('"first"', '"other"'))
    os.utime(file, ns=(SECOND, SECOND + 1))
    repo.materialize()

    assert ("first", "other") == (before[0], repo.load_node("versioned")[0])


def test_a_changed_file_that_only_workers_have_imported(
    repository: Callable[..., rs.CodeRepository], folder: Path
) -> None:
    """The same for a module that a body imports and the controller never has; its step is charged nothing."""
    repo = repository(versioned().lazy, workers=1)
    repo.materialize()
    before = repo.load_node("lazy")
    (folder / "worker_lazy.py").write_text('WORD = "the second"\n')
    result = repo.materialize()

    after = repo.load_node("lazy")
    assert ("first", "the second") == (before[0], after[0])
    assert before[1] != after[1]
    assert 1 == result.steps["lazy"].attempts


# ---- resources ------------------------------------------------------------------------------------------------------


def test_resources_are_set_up_once_in_each_worker_and_run(
    repository: Callable[..., rs.CodeRepository], notes: Callable[[], list[str]]
) -> None:
    """`setup` is called once in each worker and run that needs it, `teardown` at the end of the run."""
    repo = repository(resources.clients, client=resources.Client(url="db://x"))
    seen = 0
    for _ in range(2):
        repo.materialize()
        pids = set(repo.load_node("clients"))
        reported, seen = notes()[seen:], len(notes())

        assert sorted(f"{what} {pid}" for what in ("setup", "teardown") for pid in pids) == sorted(reported)


def test_resources_are_torn_down_after_a_failure(
    repository: Callable[..., rs.CodeRepository], notes: Callable[[], list[str]]
) -> None:
    """A step that fails leaves its resource to be torn down as any other."""
    repo = repository(resources.fails, client=resources.Client(url="db://x"))
    repo.materialize(raise_on_error=False)

    assert ["setup", "teardown"] == [line.split()[0] for line in notes()]


def test_a_worker_that_dies_in_a_teardown(repository: Callable[..., rs.CodeRepository]) -> None:
    """A worker that is killed in a teardown has reported its results before, metadata included."""
    repo = repository(resources.with_fragile, fragile=resources.Fragile())
    result = repo.materialize()

    (output,) = result.steps["with_fragile"].outputs
    assert '"told":"yes"' in (output.metadata or "")


def test_a_teardown_that_fails_is_reported(repository: Callable[..., rs.CodeRepository]) -> None:
    """An error in a teardown is a warning of the run that names the resource."""
    events: list[Any] = []
    repo = repository(resources.with_broken, broken=resources.Broken())
    result = repo.materialize(on_event=events.append)

    assert result.success
    warnings = [event.message for event in events if type(event).__name__ == "RunWarning"]
    assert ["teardown() of resource 'broken' raised ValueError: does not close"] == warnings


# ---- when workers go ------------------------------------------------------------------------------------------------


def test_shutdown_ends_the_workers(
    repository: Callable[..., rs.CodeRepository], processes: Callable[[], list[str]]
) -> None:
    """`shutdown` ends all workers, also when it is called twice; no run is taken any more."""
    repo = repository(steps.pid)
    repo.materialize()
    repo.shutdown()
    repo.shutdown()

    assert [] == processes()
    with pytest.raises(rs.exceptions.ExecutionError, match="shut down"):
        repo.materialize()


def test_garbage_collection_ends_the_workers(store: rs.PickleIOHandler, processes: Callable[[], list[str]]) -> None:
    """A repository that is collected takes its workers with it."""
    executor = rs.Executor.parallel(max_workers=2)
    repo = rs.CodeRepository([steps.pid], resources={"store": store}, default_executor=executor)
    repo.materialize()
    del repo
    gc.collect()

    assert [] == processes()


@pytest.mark.parametrize(
    ("end", "code", "reported"),
    [("", 0, []), ("sys.exit(3)", 3, []), ("raise ValueError('end')", 1, ["ValueError: end"])],
    ids=["falls off", "exits", "raises"],
)
def test_the_end_of_the_interpreter_ends_the_workers(
    tmp_path: Path, processes: Callable[[], list[str]], end: str, code: int, reported: list[str]
) -> None:
    """A program that ends without a shutdown waits for no worker and leaves none."""
    program = f"""
import sys
import worker_steps
import rivers as rs
executor = rs.Executor.parallel(max_workers=2)
repo = rs.CodeRepository([worker_steps.pid], resources={{"store": rs.PickleIOHandler({str(tmp_path / "store")!r})}})
assert repo.materialize(executor=executor).success
{end}
"""
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(CODE)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )

    assert (code, reported) == (ran.returncode, ran.stderr.splitlines()[-1:])
    assert [] == processes()
