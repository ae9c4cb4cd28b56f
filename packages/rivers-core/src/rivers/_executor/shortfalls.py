"""What a plan asks for and its executors cannot do, so that nobody counts on it in vain."""

from __future__ import annotations

from collections.abc import Sequence

from rivers._definitions.asset import Asset
from rivers._definitions.task import BashTask
from rivers._executor.backend import Capabilities
from rivers._plan.plan import Plan, Step

__all__ = ["find_shortfalls"]

NAMES_TOLD = 10


def find_shortfalls(plan: Plan, can: Sequence[Capabilities]) -> list[str]:
    """One text for each setting that some steps have and their executor cannot honour, naming those steps.

    `can` holds the capabilities of `plan.executors`, in the same order.
    """
    late: list[Step] = []
    unprovisioned: list[Step] = []
    for step in plan.steps:
        power = can[step.placed].of(step.is_async)
        definition = step.node.owner if step.inner and isinstance(step.node.owner, Asset) else step.node.definition
        notices_late = power.timeout == "none" or (power.timeout == "cooperative" and not step.is_async)
        if definition.timeout is not None and notices_late and not isinstance(definition, BashTask):
            late.append(step)
        escalates = step.retry is not None and step.retry.escalate is not None
        if (definition.compute is not None or escalates) and not power.provisions:
            unprovisioned.append(step)
    told: list[str] = []
    if late:
        told.append(
            f"timeout= cannot stop {_named(late)}: the body runs to its end, and only then the step fails; "
            "it stops async bodies and bash tasks here, and any body where bodies can be killed, as on "
            "rs.Executor.parallel()"
        )
    if unprovisioned:
        told.append(
            f"compute= and escalate= change nothing for {_named(unprovisioned)}: only an executor that provisions, "
            "such as rs.Executor.kubernetes(), gives a step cpu and memory of its own"
        )
    return told


def _named(steps: Sequence[Step]) -> str:
    """The steps by executor kind, the first few of them by name."""
    kinds: dict[str, list[str]] = {}
    for step in steps:
        kinds.setdefault(step.executor.kind, []).append(step.key)
    return "; ".join(
        ", ".join(keys[:NAMES_TOLD])
        + (f" and {len(keys) - NAMES_TOLD} more" if len(keys) > NAMES_TOLD else "")
        + f" on {kind}"
        for kind, keys in kinds.items()
    )
