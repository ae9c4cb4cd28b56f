"""A graph asset as one step: its tasks in order, their values in the worker's memory, only the result stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from rivers._definitions.output import DynamicOutput
from rivers._io.one_shot import refuse_one_shot
from rivers._runner.callee import Callee
from rivers._runner.inputs import Inputs
from rivers._runner.outputs import single
from rivers.protocol.ref import Ref
from rivers.protocol.spec import ElementInput, InnerStep, NodeKind, StepSpec

__all__ = ["run_inner"]


def run_inner(
    spec: StepSpec,
    inputs: Inputs,
    callee_of: Callable[[Ref], Callee],
    call: Callable[[Callee | None, StepSpec, dict[str, Any]], Any],
) -> Any:
    """Run the inner steps and return the last one's value.

    A mapped step keeps a dict of its instances' values by mapping key; another step its value.
    """
    values: dict[str, Any] = {}
    for inner in spec.inner:
        callee = None if inner.node is NodeKind.BASH else callee_of(inner.function)
        own = msgspec.structs.replace(spec, step=f"{spec.step}/{inner.key}", node=inner.node, inner=())
        if inner.mapped_over is None:
            value = call(callee, own, _arguments(inner, own, inputs, values, None))
            values[inner.key] = _checked(value, callee, inner, spec)
        else:
            elements = _elements(values[inner.mapped_over])
            values[inner.key] = {
                key: _checked(call(callee, own, _arguments(inner, own, inputs, values, key)), callee, inner, spec)
                for key in elements
            }
    return values[spec.inner[-1].key]


def _arguments(
    inner: InnerStep, spec: StepSpec, inputs: Inputs, values: dict[str, Any], map_key: str | None
) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    for given in inner.inputs:
        if not isinstance(given, ElementInput):
            arguments[given.parameter] = inputs.other(given, spec, {})
            continue
        value = values[given.step]
        if given.how == "element":
            value = _elements(value)[map_key or ""]
        elif given.how == "collect":
            value = list(value.values())
        elif given.how == "stream":
            value = iter(value.values())
        arguments[given.parameter] = value
    return arguments


def _elements(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    return {
        item.key if isinstance(item, DynamicOutput) else str(position): item.value
        if isinstance(item, DynamicOutput)
        else item
        for position, item in enumerate(value)
    }


def _checked(value: Any, callee: Callee | None, inner: InnerStep, spec: StepSpec) -> Any:
    found = single(value, callee.checks[""] if callee is not None else None, inner.key).value
    if inner is not spec.inner[-1]:  # the last one's is stored, and not kept here
        refuse_one_shot(found, inner.key, spec.run_id, spec.step)
    return found
