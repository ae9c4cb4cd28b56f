"""Find out what an interrupted run has committed: the stores say what is committed, the record what was intended."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from msgspec.structs import replace

from rivers._executor.recovery import NotAtomicError, find_committed, find_latest, recall_outputs, retract_partial
from rivers._io.base import Reach
from rivers._plan.plan import Plan, Step
from rivers._plan.restored import RestoredUnit
from rivers._plan.unit import OpenAttempt, epoch_of
from rivers._record.replay import RunHistory, UnitHistory
from rivers.exceptions import Problem
from rivers.protocol.exception_text import describe_exception
from rivers.protocol.result import OutputRecord

__all__ = ["Restorer"]

AT_ONCE = 16
"""Requests to buckets at a time: one takes tens of milliseconds, a file a hundredth of one."""


class Restorer:
    """The look into the stores of an interrupted run.

    Attempts that are open on the executors `adopting`, by their index in the plan, are adopted. `is_later` says whether
    a run, by its id, began after this one, as far as that is known. After `restore`, `units` has what is known of units
    by key, `epoch` is the highest of any attempt that is known, and `problems` are the reasons why the run cannot be
    resumed.
    """

    def __init__(
        self,
        run_id: str,
        plan: Plan,
        history: RunHistory,
        adopting: Collection[int],
        is_later: Callable[[str], bool],
    ) -> None:
        self.units: dict[str, RestoredUnit] = {}
        self.problems: list[Problem] = []
        self.epoch = max(history.epoch, 0)
        self._run_id = run_id
        self._plan = plan
        self._history = history
        self._adopting = adopting
        self._is_later = is_later

    def restore(self) -> None:
        """Ask the stores for every unit; the instances of mapped steps follow once their keys are known."""
        steps = self._plan.steps
        plain: list[tuple[Step, str | None]] = [(step, None) for step in steps if step.mapped_over is None]
        self._ask_all(plain)
        mapped = [(step, key) for step in steps if step.mapped_over is not None for key in self._keys_of(step)]
        self._ask_all(mapped)
        # The units are replaced together, as each look needs what is committed.
        self.units.update([found for unit in (*plain, *mapped) if (found := self._find_open(*unit)) is not None])
        for unit in self._history.units.values():
            self.epoch = max(self.epoch, epoch_of(unit.submitted))

    def _find_open(self, step: Step, map_key: str | None) -> tuple[str, RestoredUnit] | None:
        """Return a unit's key, and the unit with the attempt that is adopted; None if it has none.

        One that has committed since is adopted, too: its worker may still have its logs and metadata.
        """
        key = _key_of(step, map_key)
        history = self._history.units.get(key)
        if step.executor_index not in self._adopting or history is None or not history.is_open:
            return None
        known = self.units.get(key)
        is_superseded = known is not None and known.attempt_id not in (None, history.submitted)
        if is_superseded or not all(self._is_committed(self._plan.steps[dep], step, map_key) for dep in step.deps):
            return None
        attempt = OpenAttempt(
            attempt_id=history.submitted,
            worker=history.worker if history.started is not None else "",
            started=history.started,
            seq=history.seq,
        )
        return key, RestoredUnit(open=attempt, charged=history.charged, failures=history.failures)

    def _is_committed(self, source: Step, step: Step, map_key: str | None) -> bool:
        """Return whether all that a unit takes from this source is committed: else its attempt has read other data."""
        if source.mapped_over is None:
            keys: list[str] = [source.key]
        elif step.mapped_over == source.index:
            keys = [_key_of(source, map_key)]
        else:
            keys = [_key_of(source, key) for key in self._keys_of(source)]
        found = (self.units.get(key) for key in keys)
        return all(unit is not None and unit.attempt_id is not None for unit in found)

    def _keys_of(self, step: Step) -> Iterator[str]:
        """Yield the mapping keys of a mapped step, if its source has committed them."""
        while step.mapped_over is not None:
            step = self._plan.steps[step.mapped_over]
        known = self.units.get(step.key)
        for output in known.outputs if known is not None else ():
            yield from output.map_keys or ()

    def _ask_all(self, units: Sequence[tuple[Step, str | None]]) -> None:
        here = [unit for unit in units if not _is_far(unit[0])]
        far = [unit for unit in units if _is_far(unit[0])]
        for step, map_key in here:
            self._ask(step, map_key)
        if far:
            with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="rivers-restore") as pool:
                list(pool.map(lambda unit: self._ask(*unit), far))

    def _ask(self, step: Step, map_key: str | None) -> None:
        key = _key_of(step, map_key)
        history = self._history.units.get(key) or UnitHistory()
        try:
            found = self._find(step, map_key, history)
            if map_key is None and (found is None or self._is_own(found[0])):
                self._check_latest(step, is_committed=found is not None)
        except NotAtomicError as error:
            if history.is_open or history.succeeded:
                self._refuse(step, f"its IO handler {error} is not atomic: nothing can tell what it has committed")
                return
            found = None
        except Exception as error:  # noqa: BLE001 - a store may fail in any way
            self._refuse(step, f"its store cannot tell whether {key!r} was committed: {describe_exception(error)}")
            return
        if found is not None:
            attempt_id, outputs = found
            if self._is_own(attempt_id):
                self.epoch = max(self.epoch, epoch_of(attempt_id))
            if history.succeeded != attempt_id:
                # Killed between the commit and the line of its success: its store has what the record lacks.
                outputs = recall_outputs(self._run_id, step, map_key, attempt_id, outputs)
            self.units[key] = _committed(attempt_id, outputs, history)
        elif history.charged:
            self.units[key] = RestoredUnit(charged=history.charged, failures=history.failures)

    def _check_latest(self, step: Step, is_committed: bool) -> None:
        """Refuse a run after which another one has stored: what runs now would replace newer values by older ones.

        What replaces a committed value is newer. Where nothing is committed, the value may be that of an earlier run.
        """
        # One look for each asset: those of a later run are all newer. Elements of a fan-out may be thousands.
        for output in step.node.outputs if self._history.ending is None else ():
            memo = output.io_handler.read_memo(output.key)
            if memo is None or not memo.attempt_id or self._is_own(memo.attempt_id):
                continue
            if is_committed or self._is_later(memo.attempt_id.partition("-")[0]):
                self._refuse(step, f"a later run has stored {output.key!r} since, in attempt {memo.attempt_id!r}")

    def _find(
        self, step: Step, map_key: str | None, history: UnitHistory
    ) -> tuple[str, tuple[OutputRecord, ...]] | None:
        # A run that was about to be ended in its stores has only its record left, which has every success.
        if self._history.ending is not None or not step.node.outputs:
            return (history.succeeded, history.outputs) if history.succeeded else None
        found = find_committed(self._run_id, step, map_key)
        if found is None and history.succeeded and not self._is_own(history.succeeded):
            # A retry has reused it: its value is that of the earlier run, unless somebody has replaced it since.
            return (history.succeeded, history.outputs) if find_latest(step, map_key) == history.succeeded else None
        if found is None:
            retract_partial(self._run_id, step, map_key)
        return found

    def _is_own(self, attempt_id: str) -> bool:
        return attempt_id.startswith(f"{self._run_id}-")

    def _refuse(self, step: Step, message: str) -> None:
        self.problems.append(Problem(message, step.key, step.node.definition.where))


def _key_of(step: Step, map_key: str | None) -> str:
    return step.key if map_key is None else f"{step.key}[{map_key}]"


def _is_far(step: Step) -> bool:
    return any(output.io_handler.reach is Reach.ANYWHERE for output in step.node.outputs)


def _committed(attempt_id: str, outputs: tuple[OutputRecord, ...], history: UnitHistory) -> RestoredUnit:
    """Return a unit that has committed, with what the record has of that attempt: metadata, times, failures before."""
    if history.succeeded != attempt_id:
        return RestoredUnit(
            attempt_id=attempt_id,
            outputs=outputs,
            charged=history.charged + 1,
            failures=history.failures,
            worker=history.worker,
            started=history.started,
        )
    recorded = {record.name: record for record in history.outputs}
    return RestoredUnit(
        attempt_id=attempt_id,
        # The keys are those of the store: a record replaces what looks like a secret in them.
        outputs=tuple(
            [replace(recorded.get(record.name, record), key=record.key, map_keys=record.map_keys) for record in outputs]
        ),
        charged=history.charged,
        failures=history.failures,
        timings=history.timings,
        worker=history.worker,
        started=history.started,
        ended=history.ended,
    )
