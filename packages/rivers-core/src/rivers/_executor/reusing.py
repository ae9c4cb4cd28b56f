"""Find the values of an earlier run that a retry of it need not make again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec.structs import replace

from rivers._executor.recovery import find_latest, load_map_keys
from rivers._plan.plan import Plan, Step
from rivers._plan.restored import RestoredUnit
from rivers._record.replay import RunHistory
from rivers.protocol.exception_text import describe_exception

__all__ = ["Reuser"]


class Reuser:
    """The look for units that an earlier run has made, and that nobody has replaced since.

    `changed` says of steps, by key, what is different now. After `find`, `units` has those that are reused, and `notes`
    says of others, by key, why they run although the earlier run has made them.
    """

    def __init__(self, plan: Plan, history: RunHistory, changed: Mapping[str, str]) -> None:
        self.units: dict[str, RestoredUnit] = {}
        self.notes: dict[str, str] = {}
        self._plan = plan
        self._history = history
        self._changed = changed
        self._whole: set[int] = set()

    def find(self) -> None:
        """Look at every unit, each after those upstream: what is made of a value that is made again is made again."""
        for step in sorted(self._plan.steps, key=lambda step: step.level):
            others = (dep for dep in step.deps if dep != step.mapped_over)
            if not all(dep in self._whole for dep in others):
                continue
            if step.mapped_over is None:
                if self._look_at(step, None):
                    self._whole.add(step.index)
                continue
            found = [self._look_at(step, key) for key in self._keys_of(step)]
            if all(found) and step.mapped_over in self._whole:
                self._whole.add(step.index)

    @property
    def has_all(self) -> bool:
        """True if every step is reused."""
        return len(self._whole) == len(self._plan.steps)

    def _keys_of(self, step: Step) -> Iterator[str]:
        """Yield the keys of the instances whose own element is reused."""
        assert step.mapped_over is not None
        source = self._plan.steps[step.mapped_over]
        if source.mapped_over is not None:
            prefix = f"{source.key}["
            yield from [key[len(prefix) : -1] for key in self.units if key.startswith(prefix)]
        elif source.index in self._whole:
            for output in self.units[source.key].outputs:
                yield from output.map_keys or ()

    def _look_at(self, step: Step, map_key: str | None) -> bool:
        """Add a unit to those that are reused, or return False."""
        key = step.key if map_key is None else f"{step.key}[{map_key}]"
        history = self._history.units.get(key)
        made = history.succeeded or history.unchanged if history is not None else ""
        if history is None or not made:
            return False
        if step.key in self._changed:
            self.notes[step.key] = f"{step.key!r} runs again: {self._changed[step.key]}"
            return False
        try:
            latest = find_latest(step, map_key)
            keys = load_map_keys(step) if latest == made else {}
        except Exception as error:  # noqa: BLE001 - a store may fail in any way, and the step then runs
            self.notes[key] = f"{key!r} runs again: its store cannot be read: {describe_exception(error)}"
            return False
        if latest is None:
            self.notes[key] = f"{key!r} runs again: its store does not tell which attempt has stored its value"
            return False
        if latest != made:
            self.notes[key] = f"{key!r} runs again: another run has replaced its value, in attempt {latest}"
            return False
        self.units[key] = RestoredUnit(
            attempt_id=latest,
            # The keys are those of the store: a record replaces what looks like a secret in them.
            outputs=tuple([replace(one, map_keys=keys.get(one.name, one.map_keys)) for one in history.outputs]),
            charged=history.charged,
            timings=history.timings,
            worker=history.worker,
            started=history.started,
            ended=history.ended,
        )
        return True
