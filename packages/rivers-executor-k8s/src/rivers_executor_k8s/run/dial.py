"""Reach workers at their pod's address, or by port-forward through the API server.

A pod's address is reachable inside the cluster. From outside it sometimes is (a routed network, a cluster on this
machine) and mostly is not: the first worker is tried directly, and if nobody answers, all are reached by port-forward.
Both routes carry the same TLS between the same two certificates, so neither trusts anything in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from typing import Literal

from rivers.exceptions import ConfigurationError
from rivers_executor_k8s.api.namespace import Cluster
from rivers_executor_k8s.pod.objects import Pod

__all__ = ["Dialer", "Route", "route_from_environment"]

Route = Literal["direct", "port-forward"]
ROUTES: tuple[Route, ...] = ("direct", "port-forward")
TRIAL = 3.0
"""Seconds that an address gets to accept a connection before it counts as unreachable from here."""


def route_from_environment() -> Route | None:
    """Return the route that RIVERS_KUBERNETES_DIAL names; None if it is left to the first worker.

    Raises:
        ConfigurationError: the variable has another value.
    """
    given = os.environ.get("RIVERS_KUBERNETES_DIAL")
    if not given:
        return None
    if given not in ROUTES:
        raise ConfigurationError(
            f"invalid RIVERS_KUBERNETES_DIAL={given!r}: expected 'direct', 'port-forward' or nothing"
        )
    return ROUTES[ROUTES.index(given)]


class Dialer:
    """The routes to the workers of a run; the first worker decides which one is used."""

    def __init__(self, cluster: Cluster, route: Route | None) -> None:
        self.route = route if route is not None or cluster.outside else "direct"
        self._cluster = cluster
        self._finding = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def line(self, pod: Pod, port: int) -> AsyncIterator[str]:
        """Yield the target that gRPC dials to reach the worker in a pod, valid within the `with`."""
        if self.route is None:
            async with self._finding:
                if self.route is None:
                    self.route = "direct" if await _answers(pod.status.pod_ip, port) else "port-forward"
        if self.route == "direct":
            yield _address(pod.status.pod_ip, port)
            return
        forward = await self._cluster.port_forward(pod.metadata.name, port)
        try:
            yield forward.target
        finally:
            await forward.close()


async def _answers(ip: str, port: int) -> bool:
    try:
        async with asyncio.timeout(TRIAL):
            _, writer = await asyncio.open_connection(ip, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


def _address(ip: str, port: int) -> str:
    return f"ipv6:[{ip}]:{port}" if ":" in ip else f"ipv4:{ip}:{port}"
