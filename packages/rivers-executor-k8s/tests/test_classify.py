"""Classification of attempts' ends by pod statuses, recorded on a real cluster (`statuses/`) or written by hand."""

from __future__ import annotations

import base64
import signal
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from rivers.protocol import Ending, Failure, FailureReason, OutputRecord, StepResult
from rivers.protocol.protobuf import encode_event_protobuf
from rivers_executor_k8s.pod.classify import EXIT_CODES, classify_pod_end, collect_evidence
from rivers_executor_k8s.pod.names import STEP_CONTAINER
from rivers_executor_k8s.pod.objects import (
    Condition,
    Container,
    ContainerState,
    ContainerStatus,
    Metadata,
    Pod,
    PodSpec,
    PodStatus,
    ResourceLimits,
    RunningState,
    TerminatedState,
)
from rivers_worker.v1 import worker_pb2 as pb

STATUSES = Path(__file__).parent / "statuses"
ATTEMPT = "run-1/step/1"
BEGAN = "2026-01-01T00:00:00Z"


class Seen(msgspec.Struct):
    """Return a pod that was recorded on Kubernetes 1.34 with containerd."""

    pod: Pod


def seen(name: str) -> Pod:
    return msgspec.json.decode((STATUSES / f"{name}.json").read_bytes(), type=Seen).pod


def pod_with(end: TerminatedState | None = None, *, restarts: int = 0, limit: str = "64Mi", **status: object) -> Pod:
    """A pod whose worker has ended so; of a restarted one that is the end of the first worker."""
    now, before = ContainerState(terminated=end), ContainerState()
    if restarts:
        now, before = ContainerState(running=RunningState()), now
    container = ContainerStatus(name=STEP_CONTAINER, image="i:1", restart_count=restarts, state=now, last_state=before)
    statuses = (container,) if end is not None else ()
    spec = PodSpec(
        node_name="n1", containers=(Container(name=STEP_CONTAINER, resources=ResourceLimits({"memory": limit})),)
    )
    # mypy cannot see through **status
    return Pod(
        metadata=Metadata(name="p1"),
        spec=spec,
        status=PodStatus(container_statuses=statuses, **status),  # type: ignore[arg-type]
    )


def exited(code: int, reason: str = "Error", message: str = "") -> TerminatedState:
    return TerminatedState(exit_code=code, reason=reason, message=message, started_at=BEGAN)


# ---- the table (faults.md 2.11) --------------------------------------------------------------------------------------

LOST_LATER = [
    # name, the word, what is told: a pod that was taken away while the body ran
    ("deleted", "Deleted", "killed by SIGTERM (15); container reason Deleted; on node node-1; worker deleted"),
    ("evicted-api", "Evicted", "Eviction API: evicting"),
    ("evicted-emptydir", "Evicted", 'Usage of EmptyDir volume "w" exceeds the limit "4Mi".'),
    ("preempted", "Preempting", "default-scheduler: preempting to accommodate a higher priority pod"),
    ("out-of-cpu", "OutOfcpu", "Node didn't have enough resource: cpu, requested: 64000"),
    ("node-affinity", "NodeAffinity", "Predicate NodeAffinity failed"),
]


@pytest.mark.parametrize(("name", "word", "text"), LOST_LATER)
def test_a_pod_that_was_taken_away(name: str, word: str, text: str) -> None:
    """It is infrastructure and may be tried again; if the body had not begun, free of charge."""
    after, before = classify_pod_end(ATTEMPT, seen(name), started=True), classify_pod_end(ATTEMPT, seen(name))

    assert (Ending.FAILED, Ending.NOT_STARTED) == (after.ending, before.ending)
    for result in (after, before):
        assert result.failure is not None
        assert result.failure.evidence is not None
        assert (FailureReason.INFRASTRUCTURE, True) == (result.failure.reason, result.failure.transient)
        assert word == result.failure.evidence.container_reason
        assert text in result.failure.message


def test_out_of_memory() -> None:
    """OOMKilled is out of memory, with the limit; also before the body began, as the code it imports takes memory."""
    for started in (True, False):
        result = classify_pod_end(ATTEMPT, seen("oom"), started=started)

        assert Ending.FAILED is result.ending
        assert result.failure is not None
        assert result.failure.evidence is not None
        assert (FailureReason.OUT_OF_MEMORY, True) == (result.failure.reason, result.failure.transient)
        assert 64 * 2**20 == result.failure.evidence.memory_limit
        assert "container reason OOMKilled; memory ? of 64 MiB; on node node-1" in result.failure.message


