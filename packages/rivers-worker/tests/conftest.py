"""Fixtures for workers as real processes, and the check that a test leaves none behind."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
sys.path += [str(HERE), str(HERE / "user_code"), str(HERE.parents[1] / "rivers-core" / "tests")]

from running.left_behind import nothing_left  # noqa: E402 - found by the line above
from served_worker import Served  # noqa: E402 - the same


@pytest.fixture(autouse=True)
def nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """After each test there is no thread and no process more. Its value marks the processes that the test starts."""
    with nothing_left(monkeypatch) as mark:
        yield mark


@pytest.fixture
def serve(tmp_path: Path, nothing_is_left: str) -> Iterator[Callable[..., Served]]:
    """Starts workers and, unless one `announces` nothing, waits until they can be called; kills them at the end."""
    with contextlib.ExitStack() as started:

        def serve(*arguments: str, announces: bool = True, **given: Any) -> Served:
            folder = tmp_path / f"worker {len(list(tmp_path.iterdir()))}"
            folder.mkdir()
            worker = Served(folder, *arguments, **given)
            started.callback(worker.close)
            return worker.announced() if announces else worker

        yield serve
