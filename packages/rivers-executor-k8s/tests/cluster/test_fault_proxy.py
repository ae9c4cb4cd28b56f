"""Three hundred steps on a real cluster whose API server, as far as the controller can see, fails all the time (X3).

Needs beside KUBECONFIG: RIVERS_TEST_IMAGE (`nox -s image -- --tests`), and to reach pods at their addresses.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bench_steps
import pytest
from fault_proxy import FaultProxy
from namespaces import Namespace

import rivers as rs

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not os.environ.get("RIVERS_TEST_IMAGE"), reason="RIVERS_TEST_IMAGE is not set"),
    pytest.mark.timeout(400),
]
STEPS = 300
KINDS = {"429", "500", "503", "html", "reset before", "reset after", "cut", "410"}


def test_three_hundred_steps(
    runs: Callable[..., Any], namespace: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All steps succeed, each attempt has had one pod, and nothing is left; every kind of fault was met."""
    executor = runs(worker_cpu="150m", worker_memory="128Mi", max_concurrent_steps=12)
    assets = bench_steps.no_ops(STEPS)
    with FaultProxy(tmp_path, namespace.name, seed=5) as proxy:
        monkeypatch.setenv("KUBECONFIG", str(proxy.kubeconfig))
        monkeypatch.setenv("RIVERS_KUBERNETES_DIAL", "direct")
        with rs.CodeRepository(assets, default_executor=executor, default_io_handler=bench_steps.Nowhere()) as repo:
            result = repo.materialize(raise_on_error=False)
        met, made = proxy.met, proxy.made

    attempts = [made for attempt, made in made.items() if not attempt.endswith("-preflight")]
    assert result.success, [report.failures for report in result.steps.values() if report.failures]
    assert STEPS == len(result.steps)
    assert {1} == set(made.values()), made.most_common(5)
    assert len(attempts) >= STEPS
    assert set(met) == KINDS
    assert [] == namespace.ask("GET", f"{namespace.path}/pods")["items"]
    assert [] == namespace.ask("GET", namespace.leases)["items"]
