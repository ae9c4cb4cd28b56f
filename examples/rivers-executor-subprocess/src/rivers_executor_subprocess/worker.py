"""The worker process: reads one task from stdin, writes its events to a pipe, and ends."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from types import FrameType

from rivers.exceptions import SpecDecodeError, SpecVersionError
from rivers.protocol import (
    StepEvent,
    StepResult,
    StepSpec,
    decode_spec,
    encode_event,
)
from rivers.spi import Runner, interrupted_result, unsendable_result, warning_record
from rivers_process.fork import close_in_children, dump_tracebacks, set_signal
from rivers_process.prctl import die_with_parent

__all__ = ["main"]

REJECTED, LOST, OTHER_VERSION = 11, 13, 14


class Events:
    """The pipe to the controller; an event is written whole or not at all."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()
        # A fork of the body must neither emit anything nor keep the pipe open when this process has died.
        close_in_children(descriptor)

    def emit(self, event: StepEvent) -> None:
        data = encode_event(event)
        rest = memoryview(len(data).to_bytes(4, "big") + data)
        with self._lock:
            while rest:  # a signal may cut a large write short
                rest = rest[os.write(self._descriptor, rest) :]


def main(controller: int, events: int, crash: int) -> int:
    """Run one attempt; return the exit code. `events` and `crash` are descriptors, `controller` is a process id."""
    # The kernel kills this process when the controller dies, however that happens; or it is dead already.
    if not die_with_parent(controller):
        return LOST
    for descriptor in (events, crash):
        os.set_inheritable(descriptor, False)  # not for what the body starts
    header, _, data = _stdin().partition(b"\n")
    task = json.loads(header)
    sys.path[:] = task["path"]
    emit = Events(events).emit
    try:
        spec = decode_spec(data)
    except SpecDecodeError as error:
        emit(unsendable_result(task["attempt_id"], error))
        return OTHER_VERSION if isinstance(error, SpecVersionError) else REJECTED
    # The controller offers its key with every task; whether a pickle is loaded here is decided here.
    allowed = os.environ.get("RIVERS_ALLOW_PICKLE") == "1"
    runner = Runner(emit, grace=task["grace"], pickle_key=bytes.fromhex(task["key"]) if allowed else b"")
    result = _run(runner, spec, crash)
    try:
        emit(result)  # before anything else can go wrong
    except SpecDecodeError as error:
        emit(unsendable_result(spec.attempt_id, error))
    for problem in [*runner.close(), *_threads()]:
        emit(warning_record(problem, spec.attempt_id))
    return 0


def _run(runner: Runner, spec: StepSpec, crash: int) -> StepResult:
    """Run the step in this thread, the main one, where SIGTERM can stop it."""

    def stop(number: int, frame: FrameType | None) -> None:
        runner.stop(spec.attempt_id)  # interrupts a sync body, wherever it is, and cancels an async one

    set_signal(signal.SIGTERM, stop)
    # What crashes in native code, and what hangs in it when it is asked to stop, leaves its stack.
    dump_tracebacks(signal.SIGTERM, crash)
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


def _threads() -> list[str]:
    """Return a warning about threads that the body left and that this process would wait for."""
    names = [thread.name for thread in threading.enumerate() if not thread.daemon and thread.name != "MainThread"]
    return [f"the step left threads, which end with its worker: {', '.join(names)}"] if names else []


if __name__ == "__main__":
    code = main(*map(int, sys.argv[1:]))
    if _threads():
        os._exit(code)  # not waiting for them
    sys.exit(code)
