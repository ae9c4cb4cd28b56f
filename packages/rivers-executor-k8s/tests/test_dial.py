"""A worker is reached at its pod's address where anybody answers there, and else through the API server."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator

import pytest
from msgspec.structs import replace
from plain_cluster import asked, until
from sessions import in_session, made

from rivers.exceptions import ConfigurationError
from rivers_executor_k8s.pod.objects import Pod
from rivers_executor_k8s.run.dial import Dialer, Route, route_from_environment
from rivers_executor_k8s.run.session import Session
from rivers_k8s_testing import FakeCluster

ECHO = """
import os, socket, threading
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
while True:
    connection, _ = server.accept()
    with connection:
        connection.sendall(b"hello")
"""
NOWHERE = "127.0.0.2"
"""An address of this machine without a listener."""


@pytest.fixture
def fake() -> Iterator[FakeCluster]:
    """A cluster whose containers say hello at a port that they print."""
    with FakeCluster(command=[sys.executable, "-c", ECHO]) as cluster:
        yield cluster


async def listening(fake: FakeCluster, session: Session) -> tuple[Pod, int]:
    """A pod that listens, and its port."""
    name, view = await made(session)
    await until(lambda: view.is_running and "\n" in fake.log(name))
    assert view.pod is not None
    return view.pod, int(fake.log(name))


async def greeted(target: str) -> str:
    """Return the greeting at a target of gRPC."""
    if target.startswith("unix:"):
        reader, writer = await asyncio.open_unix_connection(target.removeprefix("unix:"))
    else:
        host, _, port = target.removeprefix("ipv4:").rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
    said = await reader.read(5)
    writer.close()
    return said.decode()


class TestWays:
    @pytest.mark.parametrize("route", ["direct", "port-forward"])
    def test_told(self, fake: FakeCluster, route: Route) -> None:
        """A route that was chosen is the one that is gone."""

        async def act(session: Session) -> None:
            pod, port = await listening(fake, session)
            async with session.dialer.line(pod, port) as target:
                assert "hello" == await greeted(target)

            assert route == session.dialer.route

        in_session(fake, act, route=route)
        assert (route == "port-forward") == bool(asked(fake, "get", "pods/portforward"))

    def test_found_out_directly(self, fake: FakeCluster) -> None:
        """Where the first worker answers at its address, all are called there."""

        async def act(session: Session) -> None:
            pod, port = await listening(fake, session)
            for _ in range(2):
                async with session.dialer.line(pod, port) as target:
                    assert f"ipv4:{pod.status.pod_ip}:{port}" == target

            assert "direct" == session.dialer.route

        in_session(fake, act)

    def test_nobody_answers(self, fake: FakeCluster) -> None:
        """If the first worker's address does not answer, all workers are called through the API server."""

        async def act(session: Session) -> None:
            pod, port = await listening(fake, session)
            away = replace(pod, status=replace(pod.status, pod_ip=NOWHERE))

            async def said() -> str:
                async with session.dialer.line(away, port) as target:
                    return await greeted(target)

            assert ["hello"] * 4 == await asyncio.gather(*(said() for _ in range(4)))
            assert "port-forward" == session.dialer.route

        in_session(fake, act)

    def test_in_the_cluster(self, fake: FakeCluster) -> None:
        """In the cluster nothing is found out: addresses are reachable."""

        async def act(session: Session) -> None:
            session.cluster.outside = False

            assert "direct" == Dialer(session.cluster, None).route
            assert "port-forward" == Dialer(session.cluster, "port-forward").route

        in_session(fake, act)

    def test_address_of_version_6(self, fake: FakeCluster) -> None:
        """An IPv6 address is written as gRPC wants it."""

        async def act(session: Session) -> None:
            pod, port = await listening(fake, session)
            six = replace(pod, status=replace(pod.status, pod_ip="fd00::7"))
            async with Dialer(session.cluster, "direct").line(six, port) as target:
                assert f"ipv6:[fd00::7]:{port}" == target

        in_session(fake, act)


class TestVariable:
    @pytest.mark.parametrize(("value", "route"), [("", None), ("direct", "direct"), ("port-forward", "port-forward")])
    def test_values(self, monkeypatch: pytest.MonkeyPatch, value: str, route: Route | None) -> None:
        """RIVERS_KUBERNETES_DIAL chooses; empty or unset it is found out."""
        monkeypatch.setenv("RIVERS_KUBERNETES_DIAL", value)

        assert route == route_from_environment()

    def test_wrong(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Another value is refused, with what is allowed."""
        monkeypatch.setenv("RIVERS_KUBERNETES_DIAL", "portforward")

        with pytest.raises(ConfigurationError, match=r"'portforward'.*'direct', 'port-forward' or nothing"):
            route_from_environment()
