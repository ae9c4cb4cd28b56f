"""On a Dask worker: the task that stands for an attempt, and the functions that the controller calls there.

    task on a worker                            controller
    ────────────────                            ──────────
    CLAIM ──────────────────────────────────▶   the first start of the attempt has it, another one is refused
    answer(start, spec, …) ◀─────────────────   the spec, or a refusal: without the spec no body can run
    EVENTS ─────────────────────────────────▶   encoded events, as they come
    stop(start, grace) ◀─────────────────────   the attempt is cancelled
    END ────────────────────────────────────▶   the observations of the process's end

To the right it is `Worker.log_event` on the topic of the controller's client, one ordered stream; to the left it is
`Client.run`. All that travels is bytes, str, int and float.
"""

from __future__ import annotations

import threading
import uuid
from typing import Any

import msgspec
from distributed import Worker, WorkerPlugin, get_worker

from rivers.protocol import PROTOCOL_VERSION, Evidence, describe_exception
from rivers.spi import StepProcess

__all__ = ["CLAIM", "END", "EVENTS", "answer", "describe", "run_attempt", "stop"]

CLAIM, EVENTS, END = "claim", "events", "end"

_starts: dict[str, TaskStart] = {}


class TaskStart:
    """One start of a task: Dask may start a task again, and an attempt's body must not run again."""

    def __init__(self, worker: Worker, key: Any, topic: str, attempt_id: str) -> None:
        self.worker = worker
        self.key = key
        self._topic = topic
        self._attempt_id = attempt_id
        self._id = uuid.uuid4().hex
        self._answered = threading.Event()
        self._task: tuple[bytes, float, bytes] | None = None
        self._process = StepProcess(worker.address)

    def run(self) -> None:
        """Claim the attempt, run its body if it is this start's, and report the end."""
        _starts[self._id] = self
        try:
            self._send(CLAIM, [])
            # It ends with the controller: Dask drops the tasks of a lost client, and the guard sets the event.
            self._answered.wait()
            if self._task is not None:
                self._send(END, [msgspec.json.encode(self._run_body(*self._task))])
        finally:
            del _starts[self._id]

    def answer(self, spec: bytes, grace: float, key: bytes) -> None:
        """Take the controller's answer to the claim; an empty spec is a refusal."""
        self._task = (spec, grace, key) if spec else None
        self._answered.set()

    def stop(self, grace: float) -> None:
        """Stop the body, or do not start it."""
        self._process.stop(grace)
        self._answered.set()

    def _run_body(self, spec: bytes, grace: float, key: bytes) -> Evidence:
        def emit(events: list[bytes]) -> None:
            self._send(EVENTS, events)

        try:
            return self._process.run(self._attempt_id, spec, emit, grace=grace, key=key)
        # Whatever it was, the attempt has an end.
        except Exception as error:  # noqa: BLE001
            self._process.stop(0)
            return Evidence(worker=self.worker.address, detail=describe_exception(error))

    def _send(self, kind: str, payloads: list[bytes]) -> None:
        self.worker.log_event(self._topic, [kind, self._attempt_id, self._id, self.worker.address, payloads])


class BodyGuard(WorkerPlugin):  # type: ignore[misc]  # distributed is not typed
    """Kill the bodies whose tasks Dask drops: those of a controller that has gone, and of a worker that closes."""

    name = "rivers-executor-dask"

    def setup(self, worker: Worker) -> None:
        """Remember the worker; several may share a process."""
        self._worker = worker

    def transition(self, key: Any, start: str, finish: str, **kwargs: object) -> None:
        """Kill the body of a task that the scheduler has released."""
        if finish in ("cancelled", "released", "forgotten"):
            for one in list(_starts.values()):
                if one.worker is self._worker and one.key == key:
                    one.stop(0)

    def teardown(self, worker: Worker) -> None:
        """Kill all bodies of a worker that closes, which would wait for them."""
        for one in list(_starts.values()):
            if one.worker is worker:
                one.stop(0)


def run_attempt(topic: str, attempt_id: str) -> None:
    """Run an attempt: the task that Dask schedules. Its slot of the worker is taken until the body has ended."""
    worker = get_worker()
    if BodyGuard.name not in worker.plugins:
        worker.loop.add_callback(_add_guard, worker)
    TaskStart(worker, worker.get_current_task(), topic, attempt_id).run()


async def _add_guard(worker: Worker) -> None:
    if BodyGuard.name not in worker.plugins:
        await worker.plugin_add(BodyGuard(), name=BodyGuard.name)


def answer(start_id: str, spec: bytes, grace: float, key: bytes) -> None:
    """Answer the claim of a start on this worker."""
    if start_id in _starts:
        _starts[start_id].answer(spec, grace, key)


def stop(start_id: str, grace: float) -> None:
    """Stop the body of a start on this worker, and kill it after `grace` seconds."""
    if start_id in _starts:
        _starts[start_id].stop(grace)


def describe(dask_worker: Worker) -> dict[str, Any]:
    """Return the resources that a worker offers, and the protocol that it speaks."""
    offered = {str(name): float(amount) for name, amount in dask_worker.state.total_resources.items()}
    return {"protocol": PROTOCOL_VERSION, "resources": offered}
