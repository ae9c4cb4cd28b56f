"""When workers boot, and in which order they import what steps need."""

from __future__ import annotations

import time
from collections.abc import Callable

import worker_boot_first as early
import worker_boot_later

import rivers as rs


def test_a_worker_boots_while_others_make_its_inputs(repository: Callable[..., rs.CodeRepository]) -> None:
    """A run with sync steps starts a worker at once, before the first of them can begin."""
    repo = repository(early.until_a_worker_is_there, early.after_a_worker)
    repo.materialize()

    assert repo.load_node("after_a_worker")


def test_a_step_does_not_wait_for_modules_of_later_ones(
    repository: Callable[..., rs.CodeRepository], notes: Callable[[], list[str]]
) -> None:
    """A step that is there runs before modules are imported that it does not need."""
    repo = repository(early.first, worker_boot_later.later, workers=1)
    repo.materialize()

    assert ["first", "later is imported"] == notes()


def test_a_worker_that_still_boots_does_not_hold_its_end(repository: Callable[..., rs.CodeRepository]) -> None:
    """A worker that was started for nothing is killed at the end of its repository, and not waited for."""

    @rs.Asset
    async def fails() -> int:
        raise ValueError("no input")

    @rs.Asset
    def never(fails: int) -> int:
        return fails

    repo = repository(fails, never)
    repo.materialize(raise_on_error=False)
    began = time.monotonic()
    repo.shutdown()

    assert time.monotonic() - began < 5.0
