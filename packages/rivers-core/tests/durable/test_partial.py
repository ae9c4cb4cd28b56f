"""Steps whose outputs are in two stores, of which only one has committed when the controller is killed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import rivers as rs

sys.path.append(str(Path(__file__).parent))

from kills import in_child
from small_run import note, notes


class Dying(rs.PickleIOHandler):
    """A handler that kills its process before it commits, while there is a file `kill`."""

    def commit(self, run_id: str, step: str, attempt_id: str, keys: Sequence[str]) -> None:
        if Path(self.store.removeprefix("file://"), "../kill").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        super().commit(run_id, step, attempt_id, keys)


def make_repository(folder: Path, second: Any) -> rs.CodeRepository:
    """Return a repository of a step with one output in a folder and one in another store."""
    first = rs.PickleIOHandler(folder / "first", fsync=False)

    @rs.Asset.from_multi(output_defs=[rs.AssetDef("low", io_handler=first), rs.AssetDef("high", io_handler=second)])
    def both() -> tuple[int, int]:
        note(folder, "both")
        return os.getpid(), os.getpid()

    @rs.Asset(io_handler=first)
    def last(low: int, high: int) -> bool:
        if (folder / "kill").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        return low == high

    return rs.CodeRepository([both, last])


@pytest.mark.parametrize(("kind", "bodies"), [("memory", 2), ("folder", 1), ("lost", 2)])
def test_one_store_of_two(tmp_path: Path, kind: str, bodies: int) -> None:
    """What the killed attempt has staged in the second store is committed for it; where it is lost, the step runs."""
    second = None if kind == "memory" else Dying(tmp_path / "second", fsync=False)
    (tmp_path / "kill").touch()
    assert -signal.SIGKILL == in_child(lambda: make_repository(tmp_path, second).materialize(record=tmp_path) and None)
    (tmp_path / "kill").unlink()
    if kind == "lost":
        for path in (tmp_path / "second").rglob("*~*"):
            path.unlink()
    (record,) = (tmp_path / "runs").iterdir()
    repository = make_repository(tmp_path, second)

    assert repository.resume(record.name, record=tmp_path).success
    assert bodies == len(notes(tmp_path))
    assert repository.load_node("last") is True
    assert repository.load_node("low") == repository.load_node("high")
