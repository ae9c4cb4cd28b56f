"""Pods are made once, waited for, refused and deleted as the API server's answers say; also through faults."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from plain_cluster import SELECTOR, api_of, asked, opened, plain_cluster, plain_pod, until

from rivers_executor_k8s.api.client import ApiError, ApiUnreachableError
from rivers_executor_k8s.api.namespace import Cluster, NameTakenError, PodRefusedError
from rivers_executor_k8s.pod.objects import Pod
from rivers_k8s_testing import FakeCluster, Fault


@pytest.fixture
def fake() -> Iterator[FakeCluster]:
    """A cluster of pods that are not started."""
    with plain_cluster() as cluster:
        yield cluster


def created(
    fake: FakeCluster, manifest: dict[str, Any], said: list[str] | None = None, seconds: float = 20.0
) -> Pod | Exception:
    """The pod that a create call returns, or what it raises."""

    async def create() -> Pod | Exception:
        say: Callable[[str], None] = said.append if said is not None else print
        async with opened(fake) as cluster:
            try:
                return await cluster.create_pod(manifest, deadline=time.monotonic() + seconds, on_wait=say)
            except (PodRefusedError, NameTakenError) as error:
                return error

    return asyncio.run(create())


def uids(fake: FakeCluster) -> list[str]:
    return [pod["metadata"]["uid"] for pod in fake.pods()]


class TestOnePod:
    @pytest.mark.parametrize(
        "fault",
        [
            Fault.reset(),
            Fault.reset(after=True),
            Fault.status(429, retry_after=1),
            Fault.status(500),
            Fault.html(502),
            Fault.status(503, retry_after=1, retry_after_in="body"),
            Fault.garbage(b"no json"),
        ],
        ids=lambda fault: f"{fault.kind}-{fault.code}{'-after' * fault.after}",
    )
    def test_whatever_happens_to_the_request(self, fake: FakeCluster, fault: Fault) -> None:
        """A request that fails, and one whose answer is lost, still make exactly one pod, and it is returned (K6)."""
        fake.faults.add(fault, verb="create", resource="pods", times=3)

        pod = created(fake, plain_pod("p"))

        assert isinstance(pod, Pod)
        assert [pod.metadata.uid] == uids(fake)

    def test_retry_after_is_kept(self, fake: FakeCluster) -> None:
        """The next request comes no sooner than the API server has said, in its header or in its body (K11)."""
        fake.faults.add(Fault.status(429, retry_after=1, retry_after_in="header"), verb="create", times=1)
        fake.faults.add(Fault.status(429, retry_after=1, retry_after_in="body"), verb="create", times=1)
        begun = time.monotonic()

        assert isinstance(created(fake, plain_pod("p")), Pod)
        assert time.monotonic() - begun >= 2.0

    def test_ours_is_found_again(self, fake: FakeCluster) -> None:
        """A pod of the name that was made from the same manifest is the one."""
        first = created(fake, plain_pod("p"))
        again = created(fake, plain_pod("p"))

        assert isinstance(first, Pod)
        assert isinstance(again, Pod)
        assert first.metadata.uid == again.metadata.uid

    def test_others_are_not_touched(self, fake: FakeCluster) -> None:
        """A pod of the name that is another's is neither adopted nor deleted (K7)."""
        other = created(fake, plain_pod("p", digest="other"))

        assert isinstance(created(fake, plain_pod("p")), NameTakenError)
        assert isinstance(other, Pod)
        assert [other.metadata.uid] == uids(fake)
        assert 0 == asked(fake, "delete")

    def test_looking_may_fail(self, fake: FakeCluster) -> None:
        """When the answer was lost and the pod cannot be looked at for a while, it is still found."""
        fake.faults.add(Fault.reset(after=True), verb="create", times=1)
        fake.faults.add(Fault.html(503), verb="get", resource="pods", times=2)

        assert isinstance(created(fake, plain_pod("p")), Pod)
        assert 1 == len(fake.pods())

    def test_it_is_gone_when_looked_at(self, fake: FakeCluster) -> None:
        """A name that was taken and is free by now is taken."""
        conflict = Fault.status(409, 'pods "p" already exists', reason="AlreadyExists")
        fake.faults.add(conflict, verb="create", times=1)

        assert isinstance(created(fake, plain_pod("p")), Pod)


