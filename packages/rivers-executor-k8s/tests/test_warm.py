"""Runs whose steps share pods, on a FakeCluster: which pods there are, and what befalls them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pod_steps
import pytest

import rivers as rs
from rivers.exceptions import GraphValidationError
from rivers.protocol import Ending, Evidence, Failure, StepResult
from rivers_k8s_testing import FakeCluster, Fault
from rivers_worker.pool.reuse import is_clean_end

Repository = Callable[..., rs.CodeRepository]
Pods = Callable[..., rs.Executor]
Start = Callable[..., Any]


@pytest.fixture
def warm(pods: Pods) -> Pods:
    """An executor whose pods serve one step after another; takes what `rs.Executor.kubernetes` takes."""

    def warm(**settings: Any) -> rs.Executor:
        return pods(**{"worker_reuse": "run", **settings})

    return warm


def workers_of(result: rs.RunResult) -> set[str]:
    return {step.worker for step in result.steps.values()}


def is_succeeded(result: rs.RunResult, step: str) -> bool:
    return result.steps[step].state.value == "succeeded"


def pod_creates(cluster: FakeCluster) -> int:
    return sum(
        (request.verb, request.resource) == ("create", "pods") and "dryRun" not in request.query
        for request in cluster.requests
    )


def test_steps_share_a_pod(fake: FakeCluster, repository: Repository, warm: Pods) -> None:
    """Steps that follow each other run in one pod, each in a process of its own, and no pod is left at the end."""
    repo = repository(pod_steps.one, pod_steps.two, pod_steps.awaited, executor=warm(max_concurrent_steps=1))
    result = repo.materialize()

    assert {"one": 1, "two": 2, "awaited": 11} == {name: repo.load_node(name) for name in ("one", "two", "awaited")}
    assert 1 == len(workers_of(result))
    assert 1 == pod_creates(fake)  # that of preflight
    assert [] == fake.pods()


def test_at_most_so_many_pods(fake: FakeCluster, repository: Repository, warm: Pods) -> None:
    """Many steps run in as many pods as run at once, and idle pods count as well."""
    assets = [rs.Asset(pod_steps.plain, name=f"n{i}") for i in range(12)]
    result = repository(*assets, executor=warm(max_concurrent_steps=3)).materialize()

    assert result.success
    assert len(workers_of(result)) <= 3
    assert pod_creates(fake) <= 3


def test_metadata_decides(fake: FakeCluster, repository: Repository, pods: Pods, warm: Pods) -> None:
    """Metadata of an asset overrides the executor in both directions, also that of a graph asset for its tasks."""
    alone = rs.Asset(pod_steps.plain, name="alone", metadata={"rivers/worker_reuse": "never"})
    shared = [rs.Asset(pod_steps.plain, name=f"s{i}") for i in range(2)]
    result = repository(shared[0], alone, shared[1], executor=warm(max_concurrent_steps=1)).materialize()

    assert result.success
    assert result.steps["alone"].worker not in {result.steps[name].worker for name in ("s0", "s1")}

    asset = rs.Asset(pod_steps.plain, name="w", metadata={"rivers/worker_reuse": "run"})
    result = repository(asset, pod_steps.warm_graph, executor=pods(max_concurrent_steps=1)).materialize()
    assert 1 == len(workers_of(result))
    assert [] == fake.pods()


def test_number_of_steps(fake: FakeCluster, repository: Repository, warm: Pods) -> None:
    """A pod is replaced after its number of steps."""
    assets = [rs.Asset(pod_steps.plain, name=f"n{i}") for i in range(3)]
    executor = warm(max_concurrent_steps=1, max_steps_per_worker=2)
    result = repository(*assets, executor=executor).materialize()

    assert 2 == len(workers_of(result))
    assert result.success


def test_resources_are_another_shape(fake: FakeCluster, repository: Repository, warm: Pods) -> None:
    """A step that asks for other resources gets a pod with these, for which an idle one of others makes room."""
    assets = [
        rs.Asset(pod_steps.plain, name=f"n{i}", compute=rs.Compute(memory="64Mi") if i == 1 else None, deps=deps)
        for i, deps in enumerate(([], ["n0"], ["n1"]))
    ]
    result = repository(*assets, executor=warm(max_concurrent_steps=1)).materialize()

    assert result.success
    assert 3 == len(workers_of(result))
    order = [
        request.method
        for request in fake.requests
        if "/pods" in request.path and request.method in ("POST", "DELETE") and "dryRun" not in request.query
    ]
    assert ["POST", "DELETE"] * 3 == order[:6]


def test_idle_pod_is_deleted(fake: FakeCluster, start: Start, warm: Pods) -> None:
    """A pod that no step uses is deleted after `idle_ttl`; the next step gets another one."""
    going = start(pod_steps.one, pod_steps.pause, pod_steps.after_pause, executor=warm(idle_ttl=0.1))
    result = going.end()

    assert result.success
    assert result.steps["one"].worker != result.steps["after_pause"].worker


def test_labels_follow_the_attempt(fake: FakeCluster, start: Start, warm: Pods) -> None:
    """Labels and annotations of a pod name the step that it runs, not the first one."""
    executor = warm(max_concurrent_steps=1, env={"RIVERS_TEST_SECONDS": "60"})
    going = start(pod_steps.one, pod_steps.sleeps_after, executor=executor)
    first = going.until("StepSucceeded", "one").worker
    second = going.until("StepStarted", "sleeps_after").worker
    metadata = until_labelled(fake, "sleeps_after")
    going.cancel()

    assert first == second == metadata["name"]
    assert "sleeps_after" in metadata["annotations"]["rivers.io/attempt-id"] + metadata["annotations"]["rivers.io/step"]
    assert going.loop.run_id == metadata["annotations"]["rivers.io/run"]
    assert "cancelled" == going.end().status
    assert [] == fake.pods()


def test_labels_while_they_change(fake: FakeCluster, start: Start, warm: Pods) -> None:
    """An attempt that begins while the labels of the one before are being written gets its own afterwards."""
    rule = fake.faults.add(Fault.slow(1.5), verb="patch", resource="pods", times=1)
    last = rs.Asset(pod_steps.naps, name="last", deps=[rs.AssetDef.dep("pause")])
    going = start(pod_steps.one, pod_steps.pause, last, executor=warm(max_concurrent_steps=1))
    going.until("StepStarted", "last")
    until_labelled(fake, "last")
    going.cancel()

    assert "cancelled" == going.end().status
    assert rule.hits


def until_labelled(fake: FakeCluster, step: str) -> Any:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        for pod in fake.pods():
            if pod["metadata"]["labels"]["rivers.io/step"] == step:
                return pod["metadata"]
        time.sleep(0.02)
    raise AssertionError(f"no pod was labelled {step}")


class TestFaults:
    def test_failed_step(self, fake: FakeCluster, repository: Repository, warm: Pods) -> None:
        """An exception of a body fails its step, and the next one runs in the same pod."""
        assets = [pod_steps.raises, rs.Asset(pod_steps.plain, name="z")]
        result = repository(*assets, executor=warm(max_concurrent_steps=1)).materialize(raise_on_error=False)

        assert rs.FailureReason.ERROR == result.steps["raises"].failure.reason
        assert result.steps["z"].worker == result.steps["raises"].worker

    @pytest.mark.parametrize("culprit", [pod_steps.exits, pod_steps.kills_its_server])
    def test_crashed_step(self, fake: FakeCluster, repository: Repository, warm: Pods, culprit: rs.Asset) -> None:
        """A body that crashes, or its worker, fails its own step alone; no other step runs in that pod."""
        others = [rs.Asset(pod_steps.plain, name=name) for name in ("a", "z", "zz")]
        repo = repository(others[0], culprit, *others[1:], executor=warm(max_concurrent_steps=1))
        result = repo.materialize(raise_on_error=False)

        assert rs.FailureReason.INFRASTRUCTURE == result.steps[culprit.name].failure.reason
        assert all(is_succeeded(result, name) for name in ("a", "z", "zz"))
        before, during, *after = (result.steps[name].worker for name in ("a", culprit.name, "z", "zz"))
        assert before == during
        assert during not in after
        assert [] == fake.pods()

    @pytest.mark.parametrize("how", ["kill", "delete"])
    def test_idle_worker_dies(self, fake: FakeCluster, start: Start, warm: Pods, how: str) -> None:
        """An idle worker that dies is replaced, and no step notices."""
        going = start(pod_steps.one, pod_steps.pause, pod_steps.after_pause, executor=warm())
        pod = going.until("StepSucceeded", "one").worker
        going.until("StepStarted", "pause")
        if how == "kill":
            fake.kill(pod)
        else:
            fake.delete(pod, force=True)
        result = going.end()

        assert result.success
        assert 1 == result.steps["after_pause"].attempts
        assert pod != result.steps["after_pause"].worker
        assert [] == fake.pods()

    def test_evicted(self, fake: FakeCluster, start: Start, warm: Pods) -> None:
        """An eviction is charged to the attempt that ran, though the worker's last message is of another one."""
        executor = warm(max_concurrent_steps=1, env={"RIVERS_TEST_SECONDS": "60"})
        going = start(pod_steps.one, pod_steps.sleeps_after, executor=executor)
        pod = going.until("StepStarted", "sleeps_after").worker
        fake.evict(pod, "The node was low on resource: memory.", "Evicted")
        result = going.end()

        assert is_succeeded(result, "one")
        assert rs.FailureReason.INFRASTRUCTURE == result.steps["sleeps_after"].failure.reason
        assert "low on resource" in result.steps["sleeps_after"].failure.message

    def test_timeout(self, fake: FakeCluster, repository: Repository, warm: Pods) -> None:
        """A step that is overdue times out; others that come after it succeed."""
        assets = [pod_steps.overdue, *(rs.Asset(pod_steps.plain, name=name) for name in ("a", "z"))]
        repo = repository(*assets, executor=warm(max_concurrent_steps=1))
        result = repo.materialize(raise_on_error=False)

        assert rs.FailureReason.TIMEOUT == result.steps["overdue"].failure.reason
        assert is_succeeded(result, "a")
        assert is_succeeded(result, "z")

    def test_unschedulable(self, fake: FakeCluster, start: Start, warm: Pods) -> None:
        """A pod that no node takes is reported and given up like any other."""
        fake.unschedulable("0/1 nodes are available: 1 Insufficient cpu.")
        going = start(pod_steps.one, executor=warm(startup_timeout=3.0))
        report = going.until("StepLog", "one")
        failure = going.end().steps["one"].failure

        assert "Insufficient cpu" in report.message
        assert "startup_timeout=3 s" in failure.message
        assert [] == fake.pods()

    def test_cancelled_while_pending(self, fake: FakeCluster, start: Start, warm: Pods) -> None:
        """A cancel while a warm pod is pending deletes it."""
        fake.unschedulable()
        going = start(pod_steps.one, executor=warm())
        going.until("StepLog", "one")
        going.cancel()

        assert "cancelled" == going.end().status
        assert [] == fake.pods()

    def test_pod_of_a_failed_step_is_kept(self, fake: FakeCluster, repository: Repository, warm: Pods) -> None:
        """With `keep_failed_pods` the pod of a failed step serves no other one, and its labels name that step."""
        assets = [rs.Asset(pod_steps.plain, name="a"), pod_steps.raises, rs.Asset(pod_steps.plain, name="z")]
        executor = warm(max_concurrent_steps=1, keep_failed_pods=True)
        result = repository(*assets, executor=executor).materialize(raise_on_error=False)
        (kept,) = fake.pods()

        assert is_succeeded(result, "z")
        assert result.steps["raises"].worker == kept["metadata"]["name"] != result.steps["z"].worker
        assert "raises" == kept["metadata"]["labels"]["rivers.io/step"]

    def test_forbidden_patch(self, fake: FakeCluster, repository: Repository, warm: Pods) -> None:
        """Steps run also where labels cannot be changed any more."""
        repo = repository(
            *[rs.Asset(pod_steps.naps, name=f"n{i}") for i in range(2)],
            executor=warm(max_concurrent_steps=1, env={"RIVERS_TEST_SECONDS": "0.3"}),
        )
        fake.faults.add(Fault.status(403), verb="patch", times=5)

        assert 1 == len(workers_of(repo.materialize()))


