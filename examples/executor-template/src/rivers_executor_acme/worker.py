"""The worker process: reads one task from stdin, writes its events to a pipe, and ends."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from multiprocessing.connection import Connection

from rivers.exceptions import SpecDecodeError
from rivers.protocol import StepEvent, StepResult, StepSpec, decode_spec, encode_event
from rivers.spi import Runner, interrupted_result, unsendable_result, warning_record
from rivers_process.fork import close_in_children, set_signal
from rivers_process.prctl import die_with_parent

__all__ = ["main"]

REJECTED, LOST = 11, 13
"""Exit codes for a person who looks at a log; the result says the same."""


class EventPipe:
    """The pipe to the controller; an event is written whole or not at all."""

    def __init__(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)  # not for what the body starts …
        close_in_children(descriptor)  # … nor for what it forks
        self._pipe = Connection(descriptor, readable=False)
        self._lock = threading.Lock()

    def emit(self, event: StepEvent) -> None:
        data = encode_event(event)
        with self._lock:
            self._pipe.send_bytes(data)


def main(controller: int, events: int) -> int:
    """Run one attempt; return the exit code. `controller` is a process id and `events` a descriptor."""
    # The kernel kills this process when the controller dies, however that happens; or it is dead already.
    if not die_with_parent(controller):
        return LOST
    emit = EventPipe(events).emit
    header, _, data = _stdin().partition(b"\n")
    task = json.loads(header)
    sys.path[:] = task["path"]
    try:
        spec = decode_spec(data)
    except SpecDecodeError as error:
        emit(unsendable_result(task["attempt_id"], error))
        return REJECTED
    # No `pickle_key`: this worker loads no pickles, whatever a spec asks for.
    runner = Runner(emit, grace=task["grace"])
    result = _run(runner, spec)
    try:
        emit(result)  # before anything else can go wrong
    except SpecDecodeError as error:
        emit(unsendable_result(spec.attempt_id, error))
    for problem in runner.close():
        emit(warning_record(problem, spec.attempt_id))
    return 0


def _run(runner: Runner, spec: StepSpec) -> StepResult:
    """Run the step in this thread, the main one, where SIGTERM can stop it."""
    # Interrupts a sync body, wherever it is, and cancels an async one.
    set_signal(signal.SIGTERM, lambda number, frame: runner.stop(spec.attempt_id))
    try:
        return runner.run_step(spec)
    except KeyboardInterrupt as error:  # raised by the body itself
        return interrupted_result(spec.attempt_id, error, runner.worker)


def _stdin() -> bytes:
    """Read all of stdin, and leave an empty one for the body."""
    with os.fdopen(os.dup(0), "rb") as stdin:
        data = stdin.read()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    return data


if __name__ == "__main__":
    code = main(*map(int, sys.argv[1:]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # not waiting for threads that the body has left