class TestWaiting:
    def test_for_quota(self, fake: FakeCluster) -> None:
        """A pod waits, with a word about it, while the quota is used up, and is made when there is room (K3)."""
        said: list[str] = []
        fake.quota(pods=0)

        async def scenario() -> Pod:
            async with opened(fake) as cluster:
                making = asyncio.ensure_future(
                    cluster.create_pod(plain_pod("second"), deadline=time.monotonic() + 30, on_wait=said.append)
                )
                await until(lambda: bool(said))
                await asyncio.to_thread(fake.quota)
                return await making

        assert "second" == asyncio.run(scenario()).metadata.name
        assert 1 == len(said)
        assert "ExceededQuota: " in said[0]
        assert "exceeded quota: quota" in said[0]

    def test_until_the_deadline(self, fake: FakeCluster) -> None:
        """A transient error that lasts until the deadline becomes a transient refusal with the last cause."""
        fake.faults.add(Fault.html(503), verb="create")

        refused = created(fake, plain_pod("p"), seconds=1.5)

        assert isinstance(refused, PodRefusedError)
        assert refused.transient
        assert "ApiError" == refused.reason
        assert "503: Service Unavailable" in str(refused)

    def test_a_short_wait_is_not_told(self, fake: FakeCluster) -> None:
        """A wait of less than two seconds is not reported."""
        said: list[str] = []
        fake.faults.add(Fault.status(500), verb="create", times=2)

        assert isinstance(created(fake, plain_pod("p"), said), Pod)
        assert [] == said

    def test_while_the_server_is_away(self, fake: FakeCluster) -> None:
        """While nobody answers the call goes on, and it ends when somebody does (K13)."""
        said: list[str] = []

        async def scenario() -> Pod:
            async with opened(fake) as cluster:
                with fake.away():
                    making = asyncio.ensure_future(
                        cluster.create_pod(plain_pod("p"), deadline=time.monotonic() + 30, on_wait=said.append)
                    )
                    await until(lambda: bool(said))
                return await making

        assert "p" == asyncio.run(scenario()).metadata.name
        assert "ApiUnreachable: " in said[0]
        assert fake.url in said[0]

    def test_many_ask_no_more_often_than_ten_times_a_second(self, fake: FakeCluster) -> None:
        """Each of many steps asks once, and all of them together ten times a second after that (X5)."""
        fake.faults.add(Fault.html(503), verb="create")

        async def scenario() -> float:
            begun = time.monotonic()
            async with opened(fake) as cluster:

                async def one(number: int) -> None:
                    with pytest.raises(PodRefusedError):
                        await cluster.create_pod(plain_pod(f"p{number}"), deadline=begun + 4, on_wait=lambda text: None)

                await asyncio.gather(*(one(number) for number in range(150)))
            return time.monotonic() - begun

        seconds = asyncio.run(scenario())
        assert 150 <= asked(fake, "create") <= 150 + 10 + 10 * seconds


class TestRefusal:
    def test_service_account(self, fake: FakeCluster) -> None:
        """A service account that is not there ends it at once, with its name (K49)."""
        fake.missing_service_account("nobody")

        refused = created(fake, plain_pod("p", serviceAccountName="nobody"))

        assert isinstance(refused, PodRefusedError)
        assert ("ServiceAccountNotFound", False) == (refused.reason, refused.transient)
        assert "nobody" in str(refused)
        assert 1 == asked(fake, "create")

    def test_permission(self, fake: FakeCluster) -> None:
        """A missing permission to create pods fails at once (K2)."""
        fake.deny("create", "pods")

        refused = created(fake, plain_pod("p"))

        assert isinstance(refused, PodRefusedError)
        assert "NotPermitted" == refused.reason

    def test_namespace_terminating(self, fake: FakeCluster) -> None:
        """A namespace that is being deleted takes no pods (K48)."""
        fake.terminate_namespace()

        refused = created(fake, plain_pod("p"))

        assert isinstance(refused, PodRefusedError)
        assert "NamespaceTerminating" == refused.reason

    def test_namespace_missing(self, fake: FakeCluster) -> None:
        """A namespace that is not there is named (K4)."""

        async def scenario() -> None:
            own = Cluster(api_of(fake), "nowhere")
            try:
                await own.create_pod(plain_pod("p"), deadline=time.monotonic() + 9, on_wait=print)
            finally:
                await own.close()

        with pytest.raises(PodRefusedError, match="namespace 'nowhere' cannot be used") as refused:
            asyncio.run(scenario())
        assert "NamespaceNotFound" == refused.value.reason

    def test_manifest(self, fake: FakeCluster) -> None:
        """A manifest that is wrong is refused with the path of the field, also when it is only tried (K5)."""
        wrong = plain_pod("p", containers=[])

        async def scenario() -> None:
            async with opened(fake) as cluster:
                await cluster.dry_run(wrong)

        with pytest.raises(PodRefusedError, match=r"spec\.containers: ") as refused:
            asyncio.run(scenario())
        made = created(fake, wrong)
        assert isinstance(made, PodRefusedError)
        assert str(refused.value) == str(made)


