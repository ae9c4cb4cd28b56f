"""A run whose values are in a bucket, and whose last step kills the controller; run by test_bucket.py.

bucket_run.py STORE HOME EXECUTOR RUN      begin the run, or resume RUN; STORE is the store of PickleIOHandler as JSON
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import rivers as rs

LARGE = 9 * 2**20
"""Bytes: more than one request takes."""


def folder() -> Path:
    """Return the folder of the run; workers inherit the variable."""
    return Path(os.environ["BUCKET_FOLDER"])


def note(name: str) -> None:
    with (folder() / "bodies").open("a") as file:
        file.write(f"{name}\n")


@rs.Asset
def large(context: rs.AssetExecutionContext) -> bytes:
    note("large")
    context.add_output_metadata({"rows": 9})
    return bytes(LARGE)


@rs.Asset.from_multi(output_defs=[rs.AssetDef("low"), rs.AssetDef("high")])
def pair(large: bytes) -> tuple[int, int]:
    note("pair")
    return 1, len(large)


@rs.Task
def split(low: int) -> list[rs.DynamicOutput]:
    note("split")
    return [rs.DynamicOutput(key=f"k{number}", value=number + low) for number in range(3)]


@rs.Task
def twice(part: int) -> int:
    note("twice")
    return part * 2


@rs.Task
def add(parts: list[int]) -> int:
    note("add")
    return sum(parts)


@rs.Asset.from_graph
def total(low: int) -> object:
    return add(split(low).map(twice).collect())


@rs.Asset
def last(total: int, high: int) -> int:
    note("last")
    if (folder() / "kill").exists():
        os.kill(int((folder() / "controller").read_text()), signal.SIGKILL)
        signal.pause()
    return total + high


def make_repository(store: Any, executor: rs.Executor | None = None) -> rs.CodeRepository:
    """Return the repository with its values in a bucket."""
    return rs.CodeRepository(
        [large, pair, total, last], default_io_handler=rs.PickleIOHandler(store), default_executor=executor
    )


def main(store: str, home: str, executor: str, run: str) -> None:
    (folder() / "controller").write_text(str(os.getpid()))
    chosen = rs.Executor.parallel(max_workers=1) if executor == "parallel" else rs.Executor.in_process()
    repository = make_repository(json.loads(store), chosen)
    if run == "new":
        repository.materialize(record=home)
    else:
        result = repository.resume(run, record=home)
        print(json.dumps({key: report.outputs[0].metadata for key, report in result.steps.items()}))


if __name__ == "__main__":
    # Workers import the definitions by this name.
    import bucket_run

    bucket_run.main(*sys.argv[1:])
