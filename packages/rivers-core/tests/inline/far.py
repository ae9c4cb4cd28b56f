"""An executor whose steps see nothing but bytes: specs and events go through a codec, and no storage is shared."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

import rivers as rs
from rivers import spi
from rivers.protocol import StepEvent, StepSpec, decode_event, decode_spec, encode_event, encode_spec
from rivers.protocol.protobuf import (
    decode_event_protobuf,
    decode_spec_protobuf,
    encode_event_protobuf,
    encode_spec_protobuf,
)


@dataclasses.dataclass(frozen=True)
class Far(rs.Executor):
    """Steps on another machine, as far as values are concerned."""

    kind = "far"
    reach = spi.Reach.ANYWHERE

    inline_values: bool = True
    is_protobuf: bool = False


class FarBackend(spi.ExecutorBackend[Far]):
    """Runs steps in this thread, behind the codec; `seen` has the sizes of the specs and events that it passed on."""

    executor_type = Far
    seen: list[tuple[str, int]] = []
    async_closures: Literal["local", "pickled"] = "pickled"
    edit: Callable[[StepEvent], StepEvent] = staticmethod(lambda event: event)

    @property
    def capabilities(self) -> spi.Capabilities:
        awaits = spi.Capabilities(closures=self.async_closures, reach=spi.Reach.ANYWHERE)
        return spi.Capabilities(
            blocking=True,
            closures="pickled",
            reach=spi.Reach.ANYWHERE,
            isolation="none",
            timeout="none",
            streams=True,
            awaits=awaits,
        )

    def open(self, run: spi.Run, emit: spi.Sink) -> None:
        def send(event: StepEvent) -> None:
            event = type(self).edit(event)
            if self.executor.is_protobuf:
                data = encode_event_protobuf(event)
                event = decode_event_protobuf(data)
            else:
                data = encode_event(event)
                event = decode_event(data)
            self.seen.append((type(event).__name__, len(data)))
            emit(event)

        self.send = send
        self.runner = spi.Runner(send, local=run.local, worker="far away", pickle_key=run.key)

    def submit(self, spec: StepSpec) -> None:
        if spec.is_async and self.async_closures == "local":
            data = b""
        elif self.executor.is_protobuf:
            data = encode_spec_protobuf(spec)
            spec = decode_spec_protobuf(data)
        else:
            data = encode_spec(spec)
            spec = decode_spec(data)
        self.seen.append((spec.step, len(data)))
        self.send(self.runner.run_step(spec))

    def cancel(self, attempt_id: str, grace: float) -> None:
        self.runner.stop(attempt_id)

    def close(self, deadline: float) -> None:
        self.runner.close()


class Anywhere(rs.PickleIOHandler):
    """A folder that all steps of a test reach."""

    @property
    def reach(self) -> rs.io_handlers.Reach:
        return rs.io_handlers.Reach.ANYWHERE