def test_the_right_to_patch(fake: FakeCluster, repository: Repository, pods: Pods, warm: Pods) -> None:
    """Preflight asks for the right to change labels only where pods are shared, and names it with the Role."""
    fake.deny("patch", "pods")
    asset = rs.Asset(pod_steps.plain, name="a")
    with pytest.raises(GraphValidationError, match=r"may not patch pods;(.|\n)*watch, delete, patch"):
        repository(asset, executor=warm()).materialize()

    assert repository(asset, executor=pods()).materialize().success


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (None, True),
        (Failure(reason=rs.FailureReason.ERROR, type="ValueError", message="no"), True),
        (Failure(reason=rs.FailureReason.CANCELLED, type="", message="", evidence=Evidence(cancelled=True)), True),
        (Failure(reason=rs.FailureReason.CANCELLED, type="", message="", evidence=Evidence(signal=9)), False),
        (Failure(reason=rs.FailureReason.OUT_OF_MEMORY, type="", message=""), False),
        (Failure(reason=rs.FailureReason.TIMEOUT, type="", message=""), False),
        (Failure(reason=rs.FailureReason.INFRASTRUCTURE, type="", message="", evidence=Evidence(exit_code=3)), False),
    ],
)
def test_clean_ends(failure: Failure | None, expected: bool) -> None:
    """Only a process that has ended by itself leaves a worker for others."""
    ending = Ending.SUCCEEDED if failure is None else Ending.FAILED

    assert expected == is_clean_end(StepResult(attempt_id="a", ending=ending, failure=failure))
    assert not is_clean_end(StepResult(attempt_id="a", ending=Ending.NOT_STARTED))


def test_old_image(nothing_is_left: str, monkeypatch: Any, repository: Repository, warm: Pods) -> None:
    """A worker that knows nothing of sessions serves the one attempt it was started with."""
    command = ["env", "-u", "RIVERS_MAX_ATTEMPTS", "rivers-worker", "serve"]
    with FakeCluster(command=command) as cluster:
        monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
        assets = [rs.Asset(pod_steps.plain, name=f"n{i}") for i in range(3)]
        result = repository(*assets, executor=warm(max_concurrent_steps=2)).materialize()

        assert result.success
        assert 3 == len(workers_of(result))
        assert [] == cluster.pods()
