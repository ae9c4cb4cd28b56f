"""Kill the controller of a run, for real, once its journal has a number of bytes, and let others resume it.

Run as a program: each run is a forked child, so that a kill takes milliseconds and not a start of Python.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from small_run import EXPECTED, make_repository, notes

from rivers._io.files.key import flat_name
from rivers._record import recorder


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


def begin(folder: Path, limit: int) -> None:
    """Run everything; the process is killed once the journal has `limit` bytes."""
    recorder.os = _KillingOs(limit)  # type: ignore[attr-defined]
    make_repository(folder).materialize(record=folder)


def go_on(folder: Path, run_id: str, limit: int = 1 << 40) -> None:
    """Resume the run; the process is killed once it has added `limit` bytes to the journal."""
    recorder.os = _KillingOs(limit)  # type: ignore[attr-defined]
    repository = make_repository(folder)
    result = repository.resume(run_id, record=folder)
    assert result.success
    assert all(repository.load_node(name) == value for name, value in EXPECTED.items())
    metadata = json.loads(result.steps["numbers"].outputs[0].metadata or "{}")
    # A kill between the commit and the line of the success takes the metadata with it, but nothing else.
    assert metadata == {} or metadata["rows"] == 2


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


def check_kill(folder: Path, limit: int, second: int | None) -> bool:
    """Kill at a byte, resume, and check what must hold; return False if the run ended before that byte."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    ended = in_child(lambda: begin(folder, limit))
    if ended == 0:
        return False
    assert ended == -signal.SIGKILL, ended
    (record,) = (folder / "runs").iterdir()
    run_id = record.name
    if second is not None:
        kept, before = committed(folder, run_id), notes(folder)
        ended = in_child(lambda: go_on(folder, run_id, second))
        assert ended in (0, -signal.SIGKILL), ended
        assert not kept & set(notes(folder)[len(before) :]), "a body that had committed ran again"
        if ended == 0:
            return True
    kept, before = committed(folder, run_id), notes(folder)
    assert in_child(lambda: go_on(folder, run_id)) == 0
    assert not kept & set(notes(folder)[len(before) :]), "a body that had committed ran again"
    ids = attempts(record)
    assert len(ids) == len(set(ids)), "an attempt id was given twice"
    left = list((folder / "data/.rivers/runs").rglob("*"))
    assert not left, left
    assert not [path for path in record.iterdir() if path.name not in ("events.jsonl", "header.json")]
    return True


def main() -> None:
    """Check the kills at every `step`-th byte from `start` on; print their number."""
    folder, start, step, kinds = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    fate = random.Random(start)
    limit, count = start, 0
    while check_kill(folder, limit, fate.randrange(6000) if kinds == "twice" else None):
        limit += step
        count += 1
    print(count, limit)


if __name__ == "__main__":
    main()
