"""Runs on a real cluster: values, parity with this process, and what befalls pods, by real kernels and kubelets.

Needs beside KUBECONFIG: RIVERS_TEST_IMAGE (`nox -s image -- --tests`) and RIVERS_TEST_STORE, the URL of a bucket folder
that pods and this process reach with the AWS_… variables of this process's environment.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable
from typing import Any

import inline_steps
import pod_steps
import pytest
from namespaces import Namespace
from real_runs import ANY_REASON, NEEDS_IMAGE, NO_NOTES, Start, failed, lines_of

import rivers as rs
from rivers.exceptions import GraphValidationError

pytestmark = [NEEDS_IMAGE, pytest.mark.timeout(180)]


def test_graph(begin: Start) -> None:
    """Sync, async, mapped and fused steps, and logs as they come."""
    going = begin(pod_steps.one, pod_steps.two, pod_steps.awaited, pod_steps.mapped, pod_steps.talks, env=NO_NOTES)
    result = going.end()

    assert result.success, result.failed_assets
    assert 100 == len(lines_of(going, "talks"))


def test_inline_values(runs: Callable[..., rs.Executor]) -> None:
    """A fan-out of small dicts needs no bucket, with steps in this process and on this machine in between."""
    names = ("shops", "totals", "parted", "beside", "here", "both")
    assets = [getattr(inline_steps, name) for name in names]
    with rs.CodeRepository(assets, default_executor=runs(inline_values=True)) as repo:
        repo.materialize()

        assert [(7, ["north", "south"]), 8] == repo.load_node("both")


@pytest.mark.parametrize(
    ("body", "words"), [(pod_steps.exits, "exited with code 3"), (pod_steps.killed, "SIGKILL")], ids=["exit", "kill"]
)
def test_body_dies(begin: Start, body: rs.Asset, words: str) -> None:
    """A body that exits or is killed is infrastructure, told by the server that outlives it (K30)."""
    failure = failed(begin(body), body.name)

    assert rs.FailureReason.INFRASTRUCTURE == failure.reason
    assert words in failure.message


def test_out_of_memory_escalates(begin: Start) -> None:
    """The kernel's OOM kill is out of memory with the limit, and the retry's pod has more (K29)."""
    policy = rs.RetryPolicy(2, escalate=rs.ComputeEscalation(max_memory="1Gi", factor=3))
    going = begin(pod_steps.hogs, retry=policy)
    retrying = going.until("StepRetrying", "hogs")
    result = going.end()

    assert rs.FailureReason.OUT_OF_MEMORY == retrying.failure.reason
    assert "200 MiB" in retrying.failure.message
    assert result.success
    assert 2 == result.steps["hogs"].attempts


@pytest.mark.parametrize("how", ["delete", "force", "evict"])
def test_pod_is_taken_away(begin: Start, namespace: Namespace, how: str) -> None:
    """A pod that is deleted, by force too, or evicted is infrastructure; a retry runs in another (K27, K28, K32)."""
    going = begin(pod_steps.once_slow, retry=rs.RetryPolicy(1, retry_on=ANY_REASON), env=NO_NOTES)
    pod = going.until("StepStarted", "once_slow").worker
    if how == "evict":
        namespace.evict(pod)
    else:
        namespace.delete(pod, 0 if how == "force" else None)
    retrying = going.until("StepRetrying", "once_slow")
    result = going.end()

    assert rs.FailureReason.INFRASTRUCTURE == retrying.failure.reason
    assert result.success


def test_quota(begin: Start, namespace: Namespace) -> None:
    """A quota of one pod makes steps wait, says so, and all succeed (K3)."""
    hard = {"pods": "1"}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "one"}, "spec": {"hard": hard}}
    namespace.make("resourcequotas", quota)
    namespace.until(
        lambda: namespace.ask("GET", f"{namespace.path}/resourcequotas/one").get("status", {}).get("hard"), 20
    )
    assets = [rs.Asset(pod_steps.plain, name=f"n{i}") for i in range(3)]
    going = begin(*assets, env=NO_NOTES)
    result = going.end()

    assert result.success, result.failed_assets
    assert any("quota" in e.message for e in going.events if type(e).__name__ == "StepLog")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"worker_image": "127.0.0.1:1/Missing:1"}, "InvalidImageName"),
        ({"worker_image": "localhost/nowhere:1", "image_pull_policy": "Never"}, "ErrImageNeverPull"),
        ({"service_account": "nobody"}, "nobody"),
    ],
    ids=["invalid image", "image never pulled", "service account"],
)
def test_refused_by_preflight(
    runs: Callable[..., Any], settings: dict[str, Any], words: str, namespace: Namespace
) -> None:
    """What can never run refuses the run, with the cluster's words, and leaves nothing (K23, K24, K49)."""
    executor = runs(**settings)
    store = rs.PickleIOHandler(f"{os.environ['RIVERS_TEST_STORE']}/{uuid.uuid4().hex}")
    with (
        rs.CodeRepository([pod_steps.one], default_executor=executor, default_io_handler=store) as repo,
        pytest.raises(GraphValidationError, match=words),
    ):
        repo.materialize()

    assert [] == namespace.ask("GET", f"{namespace.path}/pods")["items"]


def test_secret_of_a_template_is_missing(begin: Start) -> None:
    """A Secret that the template names and nobody made ends the attempt within seconds, by its name (K25)."""
    container = {"name": "rivers-step", "envFrom": [{"secretRef": {"name": "nowhere"}}]}
    began = time.monotonic()
    going = begin(pod_steps.one, pod_template={"spec": {"containers": [container]}})
    going.thread.join(60)

    assert time.monotonic() - began < 60
    assert "nowhere" in str(going.refused)


def test_unschedulable(begin: Start) -> None:
    """A pod that no node takes is told with the scheduler's words, and given up at startup_timeout (K20)."""
    going = begin(pod_steps.one, worker_cpu="900", startup_timeout=6.0)
    said = going.until("StepLog", "one")
    failure = failed(going, "one")

    assert "Insufficient cpu" in said.message
    assert "startup_timeout=6 s" in failure.message


def test_cancel_at_any_moment(begin: Start) -> None:
    """A cancel while pods are created, start and run leaves none (K43, K44)."""
    for seconds in (1.5, 2.2, 3.0, 4.0):
        assets = [rs.Asset(pod_steps.naps, name=f"n{i}") for i in range(4)]
        going = begin(*assets, env=NO_NOTES)
        time.sleep(seconds)
        going.cancel()

        assert "cancelled" == going.end().status


def test_port_forward(begin: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where pods' addresses are out of reach, everything goes through the API server."""
    monkeypatch.setenv("RIVERS_KUBERNETES_DIAL", "port-forward")
    going = begin(pod_steps.one, pod_steps.two, pod_steps.talks, env=NO_NOTES)

    assert going.end().success
