"""A run whose first worker stops before it commits, and outlives its controller; run by test_fence.py.

fence_run.py STORE FOLDER RUN      begin the run, or resume RUN; STORE is the store of PickleIOHandler as JSON
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rivers as rs

PR_SET_PDEATHSIG = 1
DEADLINE = 40.0


def folder() -> Path:
    """Return the folder of the run; workers inherit the variable."""
    return Path(os.environ["FENCE_FOLDER"])


def stop_once(step: str) -> None:
    """Stop this process, if it is the first that the file `stop` asks to, until somebody continues it."""
    try:
        (folder() / f"stop-{step}").rename(folder() / "stopping")
    except FileNotFoundError:
        return
    # Without this the kernel would kill it with its controller, as it does with every worker on this machine.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, 0)
    controller = os.getppid()
    (folder() / "pid").write_text(str(os.getpid()))
    # A process that is stopped when its parent dies gets SIGHUP and SIGCONT from the kernel, so it stops afterwards.
    until = time.monotonic() + DEADLINE
    while os.getppid() == controller:
        assert time.monotonic() < until, "the controller lives"
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGSTOP)


def wait_for(name: str) -> None:
    """Wait for a file, where the test has asked for that."""
    if not (folder() / f"wait-{name}").exists():
        return
    (folder() / f"at-{name}").touch()
    until = time.monotonic() + DEADLINE
    while not (folder() / f"go-{name}").exists():
        assert time.monotonic() < until, name
        time.sleep(0.01)


class Stopping(rs.PickleIOHandler):
    """A handler that stops before the commit."""

    def handle_output(self, context: rs.OutputContext, obj: Any) -> None:
        if context.step == context.asset_name:
            stop_once(context.step)
        super().handle_output(context, obj)

    def commit(self, run_id: str, step: str, attempt_id: str, keys: Sequence[str]) -> None:
        stop_once(step)
        super().commit(run_id, step, attempt_id, keys)


def note(name: str) -> None:
    with (folder() / "bodies").open("a") as file:
        file.write(f"{name}\n")


@rs.Asset
def one() -> int:
    note("one")
    if (folder() / "pid").exists():
        wait_for("one")
    return os.getpid()


@rs.Asset.from_multi(output_defs=[rs.AssetDef("low"), rs.AssetDef("high")])
def pair() -> tuple[int, int]:
    note("pair")
    if (folder() / "pid").exists():
        wait_for("pair")
    return os.getpid(), os.getpid()


@rs.Asset
def last(one: int, low: int, high: int) -> list[int]:
    wait_for("last")
    return [one, low, high]


def make_repository(store: Any) -> rs.CodeRepository:
    """Return the repository with its values in a store."""
    from rivers_executor_subprocess import SubprocessExecutor

    assets = [one, pair, last]
    return rs.CodeRepository(assets, default_io_handler=Stopping(store), default_executor=SubprocessExecutor())


def main(store: str, home: str, run: str) -> None:
    repository = make_repository(json.loads(store))
    if run == "new":
        repository.materialize(record=home)
    else:
        repository.resume(run, record=home)


if __name__ == "__main__":
    # Workers import the definitions by this name.
    import fence_run

    fence_run.main(*sys.argv[1:])
