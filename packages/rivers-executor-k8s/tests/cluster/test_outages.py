"""Runs while parts of a real cluster are away, hang or lose packets: no step is lost for it, and none runs twice.

These tests break the cluster that they run on, and repair it: nothing else may use it meanwhile.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from typing import Any

import pod_steps
import pytest
from namespaces import Namespace
from outages import NEEDS_TOOLS, Outages, connections_to, server_of, sleep_until
from real_runs import ANY_REASON, NEEDS_IMAGE, NO_NOTES, Start, failed, lines_of
from running.going import Going

import rivers as rs

pytestmark = [pytest.mark.long, NEEDS_IMAGE, NEEDS_TOOLS, pytest.mark.timeout(300)]

API = "kube-apiserver"
API_PORT = 6443
ONCE_MORE = rs.RetryPolicy(1, retry_on=ANY_REASON)


@pytest.fixture
def outages(namespace: Namespace, begin: Start) -> Iterator[Outages]:
    """Breaks parts; everything is repaired and works before the runs of the test are ended."""
    outages = Outages()
    try:
        yield outages
    finally:
        outages.repair()
        outages.until_healthy(namespace)


def seconds(length: float) -> dict[str, str]:
    """The environment of bodies that take so long."""
    return {**NO_NOTES, "RIVERS_TEST_SECONDS": str(length)}


def waits_of(going: Going, step: str) -> list[Any]:
    """What was told of why the step's pod does not start."""
    return [e for e in going.events if type(e).__name__ == "StepLog" and e.step == step and "waits for" in e.message]


def ended(going: Going, within: float = 100.0) -> rs.RunResult:
    """The result; the run may take so many seconds more."""
    going.thread.join(within)
    return going.end()


def assert_nothing_happened(going: Going, *steps: str) -> None:
    """All have succeeded, at their first attempt."""
    result = ended(going)
    assert result.success, result.failed_assets
    assert dict.fromkeys(steps, 1) == {step: result.steps[step].attempts for step in steps}


@pytest.mark.parametrize(
    ("how", "away"), [("stop", 120.0), ("kill", 10.0), ("freeze", 40.0)], ids=["stopped", "killed", "frozen"]
)
def test_api_server_is_away(begin: Start, outages: Outages, how: str, away: float) -> None:
    """Without an API server, or with one that hangs, a body goes on and the next pod waits for it (K13, K14, K54)."""
    going = begin(pod_steps.sleeps, pod_steps.after_sleep, env=seconds(5))
    going.until("StepStarted", "sleeps")
    with outages.without(API, away, how):
        going.until("StepSucceeded", "sleeps")
    assert_nothing_happened(going, "sleeps", "after_sleep")

    assert 1 <= len(waits_of(going, "after_sleep")) <= 5


def test_etcd_is_killed(begin: Start, outages: Outages) -> None:
    """An API server without its memory refuses everything; that is no step's fault (K12, K55)."""
    going = begin(pod_steps.sleeps, pod_steps.after_sleep, env=seconds(5))
    going.until("StepStarted", "sleeps")
    with outages.without("etcd", 15.0, "kill"):
        going.until("StepSucceeded", "sleeps")

    assert_nothing_happened(going, "sleeps", "after_sleep")


def test_node_is_lost_and_comes_back(begin: Start, outages: Outages, namespace: Namespace) -> None:
    """A node that is not ready any more ends no attempt whose stream is alive (K35)."""
    going = begin(pod_steps.counts, env=seconds(60))
    going.until("StepStarted", "counts")
    outages.break_part("kubelet", "freeze")
    namespace.until(lambda: _unready(namespace), 60)
    began = time.monotonic()
    sleep_until(began + 15.0)  # five seconds more than such a node's pods get here if they do not say otherwise
    outages.repair_part("kubelet")
    assert_nothing_happened(going, "counts")

    assert [f"line {i}" for i in range(300)] == lines_of(going, "counts")


def _unready(namespace: Namespace) -> bool | None:
    node = namespace.ask("GET", "/api/v1/nodes")["items"][0]
    return True if any("unreachable" in taint["key"] for taint in node["spec"].get("taints", ())) else None


def test_node_is_lost_for_good(begin: Start, outages: Outages, namespace: Namespace) -> None:
    """A node without power: no packet, no word; its worker is given up after 90 s, and another pod takes over (K35)."""
    going = begin(pod_steps.once_slow, retry=ONCE_MORE, env=NO_NOTES)
    name = going.until("StepStarted", "once_slow").worker
    outages.break_part("kubelet", "freeze")
    outages.cut_off(namespace.pod(name).status.pod_ip)
    outages.signal(server_of(namespace, name), signal.SIGKILL)
    time.sleep(80.0)
    told_early = [type(event).__name__ for event in going.events]
    retrying = going.until("StepRetrying", "once_slow")
    outages.let_pass()
    outages.repair_part("kubelet")
    result = ended(going)

    assert "StepRetrying" not in told_early
    assert rs.FailureReason.INFRASTRUCTURE == retrying.failure.reason
    assert result.success, result.failed_assets
    assert 2 == result.steps["once_slow"].attempts


def test_node_shuts_down(begin: Start, outages: Outages, namespace: Namespace) -> None:
    """What a kubelet writes of pods when its node shuts down is infrastructure, and another pod takes over (K34).

    Its words are written for it while it stands still: shutting down this machine's would take the test with it.
    """
    going = begin(pod_steps.once_slow, retry=ONCE_MORE, env=NO_NOTES)
    name = going.until("StepStarted", "once_slow").worker
    path = f"{namespace.path}/pods/{name}"
    with outages.without("kubelet", 2.0, "freeze"):
        pod = namespace.ask("GET", path)
        words = "Pod was terminated in response to imminent node shutdown."
        pod["status"] |= {"phase": "Failed", "reason": "Terminated", "message": words}
        namespace.ask("PUT", f"{path}/status", pod)
        retrying = going.until("StepRetrying", "once_slow")
    result = ended(going)

    assert rs.FailureReason.INFRASTRUCTURE == retrying.failure.reason
    assert words in retrying.failure.message
    assert result.success


