"""Find the settings of a plan that its executors cannot honour."""

from __future__ import annotations

from collections.abc import Sequence

from rivers._definitions.asset import Asset
from rivers._definitions.task import BashTask
from rivers._executor.backend import Capabilities
from rivers._plan.plan import Plan, Step

__all__ = ["find_shortfalls"]

MAX_NAMES = 10
"""Steps that a warning names; it counts the others."""


def find_shortfalls(plan: Plan, can: Sequence[Capabilities]) -> list[str]:
    """Return one warning for each setting that some steps have and their executor cannot honour; it names them.

    `can` holds the capabilities of `plan.executors`, in the same order.
    """
    late: list[Step] = []
    unprovisioned: list[Step] = []
    for step in plan.steps:
        power = can[step.executor_index].of(step.is_async)
        definition = step.node.owner if step.inner and isinstance(step.node.owner, Asset) else step.node.definition
        notices_late = power.timeout == "none" or (power.timeout == "cooperative" and not step.is_async)
        if definition.timeout is not None and notices_late and not isinstance(definition, BashTask):
            late.append(step)
        escalates = step.retry is not None and step.retry.escalate is not None
        if (definition.compute is not None or escalates) and not power.provisions:
            unprovisioned.append(step)
    warnings: list[str] = []
    if late:
        warnings.append(
            f"timeout= cannot stop {_names(late)}: the body runs to its end, and only then the step fails; "
            "it stops async bodies and bash tasks here, and any body where bodies can be killed, as on "
            "rs.Executor.parallel()"
        )
    if unprovisioned:
        warnings.append(
            f"compute= and escalate= change nothing for {_names(unprovisioned)}: only an executor that provisions, "
            "such as rs.Executor.kubernetes(), gives a step cpu and memory of its own"
        )
    return warnings


def _names(steps: Sequence[Step]) -> str:
    """Name the first few steps of each executor kind."""
    kinds: dict[str, list[str]] = {}
    for step in steps:
        kinds.setdefault(step.executor.kind, []).append(step.key)
    return "; ".join(
        ", ".join(keys[:MAX_NAMES])
        + (f" and {len(keys) - MAX_NAMES} more" if len(keys) > MAX_NAMES else "")
        + f" on {kind}"
        for kind, keys in kinds.items()
    )
