"""Prepare the default store for a run: share it with other processes, with the earlier values that they load."""

from __future__ import annotations

from collections.abc import Iterator

from rivers._io.base import Reach
from rivers._io.shared.default_store import DefaultStore
from rivers._plan.graph import Source
from rivers._plan.inline import is_inline
from rivers._plan.partitions import loaded_keys
from rivers._plan.plan import Plan, Step
from rivers._repository.checks import handlers_of, reach_in
from rivers.exceptions import GraphValidationError, OutputCommitError, Problem

__all__ = ["share"]


def share(store: DefaultStore, plan: Plan, run_id: str) -> None:
    """Share the store for a run whose steps use it in other processes, with the values of earlier runs that they load.

    Do nothing if no step in another process uses the default store.

    Raises:
        GraphValidationError: a value of an earlier run is in memory and cannot be pickled.
        ConfigurationError: no folder can be created for the shared store.
    """
    reach = reach_in(plan)
    elsewhere = [
        step
        for step in plan.steps
        if reach(step) is not Reach.PROCESS
        and any(handler is store and not is_inline(step, handler) for _, handler, _ in handlers_of(step))
    ]
    if not elsewhere:
        return
    store.share(run_id)
    # Read once: the store may hold the elements of a fan-out of 100,000 under keys of their own.
    keys = store.keys_in_memory()
    made = {node.index for step in plan.steps for node in (step.inner or (step.node,))}
    problems: list[Problem] = []
    shared: set[str] = set()
    for step in elsewhere:
        for source in _sources(step):
            # The run itself stores what it makes; only values of earlier runs must be handed over.
            # Of all partitions the run makes at most one.
            is_made = source.node in made and source.how != "partitions"
            if source.io_handler is store and not is_made and source.key not in shared:
                shared.add(source.key)
                try:
                    for name in loaded_keys(source):
                        for key in keys.get(name, ()):
                            store.hand_over(key)
                except OutputCommitError as error:
                    # All of them at once: a user mends a repository faster than one value at a time.
                    problems.append(_problem(step, source, error))
    if problems:
        raise GraphValidationError(problems)


def _sources(step: Step) -> Iterator[Source]:
    for node in step.inner or (step.node,):
        yield from node.inputs


def _problem(step: Step, source: Source, error: OutputCommitError) -> Problem:
    message = (
        f"it loads {source.key!r}, which an earlier run has stored in memory, but executor {step.executor.kind!r} "
        f"runs the step in another process: {error.message}; {error.hint}"
    )
    return Problem(message, step.node.owner.name, step.node.owner.where)
