"""The remains of a body or a killed process: forks that print, commands that run on."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

import rivers as rs

SLEEPER = """
import os, rivers as rs

sleeper = rs.BashTask("sleeper", command='exec 3>"$FIFO"; echo asleep >&3; sleep 60')

@rs.Asset.from_graph
def asleep():
    return sleeper()

rs.CodeRepository([asleep]).materialize()
"""


def test_a_fork_of_a_body_tells_nothing(tmp_path: Path) -> None:
    """Prints of a forked child are no events: the child's copy of `emit` is not called."""
    told = tmp_path / "told"

    @rs.Asset
    def forks() -> int:
        print("from the body")
        if (child := os.fork()) == 0:
            print("from the fork")
            os._exit(0)
        return os.waitpid(child, 0)[1]

    def emit(event: object) -> None:
        with told.open("a") as file:
            file.write(f"{getattr(event, 'message', '')}\n")

    rs.CodeRepository([forks]).materialize(on_event=emit)

    assert ["from the body"] == [line for line in told.read_text().splitlines() if line]


def test_a_command_does_not_outlive_this_process(tmp_path: Path) -> None:
    """2 s after the SIGKILL of the process that runs it, the command of a bash task and what it started are gone."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with (
        subprocess.Popen([sys.executable, "-c", SLEEPER], env={**os.environ, "FIFO": str(fifo)}) as process,
        fifo.open("rb", buffering=0) as told,
    ):
        assert b"asleep\n" == told.readline()
        process.kill()
        ended, _, _ = select.select([told], [], [], 2.0)

        assert [told] == ended
        assert b"" == told.read()
