"""Tests of runs whose steps are pods: their results, their events, and the requests to the cluster."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pod_steps
import pytest

import rivers as rs
from rivers.exceptions import GraphValidationError
from rivers_k8s_testing import FakeCluster

Repository = Callable[..., rs.CodeRepository]
Pods = Callable[..., rs.Executor]


def creates(cluster: FakeCluster) -> list[Any]:
    """The creates of pods that really made one."""
    return [
        request
        for request in cluster.requests
        if request.method == "POST" and request.path.endswith("/pods") and "dryRun" not in request.query
    ]


def test_values(fake: FakeCluster, repository: Repository) -> None:
    """Sync and async steps run in pods, read what others have stored, and say in which pod they ran."""
    repo = repository(pod_steps.one, pod_steps.two, pod_steps.awaited)

    result = repo.materialize()

    assert {"one": 1, "two": 2, "awaited": 11} == {name: repo.load_node(name) for name in ("one", "two", "awaited")}
    assert {"kubernetes"} == {step.executor for step in result.steps.values()}
    assert all(step.worker.startswith("rivers-") for step in result.steps.values())
    assert 3 == len({step.worker for step in result.steps.values()})
    # The first step's pod was started in preflight.
    timings = [step.timings for key, step in result.steps.items() if key != "one"]
    assert all(0 < one.schedule + one.pull <= one.boot for one in timings)
    assert [] == fake.pods()


def test_body_is_alone(fake: FakeCluster, repository: Repository) -> None:
    """A body runs in a process of its own, in which neither the kubernetes client nor loky is imported."""
    repo = repository(pod_steps.asked_for)
    repo.materialize()
    asked = repo.load_node("asked_for")

    assert os.getpid() != asked["pid"]
    assert [] == asked["modules"]


def test_logs(fake: FakeCluster, repository: Repository) -> None:
    """A body's output becomes events live, line by line, in its order."""
    told = rs.ListSink()
    repository(pod_steps.talks).materialize(on_event=told)

    lines = [event.message for event in told.events if isinstance(event, rs.events.StepLog) and event.step == "talks"]
    assert [f"line {i}" for i in range(100)] == [line for line in lines if line.startswith("line")]


def test_mapped(fake: FakeCluster, repository: Repository) -> None:
    """A mapped task runs in one pod per instance."""
    repo = repository(pod_steps.mapped)
    result = repo.materialize()

    assert 6 == repo.load_node("mapped")
    assert 3 == len({step.worker for key, step in result.steps.items() if "[" in key})


def test_fused(fake: FakeCluster, repository: Repository) -> None:
    """A graph asset whose tasks are all in_process runs in one pod."""
    repo = repository(
        pod_steps.fused, executor=rs.Executor.in_process(), executors={"k": rs.Executor.kubernetes("t:1")}
    )
    result = repo.materialize()

    assert 6 == repo.load_node("fused")
    assert ["kubernetes"] == [step.executor for step in result.steps.values()]


def test_executors_side_by_side(fake: FakeCluster, repository: Repository) -> None:
    """In-process, parallel and kubernetes steps are of one run."""
    assets = [pod_steps.here, pod_steps.beside, pod_steps.one, pod_steps.together]
    repo = repository(*assets)
    result = repo.materialize()

    assert 4 == repo.load_node("together")
    assert {"here": "in_process", "beside": "parallel", "one": "kubernetes", "together": "kubernetes"} == {
        key: step.executor for key, step in result.steps.items()
    }


def test_at_most_so_many_pods(fake: FakeCluster, repository: Repository, pods: Pods) -> None:
    """`max_concurrent_steps` counts pods whose deletion was not asked for: before a next create comes a delete."""
    assets = [rs.Asset(pod_steps.plain, name=f"n{i}") for i in range(5)]
    repository(*assets, executor=pods(max_concurrent_steps=1)).materialize()

    order = [
        request.method
        for request in fake.requests
        if "/pods" in request.path and request.method in ("POST", "DELETE") and "dryRun" not in request.query
    ]
    assert ["POST", "DELETE"] * 5 == order[:10]


