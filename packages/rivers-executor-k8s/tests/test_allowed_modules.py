"""Runs whose pods have a list of modules (`RIVERS_ALLOWED_MODULES`)."""

from __future__ import annotations

from collections.abc import Callable

import allowed_steps
import pod_steps
import pytest

import rivers as rs
from rivers_k8s_testing import FakeCluster

Repository = Callable[..., rs.CodeRepository]
Pods = Callable[..., rs.Executor]


def limited(pods: Pods, modules: str) -> rs.Executor:
    return pods(env={"RIVERS_ALLOWED_MODULES": modules})


def test_every_kind_of_step(fake: FakeCluster, repository: Repository, pods: Pods) -> None:
    """Tasks with constants, commands of compositions and commands at module scope run under the list that has them."""
    assets = [allowed_steps.numbers, allowed_steps.tripled, allowed_steps.commands]
    repo = repository(*assets, tasks=[allowed_steps.hostname], executor=limited(pods, "allowed_steps,anywhere"))
    repo.materialize()

    assert "18 pieces of shoes 7" == repo.load_node("commands")
    assert "a host\n" == repo.load_node("hostname")


def test_graph_in_one_pod(fake: FakeCluster, repository: Repository, pods: Pods) -> None:
    """A fused graph asset's tasks and commands run under the list that has it."""
    executors = {"limited": limited(pods, "allowed_steps,anywhere")}
    assets = [allowed_steps.numbers, allowed_steps.fused]
    repo = repository(*assets, executor=rs.Executor.in_process(), executors=executors)
    result = repo.materialize()

    assert "hello you 18" == repo.load_node("fused")
    assert {"numbers", "fused"} == set(result.steps)


def test_step_of_another_module(fake: FakeCluster, repository: Repository, pods: Pods) -> None:
    """Preflight names a step whose module is not in the list, before anything runs."""
    repo = repository(pod_steps.one, executor=limited(pods, "allowed_steps,anywhere"))
    with pytest.raises(rs.exceptions.RiversError, match="outside what this worker may import: allowed_steps, anywhere"):
        repo.materialize()
