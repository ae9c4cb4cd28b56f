"""Long and wide: nothing in the frontier recurses, and what it costs grows with the number of steps alone."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

import rivers as rs
from rivers._plan.frontier import Frontier
from rivers._plan.graph import Node
from rivers._plan.plan import Plan, Step
from rivers._plan.unit import ExecutorLimits
from rivers.protocol import Ending, Failure, FailureReason, NodeKind, OutputRecord, StepResult
from rivers.testing import Attempt, Script, ScriptedExecutor

TASK = rs.Task(lambda x=0: x, name="body")


def plan_of(count: int, mapped_from: int | None = None) -> Plan:
    """A chain of steps; those after `mapped_from` are mapped, each over the one before it."""
    steps = []
    for index in range(count):
        step = Step(index, Node(index, f"s{index}", NodeKind.TASK, TASK, TASK), rs.Executor.in_process(), 0, None)
        step.deps = (index - 1,) if index else ()
        if mapped_from is not None and index > mapped_from:
            step.mapped_over = index - 1
        steps.append(step)
    return Plan(steps, [rs.Executor.in_process()])


def frontier_of(plan: Plan) -> Frontier:
    return Frontier(plan, "run", [ExecutorLimits("here")], random=lambda: 0.5, observed=False)


def finish(frontier: Frontier, units: list[Any], keys: tuple[str, ...] = (), fail: str = "") -> None:
    failure = Failure(reason=FailureReason.ERROR, type="", message="")
    while units:
        unit = units.pop()
        bad = unit.key == fail
        result = StepResult(
            attempt_id=unit.attempt_id,
            ending=Ending.FAILED if bad else Ending.SUCCEEDED,
            failure=failure if bad else None,
            outputs=(OutputRecord(name="o", key=unit.key, map_keys=keys),),
        )
        units += frontier.on_ended(result, 0.0, 0.0).starts


@pytest.mark.parametrize("fail", ["", "s0"])
def test_a_chain_of_5000(fail: str) -> None:
    """A chain of 5,000 steps runs to its end; when its first step fails, all others are skipped, naming it."""
    frontier = frontier_of(plan_of(5000))
    finish(frontier, frontier.begin(0.0, 0.0).starts, fail=fail)

    assert frontier.over
    assert 5000 == len(frontier.reports)
    assert ("skipped", "s0") == (frontier.reports["s4999"].state, frontier.reports["s4999"].cause) or not fail


@pytest.mark.parametrize(("keys", "fail"), [((), ""), (("k",), ""), (("k",), "s1[k]")])
def test_a_chain_of_5000_maps(keys: tuple[str, ...], fail: str) -> None:
    """A chain of 5,000 mapped steps runs to its end: over nothing, over one element, and over one that fails."""
    frontier = frontier_of(plan_of(5000, mapped_from=0))
    finish(frontier, frontier.begin(0.0, 0.0).starts, keys, fail)

    assert frontier.over
    assert 1 + 4999 * len(keys) == len(frontier.reports)
    assert not fail or ("skipped", fail) == (
        (report := frontier.reports["s4999[k]"]).state,
        report.cause,
    )


def test_cancel_of_a_chain_of_5000() -> None:
    """Cancelling it ends all of it at once."""
    frontier = frontier_of(plan_of(5000))
    (unit,) = frontier.begin(0.0, 0.0).starts
    frontier.cancel(0.0, 0.0)
    finish(frontier, [unit])

    assert frontier.over


@pytest.mark.long
def test_a_fan_out_of_100000() -> None:
    """100,000 instances of one mapped step run to their end in less than 1 GiB (faults.md, P2), 2 KB each."""
    keys = tuple(map(str, range(100_000)))
    frontier = frontier_of(plan_of(2, mapped_from=0))
    tracemalloc.start()
    try:
        finish(frontier, frontier.begin(0.0, 0.0).starts, keys)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert frontier.over
    assert 100_001 == len(frontier.reports)
    assert peak < 200e6


def test_a_run_of_5000_on_a_backend_of_its_own() -> None:
    """A chain of 5,000 goes through the run loop and a backend that does not block."""
    assets = [rs.Asset(lambda: 1, name="a0")]
    for n in range(1, 5000):
        assets.append(rs.Asset(lambda: 1, name=f"a{n}", deps=[rs.AssetDef.dep(f"a{n - 1}")]))
    script = Script(Attempt.succeed)

    assert rs.CodeRepository(assets).materialize(executor=ScriptedExecutor(script)).success
    assert [f"a{n}" for n in range(5000)] == script.submitted
