"""Recover the result of an attempt that has committed its outputs but could not report success."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from rivers._definitions.output import check_metadata
from rivers._events.dispatcher import EventDispatcher
from rivers._io.base import AtomicIOHandler
from rivers._io.context import InputContext, OutputContext
from rivers._io.note import parse_note
from rivers._plan.graph import StoredOutput
from rivers._plan.plan import Plan, Step
from rivers._plan.unit import Unit
from rivers.exceptions import OutputCommitError
from rivers.protocol.exception_text import describe_exception
from rivers.protocol.result import Ending, OutputRecord, StepResult
from rivers.protocol.spec import OutputMode

__all__ = [
    "NotAtomicError",
    "end_run_in_stores",
    "find_committed",
    "find_latest",
    "load_map_keys",
    "recall_outputs",
    "recover_result",
    "retract_partial",
    "suspend_run_in_stores",
]


class NotAtomicError(Exception):
    """An IO handler that cannot know whether a step has committed; the text is the name of its class."""


def recover_result(run_id: str, unit: Unit, result: StepResult, dispatcher: EventDispatcher) -> StepResult | None:
    """Return the result of the attempt that has committed every output of the step in this run; None if none has.

    That may be an earlier attempt, whose worker was taken for lost. Only handlers that commit atomically know it.
    """
    try:
        return _recover(run_id, unit, result)
    except Exception as error:  # noqa: BLE001 - without an answer of the store the attempt stays failed
        dispatcher.warn(f"could not find out whether {unit.key!r} was committed: {describe_exception(error)}", unit.key)
        return None


def end_run_in_stores(run_id: str, plan: Plan, dispatcher: EventDispatcher) -> None:
    """Call `end_run` of every IO handler that the run stores with."""
    _call_stores(plan, "end_run", run_id, dispatcher)


def suspend_run_in_stores(run_id: str, plan: Plan, dispatcher: EventDispatcher) -> None:
    """Call `suspend_run` of every IO handler that the run stores with."""
    _call_stores(plan, "suspend_run", run_id, dispatcher)


def _call_stores(plan: Plan, method: str, run_id: str, dispatcher: EventDispatcher) -> None:
    handlers = {id(output.io_handler): output.io_handler for step in plan.steps for output in step.node.outputs}
    for handler in handlers.values():
        try:
            getattr(handler, method)(run_id)
        except Exception as error:  # noqa: BLE001 - the run is over; a later one sweeps what is left
            dispatcher.warn(f"{type(handler).__name__}.{method} raised {describe_exception(error)}")


def find_committed(run_id: str, step: Step, map_key: str | None) -> tuple[str, tuple[OutputRecord, ...]] | None:
    """Return the attempt that has committed a unit in a run, and its outputs without metadata; None if none has.

    Raises:
        NotAtomicError: an IO handler of the step cannot know.
        Exception: a store cannot be read.
    """
    suffix = "" if map_key is None else f"[{map_key}]"
    stores = _stores_of(step)
    found = [store.committed(run_id, step.key + suffix) for store in stores]
    winner = next((attempt_id for attempt_id in found if attempt_id is not None), None)
    if stores and winner is None:
        return None
    for store, attempt_id in zip(stores, found, strict=True):
        if attempt_id != winner and not (winner and _commit_for(store, run_id, step, suffix, winner)):
            return None
    keys = load_map_keys(step, run_id)
    records = [
        OutputRecord(name=output.name, key=output.key + suffix, map_keys=keys.get(output.name))
        for output in step.node.outputs
    ]
    return winner or "", tuple(records)


def retract_partial(run_id: str, step: Step, map_key: str | None) -> None:
    """Let another attempt commit a unit of which only some stores have the outputs, and others lost them for good."""
    key = step.key if map_key is None else f"{step.key}[{map_key}]"
    stores = _stores_of(step)
    # All of them were asked before, and one had nothing: what a single one has is whole.
    if len(stores) > 1:
        for store in stores:
            store.retract(run_id, key)


def _stores_of(step: Step) -> list[AtomicIOHandler]:
    """Return the IO handlers of a step, each once.

    Raises:
        NotAtomicError: one cannot know what it has committed.
    """
    stores: dict[int, AtomicIOHandler] = {}
    for output in step.node.outputs:
        handler = output.io_handler
        if not isinstance(handler, AtomicIOHandler):
            raise NotAtomicError(type(handler).__name__)
        stores[id(handler)] = handler
    return list(stores.values())


def _commit_for(store: AtomicIOHandler, run_id: str, step: Step, suffix: str, attempt_id: str) -> bool:
    """Commit what an attempt has staged, which was cut short after it had committed in another store."""
    outputs = [output for output in step.node.outputs if output.io_handler is store]
    if any(output.mode is OutputMode.DYNAMIC for output in outputs):
        return False
    try:
        store.commit(run_id, step.key + suffix, attempt_id, [output.key + suffix for output in outputs])
    except OutputCommitError:
        # Another attempt was first there, or what was staged is gone, as in the memory of another process.
        return False
    return True


def recall_outputs(
    run_id: str, step: Step, map_key: str | None, attempt_id: str, outputs: Sequence[OutputRecord]
) -> tuple[OutputRecord, ...]:
    """Return committed outputs with the metadata and data versions that their stores have kept of them."""
    suffix = "" if map_key is None else f"[{map_key}]"
    key, stored = step.key + suffix, {output.name: output for output in step.node.outputs}
    return tuple([_recall(stored[record.name], run_id, key, attempt_id, record) for record in outputs])


def _recall(output: StoredOutput, run_id: str, step: str, attempt_id: str, record: OutputRecord) -> OutputRecord:
    where = f"{record.key}[]" if output.mode is OutputMode.DYNAMIC else record.key
    context = OutputContext(where, output.metadata, run_id=run_id, step=step, attempt_id=attempt_id)
    handler = output.io_handler
    try:
        note = parse_note(handler.recall(context) if isinstance(handler, AtomicIOHandler) else None)
        metadata = {**note.fields(), **(context.output_metadata or {})}
        text = check_metadata(metadata).decode() if metadata else None
    except Exception:  # noqa: BLE001 - the value is committed, whatever is known of it
        return record
    return msgspec.structs.replace(record, metadata=text, data_version=note.data_version or context.data_version)


def find_latest(step: Step, map_key: str | None) -> str | None:
    """Return the attempt that has stored the latest values of all outputs of a unit; None where nothing tells it.

    Raises:
        Exception: a store cannot be read.
    """
    suffix = "" if map_key is None else f"[{map_key}]"
    found: set[str | None] = set()
    for output in step.node.outputs:
        key = f"{output.key}[]" if output.mode is OutputMode.DYNAMIC else output.key + suffix
        memo = output.io_handler.read_memo(key)
        found.add(memo.attempt_id if memo is not None else None)
    return found.pop() if len(found) == 1 else None


def load_map_keys(step: Step, run_id: str | None = None) -> dict[str, tuple[str, ...]]:
    """Return the stored mapping keys of the dynamic outputs of a step, by name: those of a run, or the latest ones.

    Raises:
        Exception: a store cannot be read.
    """
    return {
        output.name: tuple(output.io_handler.load_input(InputContext(f"{output.key}[]", step.key, run_id=run_id)))
        for output in step.node.outputs
        if output.mode is OutputMode.DYNAMIC
    }


def _recover(run_id: str, unit: Unit, result: StepResult) -> StepResult | None:
    try:
        found = find_committed(run_id, unit.step, unit.map_key)
    except NotAtomicError:
        return None
    if found is None:
        return None
    outputs = recall_outputs(run_id, unit.step, unit.map_key, *found)
    # A step without outputs has nothing that names the attempt.
    winner = found[0] or result.attempt_id
    return msgspec.structs.replace(result, attempt_id=winner, ending=Ending.SUCCEEDED, outputs=outputs, failure=None)
