"""What tests of runs on a real cluster share beside their fixtures: what they need, and how a run is begun."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from running.going import Going

import rivers as rs

__all__ = ["ANY_REASON", "NEEDS_IMAGE", "NO_NOTES", "Start", "account", "failed", "lines_of", "settings"]

NEEDED = ("KUBECONFIG", "RIVERS_TEST_IMAGE", "RIVERS_TEST_STORE")
MISSING = [name for name in NEEDED if not os.environ.get(name)]
NEEDS_IMAGE = pytest.mark.skipif(bool(MISSING), reason=f"{', '.join(MISSING)} not set")
ANY_REASON = [reason for reason in rs.FailureReason if reason is not rs.FailureReason.CANCELLED]
NO_NOTES = {"RIVERS_TEST_NOTES": "/tmp/notes"}

Start = Callable[..., Going]
account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "rivers-executor"}}
"""The account that pods of steps run as."""


def settings(namespace: str, **more: Any) -> dict[str, Any]:
    """Arguments of `rs.Executor.kubernetes` for the namespace; bodies see the store's address and credentials."""
    env = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    return {
        "worker_image": os.environ.get("RIVERS_TEST_IMAGE"),
        "namespace": namespace,
        "image_pull_policy": "IfNotPresent",
        "worker_cpu": "400m",
        "worker_memory": "200Mi",
        **more,
        "env": {**env, **more.get("env", {})},
    }


def failed(going: Going, step: str) -> Any:
    """The failure with which the step of a run has ended."""
    failure = going.end().steps[step].failure
    assert failure is not None
    return failure


def lines_of(going: Going, step: str) -> list[str]:
    """The lines `line …` that a step has printed, as they were told."""
    told = [e.message for e in going.events if type(e).__name__ == "StepLog" and e.step == step]
    return [line for line in told if line.startswith("line ")]
