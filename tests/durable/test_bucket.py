"""Resume runs whose values are in a bucket: what was committed there is not made again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parents[2] / "packages/rivers-core/tests/io"))

import bucket_run
from local_s3 import S3Server, serve_s3

import rivers as rs

pytest.importorskip("obstore")

HERE = Path(__file__).parent


def control(folder: Path, server: S3Server, executor: str, run: str) -> subprocess.CompletedProcess[str]:
    """Run a controller to its end."""
    command = [sys.executable, str(HERE / "bucket_run.py"), json.dumps(server.store()), str(folder), executor, run]
    environment = {**os.environ, "BUCKET_FOLDER": str(folder), "PYTHONPATH": str(HERE)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=50, check=False)


@pytest.mark.parametrize("executor", ["in_process", "parallel"])
def test_killed(tmp_path: Path, executor: str) -> None:
    """A controller that was killed is carried on: nothing that is in the bucket runs again, and nothing is left."""
    with serve_s3() as server:
        (tmp_path / "kill").touch()
        killed = control(tmp_path, server, executor, "new")
        assert -signal.SIGKILL == killed.returncode, killed.stderr
        (tmp_path / "kill").unlink()
        (record,) = (tmp_path / "runs").iterdir()
        # The line of a success that the kill came before.
        events = record / "events.jsonl"
        lines = events.read_text().splitlines(keepends=True)
        kept = [line for line in lines if not ('"StepSucceeded"' in line and '"step":"large"' in line)]
        assert len(lines) == len(kept) + 1
        events.write_text("".join(kept))
        resumed = control(tmp_path, server, executor, record.name)
        assert 0 == resumed.returncode, resumed.stderr

        bodies = Counter((tmp_path / "bodies").read_text().split())
        assert {"large": 1, "pair": 1, "split": 1, "twice": 3, "add": 1, "last": 2} == bodies
        metadata = json.loads(json.loads(resumed.stdout)["large"])
        assert (9, True) == (metadata["rows"], metadata["size_bytes"] > bucket_run.LARGE)
        repository = bucket_run.make_repository(server.store())
        assert bucket_run.LARGE + 12 == repository.load_node("last")
        assert [] == [name for name in server.objects if ".rivers/runs/" in name]


def test_runs_that_all_fail(tmp_path: Path) -> None:
    """What failed runs keep for a resume is removed at its age, also if no run ever succeeds."""

    @rs.Asset
    def made() -> int:
        return 1

    @rs.Asset
    def fails(made: int) -> int:
        raise ValueError("always")

    def fail(store: object) -> str:
        handler = rs.PickleIOHandler(store, sweep_after=0.05)
        repository = rs.CodeRepository([made, fails], default_io_handler=handler)
        return repository.materialize(record=tmp_path, raise_on_error=False).run_id

    with serve_s3() as server:
        for store in (server.store(), str(tmp_path / "values")):
            first = fail(store)
            for _ in range(3):
                # The times of objects have seconds.
                signal.sigtimedwait([], 1.1)
                fail(store)
            names = [*server.objects, *map(str, (tmp_path / "values").rglob("*"))]
            assert [] == [name for name in names if first in name and ".rivers/runs/" in name]