def test_killed_without_oom() -> None:
    """A bare 137 is infrastructure and tells the memory limit for whoever wonders; before the start it is free."""
    result = classify_pod_end(ATTEMPT, seen("killed-outside"), started=True)

    assert Ending.FAILED is result.ending
    assert result.failure is not None
    assert result.failure.evidence is not None
    assert (FailureReason.INFRASTRUCTURE, True) == (result.failure.reason, result.failure.transient)
    assert (None, signal.SIGKILL) == (result.failure.evidence.exit_code, result.failure.evidence.signal)
    assert "killed by SIGKILL (9); memory ? of 64 MiB" in result.failure.message
    assert Ending.NOT_STARTED is classify_pod_end(ATTEMPT, seen("killed-outside")).ending


def test_a_crash_of_the_worker() -> None:
    """A signal of a crash is infrastructure, never an error of the body."""
    result = classify_pod_end(ATTEMPT, seen("segv"), started=True)

    assert result.failure is not None
    assert FailureReason.INFRASTRUCTURE is result.failure.reason
    assert "killed by SIGSEGV (11)" in result.failure.message


def test_exit_0_without_an_outcome() -> None:
    """Exit code 0 without a result does not count as success."""
    for name in ("exit-0", "sidecar-stays"):
        result = classify_pod_end(ATTEMPT, seen(name), started=True)

        assert Ending.FAILED is result.ending
        assert result.failure is not None
        assert (FailureReason.INFRASTRUCTURE, True) == (result.failure.reason, result.failure.transient)
        assert "exited with code 0 before committing" in result.failure.message
        assert EXIT_CODES[0] in result.failure.message


def test_the_pods_deadline() -> None:
    """A pod whose activeDeadlineSeconds have passed while the worker ran is a timeout."""
    result = classify_pod_end(ATTEMPT, seen("deadline"), started=True)

    assert Ending.FAILED is result.ending
    assert result.failure is not None
    assert FailureReason.TIMEOUT is result.failure.reason
    assert "stopped for its timeout; killed by SIGKILL (9)" in result.failure.message


def test_the_pods_deadline_before_the_worker_ran() -> None:
    """The body had no time at all, so it did not time out; the kubelet's 137 is nobody's signal."""
    result = classify_pod_end(ATTEMPT, seen("deadline-pending"))

    assert Ending.NOT_STARTED is result.ending
    assert result.failure is not None
    assert result.failure.evidence is not None
    assert FailureReason.INFRASTRUCTURE is result.failure.reason
    assert (None, None) == (result.failure.evidence.exit_code, result.failure.evidence.signal)
    assert "DeadlineExceeded" == result.failure.evidence.container_reason
    assert "activeDeadlineSeconds" in result.failure.message


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("no-entrypoint", "rivers-worker was not found in image 'localhost/python:3.11-slim'"),
        ("no-entrypoint-abs", "/usr/local/bin/rivers-worker was not found in image 'localhost/python:3.11-slim'"),
        ("not-executable", "/etc/hostname cannot be executed in image 'localhost/python:3.11-slim'"),
        ("bad-workdir", "image 'localhost/python:3.11-slim': failed to create containerd task"),
    ],
)
def test_a_container_that_cannot_be_started(name: str, text: str) -> None:
    """An image without the worker fails the step at once: another attempt would meet the same."""
    result = classify_pod_end(ATTEMPT, seen(name))

    assert Ending.FAILED is result.ending
    assert result.failure is not None
    assert result.failure.evidence is not None
    assert (FailureReason.INFRASTRUCTURE, False) == (result.failure.reason, result.failure.transient)
    assert ("StartError", None) == (
        result.failure.evidence.container_reason,
        result.failure.evidence.exit_code,
    )
    assert text in result.failure.message


