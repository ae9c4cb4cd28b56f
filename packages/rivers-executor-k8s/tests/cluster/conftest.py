"""A namespace for every test, on whatever cluster `KUBECONFIG` names; without one these tests are skipped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from running.going import Going

import rivers as rs
from rivers_executor_k8s.api.client import ApiError, load_api_client

AFTER_OUTAGES = 120.0
"""Seconds in which a controller makes an account, where the API server was just away and a leader must be found."""
HERE = Path(__file__).parent
sys.path.append(str(HERE))

from namespaces import Namespace  # noqa: E402 - found by the line above
from real_runs import Start, account, settings  # noqa: E402


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a cluster where there is none."""
    if not os.environ.get("KUBECONFIG"):
        for item in items:
            if HERE in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="KUBECONFIG is not set"))


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    """A fresh namespace that enforces the restricted pod security standard; what is in it goes with it."""
    name = f"rivers-test-{uuid.uuid4().hex[:10]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    with asyncio.Runner() as runner:
        api = load_api_client(None)
        made = Namespace(name, api, runner)
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        made.ask("POST", "/api/v1/namespaces", body)
        try:
            made.until(lambda: _default_account(made), AFTER_OUTAGES)
            yield made
        finally:
            hurry = {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 1}
            made.ask("DELETE", f"{made.path}/pods", hurry)
            made.ask("DELETE", made.path)
            runner.run(api.close())


def _default_account(namespace: Namespace) -> bool | None:
    """Pods are refused until a controller has made the account that they run as."""
    with contextlib.suppress(ApiError):
        namespace.ask("GET", f"{namespace.path}/serviceaccounts/default")
        return True
    return None


@pytest.fixture
def runs(namespace: Namespace) -> Callable[..., rs.Executor]:
    """Makes executors for the namespace; takes what `rs.Executor.kubernetes` takes."""
    namespace.make("serviceaccounts", account)
    return lambda **more: rs.Executor.kubernetes(**settings(namespace.name, **more))


@pytest.fixture
def begin(runs: Callable[..., rs.Executor], namespace: Namespace) -> Iterator[Start]:
    """Begin a run of assets in pods; afterwards the namespace holds no pod and no lease."""
    going: list[Going] = []
    opened: list[rs.CodeRepository] = []
    store = rs.PickleIOHandler(f"{os.environ['RIVERS_TEST_STORE']}/{uuid.uuid4().hex}")

    def begin(*assets: rs.Asset, retry: rs.RetryPolicy | None = None, **more: Any) -> Going:
        repo = rs.CodeRepository(list(assets), default_executor=runs(**more), default_io_handler=store)
        opened.append(repo)
        run = Going(repo, 5.0, retry)
        going.append(run)
        return run

    yield begin
    for run in going:
        run.cancel()
        run.thread.join(60)
    for repo in opened:
        repo.shutdown()
    assert [] == [pod["metadata"]["name"] for pod in namespace.ask("GET", f"{namespace.path}/pods")["items"]]
    assert [] == namespace.ask("GET", namespace.leases)["items"]
