"""Streams: who takes the results of a mapped step as they come, when it may start, and what it may have next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rivers._plan.graph import Source
from rivers._plan.plan import Plan, Step
from rivers._plan.unit import Group, Place, StreamState, Unit

__all__ = ["Streams"]


class Streams:
    """The streams of a plan; `groups` holds the instances of its mapped steps, by the step's index."""

    __slots__ = ("_groups", "_places", "_steps")

    def __init__(self, plan: Plan, places: Sequence[Place], groups: Mapping[int, Group]) -> None:
        self._steps = plan.steps
        self._places = places
        self._groups = groups

    def is_live(self, step: Step) -> bool:
        """A stream's consumer may start before its instances are done only where it cannot take their last place."""
        place = self._places[step.placed]
        own = place.max_async if step.is_async else place.max_sync
        return bool(step.streams) and place.streams and (place.blocking or own is place.max_steps is None)

    def starts_early(self, step: Step, mapped: Step) -> bool:
        """Whether a step waits only for a mapped step's expansion: it is mapped over it, or streams it live."""
        return step.mapped_over == mapped.index or (mapped.index in step.streams and self.is_live(step))

    def item(self, unit: Unit, parameter: str, n: int) -> StreamState:
        """The n-th item, counted from 0; a consumer that asks a broken stream is doomed from then on."""
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
        """The mapped steps that a stream needs, the nearest first, so that the next item comes as soon as it can."""
        found: list[Step] = []
        index: int | None = self._source(step, parameter)[1]
        while index is not None:
            found.append(self._steps[index])
            index = self._steps[index].mapped_over
        return found

    def _source(self, step: Step, parameter: str) -> tuple[Source, int]:
        source = next(source for source in step.node.inputs if source.parameter == parameter)
        return source, next(index for index in step.deps if self._steps[index].node.index == source.node)