def test_a_dry_run_makes_nothing(fake: FakeCluster) -> None:
    """A pod that would be made is not made, and one that would have to wait for quota is told apart."""

    async def scenario() -> None:
        async with opened(fake) as cluster:
            await cluster.dry_run(plain_pod("p"))
            await asyncio.to_thread(fake.quota, pods=0)
            with pytest.raises(PodRefusedError) as refused:
                await cluster.dry_run(plain_pod("p"))
            assert ("ExceededQuota", True) == (refused.value.reason, refused.value.transient)

    asyncio.run(scenario())
    assert [] == fake.pods()


class TestDeletion:
    def test_only_the_very_pod(self, fake: FakeCluster) -> None:
        """A namesake is not deleted; the pod is; and what is gone already is what was wanted (K15)."""
        pod = created(fake, plain_pod("p"))
        assert isinstance(pod, Pod)

        async def scenario() -> list[list[str]]:
            left = []
            async with opened(fake) as cluster:
                for uid in ("another", pod.metadata.uid, pod.metadata.uid):
                    await cluster.delete_pod("p", uid, grace=1)
                    left.append(uids(fake))
            return left

        assert [[pod.metadata.uid], [], []] == asyncio.run(scenario())

    def test_through_faults(self, fake: FakeCluster) -> None:
        """A deletion is asked for until it is answered."""
        pod = created(fake, plain_pod("p"))
        assert isinstance(pod, Pod)
        fake.faults.add(Fault.reset(after=True), Fault.reset(), Fault.html(500), verb="delete", times=4)

        async def scenario() -> None:
            async with opened(fake) as cluster:
                await cluster.delete_pod("p", pod.metadata.uid)

        asyncio.run(scenario())
        assert [] == fake.pods()


class TestLists:
    def test_in_pages(self, fake: FakeCluster) -> None:
        """A long list comes in pages, and from the start again when the next page is not kept any more (K10)."""
        count = 501

        async def scenario() -> list[int]:
            async with opened(fake) as cluster:
                await asyncio.gather(
                    *(
                        cluster.create_pod(plain_pod(f"p{number}"), deadline=time.monotonic() + 30, on_wait=print)
                        for number in range(count)
                    )
                )
                pods, _ = await cluster.list_pods(SELECTOR)
                expired = Fault.status(410, "the provided continue parameter is too old", reason="Expired")
                fake.faults.add(expired, verb="list", every=2, times=1)
                again, _ = await cluster.list_pods(SELECTOR)
                return [len({pod.metadata.uid for pod in pods}), len({pod.metadata.uid for pod in again}), len(again)]

        assert [count, count, count] == asyncio.run(scenario())

    def test_one_pod(self, fake: FakeCluster) -> None:
        """A pod is found by its name, and none is found where there is none."""
        created(fake, plain_pod("p"))

        async def scenario() -> list[Pod | None]:
            async with opened(fake) as cluster:
                return [await cluster.get_pod("p"), await cluster.get_pod("q")]

        found, missing = asyncio.run(scenario())
        assert found is not None
        assert "p" == found.metadata.name
        assert missing is None


class TestPermissions:
    def test_are_asked(self, fake: FakeCluster) -> None:
        """Permissions are those of the cluster's access review, separately for subresources."""
        fake.deny("get", "pods/log")

        async def scenario() -> list[bool]:
            async with opened(fake) as cluster:
                return [
                    await cluster.is_allowed("get", "pods"),
                    await cluster.is_allowed("get", "pods", subresource="log"),
                    await cluster.is_allowed("update", "leases", group="coordination.k8s.io"),
                ]

        assert [True, False, True] == asyncio.run(scenario())

    def test_refusal_is_not_asked_again(self, fake: FakeCluster) -> None:
        """A forbidden request fails at once."""
        fake.deny("list", "pods")

        async def scenario() -> None:
            async with opened(fake) as cluster:
                await cluster.list_pods(SELECTOR)

        with pytest.raises(ApiError, match="403 Forbidden"):
            asyncio.run(scenario())
        assert 1 == asked(fake, "list")


