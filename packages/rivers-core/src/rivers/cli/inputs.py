"""Check that the inputs which a run does not make itself can still be loaded."""

from __future__ import annotations

from rivers._io.memory import InMemoryIOHandler
from rivers._plan.partitions import loaded_keys
from rivers._plan.plan import Plan
from rivers._repository.repository import CodeRepository
from rivers.cli.errors import CommandError

__all__ = ["check_inputs"]

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
