"""Decide whether an attempt may use a pod that others of its run use."""

from __future__ import annotations

from rivers.protocol import StepSpec
from rivers.spi import Executor

__all__ = ["REUSE_KEY", "is_warm"]

REUSE_KEY = "rivers/worker_reuse"


def is_warm(spec: StepSpec, executor: Executor.Kubernetes) -> bool:
    """Return True if an attempt may share its pod; metadata of its asset overrides the executor."""
    chosen = (spec.metadata or {}).get(REUSE_KEY, executor.worker_reuse)
    return chosen == "run" and executor.max_steps_per_worker > 1