class TestLeases:
    LEASE: dict[str, Any] = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "l"},
        "spec": {"holderIdentity": "me", "renewTime": "2026-01-01T00:00:00.000001Z", "leaseTransitions": 0},
    }

    def test_the_life_of_one(self, fake: FakeCluster) -> None:
        """A lease is made, replaced by its version, refused with an old one, and deleted by its uid."""

        async def scenario() -> list[Any]:
            async with opened(fake) as cluster:
                made = await cluster.create_lease(self.LEASE)
                spec = {**made["spec"], "renewTime": "2026-01-01T00:00:10.000001Z"}
                renewed = await cluster.update_lease("l", {**made, "spec": spec})
                with pytest.raises(ApiError, match="409 Conflict"):
                    await cluster.update_lease("l", {**made, "spec": {**spec, "holderIdentity": "you"}})
                with pytest.raises(ApiError, match="409 AlreadyExists"):
                    await cluster.create_lease({**self.LEASE, "spec": {"holderIdentity": "you"}})
                await cluster.delete_lease("l", "another")
                kept = await cluster.get_lease("l")
                await cluster.delete_lease("l", made["metadata"]["uid"])
                return [renewed == kept, await cluster.get_lease("l")]

        assert [True, None] == asyncio.run(scenario())

    def test_lost_answers_are_no_conflicts(self, fake: FakeCluster) -> None:
        """A lease whose create response was lost is recognized as ours."""
        fake.faults.add(Fault.reset(after=True), resource="leases", verb="create", times=1)
        fake.faults.add(Fault.reset(after=True), resource="leases", verb="update", times=1)

        async def scenario() -> tuple[Any, Any]:
            async with opened(fake) as cluster:
                made = await cluster.create_lease(self.LEASE)
                spec = {**made["spec"], "leaseTransitions": 1}
                renewed = await cluster.update_lease("l", {**made, "spec": spec})
                return renewed, await cluster.get_lease("l")

        renewed, kept = asyncio.run(scenario())
        assert 1 == renewed["spec"]["leaseTransitions"]
        assert kept == renewed


class TestLogs:
    def test_evidence_that_is_refused_is_none(self, fake: FakeCluster) -> None:
        """A log or events that cannot be had never are an error (K56)."""
        pod = created(fake, plain_pod("p"))
        assert isinstance(pod, Pod)
        fake.faults.add(Fault.html(500), resource="pods/log")
        fake.deny("list", "events")

        async def scenario() -> tuple[str, tuple[Any, ...]]:
            async with opened(fake) as cluster:
                return await cluster.read_log_tail("p"), await cluster.list_events(pod)

        assert ("", ()) == asyncio.run(scenario())

    def test_events_of_a_pod(self, fake: FakeCluster) -> None:
        """Events about a pod are found, with the scheduler's message."""
        with plain_started(fake) as started:
            started.unschedulable("0/1 nodes are available: 1 Insufficient cpu.")

            async def scenario() -> list[str]:
                async with opened(started) as cluster:
                    made = await cluster.create_pod(plain_pod("p"), deadline=time.monotonic() + 9, on_wait=print)
                    await asyncio.to_thread(started.wait_for, "p", "Pending")
                    for _ in range(200):
                        if events := await cluster.list_events(made):
                            return [event.message for event in events]
                        await asyncio.sleep(0.05)
                    return []

            assert ["0/1 nodes are available: 1 Insufficient cpu."] == asyncio.run(scenario())

    def test_the_announcement_is_read_as_it_comes(self) -> None:
        """The log is followed until the worker's line is there, and not beyond; what came before it is kept."""
        line = "rivers-worker 1 7433 " + "QUJD"
        program = (
            f"import time; print('noise', flush=True); time.sleep(0.3); print({line!r}, flush=True); time.sleep(60)"
        )

        async def scenario(cluster: FakeCluster) -> bytes:
            async with opened(cluster) as own:
                await own.create_pod(plain_pod("p"), deadline=time.monotonic() + 9, on_wait=print)
                await asyncio.to_thread(cluster.wait_for, "p", "Running")
                return await own.read_announcement("p")

        with FakeCluster(command=[sys.executable, "-c", program]) as cluster:
            begun = time.monotonic()
            said = asyncio.run(scenario(cluster))
        assert ["noise", line] == said.decode().splitlines()
        assert time.monotonic() - begun < 30


def plain_started(fake: FakeCluster) -> FakeCluster:
    """A second cluster, whose pods would be started."""
    return FakeCluster(namespace=fake.namespace, command=["true"])


def test_closing_ends_what_is_under_way(fake: FakeCluster) -> None:
    """A request that hangs ends with an error when the cluster is let go."""
    fake.faults.add(Fault.hang(), verb="get")

    async def scenario() -> float:
        cluster = Cluster(api_of(fake), "default")
        asking = asyncio.ensure_future(cluster._api.request("GET", "/api/v1/namespaces/default/pods/p"))
        await until(lambda: asked(fake, "get") > 0)
        begun = time.monotonic()
        await cluster.close()
        with pytest.raises(ApiUnreachableError):
            await asking
        return time.monotonic() - begun

    assert asyncio.run(scenario()) < 2.0
