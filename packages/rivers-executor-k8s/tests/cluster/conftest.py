"""A namespace for every test, on whatever cluster `KUBECONFIG` names; without one these tests are skipped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from rivers_executor_k8s.api import ApiError, load_api

HERE = Path(__file__).parent
sys.path.append(str(HERE))

from namespaces import Namespace  # noqa: E402 - found by the line above


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
        api = load_api(None)
        made = Namespace(name, api, runner)
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        made.ask("POST", "/api/v1/namespaces", body)
        try:
            made.until(lambda: _default_account(made))
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
