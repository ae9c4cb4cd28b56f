"""The backend of `SshExecutor`: all but the hosts is `RemoteBackend`'s."""

from __future__ import annotations

from rivers.spi import Capabilities, Reach
from rivers_executor_ssh.executor import SshExecutor
from rivers_executor_ssh.platform import SshPlatform
from rivers_executor_ssh.sync import SYNC_WITHIN
from rivers_worker.remote import RemoteBackend, RemoteSettings, WorkerPlatform

__all__ = ["SshBackend"]

LAST_WORD = 30.0
"""Seconds beyond `orphan_ttl` in which the platform reports the end of a host that is cut off, with its evidence."""


class SshBackend(RemoteBackend[SshExecutor]):
    """Steps on hosts that are reached by ssh."""

    executor_type = SshExecutor
    # A copy of the project, with its environment, may take long; without one each host has a deadline of its own.
    open_deadline = preflight_deadline = SYNC_WITHIN + 60.0

    @property
    def capabilities(self) -> Capabilities:
        """A process for each step, on any of the hosts; only known slots limit what core submits."""
        slots = [host.slots for host in self.executor.all_hosts]
        return Capabilities(
            isolation="process",
            timeout="kill",
            closures="pickled" if self.executor.allow_pickle else "none",
            reach=Reach.ANYWHERE,
            grace=self.executor.grace,
            max_steps=sum(slot or 0 for slot in slots) if slots and None not in slots else None,
        )

    def settings(self) -> RemoteSettings:
        """Return the settings of the workers."""
        executor = self.executor
        return RemoteSettings(
            is_warm=executor.worker_reuse == "run",
            max_steps_per_worker=executor.max_steps_per_worker,
            idle_ttl=executor.idle_ttl,
            startup_timeout=executor.startup_timeout,
            orphan_ttl=executor.orphan_ttl,
            grace=executor.grace,
            # A host that was cut off may come back with its workers until these have ended themselves.
            lost_after=executor.orphan_ttl + LAST_WORD,
            allow_pickle=executor.allow_pickle,
        )

    def platform(self) -> WorkerPlatform:
        """Return the hosts, for one run or its preflight."""
        return SshPlatform(self.executor)
