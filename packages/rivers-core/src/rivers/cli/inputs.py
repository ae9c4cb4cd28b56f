"""Check that the inputs which a run does not make itself can still be loaded."""

from __future__ import annotations

from rivers._executor.memos import is_missing
from rivers._io.memory import InMemoryIOHandler
from rivers._io.pickle import PickleIOHandler
from rivers._plan.partitions import loaded_keys, partitions_of
from rivers._plan.plan import Plan
from rivers._repository.repository import CodeRepository
from rivers.cli.errors import CommandError

__all__ = ["check_inputs", "check_left_out"]

MOST_NAMES = 5


def check_inputs(repository: CodeRepository, plan: Plan) -> None:
    """Check the inputs that earlier runs have made: values in memory ended with the process of their run.

    Values in a store are not looked for, as that may take long; a step fails where one is missing.

    Raises:
        CommandError: values are gone; names them and the steps that need them.
    """
    store = repository._default_store
    kept = store.keys_in_memory()
    nodes = [node for step in plan.steps for node in (step.inner or (step.node,))]
    made = {node.index for node in nodes}
    gone: dict[str, str] = {}
    for node in nodes:
        for source in node.inputs:
            # What is made in this run, or outside of the repository, is not looked for.
            handler = source.io_handler
            if source.node is None or source.node in made:
                continue
            keys = loaded_keys(source)
            if (handler is store and not any(key in kept for key in keys)) or (
                isinstance(handler, InMemoryIOHandler) and not any(map(handler.has, keys))
            ):
                gone.setdefault(source.key, node.owner.name)
    if not gone:
        return
    values = ", ".join(map(repr, list(gone)[:MOST_NAMES])) + (", …" if len(gone) > MOST_NAMES else "")
    needing = list(dict.fromkeys(gone.values()))
    who = f"{needing[0]!r} {'and others need' if needing[1:] else 'needs'}"
    remedy = f"run what makes them, too: --select +{needing[0]}"
    raise CommandError(
        f"the stored values of {values}, which {who}, are gone: values in memory end with the process that made them",
        hint=f'{remedy}; or keep them: io_handler=rs.PickleIOHandler("folder")',
    )


def check_left_out(repository: CodeRepository, plan: Plan, target: str) -> None:
    """Check that the values without partitions are stored which a backfill needs and does not make.

    Other handlers than a `PickleIOHandler` do not tell without loading a value; there a step fails.

    Raises:
        CommandError: some are not; names them and the command that makes them.
    """
    nodes = repository._planner.graph.nodes
    missing: dict[str, str] = {}
    needing: dict[str, None] = {}
    for step in plan.steps:
        for node in step.inner or (step.node,):
            for source in node.inputs:
                upstream = nodes[source.node] if source.node is not None and source.how == "value" else None
                if upstream is None or partitions_of(upstream) is not None or source.key in missing:
                    continue
                handler = source.io_handler
                if not isinstance(handler, PickleIOHandler) or handler.read_memo(source.key) is not None:
                    continue
                if is_missing(handler, source.key):
                    missing[source.key] = upstream.owner.name
                    needing[node.owner.name] = None
    if missing:
        values = ", ".join(map(repr, list(missing)[:MOST_NAMES])) + (", …" if len(missing) > MOST_NAMES else "")
        who = f"{next(iter(needing))!r} {'and others need' if len(needing) > 1 else 'needs'}"
        raise CommandError(
            f"the values of {values}, which {who}, are not stored, and a backfill makes none without partitions",
            hint=f"make them before: rivers run {target} --select {','.join(dict.fromkeys(missing.values()))}",
        )
