"""Any interleaving of runs, failures and edits ends with the values of a clean run from scratch."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rivers as rs

sys.path.append(str(Path(__file__).parent))

from any_version import ASSETS, BODIES, FAILS, Version, make_assets

SEQUENCES = 60
OPERATIONS = 12


def edit(version: Version, rng: random.Random) -> None:
    """Change something in a version."""
    choose: dict[str, Callable[[], Any]] = {
        "first": lambda: rng.randrange(3),
        "factor": lambda: rng.randrange(1, 4),
        "keys": lambda: tuple(rng.sample(["x", "y", "zz", "w"], rng.randrange(4))),
        "table": lambda: rng.randrange(3),
        "pair": lambda: (rng.randrange(2), rng.randrange(2)),
        "config": lambda: rng.randrange(2),
        "tags": lambda: tuple(rng.sample(["a", "b"], rng.randrange(3))),
    }
    name = rng.choice(list(choose))
    setattr(version, name, choose[name]())


def run(version: Version, handler: rs.BaseIOHandler, folder: Path, **settings: Any) -> Any:
    with rs.CodeRepository(make_assets(version, folder), default_io_handler=handler) as repo:
        result = repo.materialize(
            config={"scaled": {"plus": version.config}} if "scaled" in settings.pop("names", ASSETS) else None,
            **settings,
        )
        return result, repo.load_node("everything") if result.success and settings.get("selection") is None else None


@pytest.mark.parametrize("seed", range(SEQUENCES))
def test_values_are_those_of_a_clean_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """After edits, failed runs and runs of parts, skipping what did not change gives the values of a clean run."""
    rng = random.Random(seed)
    version = Version()
    handler = rs.PickleIOHandler(tmp_path / "store", fsync=False) if seed % 2 else rs.InMemoryIOHandler()
    (tmp_path / "clean").mkdir()
    run(version, handler, tmp_path, skip_unchanged=True)
    for _ in range(OPERATIONS):
        operation = rng.choice(["edit", "edit", "part", "fail", "plain", "all"])
        if operation == "edit":
            edit(version, rng)
        elif operation == "part":
            names = rng.sample(ASSETS, rng.randrange(1, 4))
            run(
                version,
                handler,
                tmp_path,
                selection=names,
                names=names,
                skip_unchanged=rng.choice([True, None]),
                raise_on_error=False,
            )
        elif operation == "fail":
            with monkeypatch.context() as patch:
                patch.setenv(FAILS, rng.choice(BODIES))
                run(version, handler, tmp_path, skip_unchanged=True, raise_on_error=False)
        else:
            run(version, handler, tmp_path, skip_unchanged=True if operation == "all" else None)
    expected = run(version, rs.InMemoryIOHandler(), tmp_path / "clean")[1]

    _, found = run(version, handler, tmp_path, skip_unchanged=True)

    assert expected == found
    again = run(version, handler, tmp_path, skip_unchanged=True)[0]
    assert {"unchanged"} == {report.state.value for report in again.steps.values()}
