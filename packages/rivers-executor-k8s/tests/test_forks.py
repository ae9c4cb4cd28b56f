"""A forked child of a program that has used the executor."""

from __future__ import annotations

from collections.abc import Callable

import pod_steps as steps
import pytest
from running.forked import in_child

import rivers as rs


@pytest.mark.usefixtures("fake")
def test_a_forked_child_gets_an_error_at_once(repository: Callable[..., rs.CodeRepository]) -> None:
    """The threads that talk to the cluster do not exist in a child: it is refused, and the parent goes on."""
    repo = repository(steps.one)
    repo.materialize()
    answer = in_child(lambda: repo.materialize().status)

    assert "used before this process was forked" in answer
    assert "spawn or forkserver" in answer
    assert repo.materialize().success
