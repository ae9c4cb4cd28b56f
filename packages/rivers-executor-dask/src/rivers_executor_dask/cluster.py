"""The connection to the cluster that a `DaskExecutor` names, and the description of its workers."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from typing import Any, NamedTuple

import dask.config
from distributed import Client, default_client

from rivers.protocol import PROTOCOL_VERSION, describe_exception
from rivers_executor_dask.host import describe

__all__ = ["Connection", "can_take", "check_worker", "connect", "describe_workers"]


class Connection(NamedTuple):
    """A client of our own, and the cluster if it was made for the run."""

    client: Client
    cluster: Any

    async def close(self) -> None:
        """Close the client, which releases all tasks, and the cluster that was made for the run."""
        await self.client.close()
        await _close_cluster(self.cluster)


async def connect(target: Any, seconds: float) -> Connection:
    """Connect to a cluster: an address, a client, a cluster, a function that makes one, or None for the default.

    The client is our own also where the user has given one: its end releases all that the run has on the cluster, and
    it runs on this event loop.

    Raises:
        OSError: no scheduler has answered within `seconds`.
        ValueError: no cluster is named.
        Exception: whatever the function raises.
    """
    made = None
    if target is None:
        target = _default()
    elif callable(target) and not hasattr(target, "scheduler"):
        # In a thread: a cluster object that is not asynchronous blocks.
        target = made = await asyncio.to_thread(target)
    try:
        address, security = _scheduler(target)
        client = await Client(address, security=security, timeout=seconds, asynchronous=True, set_as_default=False)
    except BaseException:
        await _close_cluster(made)
        raise
    return Connection(client, made)


def _default() -> Any:
    with contextlib.suppress(ValueError):
        return default_client()
    address = dask.config.get("scheduler-address", None)
    if address is None:
        raise ValueError(
            "no cluster: write DaskExecutor(address=…), make a distributed.Client or set DASK_SCHEDULER_ADDRESS"
        )
    return address


def _scheduler(target: Any) -> tuple[str, Any]:
    """Return a scheduler's address and the TLS settings; without any, Dask's configuration has them."""
    if isinstance(target, str):
        return target, None
    address = target.scheduler.address if isinstance(target, Client) else target.scheduler_address
    return str(address), getattr(target, "security", None)


async def _close_cluster(cluster: Any) -> None:
    if cluster is not None:
        closed = await asyncio.to_thread(cluster.close)
        if inspect.isawaitable(closed):
            await closed


async def describe_workers(client: Client, seconds: float) -> dict[str, Any]:
    """Return the description of each worker by its address, or the exception that it has raised instead.

    A worker that does not answer within `seconds` keeps all from being known: the result is empty then.
    """
    with contextlib.suppress(TimeoutError, OSError):
        return dict(await asyncio.wait_for(client.run(describe, on_error="return"), seconds))
    return {}


def can_take(resources: dict[str, float], worker: Any) -> bool:
    """Return True if a worker's description offers these resources."""
    offered = worker["resources"] if isinstance(worker, dict) else {}
    return all(offered.get(name, 0.0) >= amount for name, amount in resources.items())


def check_worker(worker: Any) -> str | None:
    """Return the problem of a worker that cannot run steps, from its description or the exception in its place."""
    if isinstance(worker, BaseException):
        text = describe_exception(worker)
        # It comes as an Exception of its text where the function itself could not be loaded.
        is_missing = "ModuleNotFoundError" in text
        return f"{text}: install rivers-executor-dask and your project where the workers run" if is_missing else text
    if worker["protocol"] != PROTOCOL_VERSION:
        return f"speaks version {worker['protocol']} of rivers' protocol, this side {PROTOCOL_VERSION}"
    return None
