"""Kill the controller of a run, for real, once its journal has a number of bytes, and let others resume it.

Run as a program: each run is a forked child of a process that has run everything once, so that a kill takes
milliseconds and not a start of Python.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from small_run import EXPECTED, make_repository, notes

import rivers as rs
from rivers._io.files.key import flat_name
from rivers._record import recorder
from rivers_process.prctl import adopt_orphans

GONE = 30.0
"""Seconds within which workers must have ended after the kill of their controller."""
LENGTH = 7000
"""About the bytes of the journal of a whole run."""
EXECUTORS = {"in_process": rs.Executor.in_process, "parallel": lambda: rs.Executor.parallel(max_workers=2)}


class _KillingOs:
    """The module `os` as the recorder sees it: at a number of written bytes it cuts the write short and kills."""

    def __init__(self, limit: int) -> None:
        self._left = limit

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def write(self, file: int, data: bytes) -> int:
        if len(data) > self._left:
            os.write(file, data[: self._left])
            os.kill(os.getpid(), signal.SIGKILL)
        self._left -= len(data)
        return os.write(file, data)


def in_child(work: Callable[[], None]) -> int:
    """Run a function in a forked child and return its exit code, or the negative signal that has ended it."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
        finally:
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def begin(folder: Path, executor: str, limit: int = 1 << 40) -> None:
    """Run everything; the process is killed once the journal has `limit` bytes."""
    recorder.os = _KillingOs(limit)  # type: ignore[attr-defined]
    make_repository(folder).materialize(record=folder, executor=EXECUTORS[executor]())


def go_on(folder: Path, run_id: str, executor: str, limit: int = 1 << 40) -> None:
    """Resume the run; the process is killed once it has added `limit` bytes to the journal."""
    recorder.os = _KillingOs(limit)  # type: ignore[attr-defined]
    repository = make_repository(folder)
    result = repository.resume(run_id, record=folder, executor=EXECUTORS[executor]())
    assert result.success
    assert all(repository.load_node(name) == value for name, value in EXPECTED.items())
    metadata = json.loads(result.steps["numbers"].outputs[0].metadata or "{}")
    # Also after a kill between the commit and the line of the success, which takes the record's copy with it.
    assert metadata["rows"] == 2


def reap() -> None:
    """Wait until all that was left by killed controllers, which this process has inherited, has ended."""
    deadline = time.monotonic() + GONE
    while True:
        try:
            child, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if child == 0:
            assert time.monotonic() < deadline, "a process is left"
            time.sleep(0.002)


def committed(folder: Path, run_id: str) -> set[str]:
    """Return the bodies whose outputs the store has, by the files of the run."""
    names = {path.name for path in (folder / "data/.rivers/runs" / run_id).glob("*") if "~" not in path.name}
    bodies = ["numbers", "total/split", "total/twice[k1]", "total/twice[k2]", "bounds"]
    found = {body for body in bodies if {f"{flat_name(body)}.pkl", f"{flat_name(body)}.commit"} & names}
    return found | (
        {"total/add"} if {f"{flat_name('total')}.pkl", f"{flat_name('total/add')}.commit"} & names else set()
    )


def attempts(record: Path) -> list[str]:
    """Return the ids of all attempts that were submitted."""
    lines = [json.loads(line) for line in (record / "events.jsonl").read_bytes().splitlines()]
    return [line["attempt_id"] for line in lines if line["event"] == "StepSubmitted"]


def check_kill(folder: Path, executor: str, limit: int, second: int | None) -> bool:
    """Kill at a byte, resume, and check what must hold; return False if the run ended before that byte."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    ended = in_child(lambda: begin(folder, executor, limit))
    if ended == 0:
        return False
    assert ended == -signal.SIGKILL, ended
    (record,) = (folder / "runs").iterdir()
    run_id = record.name
    if second is not None and resume_killed(folder, run_id, executor, second):
        check_end(folder, record)
        return True
    assert resume_killed(folder, run_id, executor, None)
    check_end(folder, record)
    return True


def resume_killed(folder: Path, run_id: str, executor: str, limit: int | None) -> bool:
    """Resume the run, killed at a byte unless it is None; return whether it has come to its end."""
    kept, before = committed(folder, run_id), notes(folder)
    ended = in_child(lambda: go_on(folder, run_id, executor, 1 << 40 if limit is None else limit))
    assert ended == 0 or (limit is not None and ended == -signal.SIGKILL), ended
    assert not kept & set(notes(folder)[len(before) :]), "a body that had committed ran again"
    return ended == 0


def check_end(folder: Path, record: Path) -> None:
    """Check that no attempt id was given twice, and that nothing is left."""
    ids = attempts(record)
    assert len(ids) == len(set(ids)), "an attempt id was given twice"
    reap()
    left = list((folder / "data/.rivers/runs").rglob("*"))
    assert not left, left
    assert {path.name for path in record.iterdir()} == {"events.jsonl", "header.json"}


def warm_up(folder: Path) -> None:
    """Run everything once, so that forked children find all modules imported."""
    import rivers_executor_parallel.backend
    import rivers_executor_parallel.pool  # noqa: F401 - for its children

    shutil.rmtree(folder, ignore_errors=True)
    make_repository(folder).materialize(record=folder)
    shutil.rmtree(folder)
    # Children would copy each page that a collection touches.
    gc.collect()
    gc.freeze()


def main() -> None:
    """Check the kills at every `step`-th byte from `start` on; print their number and where they ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("start", type=int)
    parser.add_argument("step", type=int)
    parser.add_argument("--executor", choices=EXECUTORS, default="in_process")
    parser.add_argument("--twice", action="store_true", help="kill the process that resumes the run, too")
    given = parser.parse_args()
    adopt_orphans()
    given.folder.mkdir(parents=True, exist_ok=True)
    # Out of the git repository, which each run would ask for its commit.
    os.chdir(given.folder)
    warm_up(given.folder / "warm")
    fate = random.Random(given.start)
    limit, count = given.start, 0
    # The rest of the run is about as long as what the first kill has cut off.
    while check_kill(
        given.folder / "run",
        given.executor,
        limit,
        fate.randrange(max(1000, LENGTH - limit)) if given.twice else None,
    ):
        limit += given.step
        count += 1
    print(count, limit)


if __name__ == "__main__":
    main()
