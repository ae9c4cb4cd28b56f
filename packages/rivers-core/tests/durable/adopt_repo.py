"""A durable run whose controller is hit in the body of `b`: `python adopt_repo.py FOLDER SIGNAL [commits]`.

With `commits` that is between the commit and the result.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

import rivers as rs
from rivers.spi import Capabilities, Reach, StreamRecord
from rivers.testing import Attempt, Script, ScriptedExecutor

__all__ = ["ADOPTS", "make_repo"]

ADOPTS = Capabilities(isolation="none", closures="local", reach=Reach.PROCESS, adopts=True)


def make_repo(folder: Path, script: Script) -> rs.CodeRepository:
    """Return a repository of two assets, which note what runs."""

    def note(name: str) -> None:
        with (folder / "bodies").open("a") as file:
            file.write(f"{name}\n")

    @rs.Asset
    def a() -> int:
        note("a")
        return 1

    @rs.Asset
    def b(a: int) -> int:
        note("b")
        return a + 1

    assets: list[Any] = [a, b]
    return rs.CodeRepository(
        assets,
        default_executor=ScriptedExecutor(script),
        default_io_handler=rs.PickleIOHandler(str(folder / "data")),
    )


def main(folder: Path, number: int, commits: bool) -> None:
    def hit(attempt: Attempt) -> None:
        attempt.start()
        attempt.report(StreamRecord(attempt_id=attempt.spec.attempt_id, message="before", seq=7))
        if commits:
            attempt._emit = lambda event: None
            attempt.run()
        threading.Timer(0.3, os.kill, (os.getpid(), number)).start()

    def say_cancel(attempt: Attempt) -> None:
        print("cancelled", flush=True)

    script = Script({"a": Attempt.run_aside, "b": hit}, capabilities=ADOPTS, on_cancel=say_cancel)
    make_repo(folder, script).materialize(record=folder, durable=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), "commits" in sys.argv)
