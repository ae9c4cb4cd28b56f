"""Runs that skip what did not change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rivers as rs


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., set[str]]:
    """Return a function that runs assets and returns the keys of the steps that were not unchanged."""
    handler = rs.PickleIOHandler(tmp_path / "store", fsync=False)

    def run_it(*assets: rs.Asset, **settings: Any) -> set[str]:
        made = {name: settings.pop(name) for name in ("resources", "tasks", "executors") if name in settings}
        with rs.CodeRepository(assets=assets, default_io_handler=handler, **made) as repo:
            result = repo.materialize(**{"skip_unchanged": True, **settings})
        assert result.success
        return {key for key, report in result.steps.items() if report.state != "unchanged"}

    return run_it
