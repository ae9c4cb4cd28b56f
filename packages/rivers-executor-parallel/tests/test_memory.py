"""Memory: OOM kills, a MemoryError, endless recursion, and workers that grow."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import worker_memory as memory
import worker_steps as steps

import rivers as rs
from rivers_executor_parallel import inheritance
from rivers_executor_parallel.worker import WorkerSettings

CODE = Path(__file__).parent / "user_code"
LIMIT = 400 << 20
OOM_PROGRAM = f"""
import json, sys
sys.path.insert(0, {str(CODE)!r})
import worker_memory, worker_steps
import rivers as rs
assets = [worker_memory.hog, worker_memory.killed_after_the_hog, worker_steps.base]
executor = rs.Executor.parallel(max_workers=1)
store = rs.PickleIOHandler(sys.argv[1])
with rs.CodeRepository(assets, resources={{"store": store}}, default_executor=executor) as repo:
    result = repo.materialize(raise_on_error=False)
    steps = {{}}
    for key, report in result.steps.items():
        failure = report.failure
        steps[key] = failure and [failure.reason.value, failure.message, failure.evidence.oom_kills]
    print(json.dumps(steps))
"""


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A memory cgroup (v1 or v2) of its own below the root, with a limit of 400 MiB."""
    v1 = Path("/sys/fs/cgroup/memory")
    parent, limit = (v1, "memory.limit_in_bytes") if v1.is_dir() else (Path("/sys/fs/cgroup"), "memory.max")
    folder = parent / f"rivers-test-{uuid.uuid4().hex[:8]}"
    try:
        folder.mkdir()
        (folder / limit).write_text(str(LIMIT))
    except OSError as error:
        if folder.is_dir():
            folder.rmdir()
        pytest.skip(f"no memory cgroup can be made here: {error}")
    yield folder
    until = time.monotonic() + 10
    while True:
        try:
            folder.rmdir()
            return
        except OSError:  # loky's trackers end a moment after their process
            if time.monotonic() > until:
                raise
            time.sleep(0.02)


def test_the_oom_killer_is_named(cgroup: Path, tmp_path: Path) -> None:
    """A worker that the kernel kills for its memory fails as out_of_memory with the limit; a plain SIGKILL does not."""
    ran = subprocess.run(
        [
            *("/bin/sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(cgroup)),
            *(sys.executable, "-c", OOM_PROGRAM, str(tmp_path / "store")),
        ],
        stdout=subprocess.PIPE,
        check=True,
        timeout=50,
    )
    reported = json.loads(ran.stdout)

    reason, message, kills = reported["hog"]
    assert ("out_of_memory", 1) == (reason, kills)
    assert "1 OOM kill in its cgroup; memory ? of 400 MiB" in message
    assert "infrastructure" == reported["killed_after_the_hog"][0]
    assert reported["base"] is None


def test_a_memory_error(repository: Callable[..., rs.CodeRepository]) -> None:
    """A MemoryError is out_of_memory, and its worker, with the limit the body had set, is not used again (L6)."""
    repo = repository(memory.limited, memory.limit, steps.pid, workers=1)
    result = repo.materialize(raise_on_error=False)

    failure = result.steps["limited"].failure
    assert failure is not None
    assert (rs.FailureReason.OUT_OF_MEMORY, "MemoryError") == (failure.reason, failure.type)
    pid, limit = repo.load_node("limit")
    assert (repo.load_node("pid"), -1) == (pid, limit)
    assert {1} == {report.attempts for report in result.steps.values()}


def test_recursion(repository: Callable[..., rs.CodeRepository]) -> None:
    """Recursion without end, or a value too deep to be pickled, fails its step and costs no worker (L14)."""
    repo = repository(memory.recurses, memory.deep, steps.pid, workers=1)
    repo.materialize(steps.pid)
    before = repo.load_node("pid")
    result = repo.materialize(raise_on_error=False)

    failures = {key: report.failure for key, report in result.steps.items() if report.failure is not None}
    assert {"recurses": "RecursionError", "deep": "rivers.exceptions.OutputCommitError"} == {
        key: failure.type for key, failure in failures.items()
    }
    assert "recursion" in failures["deep"].message
    assert rs.FailureReason.ERROR is failures["recurses"].reason
    assert before == repo.load_node("pid")


def test_a_worker_that_grows_is_replaced(
    repository: Callable[..., rs.CodeRepository], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker whose steps leave more and more memory is replaced between two; none is lost or charged (L29)."""
    growth = functools.partial(WorkerSettings, memory_growth=50 << 20)
    monkeypatch.setattr(inheritance, "WorkerSettings", growth)
    repo = repository(memory.leak_by_leak, workers=1)
    result = repo.materialize()

    pids = repo.load_node("leak_by_leak")
    assert 15 == len(pids)
    assert 1 < len(set(pids))
    assert os.getpid() not in pids
    assert {1} == {report.attempts for report in result.steps.values()}