def test_a_second_run_is_not_looked_at_again(fake: FakeCluster, repository: Repository) -> None:
    """Preflight costs no pod: a step's is the only one, in the first run of a repository and in later ones."""
    repo = repository(pod_steps.one)
    repo.materialize()
    before = len(creates(fake))
    repo.materialize()

    assert 1 == before
    assert 1 == len(creates(fake)) - before


def test_run_step_and_attempt_can_be_found(fake: FakeCluster, start: Callable[..., Any]) -> None:
    """Labels and annotations of a pod lead to its run, step and attempt."""
    going = start(pod_steps.sleeps)
    started = going.until("StepStarted", "sleeps")
    (pod,) = fake.pods()
    going.cancel()
    going.end()

    values = {**pod["metadata"]["labels"], **pod["metadata"]["annotations"]}.values()
    assert started.worker == pod["metadata"]["name"]
    assert {going.loop.run_id, "sleeps"} <= set(values)


def test_no_bucket(fake: FakeCluster, pods: Pods) -> None:
    """A value that stays on this machine is refused before anything runs, with what to write instead."""
    repo = rs.CodeRepository([pod_steps.one], default_executor=pods())
    with repo, pytest.raises(GraphValidationError, match=r'PickleIOHandler\("s3://'):
        repo.materialize()

    assert [] == fake.requests


class TestPreflight:
    def refusal(self, repo: rs.CodeRepository) -> str:
        with pytest.raises(GraphValidationError) as caught:
            repo.materialize(raise_on_error=False)
        return str(caught.value)

    def test_permissions(self, fake: FakeCluster, repository: Repository) -> None:
        """All verbs that are missing are named together, with the Role to apply, and nothing is made."""
        fake.deny("delete", "pods")
        fake.deny("get", "pods/log")
        said = self.refusal(repository(pod_steps.one))

        assert "delete pods" in said
        assert "get pods/log" in said
        assert "kind: Role" in said
        assert [] == creates(fake)

    def test_refs(self, fake: FakeCluster, repository: Repository, pods: Pods) -> None:
        """Code that the image does not have is found by one pod, and named with the step."""
        said = self.refusal(repository(pod_steps.one, executor=pods(env={"PYTHONPATH": "/nowhere"})))

        assert "pod_steps" in said
        assert "one" in said
        assert 1 == len(creates(fake))
        assert [] == fake.pods()

    def test_image(self, fake: FakeCluster, repository: Repository) -> None:
        """An image that does not exist refuses the run, with the registry's words."""
        fake.image_error("ErrImageNeverPull", 'Container image "test:1" is not present with pull policy of Never')
        said = self.refusal(repository(pod_steps.one))

        assert "ErrImageNeverPull" in said
        assert [] == fake.pods()

    def test_no_image(self, fake: FakeCluster, repository: Repository) -> None:
        """Outside a pod, an image must be given."""
        said = self.refusal(repository(pod_steps.one, executor=rs.Executor.kubernetes()))

        assert "worker_image=None" in said

    def test_no_cluster(self, fake: FakeCluster, repository: Repository) -> None:
        """An API server that is not there refuses the run in bounded time, and names its address."""
        with fake.away():
            said = self.refusal(repository(pod_steps.one))

        assert fake.url.removeprefix("http://") in said

    def test_full_cluster(self, fake: FakeCluster, start: Callable[..., Any]) -> None:
        """A cluster without room does not refuse the run: its attempts wait, and say so."""
        fake.unschedulable("0/1 nodes are available: 1 Insufficient cpu.")
        going = start(pod_steps.one)
        said = going.until("StepLog", "one")
        fake.unschedulable("")
        result = going.end()

        assert "Insufficient cpu" in said.message
        assert result.success
