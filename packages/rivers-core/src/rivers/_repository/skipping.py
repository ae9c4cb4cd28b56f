"""Prepare the comparison of a run with what is stored, and explain it beforehand."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from rivers._code.hasher import CodeHasher
from rivers._definitions.asset import Asset
from rivers._definitions.partitions import storage_key
from rivers._executor.memos import Place, read_memos
from rivers._executor.run_options import MakeReuse
from rivers._plan.frontier import Frontier
from rivers._plan.graph import AssetGraph
from rivers._plan.identity import StepIdentity, make_identity
from rivers._plan.partitions import partitions_at
from rivers._plan.plan import Plan, Step
from rivers._plan.report import StepState
from rivers._plan.reuse import Reuse
from rivers._plan.unit import ExecutorLimits
from rivers._repository.checks import check_configs
from rivers._repository.stored import handler_of
from rivers.exceptions import ConfigurationError, NodeNotFoundError

__all__ = ["check_skip_unchanged", "explain_plan", "prepare_reuse"]


def check_skip_unchanged(given: object) -> None:
    """Check the argument `skip_unchanged` of a run.

    Raises:
        ConfigurationError: it is neither a bool nor None.
    """
    if not isinstance(given, bool | None):
        raise ConfigurationError(f"invalid skip_unchanged={given!r:.80}: expected True, False or None")


def prepare_reuse(
    graph: AssetGraph, plan: Plan, resources: Mapping[str, Any], configs: Mapping[str, str], wanted: bool | None
) -> MakeReuse | None:
    """Return the function that compares the plan with what is stored; None for a run that skips nothing.

    `wanted` is the run's argument `skip_unchanged`.
    """
    skippable = {step.index for step in plan.steps if _is_skippable(step, wanted)} if wanted is not False else set()
    if not skippable:
        return None
    # One for the whole plan: steps share helpers.
    hasher = CodeHasher()
    identities = {
        step.index: _with_partitions(graph, make_identity(step, hasher, configs, plan.identities))
        for step in plan.steps
    }
    upstreams = list(_order_places(graph, plan, resources, identities))
    return partial(_make_reuse, plan, identities, skippable, upstreams)


def explain_plan(graph: AssetGraph, plan: Plan, resources: Mapping[str, Any], config: Any) -> Plan:
    """Return the plan with the reasons for which its steps run if unchanged ones are skipped."""
    make = prepare_reuse(graph, plan, resources, check_configs(graph, plan, config), True)
    if make is None:
        reasons = {step.key: ("skip_unchanged=False",) for step in plan.steps}
        return Plan(plan.steps, plan.executors, reasons, plan.partition)
    reuse = make(lambda message: warnings.warn(message, RuntimeWarning, 4))
    return Plan(plan.steps, plan.executors, _explain(plan, reuse), plan.partition)


def _is_skippable(step: Step, wanted: bool | None) -> bool:
    owner = step.node.owner
    own = owner.skip_unchanged if isinstance(owner, Asset) else None
    return own is not False if wanted else own is True


def _with_partitions(graph: AssetGraph, identity: StepIdentity) -> StepIdentity:
    """Return the identity of a step; of one that comes after all partitions of an upstream, it cannot be compared."""
    # The keys of a partitioned step are those of its partition, which are no keys of the graph.
    key = next((key for key in identity.order if partitions_at(graph, key) is not None), None)
    if key is None or identity.unknown:
        return identity
    return replace(identity, unknown=f"upstream `{key}`: any of its partitions may be a new one")


def _make_reuse(
    plan: Plan,
    identities: Mapping[int, StepIdentity],
    skippable: set[int],
    upstreams: list[Place],
    warn: Callable[[str], None],
) -> Reuse:
    return Reuse(identities, skippable, read_memos(plan, upstreams, warn))


def _order_places(
    graph: AssetGraph, plan: Plan, resources: Mapping[str, Any], identities: Mapping[int, StepIdentity]
) -> Iterator[Place]:
    """Yield the places of the values of other runs that the plan's steps are ordered behind."""
    made = {output.key for step in plan.steps for output in step.node.outputs}
    for identity in identities.values():
        for key in identity.order:
            if key not in made:
                name = key.removesuffix(storage_key("", plan.partition))
                try:
                    yield handler_of(graph, resources, name), key
                except NodeNotFoundError:
                    # It is made elsewhere and has no handler, so nothing is known of it.
                    continue


def _explain(plan: Plan, reuse: Reuse) -> dict[str, tuple[str, ...]]:
    """Return the reasons by step, found by the beginning of a run in which nothing ends."""
    limits = [ExecutorLimits(executor.kind) for executor in plan.executors]
    # The frontier itself ends the units that are unchanged, so that the plan and a run cannot disagree.
    frontier = Frontier(plan, "plan", limits, random=lambda: 0.0, observed=False)
    frontier.compare(reuse)
    frontier.begin(0.0, 0.0)
    running: dict[int, list[tuple[str, ...]]] = {}
    for unit in frontier.running.values():
        running.setdefault(unit.step.index, []).append(reuse.reasons(unit, frontier.groups))
    reports = frontier.reports
    found: dict[str, tuple[str, ...]] = {}
    for step in plan.steps:
        group = frontier.groups.get(step.index)
        mine = running.get(step.index, [])
        reasons = tuple(dict.fromkeys(reason for one in mine for reason in one))
        if group is not None and mine:
            reasons = (f"{len(mine)} of {len(group.keys)} instances", *reasons)
        elif group is None and not mine and step.key not in reports:
            reasons = tuple(f"`{plan.steps[dep].key}` runs" for dep in step.deps if found[plan.steps[dep].key])
        elif group is not None and group.left:
            reasons = tuple(f"`{plan.steps[dep].key}` runs" for dep in step.deps if found[plan.steps[dep].key])
        found[step.key] = reasons
    assert all(report.state is StepState.UNCHANGED for report in reports.values())
    return found
