"""How a controller reaches its workers: at the pod's address, or through the API server.

In the cluster a pod's address is reachable. From outside it sometimes is (a routed network, a cluster on this machine)
and mostly is not: the first worker is tried directly, and when nobody answers there everything goes by port-forward.
What is sent is the same TLS between the same two certificates, so neither way trusts anything in between.
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

__all__ = ["Dialer", "Way", "way_of"]

Way = Literal["direct", "port-forward"]
WAYS: tuple[Way, ...] = ("direct", "port-forward")
TRIAL = 3.0
"""Seconds that an address gets to accept a connection before it counts as unreachable from here."""


def way_of() -> Way | None:
    """How workers are reached as RIVERS_KUBERNETES_DIAL says; None leaves it to be found out.

    Raises:
        ConfigurationError: the variable has another value.
    """
    given = os.environ.get("RIVERS_KUBERNETES_DIAL")
    if not given:
        return None
    if given not in WAYS:
        raise ConfigurationError(f"RIVERS_KUBERNETES_DIAL={given!r}: 'direct', 'port-forward' or nothing is allowed")
    return WAYS[WAYS.index(given)]


class Dialer:
    """Finds a line to each worker of a run, and remembers which way works."""

    def __init__(self, cluster: Cluster, way: Way | None) -> None:
        self.way = way if way is not None or cluster.outside else "direct"
        self._cluster = cluster
        self._finding = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def line(self, pod: Pod, port: int) -> AsyncIterator[str]:
        """What gRPC dials to reach the worker in a pod, which listens on `port`; good within the `with`."""
        if self.way is None:
            async with self._finding:
                if self.way is None:
                    self.way = "direct" if await _answers(pod.status.pod_ip, port) else "port-forward"
        if self.way == "direct":
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
