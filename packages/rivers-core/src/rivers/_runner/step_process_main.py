"""The process of a `StepProcess`: it reads its task, runs it, sends its events and ends."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from types import FrameType

from rivers._runner.results import interrupted_result, unsendable_result, warning_record
from rivers._runner.runner import Runner
from rivers._runner.step_process import EVENT, RESULT
from rivers.exceptions import SpecDecodeError, SpecVersionError
from rivers.protocol.codec import decode_spec, encode_event
from rivers.protocol.result import StepEvent, StepResult
from rivers.protocol.spec import StepSpec
from rivers_process.exit import end_process
from rivers_process.fork import close_in_children, dump_tracebacks, set_signal
from rivers_process.frames import write_frame
from rivers_process.prctl import die_with_parent

__all__ = ["main"]

REJECTED, LOST, OTHER_VERSION = 11, 13, 14


class EventWriter:
    """The pipe to the parent; an event is written whole or not at all."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()
        # A fork of the body must neither emit anything nor keep the pipe open when this process has died.
        close_in_children(descriptor)

    def emit(self, event: StepEvent) -> None:
        """Send an event; raise SpecDecodeError if it exceeds the protocol's limits."""
        data = encode_event(event)
        with self._lock:
            write_frame(self._descriptor, RESULT if isinstance(event, StepResult) else EVENT, data)


def main(parent: int, events: int, crash: int) -> int:
    """Run one attempt; return the exit code. `events` and `crash` are descriptors, `parent` is a pid."""
    # The kernel kills this process when its parent dies, however that happens; or it is dead already.
    if not die_with_parent(parent):
        return LOST
    for descriptor in (events, crash):
        os.set_inheritable(descriptor, False)
    header, _, data = _stdin().partition(b"\n")
    task = json.loads(header)
    sys.path[:] = task["path"]
    emit = EventWriter(events).emit
    try:
        spec = decode_spec(data)
    except SpecDecodeError as error:
        emit(unsendable_result(task["attempt_id"], error))
        return OTHER_VERSION if isinstance(error, SpecVersionError) else REJECTED
    # The run's key is offered with every task; whether a pickle is loaded here is decided here.
    allowed = os.environ.get("RIVERS_ALLOW_PICKLE") == "1"
    key = bytes.fromhex(task["key"]) if allowed else b""
    worker = f"{task['worker']}pid {os.getpid()}"
    runner = Runner(emit, worker=worker, grace=task["grace"], pickle_key=key, owns_process=True)
    result = _run(runner, spec, crash)
    try:
        # Before anything else can go wrong: what is reported stands.
        emit(result)
    except SpecDecodeError as error:
        emit(unsendable_result(spec.attempt_id, error, runner.worker))
    for problem in [*runner.close(), *_left_threads()]:
        emit(warning_record(problem, spec.attempt_id))
    return 0


def _run(runner: Runner, spec: StepSpec, crash: int) -> StepResult:
    """Run the step in this thread, the main one, where SIGTERM can stop it."""

    def stop(number: int, frame: FrameType | None) -> None:
        runner.stop(spec.attempt_id)

    set_signal(signal.SIGTERM, stop)
    # A crash in native code, and a hang in it when it is asked to stop, leave their stack.
    dump_tracebacks(signal.SIGTERM, crash)
    try:
        return runner.run_step(spec)
    except KeyboardInterrupt as error:
        return interrupted_result(spec.attempt_id, error, runner.worker)


def _stdin() -> bytes:
    """Read all of stdin, and leave an empty one for the body."""
    with os.fdopen(os.dup(0), "rb") as stdin:
        data = stdin.read()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    return data


def _left_threads() -> list[str]:
    names = [thread.name for thread in threading.enumerate() if not thread.daemon and thread.name != "MainThread"]
    return [f"the step left threads, which end with its worker: {', '.join(names)}"] if names else []


if __name__ == "__main__":
    code = main(*map(int, sys.argv[1:]))
    # A thread that the body has left would hold up the interpreter's end.
    if _left_threads():
        end_process(code)
    sys.exit(code)
