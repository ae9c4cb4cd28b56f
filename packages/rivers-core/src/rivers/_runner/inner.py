"""Run a graph asset as one step: its tasks in order, with only the result stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from rivers._definitions.elements import elements_of
from rivers._io.one_shot import refuse_one_shot
from rivers._runner.callee import Callee
from rivers._runner.inputs import Inputs
from rivers._runner.outputs import check_single, plain_value
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
    # Of mapped values; taken once, as an iterator can be read only once.
    elements: dict[str, dict[str, Any]] = {}
    for inner in spec.inner:
        callee = None if inner.node is NodeKind.BASH else callee_of(inner.function)
        own = msgspec.structs.replace(spec, step=f"{spec.step}/{inner.key}", node=inner.node, inner=())

        def run_one(element: Any, inner: InnerStep = inner, callee: Callee | None = callee, own: StepSpec = own) -> Any:
            return _check_value(call(callee, own, _arguments(inner, own, inputs, values, element)), callee, inner, spec)

        source = inner.mapped_over
        if source is None:
            values[inner.key] = run_one(None)
            continue
        if source not in elements:
            elements[source] = elements_of(values[source], source)
        values[inner.key] = elements[inner.key] = {key: run_one(item) for key, item in elements[source].items()}
    return values[spec.inner[-1].key]


def _arguments(
    inner: InnerStep, spec: StepSpec, inputs: Inputs, values: dict[str, Any], element: Any
) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    for given in inner.inputs:
        if not isinstance(given, ElementInput):
            arguments[given.parameter] = inputs.other(given, spec, {})
            continue
        value = values[given.step]
        if given.how == "element":
            value = element
        elif given.how == "value":
            value = plain_value(value)
        elif given.how == "collect":
            value = list(value.values())
        elif given.how == "stream":
            value = iter(value.values())
        arguments[given.parameter] = value
    return arguments


def _check_value(value: Any, callee: Callee | None, inner: InnerStep, spec: StepSpec) -> Any:
    found = check_single(value, callee.checks[""] if callee is not None else None, inner.key).value
    # The last value is stored instead.
    if inner is not spec.inner[-1]:
        refuse_one_shot(found, inner.key, spec.run_id, spec.step)
    return found
