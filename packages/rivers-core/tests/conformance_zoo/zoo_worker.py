"""The worker of the zoo: a process forked from a clean one, which runs one attempt and writes its events to a pipe."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection

from rivers.exceptions import SpecDecodeError
from rivers.protocol import StepEvent, StepResult, StepSpec, decode_spec, encode_event
from rivers.spi import Runner, interrupted_result, unsendable_result, warning_record
from rivers_process.fork import close_in_children, set_signal
from rivers_process.prctl import die_with_parent


@dataclass(frozen=True)
class Task:
    """One attempt for a worker; `key` is empty where pickles are refused."""

    attempt_id: str
    spec: bytes
    grace: float
    environment: dict[str, str]
    key: bytes = b""


Change = Callable[[StepEvent], StepEvent]


def work(
    task: Task,
    pipe: Connection,
    *,
    decode: Callable[[bytes], StepSpec] = decode_spec,
    change: Change = lambda event: event,
    **options: object,
) -> None:
    """Run one attempt; wrong workers pass a function for the part that they do wrong, or an option of the Runner."""
    end_with_controller()
    os.environ.clear()
    os.environ.update(task.environment)
    close_in_children(pipe.fileno())
    lock = threading.Lock()

    def emit(event: StepEvent) -> None:
        data = encode_event(change(event))
        with lock:
            pipe.send_bytes(data)

    try:
        spec = decode(task.spec)
    except SpecDecodeError as error:
        emit(unsendable_result(task.attempt_id, error))
        return end()
    runner = Runner(emit, grace=task.grace, pickle_key=task.key, **options)  # type: ignore[arg-type]
    set_signal(signal.SIGTERM, lambda *_: runner.stop(spec.attempt_id))
    try:
        result: StepResult = runner.run_step(spec)
    except KeyboardInterrupt as error:
        result = interrupted_result(spec.attempt_id, error, runner.worker)
    for problem in runner.close():
        emit(warning_record(problem, spec.attempt_id))
    try:
        emit(result)
    except SpecDecodeError as error:
        emit(unsendable_result(spec.attempt_id, error))
    return end()


def end() -> None:
    """End the process without waiting for threads that the body has left."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(0)


def end_with_controller() -> None:
    """Have this process killed when the fork server ends, and let that one see that the controller has ended."""
    os.setpgrp()
    # The server ends at the end of this pipe, of which every worker gets a copy.
    os.close(forkserver._forkserver._forkserver_alive_fd)
    if not die_with_parent(os.getppid()) or os.getppid() == 1:
        os._exit(1)
