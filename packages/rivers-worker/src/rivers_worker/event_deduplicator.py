"""Emit each event of an attempt once and in order, however often its stream breaks and is resumed."""

from __future__ import annotations

from collections.abc import Callable

from google.protobuf.message import DecodeError
from msgspec import structs

from rivers.exceptions import SpecDecodeError
from rivers.protocol import LogRecord, StepEvent, StepResult
from rivers.protocol.protobuf import decode_event_protobuf
from rivers.spi import StreamRecord, warning_record
from rivers_worker.errors import WorkerProtocolError
from rivers_worker.outcome import lost_result
from rivers_worker.v1 import worker_pb2 as pb

__all__ = ["EventDeduplicator"]


class EventDeduplicator:
    """The events of one attempt, from all of its streams; `emit` takes those that are new.

    `seq` is the number of the last event, that of an earlier controller's last one at first. `result` is the attempt's
    result once it has arrived. With `is_numbered` log records are emitted as `StreamRecord`.
    """

    def __init__(
        self,
        attempt_id: str,
        emit: Callable[[StepEvent], None],
        worker: str = "",
        *,
        seq: int = 0,
        is_numbered: bool = False,
    ) -> None:
        self.seq = seq
        self._is_numbered = is_numbered
        self.result: StepResult | None = None
        self._attempt_id = attempt_id
        self._emit = emit
        self._worker = worker

    def take(self, data: bytes) -> None:
        """Take one encoded `Event`, and drop it if it has arrived before.

        Raises:
            WorkerProtocolError: it cannot be read, or belongs to another attempt.
        """
        try:
            event = pb.Event.FromString(data)
        except DecodeError as error:
            raise WorkerProtocolError(f"the worker sent {len(data)} bytes that are no event: {error}") from None
        if event.seq <= self.seq:  # a heartbeat, or a repetition
            return
        missing = event.seq - self.seq - 1
        # Counted before it is emitted: `emit` may raise, and the event must not be emitted twice.
        self.seq = event.seq
        if missing:
            self._emit_log(self._gap(missing), event.seq - 1)
        if event.HasField("lost"):
            self.result = lost_result(event.lost, self._attempt_id, self._worker)
        elif event.HasField("step_event"):
            self._deliver(event)
        if event.last and self.result is None:
            raise WorkerProtocolError(f"the worker's last event, number {event.seq}, holds no result")

    def _deliver(self, event: pb.Event) -> None:
        try:
            step_event = decode_event_protobuf(event.step_event)
        except SpecDecodeError as error:
            raise WorkerProtocolError(f"the worker's event number {event.seq} cannot be read: {error}") from error
        if isinstance(step_event, LogRecord):
            self._emit_log(step_event, event.seq)
        elif not isinstance(step_event, StepResult):
            self._emit(step_event)
        elif step_event.attempt_id != self._attempt_id:
            raise WorkerProtocolError(
                f"the worker sent the result of attempt {step_event.attempt_id!r}, expected {self._attempt_id!r}"
            )
        else:
            self.result = step_event

    def _emit_log(self, record: LogRecord, seq: int) -> None:
        if self._is_numbered:
            record = StreamRecord(**structs.asdict(record), seq=seq)
        self._emit(record)

    def _gap(self, missing: int) -> LogRecord:
        """Return a record in place of those that the worker has dropped: it keeps a bounded number of them."""
        plural = "s were" if missing > 1 else " was"
        text = f"{missing} log record{plural} dropped here: they came faster than they were fetched"
        return warning_record(text, self._attempt_id)