def test_a_failed_init_container() -> None:
    """It is named with its exit code; it costs an attempt, and the user's policy decides on another."""
    result = classify_pod_end(ATTEMPT, seen("init-failed"))

    assert Ending.FAILED is result.ending
    assert result.failure is not None
    assert (FailureReason.INFRASTRUCTURE, True) == (result.failure.reason, result.failure.transient)
    assert "init container 'setup' exited with code 3" in result.failure.message


# ---- exit codes of rivers-worker ------------------------------------------------------------------------------------

CODES = [
    # code, ending and transient when the body is not known to have begun, transient when it has
    (1, Ending.FAILED, False, True),
    (10, Ending.FAILED, True, True),
    (11, Ending.FAILED, False, False),
    (12, Ending.FAILED, False, False),
    (13, Ending.NOT_STARTED, True, True),
    (14, Ending.FAILED, False, False),
    (15, Ending.FAILED, True, True),
    (70, Ending.FAILED, False, True),
    (127, Ending.FAILED, False, True),
    (143, Ending.NOT_STARTED, True, True),
]


@pytest.mark.parametrize(("code", "ending", "transient", "transient_later"), CODES)
def test_exit_codes(code: int, ending: Ending, transient: bool, transient_later: bool) -> None:
    """An exit code alone is infrastructure, told in words; where another attempt cannot help is known."""
    before = classify_pod_end(ATTEMPT, pod_with(exited(code)))
    after = classify_pod_end(ATTEMPT, pod_with(exited(code)), started=True)

    assert (ending, Ending.FAILED) == (before.ending, after.ending)
    assert before.failure is not None
    assert after.failure is not None
    assert (transient, transient_later) == (before.failure.transient, after.failure.transient)
    assert FailureReason.INFRASTRUCTURE is before.failure.reason is after.failure.reason
    assert EXIT_CODES.get(code, "exited with code") in after.failure.message


@pytest.mark.parametrize("code", range(256))
def test_no_exit_code_is_the_bodys_error(code: int) -> None:
    """Only what the body raised is an error; a bare exit never is, and never a success."""
    result = classify_pod_end(ATTEMPT, pod_with(exited(code)), started=True)

    assert Ending.FAILED is result.ending
    assert result.failure is not None
    assert FailureReason.INFRASTRUCTURE is result.failure.reason


def test_golden_exit_codes() -> None:
    """The kubelet's status of a plain exit code is read as one."""
    for code in (0, 1, 10):
        assert code == collect_evidence(seen(f"exit-{code}")).exit_code


# ---- the worker's own word ------------------------------------------------------------------------------------------


def told(result: StepResult) -> str:
    outcome = pb.Outcome(attempt_id=result.attempt_id, step_event=encode_event_protobuf(result))
    return "rivers-outcome 1 " + base64.b64encode(outcome.SerializeToString()).decode()


FAILURE = Failure(reason=FailureReason.ERROR, type="ValueError", message="no such day")
OUTCOMES = [
    StepResult(attempt_id=ATTEMPT, ending=Ending.SUCCEEDED, outputs=(OutputRecord(name="result", key="days"),)),
    StepResult(attempt_id=ATTEMPT, ending=Ending.FAILED, failure=FAILURE),
]


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_the_workers_own_word_wins(outcome: StepResult) -> None:
    """A result in the termination message counts, whatever happened to container and pod afterwards."""
    end = exited(137, "OOMKilled", told(outcome))

    assert outcome == classify_pod_end(ATTEMPT, pod_with(end), started=True)
    assert outcome == classify_pod_end(ATTEMPT, pod_with(end, phase="Failed", reason="Evicted"), gone=True)
    assert outcome == classify_pod_end(ATTEMPT, pod_with(end, restarts=1))


@pytest.mark.parametrize("code", [0, 10, 13, 15, 70, 143])
def test_the_last_words_are_of_an_earlier_attempt(code: int) -> None:
    """Of a worker that has served others, neither the message nor the exit code of an earlier attempt counts."""
    earlier = StepResult(attempt_id="run-1/other/1", ending=Ending.SUCCEEDED)
    ended = pod_with(exited(code, message=told(earlier)))

    before = classify_pod_end(ATTEMPT, ended, served=True)
    during = classify_pod_end(ATTEMPT, ended, served=True, started=True)

    assert (Ending.NOT_STARTED, Ending.FAILED) == (before.ending, during.ending)
    for result in (before, during):
        assert result.failure is not None
        assert (ATTEMPT, FailureReason.INFRASTRUCTURE, True) == (
            result.attempt_id,
            result.failure.reason,
            result.failure.transient,
        )


