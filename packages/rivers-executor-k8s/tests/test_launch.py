"""A worker's launch: `startup_timeout` covers all of it, its waits are reported, a missing right ends it at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pod_steps
import pytest
from sessions import SLEEPS, in_session, spec

import rivers as rs
from rivers_executor_k8s.api.namespace import PodRefusedError
from rivers_executor_k8s.run.launch import WorkerLaunch
from rivers_executor_k8s.run.session import Session
from rivers_executor_k8s.run.startup import StartError
from rivers_k8s_testing import FakeCluster, Fault

Repository = Callable[..., rs.CodeRepository]
Pods = Callable[..., rs.Executor]
SECONDS = 3.5
LOAD = 3.0
"""Seconds that a busy machine may add."""


@pytest.fixture
def sleeping(nothing_is_left: str) -> Iterator[FakeCluster]:
    """A cluster whose containers run and announce nothing."""
    with FakeCluster(command=SLEEPS) as cluster:
        yield cluster


class Outcome:
    """How a launch ended: `error`, after `took` seconds, with these `reports`."""

    def __init__(self, fake: FakeCluster) -> None:
        self.reports: list[str] = []
        self.error: StartError | None = None
        began = time.monotonic()
        in_session(fake, self._act, startup_timeout=SECONDS)
        self.took = time.monotonic() - began

    async def _act(self, session: Session) -> None:
        launch = WorkerLaunch(spec(), session, self.reports.append)
        began = time.monotonic()
        try:
            await launch.start()
            await launch.connect()
            raise AssertionError("nobody has announced a worker")
        except StartError as error:
            self.error = error
        finally:
            self.took = time.monotonic() - began
            await session.release_pod(launch.name, launch.view, None)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (None, "NotAnnounced: its worker"),
        (Fault.status(404, "the server could not find the requested resource"), "LogUnavailable: the log"),
        (Fault.status(500), "LogUnavailable: the log"),
        (Fault.hang(), "NotAnnounced: its worker"),
        (Fault.stall(), "NotAnnounced: its worker"),
        (Fault.reset(), "LogUnavailable: the log"),
    ],
)
def test_log_without_announcement(sleeping: FakeCluster, fault: Fault | None, words: str) -> None:
    """A worker without an announcement ends with the launch's deadline and its last state; the wait is reported
    long before."""
    if fault is not None:
        sleeping.faults.add(fault, resource="pods/log")
    outcome = Outcome(sleeping)

    assert outcome.error is not None
    assert f"startup_timeout={SECONDS:g} s; last seen: {words}" in str(outcome.error)
    assert outcome.error.transient
    assert SECONDS <= outcome.took < SECONDS + LOAD
    assert any(report.startswith(words) for report in outcome.reports)


@pytest.mark.parametrize(("code", "word"), [(401, "Unauthorized"), (403, "Forbidden")])
def test_log_that_may_not_be_read(sleeping: FakeCluster, code: int, word: str) -> None:
    """A right that is missing is named at once, with the verb that the Role needs, and no other attempt is made."""
    sleeping.faults.add(Fault.status(code), resource="pods/log")
    outcome = Outcome(sleeping)

    assert outcome.error is not None
    assert (word, False) == (outcome.error.reason, outcome.error.transient)
    assert "pods/log: get" in str(outcome.error)
    assert outcome.took < LOAD


@pytest.mark.parametrize("fault", [Fault.hang(), Fault.hang(after=True), Fault.reset()])
def test_create_without_an_answer(sleeping: FakeCluster, fault: Fault) -> None:
    """A create request that is not answered ends in time, and no pod stays."""
    sleeping.faults.add(fault, verb="create", resource="pods")
    in_session(sleeping, _not_created, startup_timeout=SECONDS)

    assert [] == sleeping.pods()


async def _not_created(session: Session) -> None:
    reports: list[str] = []
    began = time.monotonic()
    with pytest.raises((StartError, PodRefusedError), match=r"ApiUnreachable|not reachable"):
        await WorkerLaunch(spec(), session, reports.append).start()

    assert time.monotonic() - began < SECONDS + LOAD
    assert reports


def test_events_that_hang(sleeping: FakeCluster) -> None:
    """Nor does a list of events that is not answered hold up the deadline."""
    sleeping.start_delay = 60.0
    sleeping.faults.add(Fault.hang(), resource="events")
    in_session(sleeping, _not_started, startup_timeout=6.0)


async def _not_started(session: Session) -> None:
    launch = WorkerLaunch(spec(), session, print)
    began = time.monotonic()
    with pytest.raises(StartError, match="startup_timeout=6 s"):
        await launch.start()

    assert time.monotonic() - began < 6.0 + LOAD
    await session.release_pod(launch.name, launch.view, None)


class TestRuns:
    def second_run(self, repo: rs.CodeRepository, fake: FakeCluster, fault: Fault, resource: str) -> tuple[Any, Any]:
        """The failure of a run that meets a fault which preflight has not met, and its events."""
        repo.materialize()
        fake.faults.add(fault, resource=resource)
        events = rs.ListSink()
        result = repo.materialize(raise_on_error=False, on_event=events)
        return result.steps["one"].failure, events.events

    def test_forbidden_log(self, fake: FakeCluster, repository: Repository) -> None:
        """A step's failure names the right to read logs."""
        failure, _ = self.second_run(repository(pod_steps.one), fake, Fault.status(403), "pods/log")

        assert "pods/log: get" in failure.message
        assert not failure.transient
        assert "Forbidden" == failure.evidence.container_reason

    def test_hanging_log(self, fake: FakeCluster, repository: Repository, pods: Pods) -> None:
        """A step whose worker's log hangs reports what it waits for, and fails with the user's deadline."""
        repo = repository(pod_steps.one, executor=pods(startup_timeout=8.0))
        failure, events = self.second_run(repo, fake, Fault.hang(), "pods/log")

        assert "startup_timeout=8 s" in failure.message
        waits = [event.message for event in events if isinstance(event, rs.events.StepLog)]
        assert any("NotAnnounced" in message for message in waits)

    @pytest.mark.parametrize("code", [401, 403])
    def test_forbidden_port(
        self, fake: FakeCluster, repository: Repository, monkeypatch: pytest.MonkeyPatch, code: int
    ) -> None:
        """A step's failure names the right to forward ports."""
        monkeypatch.setenv("RIVERS_KUBERNETES_DIAL", "port-forward")
        failure, _ = self.second_run(repository(pod_steps.one), fake, Fault.status(code), "pods/portforward")

        assert "pods/portforward: get, create" in failure.message
        assert not failure.transient
