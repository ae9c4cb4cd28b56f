"""Was it committed after all? What the stores say of an attempt that did not report success."""

from __future__ import annotations

import msgspec

from rivers._io.base import AtomicIOHandler
from rivers._io.context import InputContext
from rivers._plan.unit import Unit
from rivers.protocol.result import Ending, OutputRecord, StepResult
from rivers.protocol.spec import OutputMode

__all__ = ["recovered"]


def recovered(run_id: str, unit: Unit, result: StepResult) -> StepResult | None:
    """The result as a success when every output of the step is committed in this run, else None.

    Only handlers that commit atomically can say so. What the body attached as metadata is lost with its worker.
    """
    outputs = unit.step.node.outputs
    suffix = "" if unit.map_key is None else f"[{unit.map_key}]"
    handlers = {id(output.io_handler): output.io_handler for output in outputs}
    for handler in handlers.values():
        if not isinstance(handler, AtomicIOHandler) or handler.committed(run_id, unit.key) is None:
            return None
    records: list[OutputRecord] = []
    for output in outputs:
        keys: tuple[str, ...] | None = None
        if output.mode is OutputMode.DYNAMIC:
            keys = tuple(output.io_handler.load_input(InputContext(f"{output.key}[]", unit.key, run_id=run_id)))
        records.append(OutputRecord(name=output.name, key=output.key + suffix, map_keys=keys))
    return msgspec.structs.replace(result, ending=Ending.SUCCEEDED, outputs=tuple(records), failure=None)
