"""The semantic cases of rivers-core in pods of a real cluster, with their values in a real bucket."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from namespaces import Namespace

import rivers as rs
from rivers.testing.conformance.cases.case import Case
from rivers.testing.conformance.cases.outcome import CaseOutcome
from rivers.testing.conformance.cases.table import CASES

MISSING = [name for name in ("KUBECONFIG", "RIVERS_TEST_IMAGE", "RIVERS_TEST_STORE") if not os.environ.get(name)]
AT_ONCE = 4
"""Cases at once: most are one pod after the other, and spend their time waiting for the kubelet."""
LOT = 12
"""Cases of one test."""

pytestmark = [pytest.mark.skipif(bool(MISSING), reason=f"{', '.join(MISSING)} not set"), pytest.mark.timeout(600)]


@pytest.fixture
def run_case(namespace: Namespace, request: pytest.FixtureRequest) -> Callable[[Case, bool], CaseOutcome]:
    """Runs a case in this process or in pods; each run has a folder of the bucket for itself."""
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "rivers-executor"}}
    namespace.make("serviceaccounts", account)
    env = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    # Every second lot runs on warm workers.
    reuse = "run" if request.node.callspec.params["start"] // LOT % 2 else "never"
    pods = rs.Executor.kubernetes(
        os.environ["RIVERS_TEST_IMAGE"],
        namespace=namespace.name,
        image_pull_policy="IfNotPresent",
        worker_cpu="400m",
        worker_memory="256Mi",
        env=env,
        worker_reuse=reuse,
    )

    def run_case(case: Case, in_pods: bool) -> CaseOutcome:
        store = rs.PickleIOHandler(f"{os.environ['RIVERS_TEST_STORE']}/{uuid.uuid4().hex}")
        return CaseOutcome(case, pods if in_pods else rs.Executor.in_process(), default_io_handler=store)

    return run_case


def difference(case: Case, run_case: Callable[[Case, bool], CaseOutcome]) -> str | None:
    """Return the difference between the two on one line, None where there is none."""
    try:
        here, there = run_case(case, False), run_case(case, True)
    except Exception as error:
        return f"{case.name}: {type(error).__name__}: {error}"
    return "; ".join([*there.problems(case), *there.differences(case, here)]) or None


LOTS = [pytest.param(start, marks=[pytest.mark.long] if start != LOT else []) for start in range(0, len(CASES), LOT)]


@pytest.mark.parametrize("start", LOTS)
def test_cases(run_case: Callable[[Case, bool], Any], namespace: Namespace, start: int) -> None:
    """States, values, failures, events and logs of every step of every case are those of the in-process executor."""
    with ThreadPoolExecutor(AT_ONCE) as threads:
        found = list(threads.map(lambda case: difference(case, run_case), CASES[start : start + LOT]))

    assert [] == [line for line in found if line is not None]
    assert [] == namespace.ask("GET", f"{namespace.path}/pods")["items"]
