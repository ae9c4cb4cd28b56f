"""Steps that take the results of a mapped step while its instances still run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rivers._plan.graph import Source
from rivers._plan.plan import Plan, Step
from rivers._plan.unit import ExecutorLimits, Group, StreamState, Unit

__all__ = ["Streams"]


class Streams:
    """The streams of a plan; `groups` holds the instances of its mapped steps, by the step's index.

    With `is_whole` no step starts before all instances that it streams are done.
    """

    __slots__ = ("_executors", "_groups", "_steps", "is_whole")

    def __init__(self, plan: Plan, executors: Sequence[ExecutorLimits], groups: Mapping[int, Group]) -> None:
        self._steps = plan.steps
        self._executors = executors
        self._groups = groups
        self.is_whole = False

    def is_live(self, step: Step) -> bool:
        """Return whether a step may start before the instances that it streams are done."""
        limits = self._executors[step.executor_index]
        own = limits.max_async if step.is_async else limits.max_sync
        if self.is_whole:
            return False
        # A consumer in the last slot would wait for instances that cannot start. One that blocks lends its slot.
        return bool(step.streams) and limits.streams and (limits.blocking or own is limits.max_steps is None)

    def starts_early(self, step: Step, mapped: Step) -> bool:
        """Return whether a step waits only for the keys of a mapped step: it is mapped over it, or streams it live."""
        return step.mapped_over == mapped.index or (mapped.index in step.streams and self.is_live(step))

    def item(self, unit: Unit, parameter: str, n: int) -> StreamState:
        """Return the state of the n-th item, counted from 0; a broken stream dooms its consumer."""
        source, index = self._source(unit.step, parameter)
        group = self._groups[index]
        if unit.doomed is None:
            unit.doomed = group.broken
        if unit.doomed is not None:
            return StreamState(broken=unit.doomed)
        if n >= len(group.keys):
            return StreamState(ended=True)
        if source.ordered:
            return StreamState(key=group.keys[n]) if group.keys[n] in group.finished else StreamState()
        return StreamState(key=group.done[n]) if n < len(group.done) else StreamState()

    def feeders(self, step: Step, parameter: str) -> list[Step]:
        """Return the mapped steps that a stream needs, the nearest first."""
        found: list[Step] = []
        index: int | None = self._source(step, parameter)[1]
        while index is not None:
            found.append(self._steps[index])
            index = self._steps[index].mapped_over
        return found

    def _source(self, step: Step, parameter: str) -> tuple[Source, int]:
        source = next(source for source in step.node.inputs if source.parameter == parameter)
        return source, next(index for index in step.deps if self._steps[index].node.index == source.node)
