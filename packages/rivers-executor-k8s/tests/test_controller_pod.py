"""In the cluster workers run the image of the controller's own pod, which owns them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from plain_cluster import opened, plain_cluster, plain_pod

from rivers.exceptions import ConfigurationError
from rivers_executor_k8s.pod.manifest import Owner
from rivers_executor_k8s.run.controller_pod import POD_NAME_VARIABLES, image_and_owner
from rivers_k8s_testing import FakeCluster

SIDE_CAR = {"name": "proxy", "image": "proxy:2"}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCluster]:
    """A cluster, and an environment that names no pod as this process's own."""
    for variable in (*POD_NAME_VARIABLES, "RIVERS_CONTAINER_NAME"):
        monkeypatch.delenv(variable, raising=False)
    with plain_cluster() as cluster:
        yield cluster


def found(
    fake: FakeCluster, given: str | None = None, *, inside: bool = True, pod: dict[str, Any] | None = None
) -> tuple[str, Owner | None]:
    """What is found out by a process in (or outside) the cluster in which this pod is."""

    async def find() -> tuple[str, Owner | None]:
        async with opened(fake) as cluster:
            if pod is not None:
                await cluster.create_pod(pod, deadline=1e9, on_wait=print)
            cluster.outside = not inside
            return await image_and_owner(cluster, given)

    return asyncio.run(find())


def uid(fake: FakeCluster) -> str:
    (pod,) = fake.pods()
    known: str = pod["metadata"]["uid"]
    return known


def own(*containers: dict[str, Any]) -> dict[str, Any]:
    made = plain_pod("me")
    made["spec"]["containers"] += containers
    return made


@pytest.mark.parametrize("variable", POD_NAME_VARIABLES)
def test_own_pod(fake: FakeCluster, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """The pod that a variable names gives its image, and is the owner."""
    monkeypatch.setenv(variable, "me")

    image, owner = found(fake, pod=own())

    assert ("test:1", Owner("me", uid(fake))) == (image, owner)


def test_given(fake: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image that was given counts; the owner is the own pod all the same."""
    monkeypatch.setenv("POD_NAME", "me")
    image, owner = found(fake, "mine:3", pod=own(SIDE_CAR))

    assert ("mine:3", Owner("me", uid(fake))) == (image, owner)


def test_pod_of_another_name(fake: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that names no pod leaves it to the next one."""
    monkeypatch.setenv("RIVERS_POD_NAME", "gone")
    monkeypatch.setenv("HOSTNAME", "me")

    assert "test:1" == found(fake, pod=own())[0]


class TestSeveralContainers:
    def test_refused(self, fake: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of several containers none is guessed: they are named, and what to set."""
        monkeypatch.setenv("POD_NAME", "me")

        with pytest.raises(ConfigurationError, match="several containers: rivers-step, proxy") as caught:
            found(fake, pod=own(SIDE_CAR))
        assert "RIVERS_CONTAINER_NAME" in str(caught.value.hint)

    def test_named(self, fake: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
        """RIVERS_CONTAINER_NAME names the controller's container."""
        monkeypatch.setenv("POD_NAME", "me")
        monkeypatch.setenv("RIVERS_CONTAINER_NAME", "proxy")

        assert "proxy:2" == found(fake, pod=own(SIDE_CAR))[0]

    def test_wrongly_named(self, fake: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
        """A name that no container has is as good as none."""
        monkeypatch.setenv("POD_NAME", "me")
        monkeypatch.setenv("RIVERS_CONTAINER_NAME", "other")

        with pytest.raises(ConfigurationError, match="several containers"):
            found(fake, pod=own(SIDE_CAR))


class TestNoPod:
    def test_outside(self, fake: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
        """Outside, an image must be given, and the pods have no owner; the API server is not asked."""
        monkeypatch.setenv("POD_NAME", "me")

        assert ("mine:3", None) == found(fake, "mine:3", inside=False)
        with pytest.raises(ConfigurationError, match="runs in no pod") as caught:
            found(fake, inside=False)
        assert "rs.Executor.kubernetes(" in str(caught.value.hint)
        assert [] == fake.requests

    def test_not_found(self, fake: FakeCluster) -> None:
        """A pod whose name cannot be found is an error that says so."""
        with pytest.raises(ConfigurationError, match="its pod was not found"):
            found(fake)
