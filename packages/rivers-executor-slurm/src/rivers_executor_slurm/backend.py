"""The executor's backend: the base of remote executors, over jobs."""

from __future__ import annotations

from rivers.protocol import Compute
from rivers.spi import Capabilities, Reach
from rivers_executor_slurm.executor import SlurmExecutor
from rivers_executor_slurm.platform import SlurmPlatform
from rivers_worker.remote import RemoteBackend, RemoteSettings

__all__ = ["SlurmBackend"]

MOST_STARTING = 10_000
LOST_AFTER = 60.0
"""Seconds without contact after which a worker is given up whose job runs, by Slurm's account."""


class SlurmBackend(RemoteBackend[SlurmExecutor]):
    """The backend of `SlurmExecutor`."""

    executor_type = SlurmExecutor

    @property
    def capabilities(self) -> Capabilities:
        """A process for each step, on any node, with the resources that the step asks for."""
        own = self.executor
        return Capabilities(
            isolation="process",
            timeout="kill",
            closures="pickled" if own.allow_pickle else "none",
            reach=Reach.ANYWHERE,
            provisions=True,
            compute=Compute(cpu=str(own.cpus), memory=str(own.memory) if own.memory is not None else None),
            grace=self.settings().grace,
            max_steps=own.max_jobs,
        )

    def settings(self) -> RemoteSettings:
        """Return the settings of the workers."""
        own = self.executor
        same = ("max_steps_per_worker", "idle_ttl", "startup_timeout", "orphan_ttl", "grace", "allow_pickle")
        return RemoteSettings(
            is_warm=own.is_warm,
            max_workers=own.max_jobs,
            max_starting=own.max_jobs or MOST_STARTING,
            lost_after=LOST_AFTER,
            **{name: getattr(own, name) for name in same},
        )

    def platform(self) -> SlurmPlatform:
        """Return the jobs of a new run."""
        return SlurmPlatform(self.executor)
