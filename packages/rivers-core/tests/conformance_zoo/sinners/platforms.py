"""Backends of a pretended platform that has memory limits, objects and quotas."""

from __future__ import annotations

import time
from pathlib import Path

from msgspec.structs import replace
from sinner import sinner
from zoo_backend import ZooAttempt, ZooBackend

from rivers.protocol import Evidence, StepResult, StepSpec
from rivers.spi import parse_quantity

OBJECTS: list[str] = []
"""The objects of the platform, which the hook `leftovers` lists."""


class WatchedAttempt(ZooAttempt):
    """An attempt that is killed when it takes more memory than it has asked for, as a container is."""

    is_over_limit = False

    def kill_if_due(self) -> None:
        super().kill_if_due()
        asked = self.spec.compute.memory if self.spec.compute is not None else None
        if asked is not None and self.process is not None and resident(self.process.pid) > parse_quantity(asked):
            self.is_over_limit = True
            self.kill_at = min(self.kill_at, time.monotonic())


def resident(pid: int) -> int:
    """Return the bytes of memory that a process takes, 0 where it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("VmRSS")), 0)


class Provisions(ZooBackend):
    """Gives each attempt the memory that it asks for, and is correct."""

    can = {"provisions": True}
    attempt_type = WatchedAttempt

    def finish(self, attempt: WatchedAttempt, result: StepResult | None, evidence: Evidence) -> None:  # type: ignore[override]
        super().finish(attempt, result, replace(evidence, oom_kills=1) if attempt.is_over_limit else evidence)


@sinner("kills for memory and does not say so", "out-of-memory", only=True)
class SilentOutOfMemory(Provisions):
    finish = ZooBackend.finish


@sinner("leaves an object on its platform", "no-object-left", only=True)
class LeavesObject(ZooBackend):
    def close(self, deadline: float) -> None:
        super().close(deadline)
        OBJECTS.append(f"job-{len(OBJECTS)}")


@sinner("has a quota of 500 attempts", "throughput", only=True)
class Quota(ZooBackend):
    def submit(self, spec: StepSpec) -> None:
        if len(self.attempts) > 500:
            raise RuntimeError("the quota is used up")
        super().submit(spec)
