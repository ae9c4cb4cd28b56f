"""What befalls pods and their API server while steps run: each fault for real, on a FakeCluster's processes.

The rows of the catalogue are named K…; those that need a kubelet or a kernel are in tests/cluster.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pod_steps
import pytest

import rivers as rs
from rivers_k8s_testing import FakeCluster, Fault

Start = Callable[..., Any]
Notes = Callable[[], list[str]]
ANY_REASON = [reason for reason in rs.FailureReason if reason is not rs.FailureReason.CANCELLED]


def failure_of(result: rs.RunResult, step: str) -> Any:
    failure = result.steps[step].failure
    assert failure is not None
    return failure


def disturbed(fake: FakeCluster, start: Start, disturb: Callable[[str], None], **more: Any) -> rs.RunResult:
    """The result of a run whose one pod something happens to while its body sleeps."""
    going = start(pod_steps.sleeps, **more)
    started = going.until("StepStarted", "sleeps")
    disturb(started.worker)
    result: rs.RunResult = going.end()
    assert [] == fake.pods()
    return result


class TestThePodEnds:
    def test_body_exits(self, fake: FakeCluster, start: Start) -> None:
        """A body that ends its process is infrastructure, with the exit code that its server reports."""
        failure = failure_of(start(pod_steps.exits).end(), "exits")

        assert rs.FailureReason.INFRASTRUCTURE == failure.reason
        assert "exited with code 3" in failure.message

    def test_body_is_killed(self, fake: FakeCluster, start: Start) -> None:
        """A body that is killed is infrastructure, with the signal's name (K30)."""
        failure = failure_of(start(pod_steps.killed).end(), "killed")

        assert rs.FailureReason.INFRASTRUCTURE == failure.reason
        assert "SIGKILL" in failure.message

    def test_server_is_killed(self, fake: FakeCluster, start: Start) -> None:
        """A killed server is found by the pod's status: infrastructure, never the body's error (K30)."""
        failure = failure_of(start(pod_steps.kills_its_server).end(), "kills_its_server")

        assert rs.FailureReason.INFRASTRUCTURE == failure.reason
        assert "SIGKILL" in failure.message or "137" in failure.message

    def test_container_is_killed(self, fake: FakeCluster, start: Start) -> None:
        """137 without the kernel's word is infrastructure, not out of memory (K30)."""
        failure = failure_of(disturbed(fake, start, fake.kill), "sleeps")

        assert rs.FailureReason.INFRASTRUCTURE == failure.reason

    def test_out_of_memory(self, fake: FakeCluster, start: Start) -> None:
        """OOMKilled is out of memory, with the limit (K29)."""
        failure = failure_of(disturbed(fake, start, fake.oom), "sleeps")

        assert rs.FailureReason.OUT_OF_MEMORY == failure.reason
        assert "OOMKilled" in failure.message

    def test_out_of_memory_escalates(self, fake: FakeCluster, start: Start) -> None:
        """After OOMKilled the next attempt's pod asks for more than the executor gave the first one."""
        policy = rs.RetryPolicy(1, escalate=rs.ComputeEscalation(max_memory="4Gi"))
        going = start(pod_steps.once_slow, retry=policy)
        fake.oom(going.until("StepStarted", "once_slow").worker)
        second = going.until("StepStarted", "once_slow", attempt=2)
        asked = fake.requests and [pod for pod in fake.pods() if pod["metadata"]["name"] == second.worker]
        result = going.end()

        assert result.success
        assert not asked or {"1Gi"} == {
            container["resources"]["limits"]["memory"] for pod in asked for container in pod["spec"]["containers"]
        }

    @pytest.mark.parametrize("reason", ["Evicted", "Preempting", "NodeShutdown", "Terminated"])
    def test_evicted(self, fake: FakeCluster, start: Start, reason: str) -> None:
        """A pod that its node has ended is infrastructure, with the kubelet's words (K32 to K34)."""
        disturb = lambda pod: fake.evict(pod, "The node was low on resource: memory.", reason)  # noqa: E731
        failure = failure_of(disturbed(fake, start, disturb), "sleeps")

        assert rs.FailureReason.INFRASTRUCTURE == failure.reason
        assert "low on resource" in failure.message

    @pytest.mark.parametrize("force", [False, True], ids=["gracefully", "by force"])
    def test_deleted_by_hand(self, fake: FakeCluster, start: Start, force: bool) -> None:
        """A pod that somebody deletes is infrastructure, and a retry runs in a new one (K27, K28)."""
        policy = rs.RetryPolicy(1, retry_on=ANY_REASON)
        going = start(pod_steps.once_slow, retry=policy)
        fake.delete(going.until("StepStarted", "once_slow").worker, force=force)
        failed = going.until("StepRetrying", "once_slow")
        result = going.end()

        assert rs.FailureReason.INFRASTRUCTURE == failed.failure.reason
        assert result.success
        assert [] == fake.pods()

    def test_frozen_container(self, fake: FakeCluster, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
        """A worker that was frozen for a while is taken up again: nothing is lost, and its body runs once (G2)."""
        going = start(pod_steps.sleeps, executor=None)
        pod = going.until("StepStarted", "sleeps").worker
        fake.kill(pod, signal.SIGSTOP)
        time.sleep(1.0)
        fake.kill(pod, signal.SIGCONT)
        going.cancel()

        assert "cancelled" == going.end().status


class TestTheApiServer:
    def test_away_while_steps_run(self, fake: FakeCluster, start: Start, pods: Any, notes: Notes) -> None:
        """An API server that goes away while bodies run ends none of them (K13, K54)."""
        going = start(pod_steps.sleeps, executor=pods(env={"RIVERS_TEST_SECONDS": "3"}))
        going.until("StepStarted", "sleeps")
        with fake.away():
            time.sleep(1.0)
        result = going.end()

        assert result.success
        assert ["sleeps 1"] == notes()
        assert [] == fake.pods()

    def test_result_while_it_is_away(self, fake: FakeCluster, start: Start, pods: Any) -> None:
        """A step that ends while the API server is away has succeeded; its pod is deleted once that is back."""
        going = start(pod_steps.sleeps, pod_steps.after_sleep, executor=pods(env={"RIVERS_TEST_SECONDS": "1"}))
        going.until("StepStarted", "sleeps")
        with fake.away():
            going.until("StepSucceeded", "sleeps")
            time.sleep(0.5)
        result = going.end()

        assert result.success
        assert [] == fake.pods()

    @pytest.mark.parametrize(
        "fault",
        [
            Fault.status(429, retry_after=0.2),
            Fault.status(500),
            Fault.html(503),
            Fault.reset(),
            Fault.reset(after=True),
            Fault.garbage(),
        ],
        ids=["429", "500", "html", "reset", "response lost", "garbage"],
    )
    def test_creates_that_fail(self, fake: FakeCluster, start: Start, fault: Fault, notes: Notes) -> None:
        """A create that fails is asked again; in the end there was one pod, whose body ran once (K6, K11, K12)."""
        going = start(pod_steps.one, executor=None)
        fake.faults.add(fault, verb="create", resource="pods", times=3)
        result = going.end()

        assert result.success
        assert ["one"] == notes()
        assert [] == fake.pods()

    @pytest.mark.parametrize("verb", ["get", "delete"])
    def test_other_requests_that_fail(self, fake: FakeCluster, start: Start, verb: str) -> None:
        """Deletes and reads of logs that fail are asked again; a lost answer to a delete is a delete (K15, K56)."""
        fake.faults.add(Fault.status(500), verb=verb, times=2)
        fake.faults.add(Fault.reset(after=True), verb=verb, times=2)
        result = start(pod_steps.one).end()

        assert result.success
        assert [] == fake.pods()

    @pytest.mark.parametrize(
        "fault",
        [
            Fault.cut(events=1),
            Fault.error(410),
            Fault.error(500),
            Fault.line(b"rubbish\n"),
            Fault.duplicate(),
            Fault.replay(),
            Fault.reorder(),
            Fault.status(410),
        ],
        ids=["cut", "ERROR 410", "ERROR 500", "garbage", "duplicate", "replay", "reorder", "HTTP 410"],
    )
    def test_watch(self, fake: FakeCluster, start: Start, fault: Fault, notes: Notes) -> None:
        """Whatever a watch delivers, steps run once and end (K9, K10, K17 to K19)."""
        fake.faults.add(fault, verb="watch", resource="pods", times=5)
        result = start(pod_steps.one, pod_steps.two).end()

        assert result.success
        assert ["one"] == notes()

    def test_expired_token(self, fake: FakeCluster, start: Start) -> None:
        """A token that was renewed in its file is read again (K1, K47)."""
        going = start(pod_steps.once_slow, retry=rs.RetryPolicy(1, retry_on=ANY_REASON))
        pod = going.until("StepStarted", "once_slow").worker
        fake.expire_token()
        fake.renew_token()
        fake.kill(pod)
        result = going.end()

        assert result.success

    def test_quota(self, fake: FakeCluster, start: Start, pods: Any) -> None:
        """A quota makes steps wait, is reported, and loses none (K3)."""
        assets = [rs.Asset(pod_steps.naps, name=f"n{i}") for i in range(3)]
        fake.quota(pods=1)
        going = start(*assets, executor=pods(env={"RIVERS_TEST_SECONDS": "3"}))
        said = going.until("StepLog")
        result = going.end()

        assert "quota" in said.message
        assert result.success

    def test_name_of_somebody_else(self, fake: FakeCluster, start: Start) -> None:
        """A pod of somebody else with an attempt's name is left alone (K7)."""
        # The name is known only when it is created, so the stranger's pod is put there by the first create's answer.
        fake.faults.add(Fault.status(409, reason="AlreadyExists"), verb="create", resource="pods", times=1)
        result = start(pod_steps.one).end()

        assert result.success


class TestPending:
    def test_unschedulable(self, fake: FakeCluster, start: Start, pods: Any) -> None:
        """A pod that no node takes is reported within seconds with the scheduler's message, then given up (K20)."""
        fake.unschedulable("0/1 nodes are available: 1 node(s) had untolerated taint.")
        going = start(pod_steps.one, executor=pods(startup_timeout=3.0))
        said = going.until("StepLog", "one")
        failure = failure_of(going.end(), "one")

        assert "untolerated taint" in said.message
        assert "startup_timeout=3 s" in failure.message
        assert "untolerated taint" in failure.message
        assert rs.FailureReason.INFRASTRUCTURE == failure.reason
        assert [] == fake.pods()

    @pytest.mark.parametrize(
        ("reason", "words"),
        [
            ("ErrImagePull", 'failed to resolve reference "x:1": x:1: not found'),
            ("InvalidImageName", "couldn't parse image name"),
            ("ErrImageNeverPull", "is not present with pull policy of Never"),
        ],
    )
    def test_image(self, fake: FakeCluster, repository: Any, reason: str, words: str) -> None:
        """An image that is not there any more ends the attempt at once, for good (K21, K23, K24)."""
        repo = repository(pod_steps.one)
        repo.materialize()
        fake.image_error(reason, words)
        policy = rs.RetryPolicy(3, retry_on=ANY_REASON)
        failure = failure_of(repo.materialize(raise_on_error=False, retry=policy), "one")

        assert words in failure.message
        assert not failure.transient
        assert [] == fake.pods()


class TestCancel:
    def test_pending(self, fake: FakeCluster, start: Start) -> None:
        """A cancel while pods wait deletes them; nothing ran (K44)."""
        fake.unschedulable()
        going = start(pod_steps.one)
        going.until("StepLog", "one")
        going.cancel()

        assert "cancelled" == going.end().status
        assert [] == fake.pods()

    def test_running(self, fake: FakeCluster, start: Start, notes: Notes) -> None:
        """A cancel while a body runs stops it where it is, long before its grace is over (K44)."""
        going = start(pod_steps.sleeps)
        going.until("StepStarted", "sleeps")
        began = time.monotonic()
        going.cancel()
        result = going.end()

        assert "cancelled" == result.steps["sleeps"].state.value
        assert time.monotonic() - began < 20  # its grace is 30 s
        assert [] == fake.pods()

    def test_body_that_ignores_it(self, fake: FakeCluster, start: Start, pods: Any, notes: Notes) -> None:
        """A body that goes on is killed when its grace is over."""
        going = start(pod_steps.ignores_stop, executor=pods(grace=1.0))
        going.until("StepStarted", "ignores_stop")
        while not notes():
            time.sleep(0.02)
        going.cancel()

        assert "cancelled" == going.end().steps["ignores_stop"].state.value
        assert [] == fake.pods()

    @pytest.mark.parametrize("milliseconds", [0, 5, 20, 80, 300, 600, 900])
    def test_at_any_moment(self, fake: FakeCluster, start: Start, milliseconds: int) -> None:
        """A cancel at any moment of a pod's start leaves no pod (K43)."""
        going = start(*[rs.Asset(pod_steps.naps, name=f"n{i}") for i in range(4)])
        time.sleep(1.2)  # preflight
        time.sleep(milliseconds / 1000)
        going.cancel()

        assert "cancelled" == going.end().status
        assert [] == fake.pods()

    def test_timeout(self, fake: FakeCluster, start: Start) -> None:
        """A body that is overdue is ended, and that is a timeout."""
        failure = failure_of(start(pod_steps.overdue).end(), "overdue")

        assert rs.FailureReason.TIMEOUT == failure.reason
        assert [] == fake.pods()


def test_two_controllers_side_by_side(fake: FakeCluster, start: Start) -> None:
    """Two runs in one namespace do not see each other's pods, and neither sweeps the other's."""
    one, other = start(pod_steps.sleeps), start(pod_steps.two, pod_steps.one)
    pod = one.until("StepStarted", "sleeps").worker
    assert other.end().success
    assert [pod] == [pod["metadata"]["name"] for pod in fake.pods()]
    one.cancel()

    assert "cancelled" == one.end().status
    assert [] == fake.pods()
    assert threading.active_count() < 20
