"""A semantic case: a repository, what to run of it, and what must have come of it on every executor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import rivers as rs

__all__ = ["Case", "Fails", "broken", "fails", "graph", "instances", "succeeds"]


@dataclass(frozen=True, slots=True)
class Fails:
    """The failure of a step: the reason's word, the end of the exception's type name, a part of the message."""

    reason: str
    type: str
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One case; everything in `parts` is defined at module scope, so that any worker can import it.

    `parts` are arguments of CodeRepository, `run` of materialize, `first` of a materialize before it. `states` is
    exact: every step of the run. `values` are what load_node gives; `absent` has no value. `kinds` are the kinds of the
    events of a step in their order, logs left out; `logs` the texts of a step's logs; `causes` the culprit of a skip.
    `forks` is for bodies that fork: they do not run in a controller that may have threads.
    """

    name: str
    parts: Mapping[str, Any]
    states: Mapping[str, str]
    run: Mapping[str, Any] = field(default_factory=dict)
    first: Mapping[str, Any] | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    failures: Mapping[str, Fails] = field(default_factory=dict)
    attempts: Mapping[str, int] = field(default_factory=dict)
    causes: Mapping[str, str] = field(default_factory=dict)
    kinds: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    logs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    metadata: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    forks: bool = False

    def repository(self, executor: rs.Executor, **more: Any) -> rs.CodeRepository:
        """Return a repository of the parts, new and empty, with this default executor and further arguments."""
        return rs.CodeRepository(default_executor=executor, **{**more, **self.parts})


def succeeds(name: str, *assets: rs.Asset, values: Mapping[str, Any], **more: Any) -> Case:
    """Return a case in which every asset succeeds and has these values."""
    states = {asset.name: "succeeded" for asset in assets}
    return Case(name=name, parts={"assets": assets}, states=more.pop("states", states), values=values, **more)


def fails(name: str, asset: rs.Asset, how: Fails, **more: Any) -> Case:
    """Return a case in which one asset fails for good, at its first attempt, and stores nothing."""
    return Case(
        name=name,
        parts={"assets": [asset], **more.pop("parts", {})},
        states={asset.name: "failed"},
        failures={asset.name: how},
        absent=asset.output_names,
        attempts={asset.name: 1},
        kinds={asset.name: ("StepStarted", "StepFailed")},
        **more,
    )


def instances(task: str, *states: str) -> dict[str, str]:
    """Return the states of the instances n1, n2, … of a mapped task."""
    return {f"{task}[n{number}]": state for number, state in enumerate(states, 1)}


def graph(name: str, asset: rs.Asset, value: Any, states: dict[str, str], *upstream: rs.Asset, **more: Any) -> Case:
    """Return a case in which a graph asset has a value; `states` are those of its tasks."""
    every = {**{one.name: "succeeded" for one in upstream}, **{f"{asset.name}/{k}": v for k, v in states.items()}}
    return succeeds(name, *upstream, asset, values={asset.name: value}, states=every, **more)


def broken(name: str, asset: rs.Asset, states: dict[str, str], *upstream: rs.Asset, **more: Any) -> Case:
    """Return a case in which a graph asset has no value, as one of its tasks fails."""
    every = {**{one.name: "succeeded" for one in upstream}, **{f"{asset.name}/{k}": v for k, v in states.items()}}
    return Case(name=name, parts={"assets": [*upstream, asset]}, states=every, absent=(asset.name,), **more)