def test_another_attempts_word_is_none() -> None:
    """An outcome counts for its own attempt alone."""
    other = StepResult(attempt_id="run-1/step/2", ending=Ending.SUCCEEDED)

    assert (
        Ending.FAILED is classify_pod_end(ATTEMPT, pod_with(exited(0, "Completed", told(other))), started=True).ending
    )


def test_cancelled_by_nobody_of_ours() -> None:
    """A worker that gets SIGTERM from a node's drain calls its body cancelled; the run did not, so the pod was lost."""
    outcome = StepResult(attempt_id=ATTEMPT, ending=Ending.CANCELLED)
    condition = Condition(type="DisruptionTarget", status="True", reason="EvictionByEvictionAPI")
    drained = pod_with(exited(143, message=told(outcome)), conditions=(condition,))
    result = classify_pod_end(ATTEMPT, drained, started=True)

    assert Ending.FAILED is result.ending
    assert result.failure is not None
    assert (FailureReason.INFRASTRUCTURE, True) == (result.failure.reason, result.failure.transient)
    assert outcome == classify_pod_end(ATTEMPT, drained, cancelled=True, started=True)


def test_a_message_that_is_no_outcome_is_evidence() -> None:
    """The last 500 characters of another termination message are reported."""
    result = classify_pod_end(ATTEMPT, pod_with(exited(1, message="x" * 5000 + "\nTraceback: boom")), started=True)

    assert result.failure is not None
    assert "Traceback: boom" in result.failure.message
    assert len(result.failure.message) < 700


# ---- what a node says that cannot be had here -----------------------------------------------------------------------

NODE = [
    ("Terminated", "Pod was terminated in response to imminent node shutdown.", "Terminated"),
    ("Shutdown", "Node is shutting, evicting pods", "NodeShutdown"),
    ("NodeShutdown", "Pod was rejected as the node is shutting down.", "NodeShutdown"),
    ("NodeLost", "Node n1 which was running pod p1 is unresponsive", "NodeLost"),
    ("Preempting", "Preempted in order to admit critical pod", "Preempting"),
    ("Evicted", "The node was low on resource: memory.", "Evicted"),
]


@pytest.mark.parametrize(("reason", "message", "word"), NODE)
def test_a_reason_of_the_pod(reason: str, message: str, word: str) -> None:
    """A pod that its node gave up is lost, even when its container was OOMKilled on the way."""
    pod = pod_with(exited(137, "OOMKilled"), phase="Failed", reason=reason, message=message)
    result = classify_pod_end(ATTEMPT, pod, started=True)

    assert result.failure is not None
    assert result.failure.evidence is not None
    assert (FailureReason.INFRASTRUCTURE, word) == (result.failure.reason, result.failure.evidence.container_reason)
    assert message in result.failure.message


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        ("EvictionByEvictionAPI", "Evicted"),
        ("DeletionByTaintManager", "Evicted"),
        ("PreemptionByScheduler", "Preempting"),
        ("DeletionByPodGC", "NodeLost"),
        ("TerminationByKubelet", "Terminated"),
        ("SomethingNew", "Evicted"),
    ],
)
def test_a_disruption_target(reason: str, word: str) -> None:
    """The condition DisruptionTarget means a lost pod, whatever its reason."""
    condition = Condition(type="DisruptionTarget", status="True", reason=reason, message="words of the controller")
    evidence = collect_evidence(pod_with(exited(137, "OOMKilled"), conditions=(condition,)))

    assert word == evidence.container_reason
    assert "words of the controller" in (evidence.detail or "")


def test_a_disruption_that_was_called_off() -> None:
    """A condition that is not True means nothing."""
    condition = Condition(type="DisruptionTarget", status="False", reason="PreemptionByScheduler")

    assert "OOMKilled" == collect_evidence(pod_with(exited(137, "OOMKilled"), conditions=(condition,))).container_reason


