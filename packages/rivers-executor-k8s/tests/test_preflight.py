"""What the cluster would refuse is found before the first pod, named in one go, and leaves nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pod_steps
import pytest
from plain_cluster import asked, opened, plain_cluster

import rivers as rs
from rivers.exceptions import GraphValidationError, Problem
from rivers.protocol import Compute, ImportRef, StepSpec
from rivers.testing import Script, ScriptedExecutor
from rivers_executor_k8s.backend import KubernetesBackend
from rivers_executor_k8s.pod.roles import OUTSIDE, REQUIRED, Permission
from rivers_executor_k8s.run import cluster_run
from rivers_executor_k8s.run.preflight import dry_runs, missing_permissions, refs_of
from rivers_executor_k8s.run.session import ClusterRunSettings, Session
from rivers_k8s_testing import FakeCluster, Fault

Repository = Callable[..., rs.CodeRepository]


@pytest.fixture
def plain() -> Iterator[FakeCluster]:
    """A cluster of pods that are not started."""
    with plain_cluster() as cluster:
        yield cluster


def spec(step: str, **fields: Any) -> StepSpec:
    ref = fields.pop("function", ImportRef(module="shop", qualname="orders"))
    return StepSpec(run_id="r", step=step, attempt_id=f"r-{step}-1", function=ref, **fields)


def missing(fake: FakeCluster, *, inside: bool = False) -> list[Problem]:
    async def ask() -> list[Problem]:
        async with opened(fake) as cluster:
            cluster.outside = not inside
            return await missing_permissions(cluster)

    return asyncio.run(ask())


class TestPermissions:
    def test_all_there(self, plain: FakeCluster) -> None:
        """Who may do all of it has no problem."""
        assert [] == missing(plain)

    @pytest.mark.parametrize("permission", [*REQUIRED, *OUTSIDE], ids=str)
    def test_one_missing(self, plain: FakeCluster, permission: Permission) -> None:
        """Each right that is missing is named, it alone, with the Role to apply."""
        plain.deny(permission.verb, permission.target)
        (problem,) = missing(plain)

        assert f"may not {permission}; the Role that is needed:\n" in problem.message
        assert "kind: Role\n" in problem.message

    @pytest.mark.parametrize("permission", OUTSIDE, ids=str)
    def test_not_needed_inside(self, plain: FakeCluster, permission: Permission) -> None:
        """In the cluster nobody needs to forward ports."""
        plain.deny(permission.verb, permission.target)

        assert [] == missing(plain, inside=True)

    def test_faults(self, plain: FakeCluster) -> None:
        """Questions that fail are asked again."""
        plain.faults.add(Fault.status(503), verb="create", resource="selfsubjectaccessreviews", rate=0.3, seed=3)

        assert [] == missing(plain)


class TestDryRuns:
    def found(self, fake: FakeCluster, *specs: StepSpec) -> list[str]:
        async def ask() -> list[Problem]:
            async with opened(fake) as cluster:
                settings = ClusterRunSettings(
                    executor=rs.Executor.kubernetes("test:1"), run_id="r-preflight", image="test:1"
                )
                return await dry_runs(Session(cluster, settings, print), specs)

        return [problem.message for problem in asyncio.run(ask())]

    def test_good(self, plain: FakeCluster) -> None:
        """Pods that the cluster takes are no problem, are asked about once for each shape, and are not made."""
        specs = [spec(f"s{i}", compute=Compute(cpu=str(1 + i % 2))) for i in range(10)]

        assert [] == self.found(plain, *specs)
        assert 2 == asked(plain, "create")
        assert [] == plain.pods()

    def test_refused(self, plain: FakeCluster) -> None:
        """A refusal names the steps whose pods are like that, and the words of the API server."""
        plain.missing_service_account("rivers-executor")
        (problem,) = self.found(plain, spec("orders"), spec("customers"))

        assert "the pod of orders, customers" in problem
        assert 'serviceaccount "rivers-executor" not found' in problem

    def test_many_refused(self, plain: FakeCluster) -> None:
        """Of many steps five are named."""
        plain.missing_service_account("rivers-executor")
        (problem,) = self.found(plain, *(spec(f"s{i}") for i in range(9)))

        assert "the pod of s0, s1, s2, s3, s4 and more: " in problem

    def test_each_shape(self, plain: FakeCluster) -> None:
        """Each shape that is refused is a problem of its own."""
        plain.missing_service_account("rivers-executor")
        found = self.found(plain, spec("small"), spec("large", compute=Compute(cpu="4")))

        assert ["small", "large"] == [problem.partition(": ")[0].rpartition(" ")[2] for problem in found]

    def test_full(self, plain: FakeCluster) -> None:
        """A quota that is used up is no refusal: the attempts wait for it."""
        plain.quota(pods=0)

        assert [] == self.found(plain, spec("s"))


class TestRefs:
    def test_distinct(self) -> None:
        """Steps of the same function and handlers are looked up once."""
        other = ImportRef(module="shop", qualname="customers")
        distinct = refs_of([spec("a"), spec("b"), spec("c", function=other), spec("d", function=other)])

        assert ["a", "c"] == [one.step for one in distinct.values()]

    def test_what_was_good_is_not_asked_again(self, fake: FakeCluster, repository: Repository) -> None:
        """Refs that were found once are not looked up again; one that is new is. No look-up costs a pod of its own."""
        repo = repository(pod_steps.one, pod_steps.two)
        boots = [repo.materialize([step]).steps[step].timings.boot for step in ("one", "one", "two")]

        # A pod that was looked into before its attempt began was booted by then.
        assert [True, False, True] == [boot < 0.1 for boot in boots], boots
        assert 3 == created(fake)

    def test_what_was_bad_is_asked_again(
        self, fake: FakeCluster, repository: Repository, pods: Callable[..., rs.Executor]
    ) -> None:
        """Refs that were not found are looked up anew: the image may have been built meanwhile."""
        repo = repository(pod_steps.one, executor=pods(env={"PYTHONPATH": "/nowhere"}))
        for count in (1, 2):
            with pytest.raises(GraphValidationError, match="pod_steps"):
                repo.materialize()

            assert count == created(fake)
            assert [] == fake.pods()


class TestFirstStep:
    """The pod in which preflight looks up refs is the one of the first step's first attempt."""

    def test_it_runs_there(self, fake: FakeCluster, repository: Repository) -> None:
        """A run of one step makes one pod, which is called, labelled and reported as any attempt's."""
        seen: list[Any] = []
        repo = repository(pod_steps.one)
        result = repo.materialize(
            on_event=lambda event: seen.extend(fake.pods()) if isinstance(event, rs.events.StepStarted) else None
        )

        (pod,) = seen
        report = result.steps["one"]
        assert 1 == created(fake)
        assert pod["metadata"]["name"] == report.worker
        assert "one" == pod["metadata"]["labels"]["rivers.io/step"]
        assert f"{result.run_id}-0-0.0" == pod["metadata"]["annotations"]["rivers.io/attempt-id"]
        assert report.timings.boot < 0.1  # it was booted before the attempt began

    def test_its_retry_runs_elsewhere(self, fake: FakeCluster, start: Callable[..., Any]) -> None:
        """A failure of that attempt is charged as any, and the next attempt has a pod of its own."""
        going = start(pod_steps.once_slow, retry=rs.RetryPolicy(1, retry_on=[rs.FailureReason.INFRASTRUCTURE]))
        fake.kill(going.until("StepStarted").worker)
        result = going.end()

        assert result.success
        assert 2 == result.steps["once_slow"].attempts == created(fake)

    def test_the_pod_is_gone_meanwhile(self, fake: FakeCluster, repository: Repository) -> None:
        """A pod that is deleted between preflight and its attempt costs no attempt."""

        def delete() -> None:
            (pod,) = fake.pods()
            fake.delete(pod["metadata"]["name"])

        executors = {"other": ScriptedExecutor(Script(on_open=delete))}
        other = rs.Asset(lambda: 1, name="other", metadata={"rivers/executor": "other"})
        result = repository(pod_steps.one, other, executors=executors).materialize(retry=None)

        assert result.success
        assert 1 == result.steps["one"].attempts
        assert 2 == created(fake)

    def test_another_executor_refuses(self, fake: FakeCluster, repository: Repository) -> None:
        """Where the run is refused by another executor the pod is deleted, and no lease is taken."""
        script = Script(problems=[Problem("no quota")])
        other = rs.Asset(lambda: 1, name="other", metadata={"rivers/executor": "other"})
        repo = repository(pod_steps.one, other, executors={"other": ScriptedExecutor(script)})
        with pytest.raises(GraphValidationError, match="no quota"):
            repo.materialize()

        assert 1 == created(fake)
        assert [] == fake.pods()

    def test_no_step_comes(self, fake: FakeCluster, repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
        """A pod that is not needed soon is deleted; the step makes another one when its turn comes."""
        monkeypatch.setattr(cluster_run, "HOLD", 0.2)
        counts: list[int] = []

        @rs.Asset(metadata={"rivers/executor": "here"})
        def slow() -> int:
            until = time.monotonic() + 20
            while fake.pods() and time.monotonic() < until:
                time.sleep(0.05)
            counts.append(len(fake.pods()))
            return 1

        after = rs.Asset(pod_steps.plain, name="after", deps=[rs.AssetDef.dep("slow")])
        result = repository(slow, after, executors={"here": rs.Executor.in_process()}).materialize()

        assert result.success
        assert [0] == counts
        assert 2 == created(fake)

    def test_a_step_comes_late(
        self, fake: FakeCluster, repository: Repository, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A step whose turn comes while that pod is being deleted makes another one, and does not wait for its end."""
        monkeypatch.setattr(cluster_run, "HOLD", 0.2)

        @rs.Asset(metadata={"rivers/executor": "here"})
        def slow() -> int:
            # It takes all of its grace to end.
            fake.kill(fake.pods()[0]["metadata"]["name"], signal.SIGSTOP)
            until = time.monotonic() + 20
            while "deletionTimestamp" not in fake.pods()[0]["metadata"] and time.monotonic() < until:
                time.sleep(0.01)
            return 1

        after = rs.Asset(pod_steps.plain, name="after", deps=[rs.AssetDef.dep("slow")])
        result = repository(slow, after, executors={"here": rs.Executor.in_process()}).materialize()

        assert result.success
        assert 1 == result.steps["after"].attempts
        assert 2 == created(fake)


def created(fake: FakeCluster) -> int:
    """How many pods were made."""
    return fake._do(lambda: sum(change.key[0] == "pods" and change.type == "ADDED" for change in fake._store._history))


class TestInterrupted:
    @pytest.mark.parametrize("seconds", [0.0, 0.2, 0.6, 1.5])
    def test_ctrl_c(self, fake: FakeCluster, repository: Repository, seconds: float) -> None:
        """Ctrl-C while the pod that looks up refs is made, starts or waits leaves no pod and no lease."""
        fake.start_delay = 1.0
        repo = repository(pod_steps.one)

        def interrupt() -> None:
            until = time.monotonic() + 20
            while not asked(fake, "create") and time.monotonic() < until:
                time.sleep(0.005)
            time.sleep(seconds)
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            repo.materialize()
        thread.join()

        assert [] == fake.pods()
        assert [] == fake._do(lambda: fake._store.objects("leases"))

    def test_cancel(self, fake: FakeCluster, start: Callable[..., Any]) -> None:
        """A cancel while preflight waits for its pod ends the run soon, and leaves no pod and no lease (K43)."""
        fake.start_delay = 60.0
        going = start(pod_steps.one)
        until = time.monotonic() + 20
        while not fake.pods() and time.monotonic() < until:
            time.sleep(0.01)
        going.cancel()
        going.thread.join(10)  # without the cancel it waits for 20 s

        assert not going.thread.is_alive()
        assert "cancelled" == going.end().status
        assert [] == fake.pods()
        assert [] == fake._do(lambda: fake._store.objects("leases"))

    def test_cancel_before_it_is_connected(
        self, fake: FakeCluster, start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A cancel that comes while the cluster's configuration is still being read ends preflight, too."""
        get = KubernetesBackend._get_context

        def connect(backend: KubernetesBackend) -> Any:
            backend.cancel_preflight()
            return get(backend)

        monkeypatch.setattr(KubernetesBackend, "_get_context", connect)
        going = start(pod_steps.one)
        going.until("StepStarted")

        assert going.end().success
        assert fake.requests
        # The look-up was left out: its pod is made when the attempt begins.
        assert 1 == created(fake)

    def test_cancel_while_its_pod_is_deleted(self, fake: FakeCluster, start: Callable[..., Any]) -> None:
        """A cancel that comes when preflight deletes its pod waits for that (K43)."""
        rule = fake.faults.add(Fault.slow(2.0), verb="delete", resource="pods", times=1)
        going = start(pod_steps.one, executor=rs.Executor.kubernetes("test:1", env={"PYTHONPATH": "/nowhere"}))
        until = time.monotonic() + 20
        while not rule.hits and time.monotonic() < until:
            time.sleep(0.01)
        going.cancel()

        assert "cancelled" == going.end().status
        assert [] == fake.pods()


class TestReports:
    NO_CONFIG = 'configmap "nowhere" not found'

    def test_missing_config_map(self, fake: FakeCluster, start: Callable[..., Any]) -> None:
        """What the pod of preflight waits for is an event within seconds, long before preflight gives up."""
        fake.image_error("CreateContainerConfigError", self.NO_CONFIG)
        going = start(pod_steps.one)
        began = time.monotonic()
        said = going.until("RunWarning")
        took = time.monotonic() - began
        going.thread.join(40)

        assert took < 8
        assert self.NO_CONFIG in said.message
        assert self.NO_CONFIG in str(going.refused)

    def test_nobody_listens(self, fake: FakeCluster, repository: Repository, caplog: pytest.LogCaptureFixture) -> None:
        """Without a listener it is a line in the log `rivers.run`."""
        fake.image_error("CreateContainerConfigError", self.NO_CONFIG)
        with pytest.raises(GraphValidationError):
            repository(pod_steps.one).materialize()

        lines = [record.getMessage() for record in caplog.records if record.name == "rivers.run"]
        assert any(self.NO_CONFIG in line for line in lines)

    def test_no_scheduler(self, fake: FakeCluster, start: Callable[..., Any], pods: Callable[..., rs.Executor]) -> None:
        """A pod of which no component says anything is reported before the run starts, and the run starts."""
        fake.start_delay = 60.0
        going = start(pod_steps.one, executor=pods(startup_timeout=12.0))
        said = going.until("RunWarning")
        going.until("RunStarted")
        going.end()

        assert "Pending" in said.message

    def test_slow_api_server(self, fake: FakeCluster, start: Callable[..., Any]) -> None:
        """An API server that takes long to say what is allowed is reported, too."""
        fake.faults.add(Fault.slow(8.0), resource="selfsubjectaccessreviews", times=1)
        going = start(pod_steps.one)
        said = going.until("RunWarning")

        assert "has not answered yet" in said.message
        assert going.end().success
