"""Specs of attempts: definitions become refs, sources become inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from msgspec.structs import replace

from rivers._definitions.asset import Asset, GraphAsset
from rivers._definitions.settings import REUSE_KEY, overrides_in
from rivers._definitions.task import BashTask, Task
from rivers._io.base import AtomicIOHandler
from rivers._plan.graph import Node, Source, StoredOutput
from rivers._plan.inline import is_inline
from rivers._plan.plan import Step
from rivers._plan.refs import Closures, Refs
from rivers._plan.unit import FIRST, Group, Unit, attempt_id_of
from rivers.protocol.ref import ImportRef, InlineRef, Ref
from rivers.protocol.spec import (
    CollectInput,
    ElementInput,
    GroupInput,
    InnerStep,
    Input,
    LogSettings,
    NodeKind,
    Output,
    PartitionsInput,
    ResourceInput,
    StepSpec,
    StoredInput,
    StreamInput,
)

__all__ = ["Specifier"]

Definition: TypeAlias = Asset | Task | BashTask
_KNOWN_BEFORE_RUN = frozenset({"value", "resource", "constant"})
MANY_KEYS = 1_000
"""Above this number of mapping keys, a spec refers to the stored ones: loading them costs one read of the store."""
_INLINE = InlineRef()
_BASH = ImportRef(module="rivers._definitions.bash", qualname="run_bash")


def _metadata(definition: Definition, owner: Definition) -> dict[str, str] | None:
    """Return a step's metadata; a task has its graph asset's `rivers/worker_reuse` and overrides of executors, too."""
    if definition is owner or not owner.metadata:
        return definition.metadata
    inherited = {key: value for key, value in owner.metadata.items() if key == REUSE_KEY or overrides_in({key: value})}
    return {**inherited, **(definition.metadata or {})} or None


class Specifier:
    """A maker of the StepSpecs of one run.

    `closures` says, for each executor of the plan and for sync and async steps, in which form objects reach a worker.
    `configs` holds JSON text by asset name. `epoch` is that of the run's controller.
    """

    def __init__(
        self,
        run_id: str,
        refs: Refs,
        closures: Mapping[tuple[int, bool], Closures],
        *,
        configs: Mapping[str, str],
        tags: dict[str, str] | None,
        logs: LogSettings,
        in_run: Callable[[int], bool],
        epoch: int = 0,
    ) -> None:
        self._run_id = run_id
        self._refs = refs
        self._closures = closures
        self._configs = configs
        self._tags = tags or None
        self._logs = logs
        self._in_run = in_run
        self._epoch = epoch
        self._prepared: dict[int, StepSpec] = {}

    def prepare(self, step: Step) -> StepSpec:
        """Return the spec of a step before the run, and keep it if the run adds nothing but the attempt."""
        unit = Unit(step)
        # That of its first attempt, unless the step is mapped: a backend may prepare it.
        unit.attempt_id = attempt_id_of(self._run_id, step.index, self._epoch, FIRST)
        spec = self.spec(unit, {}, False)
        if step.mapped_over is None and all(source.how in _KNOWN_BEFORE_RUN for source in step.node.inputs):
            self._prepared[step.index] = spec
        return spec

    def spec(self, unit: Unit, groups: Mapping[int, Group], live: bool) -> StepSpec:
        """Return the spec of a unit's next attempt; `live` if its streams are fed while it runs."""
        step = unit.step
        prepared = self._prepared.get(step.index)
        if prepared is not None:
            compute = unit.compute.to_protocol() if unit.compute is not None else None
            return replace(
                prepared,
                attempt=unit.charged + 1,
                attempt_id=unit.attempt_id,
                compute=compute,
                fingerprint=unit.fingerprint,
            )
        node = step.node
        fused = bool(step.inner)
        definition = node.owner if fused else node.definition
        closures = self._closures[step.executor_index, step.is_async]
        suffix = "" if unit.map_key is None else f"[{unit.map_key}]"
        asset = definition if isinstance(definition, Asset) else None
        return StepSpec(
            run_id=self._run_id,
            step=unit.key,
            attempt=unit.charged + 1,
            attempt_id=unit.attempt_id,
            node=NodeKind.GRAPH if fused else node.kind,
            function=self._function(definition, closures),
            is_async=step.is_async,
            inputs=() if fused else tuple([self._input(s, step, suffix, closures, groups, live) for s in node.inputs]),
            outputs=self._outputs(node, step, suffix, closures),
            config=self._configs.get(definition.name),
            metadata=_metadata(definition, node.owner),
            tags=definition.tags,
            kinds=asset.kinds if asset is not None else (),
            group=asset.group if asset is not None else None,
            code_version=asset.code_version if asset is not None else None,
            run_tags=self._tags,
            compute=unit.compute.to_protocol() if unit.compute is not None else None,
            timeout=definition.timeout,
            logs=self._logs,
            inner=tuple([self._inner(inner, step, closures) for inner in step.inner]) if fused else (),
            graph=None if fused or closures == "local" else self._graph(node),
            fingerprint=unit.fingerprint,
            partition=node.partition,
        )

    def _function(self, definition: Definition, closures: Closures) -> Ref:
        if not isinstance(definition, BashTask):
            return self._refs.function(definition, closures)
        return (self._refs.location(definition) if closures != "local" else None) or _BASH

    def _graph(self, node: Node) -> ImportRef | None:
        """Return the ref of the graph asset that a worker finds the node's command or constants in."""
        if isinstance(node.owner, GraphAsset) and any(source.how == "constant" for source in node.inputs):
            return self._refs.location(node.owner)
        return None

    def _outputs(self, node: Node, step: Step, suffix: str, closures: Closures) -> tuple[Output, ...]:
        return tuple(
            [
                Output(
                    name=output.name,
                    key=output.key + suffix,
                    io_handler=self._handler(output, step, closures),
                    mode=output.mode,
                    metadata=output.metadata,
                )
                for output in node.outputs
            ]
        )

    def _handler(self, stored: Source | StoredOutput, step: Step, closures: Closures) -> Ref:
        if closures != "local" and is_inline(step, stored.io_handler):
            return _INLINE
        return self._refs.object(stored.io_handler, closures, "the IO handler of", stored.key)

    def _input(
        self, source: Source, step: Step, suffix: str, closures: Closures, groups: Mapping[int, Group], live: bool
    ) -> Input:
        how = source.how
        if how in {"value", "element"}:
            in_run = source.node is not None and self._in_run(source.node)
            return StoredInput(
                parameter=source.parameter,
                key=source.key if how == "value" else source.key + suffix,
                io_handler=self._handler(source, step, closures),
                run_id=self._run_id if in_run else None,
                metadata=source.metadata,
                partition=source.partition,
            )
        if how == "partitions":
            is_made = source.partition is not None and source.node is not None and self._in_run(source.node)
            return PartitionsInput(
                parameter=source.parameter,
                key=source.key,
                io_handler=self._handler(source, step, closures),
                partitions=source.value.keys(),
                partition=source.partition if is_made else None,
                run_id=self._run_id if is_made else None,
                metadata=source.metadata,
            )
        if how == "resource":
            ref = self._refs.object(source.value, closures, "resource", source.key)
            return ResourceInput(parameter=source.parameter, name=source.key, ref=ref)
        if how == "constant":
            return self._refs.constant(source.parameter or source.key, source.value, closures)
        group = next(
            (groups[index] for index in step.deps if index in groups and groups[index].node == source.node), None
        )
        return self._group_input(source, self._handler(source, step, closures), group, closures, live)

    def _group_input(self, source: Source, handler: Ref, group: Group | None, closures: Closures, live: bool) -> Input:
        """Return the input for all instances of a group: with its mapping keys, or where the worker finds them."""
        parameter, key, run_id = source.parameter, source.key, self._run_id
        live = live and source.how == "stream"
        is_stored = closures != "local" and handler is not _INLINE
        if group is not None and is_stored and not live and _are_keys_in_reach(group, source):
            return GroupInput(
                parameter=parameter,
                key=key,
                io_handler=handler,
                keys=f"{group.origin.outputs[-1].key}[]",
                run_id=run_id,
                how=source.how,
            )
        keys = group.keys if group is not None else ()
        if source.how == "collect":
            return CollectInput(parameter=parameter, key=key, io_handler=handler, map_keys=keys, run_id=run_id)
        if live:
            return StreamInput(parameter=parameter, key=key, io_handler=handler, live=True, run_id=run_id)
        done = tuple(group.done) if group is not None and not source.ordered else keys
        return StreamInput(parameter=parameter, key=key, io_handler=handler, map_keys=done, run_id=run_id)

    def _inner(self, node: Node, step: Step, closures: Closures) -> InnerStep:
        """Return a task of a fused graph: values of the other tasks stay in memory, the rest is loaded as usual."""
        siblings = {inner.index: inner for inner in step.inner}
        inputs: list[Input] = []
        for source in node.inputs:
            sibling = siblings.get(source.node) if source.node is not None else None
            if sibling is None:
                inputs.append(self._input(source, step, "", closures, {}, False))
            else:
                inputs.append(ElementInput(parameter=source.parameter, step=sibling.key, how=source.how))
        return InnerStep(
            key=node.key,
            node=node.kind,
            function=self._function(node.definition, closures),
            inputs=tuple(inputs),
            is_async=node.is_async,
            mapped_over=siblings[node.mapped_over].key if node.mapped_over is not None else None,
        )


def _are_keys_in_reach(group: Group, source: Source) -> bool:
    """Return whether a worker finds a large group's keys in the store that it loads the values from.

    The task that made the elements has stored their keys, but only an atomic IO handler does so; another handler than
    that of the values may be out of the worker's reach.
    """
    handler = group.origin.outputs[-1].io_handler
    return len(group.keys) > MANY_KEYS and handler is source.io_handler and isinstance(handler, AtomicIOHandler)
