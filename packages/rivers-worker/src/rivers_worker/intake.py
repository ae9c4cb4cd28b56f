"""What has arrived of one attempt: each event once and in order, however often its stream broke and began again."""

from __future__ import annotations

from collections.abc import Callable

from google.protobuf.message import DecodeError

from rivers.exceptions import SpecDecodeError
from rivers.protocol import LogRecord, StepEvent, StepResult
from rivers.protocol.protobuf import decode_event_protobuf
from rivers.spi import warning_record
from rivers_worker.errors import WorkerProtocolError
from rivers_worker.outcome import lost_result
from rivers_worker.v1 import worker_pb2 as pb

__all__ = ["Intake"]


class Intake:
    """Takes the messages of an attempt's streams and tells `emit` what is new.

    `seq` is the number of the last event that has arrived, 0 before the first. `result` is how the attempt ended, once
    it has.
    """

    def __init__(self, attempt_id: str, emit: Callable[[StepEvent], None], worker: str = "") -> None:
        self.seq = 0
        self.result: StepResult | None = None
        self._attempt_id = attempt_id
        self._emit = emit
        self._worker = worker

    def take(self, data: bytes) -> None:
        """Take one encoded `Event`; one that has been here before is passed over.

        Raises:
            WorkerProtocolError: it cannot be read, or it is not of this attempt.
        """
        try:
            event = pb.Event.FromString(data)
        except DecodeError as error:
            raise WorkerProtocolError(f"the worker sent {len(data)} bytes that are no event: {error}") from None
        if event.seq <= self.seq:  # a heartbeat, or a repetition
            return
        missing = event.seq - self.seq - 1
        # Before anything is told: whatever `emit` does, no event is told twice.
        self.seq = event.seq
        if missing:
            self._emit(self._gap(missing))
        if event.HasField("lost"):
            self.result = lost_result(event.lost, self._attempt_id, self._worker)
        elif event.HasField("step_event"):
            self._tell(event)
        if event.last and self.result is None:
            raise WorkerProtocolError(f"the worker's last event, number {event.seq}, tells no result")

    def _tell(self, event: pb.Event) -> None:
        try:
            told = decode_event_protobuf(event.step_event)
        except SpecDecodeError as error:
            raise WorkerProtocolError(f"the worker's event number {event.seq} cannot be read: {error}") from error
        if not isinstance(told, StepResult):
            self._emit(told)
        elif told.attempt_id != self._attempt_id:
            raise WorkerProtocolError(
                f"the worker told the result of attempt {told.attempt_id!r}, and it was asked for {self._attempt_id!r}"
            )
        else:
            self.result = told

    def _gap(self, missing: int) -> LogRecord:
        """Stands for log records that the worker dropped, as it keeps a bounded number and the body waits for none."""
        plural = "s were" if missing > 1 else " was"
        text = f"{missing} log record{plural} dropped here: they came faster than they were fetched"
        return warning_record(text, self._attempt_id)
