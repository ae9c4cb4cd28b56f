"""The user's choice: a frozen value, which imports nothing of Dask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rivers.exceptions import ConfigurationError
from rivers.spi import Executor, Reach, parse_quantity

__all__ = ["DaskExecutor", "parse_resources"]


@dataclass(frozen=True, repr=False)
class DaskExecutor(Executor):
    """Run every attempt of a step as a task of an existing Dask cluster, in a process of its own beside the worker.

    `address` is the cluster: the scheduler's address, a `distributed.Client` or a cluster object, which stay open, or
    a function without parameters that makes a cluster, which is closed after the run. None is the default client of
    this process or else the scheduler that Dask's configuration names (`DASK_SCHEDULER_ADDRESS`).

    `max_concurrent_steps` is the number of steps that the cluster gets at once; None is no limit, and the cluster
    queues them. `priority` is Dask's, higher first. `resources` are Dask's abstract resources that a step needs, as
    `dask worker --resources` takes them: "GPU=1 MEMORY=8e9". For one asset, its metadata `rivers/dask/priority` and
    `rivers/dask/resources` override them.

    `connect_timeout` is how many seconds the scheduler may take to answer. A step fails after `startup_timeout` seconds
    in which no worker of the cluster has the resources that it needs. `allow_pickle` sends functions without module
    scope as cloudpickles; RIVERS_ALLOW_PICKLE=1 in the workers' environment must allow it, too.

    Raises:
        ConfigurationError: an argument is invalid; names it, its value and what is expected.
    """

    kind = "dask"
    requirement = "rivers-core[dask]"
    reach = Reach.ANYWHERE

    overridable = ("priority", "resources")

    address: Any = None
    max_concurrent_steps: int | None = None
    priority: int | str = 0
    resources: str = ""
    connect_timeout: float = 30
    startup_timeout: float = 600
    allow_pickle: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.address, str):
            _check("address", self.address, "://" in self.address, 'an address such as "tcp://scheduler:8786"')
        elif self.address is not None:
            is_cluster = hasattr(self.address, "scheduler") or callable(self.address)
            expected = "the scheduler's address, a distributed.Client, a cluster or a function that returns one"
            _check("address", self.address, is_cluster, expected)
        steps = self.max_concurrent_steps
        is_count = steps is None or (type(steps) is int and steps >= 1)
        _check("max_concurrent_steps", steps, is_count, "a whole number of at least 1, or None")
        if isinstance(self.priority, str) and self.priority.removeprefix("-").isdecimal():
            # Metadata is text.
            object.__setattr__(self, "priority", int(self.priority))
        _check("priority", self.priority, type(self.priority) is int, "a whole number")
        parse_resources(self.resources)
        for name in ("connect_timeout", "startup_timeout"):
            seconds = getattr(self, name)
            is_time = type(seconds) in (int, float) and 0 < seconds < float("inf")
            _check(name, seconds, is_time, "a number of seconds above 0")
        _check("allow_pickle", self.allow_pickle, type(self.allow_pickle) is bool, "True or False")


def parse_resources(text: str) -> dict[str, float]:
    """Return resources by name.

    Raises:
        ConfigurationError: the text is no list of NAME=AMOUNT.
    """
    found = {}
    for word in text.split() if isinstance(text, str) else [""]:
        name, _, amount = word.partition("=")
        try:
            found[name] = float(parse_quantity(amount))
        except ValueError:
            _check("resources", text, False, 'NAME=AMOUNT, separated by spaces, such as "GPU=1 MEMORY=8e9"')
    return found


def _check(name: str, value: object, is_valid: bool, expected: str) -> None:
    if not is_valid:
        raise ConfigurationError(f"invalid {name}={value!r}: expected {expected}")