def test_scheduler_is_away(begin: Start, outages: Outages) -> None:
    """A pod that nobody schedules is told as such within five seconds, and runs when somebody does."""
    going = begin(pod_steps.sleeps, pod_steps.after_sleep, env=seconds(3))
    going.until("StepStarted", "sleeps")
    outages.break_part("kube-scheduler")
    going.until("StepSucceeded", "sleeps")
    ready = time.monotonic()
    said = going.until("StepLog", "after_sleep")
    waited = time.monotonic() - ready
    outages.repair_part("kube-scheduler")
    assert_nothing_happened(going, "sleeps", "after_sleep")

    assert "no component of the cluster has said why it waits" in said.message
    assert waited < 6.0  # five, and the create request


def test_controller_manager_is_away(begin: Start, outages: Outages) -> None:
    """Bare pods need none of the controllers."""
    outages.break_part("kube-controller-manager")
    going = begin(pod_steps.one, pod_steps.two, pod_steps.mapped, env=NO_NOTES)

    assert_nothing_happened(going, "one", "two")


def test_watch_is_dead(begin: Start, outages: Outages, namespace: Namespace) -> None:
    """What a dead watch does not tell, a list does: the pod's end is known within 35 s (K16)."""
    going = begin(pod_steps.once_slow, retry=ONCE_MORE, env=NO_NOTES)
    pod = going.until("StepStarted", "once_slow").worker
    address = namespace.pod(pod).status.pod_ip
    server = server_of(namespace, pod)
    outages.cut_off(address)  # else the stream would tell of the end
    for port in connections_to(API_PORT):
        outages.drop("-p", "tcp", "--sport", str(API_PORT), "--dport", str(port))
    began = time.monotonic()
    outages.signal(server, signal.SIGKILL)
    sleep_until(began + 15.0)  # `until` waits for half a minute, which is less than it may take
    retrying = going.until("StepRetrying", "once_slow")
    took = time.monotonic() - began
    outages.let_pass()
    result = ended(going)

    assert rs.FailureReason.INFRASTRUCTURE == retrying.failure.reason
    assert took < 36.0
    assert result.success


@pytest.mark.parametrize("dropped", [8.0, 40.0])
def test_half_open_stream(begin: Start, outages: Outages, namespace: Namespace, dropped: float) -> None:
    """A stream whose packets vanish is taken up again: the body runs once, no line is lost or told twice (G7)."""
    going = begin(pod_steps.counts, env=seconds(dropped + 10.0))
    pod = going.until("StepStarted", "counts").worker
    outages.cut_off(namespace.pod(pod).status.pod_ip)
    time.sleep(dropped)
    outages.let_pass()
    assert_nothing_happened(going, "counts")

    assert [f"line {i}" for i in range(int(5 * (dropped + 10.0)))] == lines_of(going, "counts")


def test_server_is_killed(begin: Start, outages: Outages, namespace: Namespace) -> None:
    """SIGKILL of the server is infrastructure and not out of memory, and the body dies with it (K30)."""
    going = begin(pod_steps.sleeps, env=seconds(60))
    pod = going.until("StepStarted", "sleeps").worker
    outages.signal(server_of(namespace, pod), signal.SIGKILL)
    failure = failed(going, "sleeps")

    assert rs.FailureReason.INFRASTRUCTURE == failure.reason
    assert "SIGKILL" in failure.message


def test_server_stands_still(begin: Start, outages: Outages, namespace: Namespace) -> None:
    """A server that is stopped and goes on has lost nothing: it is called again until it answers (G2)."""
    going = begin(pod_steps.counts, env=seconds(40))
    pod = going.until("StepStarted", "counts").worker
    server = server_of(namespace, pod)
    outages.signal(server, signal.SIGSTOP)
    time.sleep(30.0)
    outages.signal(server, signal.SIGCONT)
    assert_nothing_happened(going, "counts")

    assert [f"line {i}" for i in range(200)] == lines_of(going, "counts")


def test_server_stands_still_for_good(begin: Start, outages: Outages, namespace: Namespace) -> None:
    """A silent server is given up after 90 s (G2), and what its body has stored by then counts all the same (P3)."""
    going = begin(pod_steps.sleeps, pod_steps.once_slow, env=seconds(600))
    for _ in range(2):
        pod = going.until("StepStarted").worker
        outages.signal(server_of(namespace, pod), signal.SIGSTOP)
    result = ended(going, 150.0)
    failure = result.steps["sleeps"].failure

    assert failure is not None
    assert rs.FailureReason.INFRASTRUCTURE == failure.reason
    assert "no contact for 90 s" in failure.message
    assert ["once_slow"] == list(result.materialized_assets)
    assert 1 == result.steps["once_slow"].attempts


def test_forwarded_stream(begin: Start, outages: Outages, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that goes through the API server breaks with it, and is taken up again when that is back."""
    monkeypatch.setenv("RIVERS_KUBERNETES_DIAL", "port-forward")
    going = begin(pod_steps.counts, env=seconds(40))
    going.until("StepStarted", "counts")
    with outages.without(API, 20.0):
        pass
    assert_nothing_happened(going, "counts")

    assert [f"line {i}" for i in range(200)] == lines_of(going, "counts")