def test_a_pod_that_is_gone() -> None:
    """An object that was deleted under us is lost, also when nothing else is known of it; never begun, it is free."""
    for pod in (None, pod_with(), seen("runs"), pod_with(exited(137, "OOMKilled"))):
        result = classify_pod_end(ATTEMPT, pod, gone=True, started=True)

        assert Ending.FAILED is result.ending
        assert result.failure is not None
        assert result.failure.evidence is not None
        assert (FailureReason.INFRASTRUCTURE, True) == (result.failure.reason, result.failure.transient)
        assert "Deleted" == result.failure.evidence.container_reason
    assert Ending.NOT_STARTED is classify_pod_end(ATTEMPT, pod_with(), gone=True).ending


@pytest.mark.parametrize("code", [0, 1, 11, 12, 70, 137, 143])
def test_taken_away_before_the_body_began(code: int) -> None:
    """A pod that was taken away before the body began is no attempt, however its worker ended then."""
    result = classify_pod_end(ATTEMPT, pod_with(exited(code)), gone=True)

    assert (Ending.FAILED if code == 0 else Ending.NOT_STARTED) is result.ending
    assert result.failure is not None
    assert result.failure.transient


def test_gone_for_a_known_reason() -> None:
    """A pod that was evicted and is gone was evicted."""
    assert "Evicted" == collect_evidence(seen("evicted-api"), gone=True).container_reason


def test_a_cancelled_attempt() -> None:
    """A cancelled attempt is cancelled and not retried, whatever happened to its pod."""
    for pod in (seen("deleted"), seen("killed-outside"), seen("oom"), None):
        result = classify_pod_end(ATTEMPT, pod, gone=True, cancelled=True, started=True)

        assert Ending.CANCELLED is result.ending
        assert result.failure is not None
        assert FailureReason.CANCELLED is result.failure.reason


def test_a_restarted_container_is_lost() -> None:
    """A second worker in the same pod was told nothing: the first one's end is the attempt's."""
    result = classify_pod_end(ATTEMPT, pod_with(exited(1), restarts=1), started=True)

    assert result.failure is not None
    assert result.failure.evidence is not None
    assert FailureReason.INFRASTRUCTURE is result.failure.reason
    assert (1, "Restarted") == (result.failure.evidence.exit_code, result.failure.evidence.container_reason)
    assert "started 2 times" in result.failure.message


def test_a_container_that_was_restarted_after_an_oom_kill() -> None:
    """… and if that was an OOM kill, it is one."""
    assert "OOMKilled" == collect_evidence(pod_with(exited(137, "OOMKilled"), restarts=1)).container_reason


def test_docker_has_another_word() -> None:
    """ContainerCannotRun is Docker's StartError."""
    end = TerminatedState(
        exit_code=127, reason="ContainerCannotRun", message='exec: "rivers-worker": executable file not found in $PATH'
    )
    result = classify_pod_end(ATTEMPT, pod_with(end))

    assert result.failure is not None
    assert not result.failure.transient
    assert "rivers-worker was not found in image 'i:1'" in result.failure.message


def test_an_end_that_the_kubelet_has_not_seen() -> None:
    """ContainerStatusUnknown is infrastructure, and its 137 no SIGKILL."""
    end = replace(exited(137, "ContainerStatusUnknown"), started_at=None)
    evidence = collect_evidence(pod_with(end, phase="Failed"))

    assert ("ContainerStatusUnknown", None, None) == (evidence.container_reason, evidence.exit_code, evidence.signal)


@pytest.mark.parametrize(("limit", "size"), [("512Mi", 2**29), ("1G", 10**9), ("1.5Gi", 3 * 2**29), ("1000", 1000)])
def test_memory_limits(limit: str, size: int) -> None:
    """The limit is the manifest's, in bytes."""
    assert size == collect_evidence(pod_with(exited(137, "OOMKilled"), limit=limit)).memory_limit


def test_no_memory_limit() -> None:
    """Without a limit none is told."""
    bare = replace(pod_with(exited(137, "OOMKilled")), spec=PodSpec())

    assert collect_evidence(bare).memory_limit is None


def test_who_and_where() -> None:
    """Evidence names the pod and its node."""
    evidence = collect_evidence(pod_with(exited(1)))

    assert ("p1", "n1") == (evidence.worker, evidence.node)
    assert "p1" == classify_pod_end(ATTEMPT, pod_with(exited(1))).worker
